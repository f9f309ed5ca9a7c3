//! What is a carrier's own code, and what is not: it captures nothing that is installed. Each test
//! in a process of its own, since nothing takes installed carriers off the list.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::in_a_process_of_its_own;
use cleanslate::foreign::{self, BoxError, Carrier, adopt};
use cleanslate::{Context, JoinHandle, OwnedWorkerLocal, Pool, worker_local};

/// Captures in its drop.
struct Captures;

impl Drop for Captures {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
        drop(Context::try_capture());
    }
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        drop(Captures);
    }
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bad")
    }
}

impl std::error::Error for Bad {}

/// Captures what a function returns, and does nothing with it.
struct Capturing<T, F>(F, PhantomData<fn() -> T>);

fn capturing<T, F: Fn() -> Result<T, BoxError>>(f: F) -> Capturing<T, F> {
    Capturing(f, PhantomData)
}

impl<T, F> Carrier for Capturing<T, F>
where
    T: Send + Sync + 'static,
    F: Fn() -> Result<T, BoxError> + Send + Sync + 'static,
{
    type Captured = T;
    type Attached = ();

    fn name(&self) -> &str {
        "capturing"
    }

    fn capture(&self) -> Result<T, BoxError> {
        (self.0)()
    }

    fn attach(&self, _: &T) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

// Broke: a drop of what it had captured was not the carrier's own code, so what that captured
// carried it, and so on until the stack was full.
#[test]
fn what_the_drop_of_something_captured_captures_does_not_carry_it() {
    let name = "own_code::what_the_drop_of_something_captured_captures_does_not_carry_it";
    if !in_a_process_of_its_own(name) {
        return;
    }
    foreign::install(capturing(|| Ok(Captures))).unwrap();
    drop(Context::capture());
    assert_eq!(DROPS.swap(0, Ordering::SeqCst), 1);
    let pool = Pool::new(1).unwrap();
    pool.submit(|| ()).join().unwrap();
    pool.shutdown().unwrap();
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
}

#[test]
fn what_the_drop_of_an_error_captures_does_not_fail_in_turn() {
    let name = "own_code::what_the_drop_of_an_error_captures_does_not_fail_in_turn";
    if !in_a_process_of_its_own(name) {
        return;
    }
    foreign::install(capturing(|| Err::<(), _>(Bad.into()))).unwrap();
    drop(Context::try_capture().unwrap_err());
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
}

/// Whether what is captured here carries what is installed.
fn carries() -> bool {
    let before = DROPS.load(Ordering::SeqCst);
    drop(Context::capture());
    DROPS.load(Ordering::SeqCst) > before
}

/// Says in its drop whether that captures as a task does.
#[derive(Clone, Debug, Default)]
struct Says(Option<Arc<Mutex<Vec<bool>>>>);

impl Drop for Says {
    fn drop(&mut self) {
        if let Some(said) = &self.0 {
            said.lock().unwrap().push(carries());
        }
    }
}

impl std::fmt::Display for Says {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("says")
    }
}

impl std::error::Error for Says {}

/// Cancels a task in its drop.
struct Cancels(Option<JoinHandle<()>>);

impl Drop for Cancels {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            assert!(task.cancel());
        }
    }
}

#[test]
fn what_tasks_do_and_leave_is_no_carriers_code() {
    if !in_a_process_of_its_own("own_code::what_tasks_do_and_leave_is_no_carriers_code") {
        return;
    }
    thread_local! {
        static LEVEL: Cell<u8> = const { Cell::new(0) };
        static LEFT: RefCell<Says> = const { RefCell::new(Says(None)) };
    }
    foreign::install(capturing(|| Ok(Captures))).unwrap();
    let said = Arc::<Mutex<Vec<bool>>>::default();
    let theirs = Arc::clone(&said);
    let says = move || Says(Some(Arc::clone(&theirs)));
    let pool = Pool::new(1).unwrap();
    // Items of a map around which something is attached.
    let context = Context::capture().carry(adopt(&LEVEL)).carry(adopt(&LEFT));
    assert_eq!(pool.in_context(&context).map(0..9, |_| carries()), [true; 9]);
    context.run(|| assert!(carries()));
    // What a task leaves in a thread-local that is adopted.
    context.run(|| LEFT.set(says()));
    // An error that is no carrier's.
    let fails = says.clone();
    let local = OwnedWorkerLocal::fallible(move || Err::<(), _>(fails()));
    drop(local.try_with(|()| ()));
    // A closure that a carrier cancels.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let busy = pool.submit(move || held.recv().unwrap_or_default());
    let theirs = says();
    let task = pool.submit(move || drop(theirs));
    let task = Mutex::new(Some(task));
    let cancels = move || Ok(Cancels(task.lock().unwrap().take()));
    drop(Context::empty().carry(capturing(cancels)));
    drop(hold);
    busy.join().unwrap();
    // One that a carrier submits where nothing is let in any more.
    let (refused, theirs) = (Pool::new(1).unwrap(), says.clone());
    refused.shutdown().unwrap();
    let submits = move || {
        let theirs = theirs();
        drop(refused.detached().submit(move || drop(theirs)));
        Ok(())
    };
    drop(Context::empty().carry(capturing(submits)));
    assert_eq!(*said.lock().unwrap(), [true; 4]);
    // Tasks that run on top of a carrier's code, which waits for them.
    let inner = pool.clone();
    let waits = move || {
        let (one, other) = inner.join(carries, carries);
        let visits = inner.broadcast(carries);
        let task = inner.submit(carries).join().unwrap();
        let mut scoped = false;
        inner.scope(|s| drop(s.submit(|| scoped = carries())));
        [one, other, visits[0], task, scoped, inner.map([()], |()| carries())[0]]
    };
    let task = pool.submit(move || {
        let ran = Arc::new(Mutex::new(None));
        let theirs = Arc::clone(&ran);
        let keeps = move || {
            *theirs.lock().unwrap() = Some(waits());
            Ok(())
        };
        drop(Context::empty().carry(capturing(keeps)));
        ran.lock().unwrap().take()
    });
    assert_eq!(task.join().unwrap(), Some([true; 6]));
}

/// Notes for each of its methods whether what is captured there carries what is installed.
struct Looks(Arc<Mutex<Vec<(&'static str, bool)>>>);

impl Looks {
    fn look(&self, at: &'static str) {
        let carries = carries();
        self.0.lock().unwrap().push((at, carries));
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.look("drop");
    }
}

impl Carrier for Looks {
    type Captured = u8;
    type Attached = ();

    fn name(&self) -> &str {
        "looks"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        self.look("capture");
        Ok(1)
    }

    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        self.look("attach");
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        self.look("detach");
        Ok(())
    }

    fn nothing(&self) -> Option<u8> {
        self.look("nothing");
        Some(0)
    }

    fn reattach(&self, _: &u8, (): &mut ()) -> bool {
        self.look("reattach");
        true
    }
}

#[test]
fn all_methods_of_a_carrier_and_its_drop_are_its_code() {
    if !in_a_process_of_its_own("own_code::all_methods_of_a_carrier_and_its_drop_are_its_code") {
        return;
    }
    foreign::install(capturing(|| Ok(Captures))).unwrap();
    worker_local! { static MADE: u8 = 7; }
    let looks = Arc::default();
    let context = Context::empty().carry(Looks(Arc::clone(&looks)));
    context.run(|| MADE.with(|_| ()));
    let pool = Pool::new(1).unwrap();
    pool.in_context(&context).map(0..10_000, |n| n);
    drop((context, pool));
    let seen = std::mem::take(&mut *looks.lock().unwrap());
    for method in ["capture", "attach", "detach", "nothing", "reattach", "drop"] {
        assert!(seen.contains(&(method, false)), "{method}: {seen:?}");
    }
    // That it is asked while it is installed, too.
    foreign::install(Looks(Arc::clone(&looks))).unwrap();
    let installed = std::mem::take(&mut *looks.lock().unwrap());
    assert!(installed.contains(&("nothing", false)), "{installed:?}");
    assert!(seen.iter().chain(&installed).all(|(_, carries)| !carries), "{seen:?} {installed:?}");
}

#[test]
fn the_tasks_that_a_carriers_code_submits_are_kept_apart_all_the_same() {
    thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    let found = Arc::<Mutex<Vec<u8>>>::default();
    let theirs = Arc::clone(&found);
    let pool = Pool::builder().workers(1).carry(adopt(&LEVEL)).build().unwrap();
    let submits = move || {
        let level = pool.submit(|| LEVEL.replace(9)).join()?;
        theirs.lock().unwrap().push(level);
        Ok(())
    };
    let carrier = Arc::new(capturing(submits));
    for _ in 0..2 {
        drop(Context::empty().carry(Arc::clone(&carrier)));
    }
    assert_eq!(*found.lock().unwrap(), [0, 0]);
}

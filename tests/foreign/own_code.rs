//! What the drops of a carrier's values capture: they are its code. Each test in a process of its
//! own, since nothing takes installed carriers off the list.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::in_a_process_of_its_own;
use cleanslate::foreign::{self, BoxError, Carrier, adopt};
use cleanslate::{Context, OwnedWorkerLocal, Pool};

/// Captures in its drop.
struct Captures;

impl Drop for Captures {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
        drop(Context::try_capture());
    }
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

/// Keeps, or fails with, what captures in its drop.
struct Capturing {
    fails: bool,
}

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

impl Carrier for Capturing {
    type Captured = Captures;
    type Attached = ();

    fn name(&self) -> &str {
        "capturing"
    }

    fn capture(&self) -> Result<Captures, BoxError> {
        if self.fails { Err(Bad.into()) } else { Ok(Captures) }
    }

    fn attach(&self, _: &Captures) -> Result<(), BoxError> {
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
    foreign::install(Capturing { fails: false }).unwrap();
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
    foreign::install(Capturing { fails: true }).unwrap();
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

/// Cancels a task in the drop of what it has captured.
struct Cancelling(Mutex<Option<cleanslate::JoinHandle<()>>>);

struct Cancels(Option<cleanslate::JoinHandle<()>>);

impl Drop for Cancels {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            assert!(task.cancel());
        }
    }
}

impl Carrier for Cancelling {
    type Captured = Cancels;
    type Attached = ();

    fn name(&self) -> &str {
        "cancelling"
    }

    fn capture(&self) -> Result<Cancels, BoxError> {
        Ok(Cancels(self.0.lock().unwrap().take()))
    }

    fn attach(&self, _: &Cancels) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
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
    foreign::install(Capturing { fails: false }).unwrap();
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
    drop(Context::empty().carry(Cancelling(Mutex::new(Some(task)))));
    drop(hold);
    busy.join().unwrap();
    assert_eq!(*said.lock().unwrap(), [true; 3]);
}

//! Whatever a carrier does, it costs its task only: its methods, its name, the text and the drop of
//! its errors, the drops of what it captured, of what it attached and of itself.

#![expect(clippy::mem_forget, reason = "payloads whose drop panics")]

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use cleanslate::foreign::{BoxError, Carrier};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, worker_local};
use futures_lite::future::block_on;

use crate::support::{Bomb, Census, Fails, Inert, OnDrop, on_a_thread, panic_of, quiet};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Capture,
    Attach,
    Detach,
}

/// How a step goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// With a payload whose drop panics.
    Panics,
    /// With an error whose text fails.
    FailsToDisplay,
    /// With an error whose text panics.
    PanicsToDisplay,
    /// With an error whose drop panics.
    PanicsInDrop,
    /// With an error that does all of it.
    Everything,
}

const HOWS: [How; 5] =
    [How::Panics, How::FailsToDisplay, How::PanicsToDisplay, How::PanicsInDrop, How::Everything];

struct Nasty(How);

impl fmt::Debug for Nasty {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Bomb::explode()
    }
}

impl fmt::Display for Nasty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            How::FailsToDisplay => Err(fmt::Error),
            How::PanicsToDisplay | How::Everything => Bomb::explode(),
            How::Panics | How::PanicsInDrop => f.write_str("nasty"),
        }
    }
}

impl Error for Nasty {}

impl Drop for Nasty {
    fn drop(&mut self) {
        if let How::PanicsInDrop | How::Everything = self.0 {
            Bomb::explode();
        }
    }
}

/// Goes wrong at one step. Its neighbours see to it that they are attached and detached.
struct Hostile {
    at: Step,
    how: How,
    /// Whether its name panics, too.
    nameless: bool,
}

impl Hostile {
    fn at(&self, step: Step) -> Result<(), BoxError> {
        match self.how {
            _ if step != self.at => Ok(()),
            How::Panics => Bomb::explode(),
            how => Err(Box::new(Nasty(how))),
        }
    }
}

impl Carrier for Hostile {
    type Captured = u8;
    type Attached = u8;

    fn name(&self) -> &str {
        if self.nameless { Bomb::explode() } else { "hostile" }
    }

    fn capture(&self) -> Result<u8, BoxError> {
        self.at(Step::Capture).map(|()| 1)
    }

    fn attach(&self, _: &u8) -> Result<u8, BoxError> {
        self.at(Step::Attach).map(|()| 2)
    }

    fn detach(&self, _: u8) -> Result<(), BoxError> {
        self.at(Step::Detach)
    }
}

/// Counts how often it is attached at present.
#[derive(Clone, Default)]
pub(super) struct Neighbour(Arc<AtomicUsize>);

impl Neighbour {
    pub(super) fn counting(attached: &Arc<AtomicUsize>) -> Self {
        Self(Arc::clone(attached))
    }
}

impl Carrier for Neighbour {
    type Captured = u8;
    type Attached = ();

    fn name(&self) -> &str {
        "neighbour"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        Ok(0)
    }

    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        self.0.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Runs tasks in `context` in every way there is; the panics of those who hear of the failure are
/// discarded.
fn in_every_way(pool: &Pool, context: &Context) {
    let here = pool.in_context(context);
    let heard = |f: &mut dyn FnMut()| {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            // It may be the carrier's own.
            std::mem::forget(payload);
        }
    };
    heard(&mut || context.run(|| ()));
    heard(&mut || drop(context.try_run(|| ())));
    heard(&mut || context.run(|| panic!("the task's own, on purpose")));
    heard(&mut || context.clone().wrap(|| ())());
    heard(&mut || block_on(async {}.isolated_in(context)));
    heard(&mut || drop(async {}.isolated_in(context)));
    heard(&mut || drop(here.submit(|| 1).join()));
    heard(&mut || drop(here.submit(|| panic!("a task, on purpose")).join()));
    heard(&mut || drop(here.submit(|| 1)));
    heard(&mut || drop(here.map(0..3, |n| n)));
    heard(&mut || drop(here.map_range(0..3, |n| n)));
    heard(&mut || drop(here.map_results(0..3, |n| n)));
    heard(&mut || drop(here.try_map(0..3, Ok::<_, ()>)));
    heard(&mut || drop(here.imap(0..3, |n| n).collect::<Vec<_>>()));
    heard(&mut || drop(here.broadcast(|| 1)));
    heard(&mut || {
        here.scope(|s| {
            s.submit(|| 1);
        });
    });
}

#[test]
fn a_carrier_that_goes_wrong_in_any_way_costs_its_task_only() {
    quiet();
    for at in [Step::Attach, Step::Detach] {
        for how in HOWS {
            for nameless in [false, true] {
                let (before, after) = (Neighbour::default(), Neighbour::default());
                let context = Context::empty()
                    .carry(before.clone())
                    .carry(Hostile { at, how, nameless })
                    .carry(after.clone());
                let pool = Pool::new(2).unwrap();
                in_every_way(&pool, &context);
                let error = context.try_run(|| ()).unwrap_err();
                let named = if nameless { "Hostile" } else { "hostile" };
                assert!(error.to_string().contains(named), "{error}");
                assert!(format!("{context:?}").contains(named));
                assert_eq!(pool.map(0..100, |n| n), (0..100).collect::<Vec<_>>());
                assert_eq!(pool.stats().workers, 2, "{at:?} {how:?}");
                pool.shutdown().unwrap();
                let attached = [&before, &after].map(|one| one.0.load(Ordering::SeqCst));
                assert_eq!(attached, [0, 0], "{at:?} {how:?}");
            }
        }
    }
}

#[test]
fn a_capture_that_goes_wrong_in_any_way_is_an_error_of_the_submitter() {
    quiet();
    for how in HOWS {
        for nameless in [false, true] {
            let hostile = || Hostile { at: Step::Capture, how, nameless };
            let error = Context::empty().try_carry(hostile()).unwrap_err();
            assert_eq!((error.is_capture(), error.is_panic()), (true, how == How::Panics));
            assert!(!error.to_string().is_empty() && !format!("{error:?}").is_empty());
            let pool = Pool::builder().workers(1).carry(hostile()).build().unwrap();
            assert!(panic_of(|| pool.submit(|| ())).contains("ostile"));
            assert!(panic_of(|| pool.map(0..3, |n| n)).contains("ostile"));
            assert_eq!(pool.detached().submit(|| 3).join().unwrap(), 3);
        }
    }
}

/// Counts that it is dropped, and panics.
struct Fragile(Arc<AtomicUsize>);

impl Drop for Fragile {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        Bomb::explode();
    }
}

/// A carrier whose every part panics in its drop.
struct Crumbling {
    captured: Arc<AtomicUsize>,
    attached: Arc<AtomicUsize>,
    _itself: Fragile,
}

impl Carrier for Crumbling {
    type Captured = Fragile;
    type Attached = Fragile;

    fn name(&self) -> &str {
        "crumbling"
    }

    fn capture(&self) -> Result<Fragile, BoxError> {
        Ok(Fragile(Arc::clone(&self.captured)))
    }

    fn attach(&self, _: &Fragile) -> Result<Fragile, BoxError> {
        Ok(Fragile(Arc::clone(&self.attached)))
    }

    fn detach(&self, _: Fragile) -> Result<(), BoxError> {
        Ok(())
    }
}

// Broke: of a pool's or a builder's carriers the second one's drop aborted the process.
#[test]
fn drops_that_panic_are_all_run_and_cost_no_worker() {
    quiet();
    for tasks in [0, 1, 20] {
        let counts: [Arc<AtomicUsize>; 3] = Default::default();
        let crumbling = || Crumbling {
            captured: Arc::clone(&counts[0]),
            attached: Arc::clone(&counts[1]),
            _itself: Fragile(Arc::clone(&counts[2])),
        };
        let pool =
            Pool::builder().workers(2).carry(crumbling()).carry(crumbling()).build().unwrap();
        let handles: Vec<_> = (0..tasks).map(|_| pool.submit(|| ())).collect();
        for handle in handles {
            let error = handle.join().unwrap_err();
            assert!(error.to_string().contains("crumbling"), "{error}");
            std::mem::forget(error.try_into_panic());
        }
        assert_eq!(pool.detached().map(0..10, |n| n).len(), 10);
        pool.shutdown().unwrap();
        drop(pool);
        let counts = counts.map(|count| count.load(Ordering::SeqCst));
        assert_eq!(counts, [2 * tasks, 2 * tasks, 2]);
    }
    let itself = Arc::new(AtomicUsize::new(0));
    let crumbling = || Crumbling {
        captured: Arc::default(),
        attached: Arc::default(),
        _itself: Fragile(Arc::clone(&itself)),
    };
    let builder = Pool::builder().carry(crumbling()).carry(crumbling()).carry(crumbling());
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(builder)));
    std::mem::forget(dropped);
    assert_eq!(itself.load(Ordering::SeqCst), 3);
}

/// A carrier of which only what it has captured panics in its drop.
struct Brittle(Arc<AtomicUsize>);

impl Carrier for Brittle {
    type Captured = Fragile;
    type Attached = ();

    fn name(&self) -> &str {
        "brittle"
    }

    fn capture(&self) -> Result<Fragile, BoxError> {
        Ok(Fragile(Arc::clone(&self.0)))
    }

    fn attach(&self, _: &Fragile) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

// Broke: a map lost its results for it.
#[test]
fn what_was_captured_costs_nothing_when_its_drop_panics() {
    quiet();
    let dropped = Arc::new(AtomicUsize::new(0));
    let pool = Pool::builder().workers(2).carry(Brittle(Arc::clone(&dropped))).build().unwrap();
    let ways: [&dyn Fn() -> usize; 6] = [
        &|| pool.submit(|| 9).join().unwrap(),
        &|| pool.map(0..9, |n| n).len(),
        &|| pool.map_results(0..9, |n| n).into_iter().filter_map(Result::ok).count(),
        &|| pool.imap(0..9, |n| n).count(),
        &|| pool.scope(|s| s.submit(|| 9).join().unwrap()),
        &|| pool.broadcast(|| 9)[1],
    ];
    for (n, way) in ways.iter().enumerate() {
        // Its payload must not meet the harness.
        match catch_unwind(AssertUnwindSafe(way)) {
            Ok(found) => assert_eq!(found, 9, "way {n}"),
            Err(payload) => {
                std::mem::forget(payload);
                panic!("way {n} panicked");
            }
        }
    }
    pool.wait_idle();
    assert_eq!(dropped.load(Ordering::SeqCst), ways.len());
}

// Broke: the drop of one that had not ended panicked.
#[test]
fn what_a_future_keeps_costs_nothing_when_its_drop_panics() {
    quiet();
    let dropped = Arc::new(AtomicUsize::new(0));
    let future = || async {}.isolated_in(&Context::empty().carry(Brittle(Arc::clone(&dropped))));
    let ways: [&dyn Fn(); 2] = [&|| block_on(future()), &|| drop(future())];
    for (n, way) in ways.iter().enumerate() {
        let called = catch_unwind(AssertUnwindSafe(way)).map_err(std::mem::forget);
        assert_eq!((called, dropped.load(Ordering::SeqCst)), (Ok(()), n + 1));
    }
}

// A carrier may use the pool that it is of.
#[test]
fn a_carrier_may_submit_and_capture() {
    #[derive(Clone)]
    struct Busy(Arc<Mutex<Option<Pool>>>);
    impl Carrier for Busy {
        type Captured = u8;
        type Attached = ();
        fn name(&self) -> &str {
            "busy"
        }
        fn capture(&self) -> Result<u8, BoxError> {
            drop(Context::capture());
            Ok(0)
        }
        fn attach(&self, _: &u8) -> Result<(), BoxError> {
            let pool = self.0.lock().unwrap();
            let pool = pool.as_ref().ok_or("no pool")?;
            assert_eq!(pool.detached().submit(|| 1).join()?, 1);
            assert_eq!(pool.detached().map(0..3, |n| n), [0, 1, 2]);
            Ok(())
        }
        fn detach(&self, (): ()) -> Result<(), BoxError> {
            self.attach(&0)
        }
    }
    let busy = Busy(Arc::default());
    let pool = Pool::builder().workers(1).carry(busy.clone()).build().unwrap();
    *busy.0.lock().unwrap() = Some(Pool::new(1).unwrap());
    assert_eq!(pool.submit(|| 7).join().unwrap(), 7);
    assert_eq!(pool.map(0..20, |n| n).len(), 20);
    busy.0.lock().unwrap().take();
}

// Broke: the payload left the worker that dropped the pool's carriers, and its drop ended the
// process.
#[test]
fn a_pool_that_ends_inside_a_task_drops_its_carriers_contained() {
    quiet();
    let itself = Arc::new(AtomicUsize::new(0));
    let (gone, wait) = mpsc::channel();
    let last = OnDrop::new(move || gone.send(()).unwrap());
    let owned = (Fragile(Arc::clone(&itself)), Mutex::new(last));
    let pool = Pool::builder().workers(1).carry(Inert(owned)).build().unwrap();
    let inner = Arc::new(Mutex::new(None));
    let held = Arc::clone(&inner);
    let (go, start) = mpsc::channel::<()>();
    let task = pool.submit(move || {
        start.recv().unwrap();
        drop(held.lock().unwrap().take());
    });
    *inner.lock().unwrap() = Some(pool);
    go.send(()).unwrap();
    task.join().unwrap();
    drop(inner);
    wait.recv().unwrap();
    assert_eq!(itself.load(Ordering::SeqCst), 1);
}

// Broke: each submission captured what the pool carries, by a submission, until the stack was full.
#[test]
fn a_pools_carrier_may_submit_to_its_pool_while_it_captures() {
    struct Asks(Arc<Mutex<Option<Pool>>>);
    impl Carrier for Asks {
        type Captured = u8;
        type Attached = ();
        fn name(&self) -> &str {
            "asks"
        }
        fn capture(&self) -> Result<u8, BoxError> {
            let pool = self.0.lock().unwrap().clone();
            Ok(pool.map_or(Ok(0), |pool| pool.submit(|| 7).join())?)
        }
        fn attach(&self, captured: &u8) -> Result<(), BoxError> {
            assert_eq!(*captured, 7);
            Ok(())
        }
        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }
    }
    let itself = Arc::default();
    let pool = Pool::builder().workers(1).carry(Asks(Arc::clone(&itself))).build().unwrap();
    *itself.lock().unwrap() = Some(pool.clone());
    assert_eq!(pool.submit(|| 1).join().unwrap(), 1);
    assert_eq!(pool.map(0..3, |n| n), [0, 1, 2]);
    itself.lock().unwrap().take();
}

#[test]
fn what_nothing_is_may_fail_in_its_drop_and_what_is_kept_is_made_all_the_same() {
    worker_local! { static KEPT: u32 = 7; }

    struct Unkept(Census);

    impl Carrier for Unkept {
        type Captured = Option<Fails>;
        type Attached = ();

        fn name(&self) -> &str {
            "unkept"
        }

        fn capture(&self) -> Result<Option<Fails>, BoxError> {
            Ok(None)
        }

        fn attach(&self, _: &Option<Fails>) -> Result<(), BoxError> {
            Ok(())
        }

        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }

        fn nothing(&self) -> Option<Option<Fails>> {
            Some(Some(Fails::new(&self.0)))
        }
    }

    quiet();
    let census = Census::new();
    let context = Context::empty().carry(Unkept(census.clone()));
    assert_eq!(on_a_thread(|| context.run(|| KEPT.with(|kept| *kept))), 7);
    assert_eq!((census.made(), census.alive()), (1, 0));
}

//! Carriers beside slots: what a carrier does to slots no task sees, and tasks are over before
//! their carriers detach.

use std::sync::Arc;

use super::carriers::{Fault, Log, notes, three, three_beside};
use crate::support::{OnDrop, SHAPES, panic_of, quiet};
use cleanslate::foreign::{BoxError, Carrier};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, task_local};
use futures_lite::future::{block_on, yield_now};

task_local! {
    static TOUCHED: u32 = 0;
    #[inherit]
    static GIVEN: u32 = 0;
}

struct Toucher;

impl Carrier for Toucher {
    type Captured = ();
    type Attached = ();
    fn name(&self) -> &str {
        "toucher"
    }
    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }
    fn attach(&self, (): &()) -> Result<(), BoxError> {
        TOUCHED.set(1);
        Ok(())
    }
    fn detach(&self, (): ()) -> Result<(), BoxError> {
        TOUCHED.set(2);
        Ok(())
    }
}

// Broke: a carrier's slots were the task's, so a task did not start from a clean slate; and around
// a future's polls they were those of whoever polled it.
#[test]
fn what_a_carrier_does_to_slots_is_seen_by_no_task() {
    let context = Context::empty().carry(Toucher);
    assert!(!context.run(|| TOUCHED.is_set()), "neither inside");
    assert!(!TOUCHED.is_set(), "nor outside");
    let pool = Pool::builder().workers(1).carry(Toucher).build().unwrap();
    for _ in 0..2 {
        assert_eq!(pool.submit(|| TOUCHED.replace(3)).join().unwrap(), 0);
        assert_eq!(pool.map(0..9, |_| TOUCHED.replace(3)), [0; 9]);
    }
    block_on(
        async {
            TOUCHED.set(7);
            yield_now().await;
            assert_eq!(TOUCHED.get(), 7)
        }
        .isolated_in(&context),
    );
    assert!(!TOUCHED.is_set(), "around the polls of a future");
    drop(yield_now().isolated_in(&context));
    assert!(!TOUCHED.is_set(), "around its drop");
    TOUCHED.set(5);
    context.run(|| ());
    assert_eq!(TOUCHED.get(), 5);
}

/// Says at its end whether a task's slot is still to be seen. Touches nothing before the task.
struct Witness(Log);

impl Carrier for Witness {
    type Captured = ();
    type Attached = ();
    fn name(&self) -> &str {
        "witness"
    }
    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }
    fn attach(&self, (): &()) -> Result<(), BoxError> {
        Ok(())
    }
    fn detach(&self, (): ()) -> Result<(), BoxError> {
        let set = TOUCHED.is_set() || LEFT.with(Option::is_some);
        self.0.lock().unwrap().push(format!("detach, set: {set}"));
        Ok(())
    }
}

task_local! { static LEFT: Option<OnDrop> = None; }

/// Leaves something, in this of its steps, whose drop panics.
struct Leaver(&'static str);

impl Leaver {
    fn leave_in(&self, step: &str) -> Result<(), BoxError> {
        if self.0 == step {
            LEFT.set(Some(OnDrop::new(|| panic!("what a carrier left, on purpose"))));
        }
        Ok(())
    }
}

impl Carrier for Leaver {
    type Captured = ();
    type Attached = ();
    fn name(&self) -> &str {
        "leaver"
    }
    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }
    fn attach(&self, (): &()) -> Result<(), BoxError> {
        self.leave_in("attach")
    }
    fn detach(&self, (): ()) -> Result<(), BoxError> {
        self.leave_in("detach")
    }
}

#[test]
fn a_drop_of_what_a_carrier_left_in_a_slot_fails_the_task() {
    quiet();
    let names_it = |said: String| {
        assert!(said.contains("LEFT") && said.contains("what a carrier left"), "{said}");
    };
    for step in ["attach", "detach"] {
        let context = Context::empty().carry(Leaver(step));
        let error = context.try_run(|| ()).unwrap_err();
        assert!(error.is_cleanup());
        names_it(error.to_string());
        for workers in SHAPES {
            let pool = Pool::new(workers).unwrap().in_context(&context);
            let error = pool.submit(|| ()).join().unwrap_err();
            assert!(error.is_cleanup());
            names_it(error.to_string());
            names_it(pool.map_results([()], |()| ()).remove(0).unwrap_err().to_string());
            names_it(panic_of(|| pool.map([()], |()| ())));
        }
        names_it(panic_of(|| block_on(async {}.isolated_in(&context))));
    }
}

// The task runs in its carriers' frame if they have touched nothing: it has to end before they
// detach.
#[test]
fn a_task_has_ended_before_its_carriers_detach() {
    quiet();
    let log = Log::default();
    let context = Context::empty().carry(Witness(Arc::clone(&log)));
    let leave = |log: &Log| {
        TOUCHED.set(4);
        let log = Arc::clone(log);
        LEFT.set(Some(OnDrop::new(move || {
            let panicking = std::thread::panicking();
            log.lock().unwrap().push(format!("drop, panicking: {panicking}"));
        })));
    };
    let returned = ["drop, panicking: false", "detach, set: false"];
    context.run(|| leave(&log));
    assert_eq!(notes(&log), returned);
    panic_of(|| {
        context.run(|| {
            leave(&log);
            panic!("on purpose")
        })
    });
    assert_eq!(notes(&log), ["drop, panicking: true", "detach, set: false"]);
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let remote = Arc::clone(&log);
        pool.in_context(&context).submit(move || leave(&remote)).join().unwrap();
        assert_eq!(notes(&log), returned);
        pool.in_context(&context).map([()], |()| leave(&log));
        assert_eq!(notes(&log), returned);
    }
    block_on(async { leave(&log) }.isolated_in(&context));
    assert_eq!(notes(&log), returned);
    assert!(!TOUCHED.is_set());
}

// Broke: it was dropped when the frame had closed, so the slot was its caller's, or the worker's
// for good.
#[test]
fn what_a_refused_task_owns_is_dropped_without_a_trace() {
    let (context, _) = three(Fault::Attach);
    let owned = || {
        OnDrop::new(|| {
            TOUCHED.set(9);
            panic!("a drop that fails on purpose");
        })
    };
    TOUCHED.set(5);
    let guard = owned();
    assert!(context.try_run(move || drop(guard)).unwrap_err().is_carrier());
    assert_eq!(TOUCHED.get(), 5);
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        for _ in 0..workers {
            let guard = owned();
            let refused = pool.in_context(&context).submit(move || drop(guard)).join();
            assert!(refused.unwrap_err().to_string().contains("attach failed"));
        }
        assert_eq!(pool.stats().workers, workers);
    }
}

// Its task has not begun: as with one that is cancelled, there is nothing that it inherits.
#[test]
fn what_a_refused_task_owns_is_dropped_in_an_empty_frame() {
    let (context, _) = three_beside(GIVEN.scope(5, Context::capture), Fault::Attach);
    let seen = Log::default();
    let owned = || {
        let seen = Arc::clone(&seen);
        OnDrop::new(move || seen.lock().unwrap().push(format!("{}", GIVEN.get())))
    };
    // Nor is it what the task around it inherits.
    for around in [Context::empty(), GIVEN.scope(6, Context::capture)] {
        let guard = owned();
        let refused = around.run(|| context.try_run(move || drop(guard)).unwrap_err());
        assert!(refused.is_carrier());
    }
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap().in_context(&context);
        let guard = owned();
        assert!(pool.submit(move || drop(guard)).join().is_err());
        assert!(pool.map_results([owned()], drop)[0].is_err());
    }
    assert_eq!(notes(&seen), ["0"; 2 + 2 * SHAPES.len()]);
}

/// Notes in each of its steps what it finds inherited.
struct Finder(Log);

impl Finder {
    fn find(&self) -> Result<(), BoxError> {
        self.0.lock().unwrap().push(GIVEN.get().to_string());
        Ok(())
    }
}

impl Carrier for Finder {
    type Captured = ();
    type Attached = ();
    fn name(&self) -> &str {
        "finder"
    }
    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }
    fn attach(&self, (): &()) -> Result<(), BoxError> {
        self.find()
    }
    fn detach(&self, (): ()) -> Result<(), BoxError> {
        self.find()
    }
    fn reattach(&self, (): &(), (): &mut ()) -> bool {
        self.find().is_ok()
    }
}

#[test]
fn a_carrier_finds_what_the_task_inherits_in_each_of_its_steps() {
    let log = Log::default();
    let context = GIVEN.scope(5, Context::capture).carry(Finder(Arc::clone(&log)));
    let pool = Pool::new(1).unwrap().in_context(&context);
    pool.submit(|| ()).join().unwrap();
    assert_eq!(notes(&log), ["5"; 2]);
    // Not after the last one: with a chunk for each item there would be twice as many.
    pool.map_range(0..100, |_| ());
    let found = notes(&log);
    assert!(
        found.len() > 100 && found.len() < 200 && found.iter().all(|it| it == "5"),
        "{found:?}"
    );
}

//! Slots that come back by way of a frame of their own: that of a copy's drop, of a task that a
//! drop runs, of a future or an owner that it has left. However deep that goes, nothing is leaked
//! of what ends.

use std::error::Error;
use std::future::{Future, pending};
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Waker};

use crate::drops::{ASHES, LEAKING};
use crate::support::{Census, OnDrop, quiet};
use cleanslate::foreign::{BoxError, Carrier, CarrierError};
use cleanslate::future::FutureExt;
use cleanslate::{CleanupError, Context, OwnedLocal, TaskLocal, leaked_values, task_local};

static DROPS: AtomicUsize = AtomicUsize::new(0);

/// What a drop does to have another one of its kind.
#[derive(Clone, Copy, Debug)]
enum Way {
    Capture,
    LeaveContext,
    Run,
    RunTwo,
    LeaveFuture,
    LeaveOwner,
}

const WAYS: [Way; 6] =
    [Way::Capture, Way::LeaveContext, Way::Run, Way::RunTwo, Way::LeaveFuture, Way::LeaveOwner];

/// Comes back in this way, at most so often.
#[derive(Clone)]
struct Again(Way, usize);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

task_local! {
    #[inherit]
    static AGAIN: Option<Again> = None;
    static CONTEXT: Option<Context> = None;
    static FUTURE: Option<Task> = None;
    static OWNER: Option<OwnedLocal<Option<Again>>> = None;
    static FILLS: Option<OnDrop> = None;
    static RETURNS: Option<Returns> = None;
    static RETURNS_2: Option<Returns> = None;
    static FIRST: Option<OnDrop> = None;
    static SECOND: Option<OnDrop> = None;
    static LEFT: Option<OnDrop> = None;
}

impl Drop for Again {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
        let Self(way, left) = *self;
        if left == 0 {
            return;
        }
        let again = move || AGAIN.set(Some(Self(way, left - 1)));
        match way {
            Way::Capture => {
                again();
                drop(Context::capture());
            }
            Way::LeaveContext => {
                again();
                CONTEXT.set(Some(Context::capture()));
            }
            Way::Run => Context::empty().run(again),
            Way::RunTwo => {
                Context::empty().run(again);
                Context::empty().run(again);
            }
            Way::LeaveFuture => {
                let suspended = async move {
                    again();
                    pending().await
                };
                let mut task: Task = Box::pin(suspended.isolated_in(&Context::empty()));
                let _pending = task.as_mut().poll(&mut task::Context::from_waker(Waker::noop()));
                FUTURE.set(Some(task));
            }
            Way::LeaveOwner => {
                let owner = OwnedLocal::new(|| None);
                owner.set(Some(Self(way, left - 1)));
                OWNER.set(Some(owner));
            }
        }
    }
}

/// Ends a task that has left one; returns how many drops that took, how many values were leaked,
/// and what the task's error says.
fn ended(way: Way, left: usize) -> (usize, u64, String) {
    let (drops, leaked) = (DROPS.load(Ordering::SeqCst), leaked_values());
    let ended = Context::empty().try_run(|| AGAIN.set(Some(Again(way, left))));
    let said = ended.map_or_else(|error| error.to_string(), |()| String::new());
    (DROPS.load(Ordering::SeqCst) - drops, leaked_values() - leaked, said)
}

#[test]
fn what_comes_back_a_few_times_is_dropped_to_the_last() {
    let _alone = LEAKING.lock();
    for way in WAYS {
        for left in 0..4 {
            let drops = if let Way::RunTwo = way { (2 << left) - 1 } else { left + 1 };
            let (dropped, leaked, said) = ended(way, left);
            assert!(dropped >= drops && leaked == 0 && said.is_empty(), "{way:?} {left}: {said}");
        }
    }
    // A task on top of a drop on top of a task.
    for way in [Way::Run, Way::LeaveFuture, Way::LeaveOwner] {
        assert_eq!(ended(way, 60), (61, 0, String::new()), "{way:?}");
    }
}

// One lies within the drop of the next, but no clean-up called another.
#[test]
fn a_chain_of_contexts_whose_drops_use_slots_is_dropped_to_its_end() {
    #[derive(Clone)]
    struct Link(Arc<()>);
    impl Drop for Link {
        fn drop(&mut self) {
            NOTES.with_mut(|notes| notes.push(Arc::strong_count(&self.0)));
        }
    }
    task_local! {
        #[inherit]
        static LINK: Option<(Link, Context)> = None;
        static NOTES: Vec<usize> = Vec::new();
    }
    let _alone = LEAKING.lock();
    let leaked = leaked_values();
    let kept = Arc::new(());
    Context::empty().run(|| {
        for _ in 0..100 {
            let before = Context::capture();
            LINK.set(Some((Link(Arc::clone(&kept)), before)));
        }
    });
    assert_eq!((Arc::strong_count(&kept), leaked_values()), (1, leaked));
}

#[test]
fn a_drop_may_fill_any_number_of_slots() {
    let _alone = LEAKING.lock();
    let leaked = leaked_values();
    let census = Census::new();
    let owners: Arc<Vec<_>> = Arc::new((0..1000).map(|_| OwnedLocal::new(|| None)).collect());
    let (fills, remote) = (Arc::clone(&owners), census.clone());
    Context::empty().run(|| {
        FILLS.set(Some(OnDrop::new(move || {
            fills.iter().for_each(|owner| owner.set(Some(remote.token())));
        })));
    });
    assert_eq!((census.dropped(), leaked_values()), (1000, leaked));
}

/// Comes back for ever.
struct Returns(&'static TaskLocal<Option<Returns>>);

impl Drop for Returns {
    fn drop(&mut self) {
        self.0.set(Some(Self(self.0)));
        self.0.with(|value| ASHES.lock().unwrap().push(std::ptr::from_ref(value).addr()));
    }
}

/// Fails to detach, and leaves something that fails.
struct Leaves;

impl Carrier for Leaves {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "leaves"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        LEFT.set(Some(OnDrop::new(|| panic!("what it left, on purpose"))));
        Err("stuck, on purpose".into())
    }
}

#[test]
fn a_clean_up_names_all_its_faults_in_order_and_has_the_payload_of_the_first_panic() {
    const RETURN: [&TaskLocal<Option<Returns>>; 2] = [&RETURNS, &RETURNS_2];
    quiet();
    let _alone = LEAKING.lock();
    let leaked = leaked_values();
    let error = Context::empty().carry(Leaves).try_run(|| {
        SECOND.set(Some(OnDrop::new(|| panic_any(2))));
        FIRST.set(Some(OnDrop::new(|| panic_any(1))));
        RETURN.into_iter().for_each(|slot| slot.set(Some(Returns(slot))));
    });
    let error = error.unwrap_err();
    let said = error.to_string();
    let names = ["RETURNS_2`", "RETURNS`", "FIRST`", "SECOND`", "stuck", "LEFT`"];
    let found = names.map(|name| said.find(name).unwrap_or_else(|| panic!("{name}: {said}")));
    assert!(found.is_sorted() && said.matches("; ").count() == names.len() - 1, "{said}");
    let cause = error.source().unwrap().downcast_ref::<CleanupError>().unwrap();
    assert!(cause.is_detach() && cause.source().unwrap().is::<CarrierError>());
    assert_eq!((cause.leaked(), leaked_values()), (2, leaked + 2));
    assert_eq!(error.try_into_panic().unwrap().downcast_ref(), Some(&1));
}

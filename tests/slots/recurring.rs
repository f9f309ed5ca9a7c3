//! Slots that come back by way of a frame of their own: that of a copy's drop, of a task that a
//! drop runs, of a future or an owner that it has left. However deep that goes, nothing is leaked
//! of what ends.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Waker};

use crate::drops::LEAKING;
use cleanslate::future::FutureExt;
use cleanslate::{Context, OwnedLocal, leaked_values, task_local};

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

//! Slots that keep coming back by way of a frame of their own: that of a copy's drop, of a task that
//! a drop runs, of a future that it has left.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Waker};

use crate::drops::LEAKING;
use crate::support::{in_a_process_of_its_own, quiet};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, leaked_values, task_local};

static DROPS: AtomicUsize = AtomicUsize::new(0);

/// What a drop does to have another one of its kind.
#[derive(Clone, Copy)]
enum Way {
    Capture,
    LeaveContext,
    Run,
    LeaveFuture,
}

/// Comes back in this way.
#[derive(Clone)]
struct Again(Way);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

task_local! {
    #[inherit]
    static AGAIN: Option<Again> = None;
    static CONTEXT: Option<Context> = None;
    static FUTURE: Option<Task> = None;
}

impl Drop for Again {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
        let Self(way) = *self;
        let again = move || AGAIN.set(Some(Self(way)));
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
            Way::LeaveFuture => {
                let suspended = async move {
                    again();
                    pending().await
                };
                let mut task: Task = Box::pin(suspended.isolated_in(&Context::empty()));
                let _pending = task.as_mut().poll(&mut task::Context::from_waker(Waker::noop()));
                FUTURE.set(Some(task));
            }
        }
    }
}

// Broke: each frame began to count anew, and the stack overflowed.
#[test]
fn a_slot_that_comes_back_in_a_frame_of_its_own_ends_as_well() {
    quiet();
    let _alone = LEAKING.lock();
    for way in [Way::Capture, Way::LeaveContext, Way::Run, Way::LeaveFuture] {
        let before = leaked_values();
        DROPS.store(0, Ordering::SeqCst);
        let ended = Context::empty().try_run(|| AGAIN.set(Some(Again(way))));
        let drops = DROPS.load(Ordering::SeqCst);
        assert!((4..1_000).contains(&drops), "{drops} drops");
        assert!(leaked_values() > before, "{ended:?}");
    }
}

#[test]
fn a_value_whose_drops_submit_to_a_closed_pool_ends_as_well() {
    static POOL: OnceLock<Pool> = OnceLock::new();

    #[derive(Clone)]
    struct Submits;
    impl Drop for Submits {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
            SUBMITS.with(|_| ());
            drop(POOL.get().map(|pool| pool.submit(|| ())));
        }
    }
    task_local! { #[inherit] static SUBMITS: Submits = Submits; }

    if !in_a_process_of_its_own(
        "recurring::a_value_whose_drops_submit_to_a_closed_pool_ends_as_well",
    ) {
        return;
    }
    POOL.get_or_init(|| Pool::new(1).unwrap()).shutdown().unwrap();
    let error = Context::empty().try_run(|| SUBMITS.with(|_| ())).unwrap_err().to_string();
    assert!(error.contains("::SUBMITS`"), "{error}");
    let drops = DROPS.load(Ordering::SeqCst);
    assert!((4..1_000).contains(&drops), "{drops} drops");
}

//! Everything that a layer is given, where each of it panics in its drop.

use std::mem::ManuallyDrop;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use apalis::prelude::{BoxDynError, Task, TaskBuilder};
use cleanslate::task_local;
use cleanslate_jobs::{JobLayer, Wire};
use futures_util::FutureExt;
use tower_layer::Layer;
use tower_service::Service;

task_local! {
    #[inherit]
    static TENANT: u32 = 0;
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

/// Counts its drop, and panics there.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
        panic!("dropped on purpose");
    }
}

/// What a job does.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// Panics in the clone of the service that takes the place of the one that is called.
    PanicsInClone,
    /// Panics where the service is called.
    PanicsInCall,
    PanicsInPoll,
    Hangs,
    Ends,
}

struct Handler {
    does: Does,
    _bomb: Bomb,
}

impl Handler {
    fn new(does: Does) -> Self {
        Self { does, _bomb: Bomb }
    }
}

impl Clone for Handler {
    fn clone(&self) -> Self {
        assert!(!matches!(self.does, Does::PanicsInClone), "cloned on purpose");
        Self::new(self.does)
    }
}

impl Service<Task<Bomb>> for Handler {
    type Response = Bomb;
    type Error = BoxDynError;
    type Future = Running;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, job: Task<Bomb>) -> Running {
        // What becomes of the job is the handler's affair.
        let _job = ManuallyDrop::new(job);
        assert!(!matches!(self.does, Does::PanicsInCall), "called on purpose");
        Running { does: self.does, _bomb: Bomb }
    }
}

struct Running {
    does: Does,
    _bomb: Bomb,
}

impl Future for Running {
    type Output = Result<Bomb, BoxDynError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.does {
            Does::Ends => Poll::Ready(Ok(Bomb)),
            Does::Hangs => Poll::Pending,
            _ => panic!("polled on purpose"),
        }
    }
}

/// Calls a handler with a job, polls it so often, and gives it up. Returns what the first panic
/// said, and the number of drops.
fn run(does: Does, polls: usize, metadata: &str) -> (String, usize) {
    let wire = Wire::new().slot("tenant", &TENANT);
    let task = TaskBuilder::new(()).build();
    let mut known = task.metadata().clone();
    known.extend([("cleanslate.tenant", metadata)]);
    let task = TaskBuilder::new(Bomb).with_metadata(known).build();
    let mut service = ManuallyDrop::new(JobLayer::new(wire).layer(Handler::new(does)));
    DROPS.store(0, Ordering::SeqCst);
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut job = service.call(task);
        for _ in 0..polls {
            let done = (&mut job).now_or_never();
            drop(done);
        }
    }));
    let payload = ran.unwrap_err();
    (payload.downcast_ref::<&str>().unwrap().to_string(), DROPS.load(Ordering::SeqCst))
}

// Broke: what a job had was dropped one after the other, the second one while the panic of the
// first, or of the job, unwound; that ended the process.
#[test]
fn whatever_becomes_of_a_job_all_is_dropped_and_there_is_one_panic() {
    let (job, service, future, response) = (1, 1, 1, 1);
    for (does, polls, tenant, said, drops) in [
        (Does::PanicsInClone, 0, "1", "cloned", job),
        (Does::Ends, 0, "1", "dropped", job + service),
        (Does::Ends, 1, "none", "dropped", job + service),
        (Does::PanicsInCall, 1, "1", "called", service),
        (Does::PanicsInPoll, 1, "1", "polled", service + future),
        (Does::Hangs, 1, "1", "dropped", service + future),
        (Does::Ends, 1, "1", "dropped", service + future + response),
    ] {
        let (message, dropped) = run(does, polls, tenant);
        assert_eq!((message, dropped), (format!("{said} on purpose"), drops), "{does:?} {polls}");
    }
}

// Broke: what the clone of a service left in slots stayed on the thread of whoever cloned it.
#[test]
fn a_service_is_cloned_in_a_task_of_its_own() {
    task_local! { static LEFT: u32 = 0; }
    struct Leaves;
    impl Clone for Leaves {
        fn clone(&self) -> Self {
            LEFT.set(LEFT.get() + 1);
            Self
        }
    }
    let service = JobLayer::new(Wire::new()).layer(Leaves);
    drop(service.clone());
    assert!(!LEFT.is_set());
}

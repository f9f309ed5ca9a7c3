//! Everything that a layer is given, where each of it panics in its drop.

use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use apalis::prelude::{BoxDynError, Task, TaskBuilder, task_fn};
use cleanslate::{Pool, task_local};
use cleanslate_jobs::{JobLayer, Wire, on_pool};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
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

/// Panics in its drop, if it is to.
struct Fuse(bool);

impl Drop for Fuse {
    fn drop(&mut self) {
        assert!(!self.0, "dropped on purpose");
    }
}

#[test]
fn a_response_is_dropped_where_the_service_or_its_future_fails_to_drop() {
    struct Answers {
        _service: Fuse,
        is_future: bool,
        response: Arc<()>,
    }
    impl Clone for Answers {
        fn clone(&self) -> Self {
            Self { _service: Fuse(false), is_future: false, response: Arc::clone(&self.response) }
        }
    }
    impl Service<Task<()>> for Answers {
        type Response = Arc<()>;
        type Error = BoxDynError;
        type Future = Pin<Box<dyn Future<Output = Result<Arc<()>, BoxDynError>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Task<()>) -> Self::Future {
            let (held, response) = (Fuse(self.is_future), Arc::clone(&self.response));
            // An `async` block would drop what it holds as soon as it is over.
            Box::pin(poll_fn(move |_| {
                let _held = &held;
                Poll::Ready(Ok(Arc::clone(&response)))
            }))
        }
    }
    let response = Arc::new(());
    for is_future in [false, true] {
        let layer = JobLayer::new(Wire::new());
        let handler =
            Answers { _service: Fuse(!is_future), is_future, response: Arc::clone(&response) };
        let mut service = layer.layer(handler);
        let job = service.call(Task::new(()));
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| job.now_or_never()));
        assert_eq!(ended.unwrap_err().downcast_ref(), Some(&"dropped on purpose"));
        drop(service);
        assert_eq!(Arc::strong_count(&response), 1, "of the future: {is_future}");
    }
}

#[tokio::test]
async fn a_result_is_dropped_where_the_closure_of_a_handler_fails_to_drop() {
    let result = Arc::new(());
    let pool = Pool::new(1).unwrap();
    let (fuse, response) = (Fuse(true), Arc::clone(&result));
    let mut handler = on_pool(pool.clone(), move |_: Task<()>| {
        let _held = &fuse;
        Ok::<_, BoxDynError>(Arc::clone(&response))
    });
    let job = handler.call(Task::new(()));
    drop(handler);
    let error = job.await.unwrap_err();
    assert!(error.to_string().contains("dropped on purpose"), "{error}");
    assert_eq!(Arc::strong_count(&result), 1);
    pool.shutdown().unwrap();
}

task_local! { static LAST: u32 = 0; }

/// Leaves its number in a slot when it is dropped.
#[derive(Clone, Serialize, Deserialize)]
struct Leaves(u32);

impl Drop for Leaves {
    fn drop(&mut self) {
        LAST.set(self.0);
    }
}

#[test]
fn what_a_job_is_made_of_is_dropped_in_a_task() {
    task_local! {
        #[inherit]
        static BROUGHT: Leaves = Leaves(0);
    }
    async fn handle(job: Leaves) -> u32 {
        BROUGHT.with(|brought| job.0 + brought.0)
    }
    let layer = JobLayer::new(Wire::new().slot("brought", &BROUGHT));
    let mut service = layer.layer(task_fn::<_, Leaves, ()>(handle));
    for (brought, ends) in [("7", Some(true)), ("none", Some(false)), ("7", None)] {
        let metadata = [("cleanslate.brought", brought)].into_iter().collect();
        let job = service.call(TaskBuilder::new(Leaves(1)).with_metadata(metadata).build());
        let ended = ends.map(|_| job.now_or_never().expect("it waits for nothing"));
        assert_eq!(ended.map(|ended| ended.is_ok()), ends);
        assert!(!LAST.is_set(), "{brought}, ends: {ends:?}");
    }
}

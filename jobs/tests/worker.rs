//! Jobs in a layer of a worker: `async` handlers, and handlers on a pool.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use apalis::layers::WorkerBuilderExt;
use apalis::layers::retry::RetryPolicy;
use apalis::prelude::{
    BoxDynError, Data, Event, EventListenerExt, MemoryStorage, Status, Task, TaskBuilder, TaskSink,
    WorkerBuilder, WorkerContext, task_fn,
};
use cleanslate::{Context, Pool, task_local};
use cleanslate_jobs::{JobLayer, RestoreError, Wire, on_pool};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;
use tower_service::Service;

task_local! {
    #[inherit]
    static TENANT: String = "nobody".to_owned();
    #[inherit(with = |hops| hops + 1)]
    static HOPS: u32 = 100;
    static LEFT: Option<u32> = None;
}

fn wire() -> Wire {
    Wire::new().slot("tenant", &TENANT).slot("hops", &HOPS)
}

/// A job of this tenant.
fn job(id: u32, tenant: &str) -> Task<u32> {
    Context::empty().run(|| {
        TENANT.set(tenant.to_owned());
        HOPS.set(0);
        TaskBuilder::new(id).metadata(&wire().capture().unwrap()).build()
    })
}

fn tenant(id: u32) -> &'static str {
    if id.is_multiple_of(2) { "acme" } else { "globex" }
}

/// Asserts that a job finds its own context and nothing else, and leaves something.
fn look(id: u32) {
    assert_eq!((TENANT.get().as_str(), HOPS.get()), (tenant(id), 1), "job {id}");
    assert_eq!(LEFT.replace(Some(id)), None, "job {id}");
}

fn is_clean() -> bool {
    !TENANT.is_set() && !HOPS.is_set() && !LEFT.is_set()
}

async fn waits(id: u32) {
    look(id);
    for _ in 0..3 {
        tokio::task::yield_now().await;
        assert_eq!((TENANT.get().as_str(), LEFT.get()), (tenant(id), Some(id)));
    }
}

#[tokio::test]
async fn async_jobs_keep_their_slots_while_others_run_on_the_thread() {
    let mut service = JobLayer::new(wire()).layer(task_fn::<_, u32, ()>(waits));
    let jobs: Vec<_> = (0..100).map(|id| service.call(job(id, tenant(id)))).collect();
    assert!(is_clean());
    for done in futures_util::future::join_all(jobs).await {
        done.unwrap();
    }
    assert!(is_clean());
}

#[tokio::test]
async fn jobs_on_a_pool_find_what_async_jobs_find() {
    for workers in [1, 2, 5] {
        let pool = Pool::builder().workers(workers).queue_capacity(3).build().unwrap();
        let handler = on_pool(pool.clone(), |job: Task<u32>| look(job.args));
        let mut service = JobLayer::new(wire()).layer(handler);
        let jobs: Vec<_> = (0..100).map(|id| service.call(job(id, tenant(id)))).collect();
        for done in futures_util::future::join_all(jobs).await {
            done.unwrap();
        }
        assert!(is_clean());
        assert!(pool.broadcast(is_clean).into_iter().all(|clean| clean));
    }
}

#[tokio::test]
async fn a_job_on_a_pool_without_a_context_inherits_nothing() {
    TENANT.set("the worker's".to_owned());
    let mut handler = on_pool(Pool::new(1).unwrap(), |_: Task<u32>| TENANT.get());
    assert_eq!(handler.call(Task::new(1)).await.unwrap(), "nobody");
    TENANT.take();
}

#[tokio::test]
async fn a_handler_can_hand_its_context_on() {
    let pool = Pool::new(2).unwrap();
    let hands_on = move |_: u32, context: Data<Context>| {
        let pool = pool.clone();
        async move {
            let given = pool.in_context(&context).submit(|| (TENANT.get(), HOPS.get())).await;
            let child = pool.submit(|| (TENANT.get(), HOPS.get())).await;
            assert_eq!(given.unwrap(), ("acme".to_owned(), 1));
            assert_eq!(child.unwrap(), ("acme".to_owned(), 2));
        }
    };
    let mut service = JobLayer::new(wire()).layer(task_fn::<_, u32, Data<Context>>(hands_on));
    service.call(job(1, "acme")).await.unwrap();
}

#[tokio::test]
async fn a_job_that_panics_leaves_nothing_and_costs_no_thread() {
    let panics = async |id: u32| -> Result<(), BoxDynError> {
        LEFT.set(Some(id));
        tokio::task::yield_now().await;
        panic!("on purpose")
    };
    let mut service = JobLayer::new(wire()).layer(task_fn::<_, u32, ()>(panics));
    let caught = AssertUnwindSafe(service.call(job(1, "acme"))).catch_unwind().await;
    assert_eq!(*caught.unwrap_err().downcast_ref::<&str>().unwrap(), "on purpose");
    assert!(is_clean());

    let pool = Pool::new(1).unwrap();
    let panics = on_pool(pool.clone(), |job: Task<u32>| {
        LEFT.set(Some(job.args));
        assert!(job.args != 1, "job {} panics on purpose", job.args);
    });
    let mut service = JobLayer::new(wire()).layer(panics);
    let error = service.call(job(1, "acme")).await.unwrap_err();
    let error = error.downcast::<cleanslate::TaskError>().unwrap();
    assert!(error.is_panic() && error.message() == Some("job 1 panics on purpose"));
    service.call(job(2, "acme")).await.unwrap();
    assert_eq!(pool.broadcast(is_clean), [true]);
}

/// Panics in its drop.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped on purpose");
    }
}

// Broke: the process was aborted, since what the closure owns was dropped while its panic unwound.
#[tokio::test]
async fn a_job_that_lets_go_of_the_closure_last_costs_no_second_panic() {
    let pool = Pool::new(1).unwrap();
    for (panics, message) in [(false, "dropped on purpose"), (true, "ran on purpose")] {
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let bomb = Bomb;
        let mut handler = on_pool(pool.clone(), move |_: Task<u32>| {
            let _owned = &bomb;
            gate.lock().unwrap().recv().unwrap();
            assert!(!panics, "ran on purpose");
        });
        let mut running = handler.call(Task::new(1));
        assert!((&mut running).now_or_never().is_none(), "it waits for the gate");
        drop(handler);
        go.send(()).unwrap();
        let error = running.await.unwrap_err().downcast::<cleanslate::TaskError>().unwrap();
        assert_eq!(error.message(), Some(message));
    }
    assert_eq!(pool.submit(|| 1).await.unwrap(), 1);
}

// Broke: the process was aborted, where both the closure and the job panicked in their drops.
#[tokio::test]
async fn a_job_that_is_given_up_before_it_begins_costs_no_second_panic() {
    let pool = Pool::new(1).unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let busy = pool.submit(move || gate.recv());
    let bomb = Bomb;
    let mut handler = on_pool(pool.clone(), move |_: Task<Bomb>| {
        let _owned = &bomb;
    });
    let mut waits = handler.call(Task::new(Bomb));
    assert!((&mut waits).now_or_never().is_none(), "it waits for the thread");
    drop(handler);
    drop(waits);
    go.send(()).unwrap();
    busy.await.unwrap().unwrap();
    assert_eq!(pool.submit(|| 1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_job_on_a_pool_that_is_given_up_first_does_not_run() {
    let pool = Pool::new(1).unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let busy = pool.submit(move || gate.recv());
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let handler = on_pool(pool.clone(), move |_: Task<u32>| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut service = JobLayer::new(wire()).layer(handler);
    let mut given_up = service.call(job(1, "acme"));
    assert!((&mut given_up).now_or_never().is_none(), "it waits for the thread");
    drop(given_up);
    go.send(()).unwrap();
    busy.await.unwrap().unwrap();
    service.call(job(2, "acme")).await.unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 1);

    pool.shutdown().unwrap();
    let error = service.call(job(3, "acme")).await.unwrap_err();
    assert!(error.to_string().contains("shut"), "{error}");
}

static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Counts itself, and touches a slot when it is dropped; some panic there.
#[derive(Serialize)]
struct Untidy {
    panics: bool,
}

impl Untidy {
    fn new(panics: bool) -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self { panics }
    }
}

impl Clone for Untidy {
    fn clone(&self) -> Self {
        Self::new(self.panics)
    }
}

impl<'de> Deserialize<'de> for Untidy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            panics: bool,
        }
        Plain::deserialize(deserializer).map(|plain| Self::new(plain.panics))
    }
}

impl Drop for Untidy {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
        LEFT.set(Some(0));
        assert!(!self.panics, "dropped on purpose");
    }
}

#[test]
fn values_end_with_their_job_and_their_drops_leave_nothing() {
    let run = |panics: bool, handler_panics: bool| {
        task_local! {
            #[inherit]
            static VALUE: Untidy = Untidy::new(false);
        }
        let wire = Wire::new().slot("value", &VALUE);
        let captured = Context::empty().run(|| {
            VALUE.set(Untidy::new(false));
            wire.capture().unwrap()
        });
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
        LEFT.take();
        let task = TaskBuilder::new(1u32).metadata(&captured).build();
        let mut metadata = task.metadata().clone();
        metadata.extend([("cleanslate.value", format!("{{\"panics\":{panics}}}"))]);
        let task = TaskBuilder::new(1u32).with_metadata(metadata).build();
        let touches = move |_: u32| {
            VALUE.with(|_| ());
            assert!(!handler_panics, "handled on purpose");
            std::future::ready(())
        };
        let mut service = JobLayer::new(wire).layer(task_fn::<_, u32, ()>(touches));
        let done = AssertUnwindSafe(service.call(task)).catch_unwind().now_or_never().unwrap();
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0, "{panics} {handler_panics}");
        assert!(!LEFT.is_set(), "{panics} {handler_panics}");
        done
    };
    run(false, false).unwrap().unwrap();
    assert!(run(true, false).is_err());
    let first = run(true, true).unwrap_err();
    assert_eq!(*first.downcast_ref::<&str>().unwrap(), "handled on purpose");
}

#[tokio::test]
async fn a_job_that_is_given_up_in_the_middle_leaves_nothing() {
    let hangs = async |id: u32| {
        look(id);
        std::future::pending::<()>().await;
    };
    let mut service = JobLayer::new(wire()).layer(task_fn::<_, u32, ()>(hangs));
    let mut given_up = service.call(job(1, "globex"));
    assert!((&mut given_up).now_or_never().is_none());
    drop(given_up);
    assert!(is_clean());
}

/// How jobs end; the worker stops after `count` of them.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<Result<(), String>>>>);

impl Ends {
    fn note(self, count: usize) -> impl Fn(&WorkerContext, &Event) + Clone + Send + Sync + 'static {
        move |worker, event| {
            let end = match event {
                Event::Success(_) => Ok(()),
                Event::Error(error) => Err(error.to_string()),
                _ => return,
            };
            self.0.lock().unwrap().push(end);
            // Not under the lock: it calls this closure.
            if self.all().len() == count {
                worker.stop().unwrap();
            }
        }
    }

    fn all(&self) -> Vec<Result<(), String>> {
        self.0.lock().unwrap().clone()
    }
}

async fn queue(jobs: impl IntoIterator<Item = Task<u32>>) -> MemoryStorage<u32> {
    let mut storage = MemoryStorage::new();
    for job in jobs {
        storage.push_task(job).await.unwrap();
    }
    storage
}

/// A job whose hops are no number.
fn undecodable() -> Task<u32> {
    TaskBuilder::new(0).with_metadata([("cleanslate.hops", "many")].into_iter().collect()).build()
}

const WORDS: &str = "cannot decode slot `hops`";

#[tokio::test]
async fn each_attempt_of_a_job_starts_afresh() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let fails_twice = move |id: u32| {
        let count = Arc::clone(&count);
        async move {
            look(id);
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => Err(BoxDynError::from("on purpose")),
                1 => panic!("on purpose"),
                _ => Ok(()),
            }
        }
    };
    let ends = Ends::default();
    let worker = WorkerBuilder::new("attempts")
        .backend(queue([job(1, "globex")]).await)
        .retry(RetryPolicy::retries(3))
        .catch_panic()
        .layer(JobLayer::new(wire()))
        .on_event(ends.clone().note(1))
        .build(fails_twice);
    worker.run().await.unwrap();
    assert_eq!((ends.all(), attempts.load(Ordering::SeqCst)), (vec![Ok(())], 3));
}

// An attempt that fails outside of the handler is not counted by apalis: with a retry around it, it
// would be repeated for ever.
#[tokio::test]
async fn a_context_that_does_not_decode_kills_its_job_and_no_other() {
    let ends = Ends::default();
    let bad = undecodable();
    let status = bad.raw_status().clone();
    let worker = WorkerBuilder::new("layer")
        .backend(queue([bad, job(2, "acme")]).await)
        .retry(RetryPolicy::retries(3))
        .layer(JobLayer::new(wire()))
        .on_event(ends.clone().note(2))
        .build(waits);
    worker.run().await.unwrap();
    let ends = ends.all();
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1, "{ends:?}");
    let error = ends.into_iter().find_map(Result::err).unwrap();
    assert!(error.starts_with(WORDS), "{error}");
    assert_eq!(status.load(), Status::Killed);
}

#[derive(Clone, Debug, Serialize)]
struct Digit(u32);

impl<'de> Deserialize<'de> for Digit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::SeqCst);
        let number = u32::deserialize(deserializer)?;
        assert!(number < 10, "no digit");
        Ok(Self(number))
    }
}

static DECODED: AtomicUsize = AtomicUsize::new(0);

task_local! {
    #[inherit]
    static DIGIT: Digit = Digit(0);
}

// Broke: it was repeated for ever, and never let go of the thread.
#[tokio::test]
async fn a_context_that_panics_in_decoding_kills_its_job() {
    let ends = Ends::default();
    let bad: Task<u32> = TaskBuilder::new(0)
        .with_metadata([("cleanslate.digit", "10")].into_iter().collect())
        .build();
    let status = bad.raw_status().clone();
    let worker = WorkerBuilder::new("panics")
        .backend(queue([bad]).await)
        .retry(RetryPolicy::retries(3))
        .catch_panic()
        .layer(JobLayer::new(Wire::new().slot("digit", &DIGIT)))
        .on_event(ends.clone().note(1))
        .build(waits);
    worker.run().await.unwrap();
    let error = ends.all().remove(0).unwrap_err();
    assert_eq!(error, "to decode slot `digit` panicked: no digit");
    assert_eq!((status.load(), DECODED.load(Ordering::SeqCst)), (Status::Killed, 1));
}

#[tokio::test]
async fn around_the_handler_the_policy_of_the_job_decides() {
    for (retries_undecodable, attempts) in [(true, 4), (false, 1)] {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let policy = RetryPolicy::retries(3).retry_if(move |error: &BoxDynError| {
            count.fetch_add(1, Ordering::SeqCst);
            let restore = error.downcast_ref::<RestoreError>().unwrap();
            assert!(restore.is_decode() && restore.slot() == Some("hops"));
            retries_undecodable
        });
        let ends = Ends::default();
        let bad = undecodable();
        let status = bad.raw_status().clone();
        let worker = WorkerBuilder::new("handler")
            .backend(queue([bad]).await)
            .retry(policy)
            .on_event(ends.clone().note(1))
            .build(JobLayer::new(wire()).layer(task_fn::<_, u32, ()>(waits)));
        worker.run().await.unwrap();
        assert_eq!(ends.all().len(), 1);
        assert_eq!(seen.load(Ordering::SeqCst), attempts);
        assert_eq!(status.load(), Status::Failed);
    }
}

// Broke: where decoding panicked the job was killed there as well.
#[tokio::test]
async fn around_the_handler_a_context_that_panics_in_decoding_is_an_error_as_well() {
    let ends = Ends::default();
    let bad: Task<u32> = TaskBuilder::new(0)
        .with_metadata([("cleanslate.level", "\"high\"")].into_iter().collect())
        .build();
    let (status, attempts) = (bad.raw_status().clone(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&attempts);
    let policy = RetryPolicy::retries(3).retry_if(move |error: &BoxDynError| {
        let restore = error.downcast_ref::<RestoreError>();
        assert_eq!(restore.and_then(RestoreError::slot), Some("level"));
        count.fetch_add(1, Ordering::SeqCst);
        true
    });
    // No layer catches panics.
    let worker = WorkerBuilder::new("panics")
        .backend(queue([bad]).await)
        .retry(policy)
        .on_event(ends.clone().note(1))
        .build(
            JobLayer::new(Wire::new().slot("level", &LEVEL)).layer(task_fn::<_, u32, ()>(waits)),
        );
    worker.run().await.unwrap();
    assert_eq!(ends.all(), [Err("to decode slot `level` panicked: no level".to_owned())]);
    assert_eq!((attempts.load(Ordering::SeqCst), status.load()), (4, Status::Failed));
}

/// Its decoding panics.
#[derive(Clone, Debug, Serialize)]
struct Level;

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("no level")
    }
}

task_local! {
    #[inherit]
    static LEVEL: Level = Level;
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_given_up_and_leaves_nothing() {
    let hangs = async |id: u32| {
        look(id);
        std::future::pending::<()>().await;
    };
    let ends = Ends::default();
    let worker = WorkerBuilder::new("timeout")
        .backend(queue([job(1, "globex")]).await)
        .timeout(Duration::from_millis(20))
        .layer(JobLayer::new(wire()))
        .on_event(ends.clone().note(1))
        .build(hangs);
    worker.run().await.unwrap();
    assert!(ends.all()[0].is_err() && is_clean());
}

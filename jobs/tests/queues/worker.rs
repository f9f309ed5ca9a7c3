//! What a worker process does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{self, Poll, ready};

use apalis::layers::WorkerBuilderExt;
use apalis::layers::retry::RetryPolicy;
use apalis::prelude::{
    Attempt, BackendExt, BoxDynError, Data, ParallelizeExt, Task, WorkerBuilder, WorkerContext,
};
use apalis_core::task::metadata::MetadataStore;
use cleanslate::Pool;
use cleanslate_jobs::{JobLayer, on_pool};
use tower_layer::Layer;
use tower_service::Service;

use crate::job::{self, HOPS, Job, LANG, TENANT};
use crate::record::Record;
use crate::storage::{POLL, Storage, Url};

/// What to do, handed over in the environment.
pub(crate) struct Orders {
    pub(crate) url: Url,
    pub(crate) queue: String,
    pub(crate) name: String,
    /// Or else the slots are only set.
    pub(crate) isolated: bool,
    /// After so many jobs, take one and never finish it.
    pub(crate) hold_after: Option<u32>,
}

const VARIABLES: [&str; 5] = ["JOBS_URL", "JOBS_QUEUE", "JOBS_NAME", "JOBS_ISOLATED", "JOBS_HOLD"];

impl Orders {
    pub(crate) fn to_environment(&self) -> [(&'static str, String); 5] {
        let hold_after = self.hold_after.map(|jobs| jobs.to_string()).unwrap_or_default();
        let [url, queue, name, isolated, hold] = VARIABLES;
        [
            (url, self.url.0.clone()),
            (queue, self.queue.clone()),
            (name, self.name.clone()),
            (isolated, self.isolated.to_string()),
            (hold, hold_after),
        ]
    }

    /// `None` if this process is not a worker.
    pub(crate) fn from_environment() -> Option<Self> {
        let [url, queue, name, isolated, hold] = VARIABLES.map(|name| std::env::var(name).ok());
        Some(Self {
            url: Url(url?),
            queue: queue?,
            name: name?,
            isolated: isolated?.parse().unwrap(),
            hold_after: hold?.parse().ok(),
        })
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    worker: Arc<str>,
    hold_after: Option<u32>,
    started: Arc<AtomicU32>,
}

/// Works until standard input ends.
pub(crate) fn work(orders: &Orders) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(orders));
}

/// One chain of layers for the three storages, whose types have nothing in common that is short.
macro_rules! work_on {
    ($storage:expr, $orders:expr, $layer:expr, $handler:expr, $shared:expr) => {{
        let builder = WorkerBuilder::new(format!("{}-{}", $orders.name, std::process::id()))
            .backend($storage.poll_with_interval(POLL))
            .data($shared.clone())
            .retry(RetryPolicy::retries(5))
            .parallelize(tokio::spawn)
            .catch_panic()
            .layer(CleanAround { worker: Arc::clone(&$shared.worker) })
            .layer($layer);
        builder.build($handler).run_with_ctx(until_input_ends).await.unwrap();
    }};
}

async fn run(orders: &Orders) {
    let shared = Shared {
        worker: orders.name.as_str().into(),
        hold_after: orders.hold_after,
        started: Arc::default(),
    };
    let storage = Storage::open(&orders.url, &orders.queue).await;
    macro_rules! with_handler {
        ($storage:expr) => {
            if !orders.isolated {
                work_on!($storage, orders, OnlySets, handle, shared)
            } else if orders.name == "pool" {
                let pool = Pool::new(2).unwrap();
                let layer = JobLayer::new(job::wire());
                work_on!($storage, orders, layer, on_pool(pool, compute), shared)
            } else {
                work_on!($storage, orders, JobLayer::new(job::wire()), handle, shared)
            }
        };
    }
    match storage {
        Storage::Sqlite(storage) => with_handler!(storage),
        Storage::Redis(storage) => with_handler!(storage),
        Storage::Postgres(storage) => with_handler!(storage),
    }
}

async fn until_input_ends(worker: WorkerContext) -> Result<(), apalis::prelude::WorkerError> {
    let ended = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    ended.await.unwrap().unwrap();
    worker.stop()
}

/// A handler that waits in the middle of its job.
async fn handle(job: Job, shared: Data<Shared>, attempt: Attempt) -> Result<(), BoxDynError> {
    let found = job::look(job.id);
    tokio::task::yield_now().await;
    let before = shared.started.fetch_add(1, Ordering::SeqCst);
    if shared.hold_after == Some(before) {
        Record::Holds { id: job.id }.tell();
        std::future::pending::<()>().await;
    }
    finish(&job, &shared, attempt.current(), found)
}

/// A handler that computes, on a pool.
fn compute(task: Task<Job>) -> Result<(), BoxDynError> {
    let Some(shared) = task.data().get::<Shared>() else { unreachable!("it is given above") };
    finish(&task.args, shared, task.attempt(), job::look(task.args.id))
}

fn finish(
    job: &Job,
    shared: &Shared,
    attempt: usize,
    mut found: job::Found,
) -> Result<(), BoxDynError> {
    let id = job.id;
    // After others have run on this thread.
    found.3 |= !job::is_unchanged(id, &found);
    if attempt == 1 && job.panics() {
        Record::Panics { id }.tell();
        panic!("job {id} panics on purpose");
    }
    if attempt == 1 && job.fails() {
        Record::Fails { id }.tell();
        return Err("fails on purpose".into());
    }
    Record::Done { id, worker: shared.worker.to_string(), found }.tell();
    Ok(())
}

/// Lies around what isolates: after each poll, no slot holds anything on this thread.
#[derive(Clone)]
struct CleanAround {
    worker: Arc<str>,
}

impl<S> Layer<S> for CleanAround {
    type Service = Clean<S>;

    fn layer(&self, inner: S) -> Clean<S> {
        Clean { inner, worker: Arc::clone(&self.worker) }
    }
}

#[derive(Clone)]
struct Clean<S> {
    inner: S,
    worker: Arc<str>,
}

impl<S: Service<Task<Job>>> Service<Task<Job>> for Clean<S>
where
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CleanFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, task: Task<Job>) -> Self::Future {
        let inner = Box::pin(self.inner.call(task));
        CleanFuture { inner, worker: Arc::clone(&self.worker) }
    }
}

struct CleanFuture<F> {
    inner: Pin<Box<F>>,
    worker: Arc<str>,
}

impl<F: Future> Future for CleanFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let check = Check(&self.worker.clone());
        let output = ready!(self.inner.as_mut().poll(cx));
        drop(check);
        Poll::Ready(output)
    }
}

/// Looks on every way out, also when the poll panics.
struct Check<'w>(&'w str);

impl Drop for Check<'_> {
    fn drop(&mut self) {
        let held = job::held();
        if !held.is_empty() {
            let what = format!("{held:?} held something where no job runs");
            Record::Dirty { worker: self.0.to_owned(), what }.tell();
        }
    }
}

/// The middleware that everybody writes first.
#[derive(Clone)]
struct OnlySets;

impl<S> Layer<S> for OnlySets {
    type Service = SetsSlots<S>;

    fn layer(&self, inner: S) -> SetsSlots<S> {
        SetsSlots(inner)
    }
}

#[derive(Clone)]
struct SetsSlots<S>(S);

impl<S: Service<Task<Job>>> Service<Task<Job>> for SetsSlots<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, task: Task<Job>) -> S::Future {
        let get = |store: &MetadataStore, key: &str| {
            store.get(key).map(|text| text.trim_matches('"').to_owned())
        };
        if let Some(tenant) = get(task.metadata(), "cleanslate.tenant") {
            TENANT.set(tenant);
        }
        if let Some(lang) = get(task.metadata(), "cleanslate.lang") {
            LANG.set(lang);
        }
        if let Some(hops) = get(task.metadata(), "cleanslate.hops") {
            HOPS.set(hops.parse().unwrap());
        }
        self.0.call(task)
    }
}

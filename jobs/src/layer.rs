//! [`JobLayer`]: each job of a worker is a task of its own, in the context that it brought along.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use apalis_core::task::status::Status;
use cleanslate::Context;
use cleanslate::future::FutureExt;
use tower_layer::Layer;
use tower_service::Service;

use crate::guarded::Guarded;
use crate::wire::Wire;

/// Runs each job of a worker as a task of its own, which starts with the slots that the job brought
/// along.
///
/// All other slots start fresh, whatever ran on the thread before, and nothing is left for the next
/// job. A handler that is `async` keeps its slots over every `await`; for one that computes, see
/// [`on_pool`](crate::on_pool).
///
/// Add it after `retry`, `catch_panic`, `parallelize` and `timeout`: layers that are added later
/// lie further inside, so each attempt is a task of its own.
///
/// The job's [`Context`] is there for the handler as `Data<Context>`, to hand the same context to
/// something else, such as [`Pool::in_context`](cleanslate::Pool::in_context).
///
/// # Jobs whose context does not decode
///
/// They fail with a [`RestoreError`](crate::RestoreError), where a `Deserialize` panics, too; the
/// handler is not called. As a layer of the worker it fails outside of what counts attempts, so
/// the job is marked as killed, which no policy retries. Around the handler itself, it is a failure
/// as any other, and the job's policy decides:
///
/// ```
/// # use apalis_core::backend::memory::MemoryStorage;
/// # use apalis_core::task::task_fn::task_fn;
/// # use apalis_core::worker::builder::WorkerBuilder;
/// # use cleanslate_jobs::{JobLayer, Wire};
/// use tower_layer::Layer;
///
/// async fn resize(_file: String) {}
///
/// let jobs = JobLayer::new(Wire::new());
/// let around = WorkerBuilder::new("a").backend(MemoryStorage::new()).layer(jobs.clone());
/// let a = around.build(resize);
/// let b = WorkerBuilder::new("b").backend(MemoryStorage::new());
/// let b = b.build(jobs.layer(task_fn::<_, String, ()>(resize)));
/// # drop((a, b));
/// ```
#[derive(Clone, Debug)]
pub struct JobLayer {
    wire: Arc<Wire>,
}

impl JobLayer {
    /// Makes a layer that restores the slots of this wire.
    #[must_use]
    pub fn new(wire: Wire) -> Self {
        Self { wire: Arc::new(wire) }
    }
}

impl<S> Layer<S> for JobLayer {
    type Service = JobService<S>;

    fn layer(&self, inner: S) -> JobService<S> {
        JobService { inner, wire: Arc::clone(&self.wire) }
    }
}

/// The service that [`JobLayer`] makes.
#[derive(Debug)]
pub struct JobService<S> {
    inner: S,
    wire: Arc<Wire>,
}

impl<S: Clone> Clone for JobService<S> {
    /// Clones the service in a task of its own.
    ///
    /// # Panics
    ///
    /// Panics if that clone does, or if a carrier of the process cannot be attached or detached.
    fn clone(&self) -> Self {
        let inner = Context::empty().run(|| self.inner.clone());
        Self { inner, wire: Arc::clone(&self.wire) }
    }
}

impl<S, Args> Service<Task<Args>> for JobService<S>
where
    S: Service<Task<Args>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxDynError>,
    Args: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxDynError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxDynError>> + Send>>;

    /// Asks the service, in a task of its own. If a carrier of the process or the clean-up fails,
    /// that is an error, as if the service were not ready.
    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxDynError>> {
        match Context::empty().try_run(|| self.inner.poll_ready(cx)) {
            Ok(ready) => ready.map_err(Into::into),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Returns the job. Its task begins when it is polled first.
    ///
    /// The future panics as [`isolated`](FutureExt::isolated) ones do.
    fn call(&mut self, job: Task<Args>) -> Self::Future {
        let job = Guarded::new(job);
        // The one that was readied is called, and the clone takes its place.
        let next = self.clone();
        let Self { inner, wire } = mem::replace(self, next);
        let run = run(Attempt { job, service: Guarded::new(inner) }, wire);
        // A task around the job's: there its values are decoded and their last copies dropped,
        // which is user code.
        Box::pin(run.isolated_in(&Context::empty()))
    }
}

/// A job and what is to handle it. As a whole, since the arguments of an `async fn` are dropped in
/// another order before the first poll than after it.
struct Attempt<S, Args> {
    job: Guarded<Task<Args>>,
    /// Goes last: it may have the last handle of a pool, which waits for tasks, and one of those
    /// for what the job holds.
    service: Guarded<S>,
}

async fn run<S, Args>(
    mut attempt: Attempt<S, Args>,
    wire: Arc<Wire>,
) -> Result<S::Response, BoxDynError>
where
    S: Service<Task<Args>>,
    S::Error: Into<BoxDynError>,
{
    // It lives until the job is over, so no copy within the job is the last.
    let context = match wire.restore(attempt.job.metadata()) {
        Ok(context) => context,
        Err(error) => {
            // Nothing has counted this attempt: a retry would have no end.
            attempt.job.raw_status().store(Status::Killed);
            return Err(error.into());
        }
    };
    attempt.job.inject_data(context.clone());
    attempt.handle().isolated_in(&context).await
}

impl<S, Args> Attempt<S, Args>
where
    S: Service<Task<Args>>,
    S::Error: Into<BoxDynError>,
{
    async fn handle(mut self) -> Result<S::Response, BoxDynError> {
        let mut future = Guarded::new(Box::pin(self.service.call(self.job.into_inner())));
        let response = Guarded::new((&mut *future).await);
        // Not at the block's end, where a panic of these would lose the response.
        drop(future);
        drop(self.service);
        response.into_inner().map_err(Into::into)
    }
}

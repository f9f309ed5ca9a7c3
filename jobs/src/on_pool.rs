//! [`on_pool`]: handlers that compute, on a pool of threads.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use apalis_core::task::into_response::IntoResponse;
use cleanslate::{Context, Pool};
use tower_service::Service;

use crate::guarded::Guarded;

/// Makes a handler of a closure that computes: each job is a task of the pool, while the worker's
/// own threads go on.
///
/// With a [`JobLayer`](crate::JobLayer) around it, the task starts with the slots that the job
/// brought along, exactly as an `async` handler does; without one it starts with none. The closure
/// is given the whole [`Task`]: `job.args`, and what apalis knows of it, such as `job.attempt()`.
///
/// A bounded queue of the pool holds back the worker, without blocking its threads. If the job is
/// given up before a thread has taken it, for example by a timeout, it does not run. A pool that is
/// [`Leaky`](cleanslate::Isolation::Leaky) neither inherits nor isolates.
///
/// Keep a handle to the pool until the worker has stopped: the last one to go waits for what runs
/// there, and would do so on a thread of tokio's. Give it a [name](cleanslate::Pool::named): errors
/// call the task by it.
///
/// # Errors
///
/// The job fails as its closure does; with a [`TaskError`](cleanslate::TaskError) if the closure
/// panics or the pool is shut down. The pool's size stays as it is.
///
/// # Examples
///
/// ```
/// use apalis_core::{backend::memory::MemoryStorage, task::Task, worker::builder::WorkerBuilder};
/// use cleanslate::{Pool, task_local};
/// use cleanslate_jobs::{JobLayer, Wire, on_pool};
///
/// task_local! {
///     #[inherit]
///     static TENANT: String = "nobody".to_owned();
/// }
///
/// fn count_words(job: Task<String>) -> String {
///     format!("{}: {}", TENANT.get(), job.args.split_whitespace().count())
/// }
///
/// let pool = Pool::new(2)?;
/// let worker = WorkerBuilder::new("words")
///     .backend(MemoryStorage::new())
///     .layer(JobLayer::new(Wire::new().slot("tenant", &TENANT)))
///     .build(on_pool(pool.named("words"), count_words));
/// # drop(worker);
/// # Ok::<_, cleanslate::BuildError>(())
/// ```
pub fn on_pool<F>(pool: Pool, f: F) -> OnPool<F> {
    OnPool { pool, f: Arc::new(f) }
}

/// The handler that [`on_pool`] makes.
pub struct OnPool<F> {
    f: Arc<F>,
    /// Goes last: the last handle waits for tasks, and one may wait for what `f` holds.
    pool: Pool,
}

impl<F> Clone for OnPool<F> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), f: Arc::clone(&self.f) }
    }
}

impl<F> fmt::Debug for OnPool<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnPool").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl<F, Args, R> Service<Task<Args>> for OnPool<F>
where
    F: Fn(Task<Args>) -> R + Send + Sync + 'static,
    Args: Send + 'static,
    R: IntoResponse,
    R::Output: Send + 'static,
{
    type Response = R::Output;
    type Error = BoxDynError;
    type Future = Pin<Box<dyn Future<Output = Result<R::Output, BoxDynError>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), BoxDynError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, job: Task<Args>) -> Self::Future {
        // Given, not captured here: the functions of `with = f` slots have run already.
        let pool = match job.data().get::<Context>() {
            Some(context) => self.pool.in_context(context),
            None => self.pool.detached(),
        };
        let (f, job) = (Guarded::new(Arc::clone(&self.f)), Guarded::new(job));
        let given = Given { f, job, pool };
        Box::pin(async move {
            let permit = given.pool.reserve().await?;
            let Given { f, job, .. } = given;
            permit.submit(move || call(f, job)).cancel_on_drop().await?
        })
    }
}

/// What the future of a job has.
struct Given<F, Args> {
    f: Guarded<Arc<F>>,
    job: Guarded<Task<Args>>,
    /// Goes last, as in [`OnPool`].
    pool: Pool,
}

/// Calls the closure, and lets go of it. If this is the last to do so, what it owns is dropped
/// here: after the call has ended.
fn call<F, Args, R>(f: Guarded<Arc<F>>, job: Guarded<Task<Args>>) -> Result<R::Output, BoxDynError>
where
    F: Fn(Task<Args>) -> R,
    R: IntoResponse,
{
    let result = Guarded::new(f(job.into_inner()).into_response());
    drop(f);
    result.into_inner()
}

//! Tasks that are spawned one by one.

use ::tokio::task::{self, JoinHandle};

use crate::context::isolated;
use crate::future::FutureExt;

/// Spawns a future as a task, on the current runtime: see [`tokio::task::spawn`].
///
/// The future is [isolated](FutureExt::isolated) and inherits what surrounds this call. If it is
/// aborted, its slots are dropped with it.
///
/// # Panics
///
/// Panics outside of a runtime, and as [`Context::capture`](crate::Context::capture) does.
///
/// # Examples
///
/// ```
/// use cleanslate::{task_local, tokio::spawn};
///
/// task_local! {
///     #[inherit]
///     static USER: &'static str = "nobody";
///     static SEEN: u32 = 0;
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// USER.set("alice");
/// SEEN.set(7);
/// let task = spawn(async { (USER.get(), SEEN.get()) });
/// assert_eq!(task.await.unwrap(), ("alice", 0));
/// # });
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    task::spawn(future.isolated())
}

/// Runs a closure as a task on a thread where it may block: see [`tokio::task::spawn_blocking`].
///
/// The closure is [isolated] and inherits what surrounds this call.
///
/// # Panics
///
/// Panics outside of a runtime, and as [`Context::capture`](crate::Context::capture) does.
///
/// # Examples
///
/// ```
/// use cleanslate::{task_local, tokio::spawn_blocking};
///
/// task_local! { static CONNECTION: Option<&'static str> = None; }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let task = || CONNECTION.replace(Some("of one request"));
/// assert_eq!(spawn_blocking(task).await.unwrap(), None);
/// assert_eq!(spawn_blocking(task).await.unwrap(), None);
/// # });
/// ```
#[track_caller]
pub fn spawn_blocking<F, R>(f: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    task::spawn_blocking(isolated(f))
}

/// Spawns a future that is not `Send` as a task, on the current thread: see
/// [`tokio::task::spawn_local`].
///
/// The future is [isolated](FutureExt::isolated) and inherits what surrounds this call.
///
/// # Panics
///
/// Panics outside of a `LocalSet`, and as [`Context::capture`](crate::Context::capture) does.
///
/// # Examples
///
/// ```
/// use cleanslate::tokio::spawn_local;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let local = tokio::task::LocalSet::new();
/// let task = local.run_until(async { spawn_local(async { *std::rc::Rc::new(1) }).await });
/// assert_eq!(task.await.unwrap(), 1);
/// # });
/// ```
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    task::spawn_local(future.isolated())
}

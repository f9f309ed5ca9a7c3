//! [`JoinSet`].

use std::fmt;
use std::task::{Context, Poll};

use ::tokio::runtime::Handle;
use ::tokio::task::{self, AbortHandle, Id, JoinError, LocalSet};

use crate::context::isolated;
use crate::future::FutureExt;

/// A set of tasks on a tokio runtime, each of which is isolated and inherits what surrounds its
/// spawning.
///
/// As [`tokio::task::JoinSet`] in everything else; it does not dereference to it, since a method
/// that spawned without isolation would be easy to call by mistake.
///
/// # Examples
///
/// ```
/// use cleanslate::{task_local, tokio::JoinSet};
///
/// task_local! {
///     #[inherit]
///     static TENANT: &'static str = "nobody";
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let mut set = JoinSet::new();
/// TENANT.set("acme");
/// set.spawn(async { TENANT.replace("changed") });
/// set.spawn_blocking(|| TENANT.replace("changed"));
/// assert_eq!(set.join_all().await, ["acme", "acme"]);
/// # });
/// ```
pub struct JoinSet<T> {
    tasks: task::JoinSet<T>,
}

impl<T> JoinSet<T> {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self { tasks: task::JoinSet::new() }
    }

    /// Returns the number of tasks in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

impl<T: 'static> JoinSet<T> {
    /// Spawns a future on the current runtime.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime, and as [`Context::capture`](crate::Context::capture) does.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.tasks.spawn(future.isolated())
    }

    /// Spawns a future on the given runtime.
    ///
    /// # Panics
    ///
    /// Panics as [`Context::capture`](crate::Context::capture) does.
    #[track_caller]
    pub fn spawn_on<F>(&mut self, future: F, handle: &Handle) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.tasks.spawn_on(future.isolated(), handle)
    }

    /// Spawns a future that is not `Send` on the current thread.
    ///
    /// # Panics
    ///
    /// Panics outside of a `LocalSet`, and as [`Context::capture`](crate::Context::capture) does.
    #[track_caller]
    pub fn spawn_local<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        self.tasks.spawn_local(future.isolated())
    }

    /// Spawns a future that is not `Send` on the given `LocalSet`.
    ///
    /// # Panics
    ///
    /// Panics as [`Context::capture`](crate::Context::capture) does.
    #[track_caller]
    pub fn spawn_local_on<F>(&mut self, future: F, local_set: &LocalSet) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        self.tasks.spawn_local_on(future.isolated(), local_set)
    }

    /// Runs a closure on a thread of the current runtime where it may block. It cannot be aborted
    /// once it has started.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime, and as [`Context::capture`](crate::Context::capture) does.
    #[track_caller]
    pub fn spawn_blocking<F>(&mut self, f: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        self.tasks.spawn_blocking(isolated(f))
    }

    /// Runs a closure on a thread of the given runtime where it may block.
    ///
    /// # Panics
    ///
    /// Panics as [`Context::capture`](crate::Context::capture) does.
    #[track_caller]
    pub fn spawn_blocking_on<F>(&mut self, f: F, handle: &Handle) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        self.tasks.spawn_blocking_on(isolated(f), handle)
    }

    /// Waits for one of the tasks, whichever ends first, and returns its output. `None` if the set
    /// is empty.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has taken no output.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.tasks.join_next().await
    }

    /// Waits for one of the tasks like [`join_next`](Self::join_next), and says which one it was.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has taken no output.
    pub async fn join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        self.tasks.join_next_with_id().await
    }

    /// Returns the output of one of the tasks, if one has ended.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.tasks.try_join_next()
    }

    /// Returns the output of one of the tasks, if one has ended, and says which one it was.
    pub fn try_join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        self.tasks.try_join_next_with_id()
    }

    /// Polls for one of the tasks, as [`join_next`](Self::join_next) does.
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        self.tasks.poll_join_next(cx)
    }

    /// Polls for one of the tasks, as [`join_next_with_id`](Self::join_next_with_id) does.
    pub fn poll_join_next_with_id(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(Id, T), JoinError>>> {
        self.tasks.poll_join_next_with_id(cx)
    }

    /// Waits for all tasks and returns their outputs, in the order in which they end.
    ///
    /// # Panics
    ///
    /// Panics with the panic of a task, if one panics, after the others were aborted.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped takes the set with it: the tasks are aborted.
    pub async fn join_all(self) -> Vec<T> {
        self.tasks.join_all().await
    }

    /// Aborts all tasks and waits until they have ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all tasks are aborted, and those that were not waited for stay in
    /// the set.
    pub async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Aborts all tasks. They stay in the set until they are joined.
    pub fn abort_all(&mut self) {
        self.tasks.abort_all();
    }

    /// Takes all tasks out of the set without aborting them.
    pub fn detach_all(&mut self) {
        self.tasks.detach_all();
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish()
    }
}

/// Spawns all of the futures.
impl<T, F> FromIterator<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> Self {
        let mut set = Self::new();
        set.extend(futures);
        set
    }
}

/// Spawns all of the futures.
impl<T, F> Extend<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    #[track_caller]
    fn extend<I: IntoIterator<Item = F>>(&mut self, futures: I) {
        for future in futures {
            self.spawn(future);
        }
    }
}

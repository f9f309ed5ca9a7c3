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
/// In everything else it is like [`tokio::task::JoinSet`]; it does not dereference to that, since a
/// method that spawns without isolation would be easy to call by mistake.
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    ///
    /// assert!(JoinSet::<()>::new().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self { tasks: task::JoinSet::new() }
    }

    /// Returns the number of tasks in the set.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async {});
    /// assert_eq!(set.len(), 1);
    /// # });
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether the set is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async {});
    /// assert!(!set.is_empty());
    /// # });
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 1 });
    /// assert_eq!(set.join_all().await, [1]);
    /// # });
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn_on(async { 1 }, &tokio::runtime::Handle::current());
    /// assert_eq!(set.join_all().await, [1]);
    /// # });
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// let local = tokio::task::LocalSet::new();
    /// local.run_until(async {
    ///     set.spawn_local(async { std::rc::Rc::new(1) });
    ///     assert_eq!(*set.join_next().await.unwrap().unwrap(), 1);
    /// }).await;
    /// # });
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// let local = tokio::task::LocalSet::new();
    /// set.spawn_local_on(async { std::rc::Rc::new(1) }, &local);
    /// local.await;
    /// assert_eq!(*set.join_next().await.unwrap().unwrap(), 1);
    /// # });
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn_blocking(|| 1);
    /// assert_eq!(set.join_all().await, [1]);
    /// # });
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn_blocking_on(|| 1, &tokio::runtime::Handle::current());
    /// assert_eq!(set.join_all().await, [1]);
    /// # });
    /// ```
    #[track_caller]
    pub fn spawn_blocking_on<F>(&mut self, f: F, handle: &Handle) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        self.tasks.spawn_blocking_on(isolated(f), handle)
    }

    /// Waits for one of the tasks, whichever ends first, and returns its output, or `None` if the
    /// set is empty.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has taken no output.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 1 });
    /// assert_eq!(set.join_next().await.unwrap().unwrap(), 1);
    /// assert!(set.join_next().await.is_none());
    /// # });
    /// ```
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.tasks.join_next().await
    }

    /// Waits for one of the tasks like [`join_next`](Self::join_next), and returns the task's id as
    /// well.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has taken no output.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// let id = set.spawn(async { 1 }).id();
    /// assert_eq!(set.join_next_with_id().await.unwrap().unwrap(), (id, 1));
    /// # });
    /// ```
    pub async fn join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        self.tasks.join_next_with_id().await
    }

    /// Returns the output of one of the tasks, if one has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 1 });
    /// assert!(set.try_join_next().is_none(), "it has not run");
    /// tokio::task::yield_now().await;
    /// assert_eq!(set.try_join_next().unwrap().unwrap(), 1);
    /// # });
    /// ```
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.tasks.try_join_next()
    }

    /// Returns the id and the output of one of the tasks, if one has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// let id = set.spawn(async { 1 }).id();
    /// tokio::task::yield_now().await;
    /// assert_eq!(set.try_join_next_with_id().unwrap().unwrap(), (id, 1));
    /// # });
    /// ```
    pub fn try_join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        self.tasks.try_join_next_with_id()
    }

    /// Polls for one of the tasks, as [`join_next`](Self::join_next) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 1 });
    /// let first = std::future::poll_fn(|cx| set.poll_join_next(cx)).await;
    /// assert_eq!(first.unwrap().unwrap(), 1);
    /// # });
    /// ```
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        self.tasks.poll_join_next(cx)
    }

    /// Polls for one of the tasks, as [`join_next_with_id`](Self::join_next_with_id) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// let id = set.spawn(async { 1 }).id();
    /// let first = std::future::poll_fn(|cx| set.poll_join_next_with_id(cx)).await;
    /// assert_eq!(first.unwrap().unwrap(), (id, 1));
    /// # });
    /// ```
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
    /// Panics with a task's panic, or if a task was aborted, after aborting the others, too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the set with it: the tasks are aborted.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 1 });
    /// set.spawn(async { 1 });
    /// assert_eq!(set.join_all().await, [1, 1]);
    /// # });
    /// ```
    pub async fn join_all(self) -> Vec<T> {
        self.tasks.join_all().await
    }

    /// Aborts all tasks and waits until they have ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all tasks are aborted, and those that were not waited for stay in
    /// the set.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(std::future::pending::<()>());
    /// set.shutdown().await;
    /// assert!(set.is_empty());
    /// # });
    /// ```
    pub async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Aborts all tasks. They stay in the set until they are joined.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(std::future::pending::<()>());
    /// set.abort_all();
    /// assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    /// # });
    /// ```
    pub fn abort_all(&mut self) {
        self.tasks.abort_all();
    }

    /// Takes all tasks out of the set without aborting them.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::tokio::JoinSet;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async {});
    /// set.detach_all();
    /// assert!(set.is_empty());
    /// # });
    /// ```
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

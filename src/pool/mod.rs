//! The pool.

mod broadcast;
mod builder;
mod capacity;
mod cell;
mod core;
mod counters;
mod current;
mod error;
mod gate;
mod group;
mod handle;
mod hooks;
mod imap;
mod intake;
mod isolation;
mod job;
mod map;
#[cfg(all(loom, test))]
mod model;
mod queue;
mod ready;
mod scope;
mod seat;
#[cfg(feature = "sentinel")]
mod sentry;
#[cfg(not(feature = "sentinel"))]
#[path = "no_sentry.rs"]
mod sentry;
mod sleep;
mod stats;
mod submission;
mod threads;
mod worker;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use builder::PoolBuilder;
pub use error::{BuildError, ShutdownError, SubmitError, TaskError};
pub use handle::JoinHandle;
pub use imap::{Imap, ImapUnordered};
pub use isolation::Isolation;
pub use map::RangeIndex;
pub use scope::{Scope, ScopedJoinHandle};
pub use stats::Stats;
pub use submission::Submission;

use self::core::Core;
use crate::context::Context;

/// A pool of worker threads, each task of which starts from a clean slate.
///
/// A task finds every slot (`task_local!`) fresh, whatever ran on its thread before it or runs below
/// it, and what it leaves there is dropped when it ends, before anybody can see that it has ended.
///
/// Dropping the pool drains and joins it, as [`shutdown`](Pool::shutdown) does. Where one of its own
/// tasks drops it (the last `Arc<Pool>` dies inside a task), the pool is closed and detached: what was
/// submitted runs, and the workers end by themselves.
///
/// # Waiting
///
/// A thread that runs a task of any pool and waits for another (in `join`, in a map, at the end of a
/// scope) runs what it waits for itself, where that has not started; so nested waits cannot deadlock,
/// not even with one worker. It runs nothing else meanwhile, but for visits of a
/// [`broadcast`](Pool::broadcast) to it. Plain threads never run tasks.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(4).unwrap();
/// let words = ["clean", "slate"];
/// assert_eq!(pool.map(words, str::len), [5, 5]);
/// assert_eq!(pool.submit(|| 6 * 7).join().unwrap(), 42);
/// ```
pub struct Pool {
    pub(crate) core: Arc<Core>,
}

impl Pool {
    /// Starts a pool of `workers` threads.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] for no workers, or if the system refuses a thread.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = cleanslate::Pool::new(3).unwrap();
    /// assert_eq!(pool.workers(), 3);
    /// ```
    pub fn new(workers: usize) -> Result<Self, BuildError> {
        Self::builder().workers(workers).build()
    }

    /// Says how a pool is to be.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(2).queue_capacity(100).build().unwrap();
    /// assert_eq!(pool.workers(), 2);
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.core.seats.len()
    }

    /// The index of the current thread among the pool's workers; `None` on any other thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(3).unwrap();
    /// assert_eq!(pool.worker_index(), None);
    /// assert_eq!(pool.broadcast(|| pool.worker_index()), [Some(0), Some(1), Some(2)]);
    /// ```
    #[must_use]
    pub fn worker_index(&self) -> Option<usize> {
        current::index_in(self.core.id)
    }

    /// What the pool is doing and has done. Looking disturbs nobody.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// pool.submit(|| ()).join().unwrap();
    /// assert_eq!(pool.stats().completed, 1);
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        stats::read(&self.core)
    }

    /// Names what is submitted through the returned value, for [`TaskError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!()).join().unwrap_err();
    /// assert_eq!(error.task_name(), Some("lookup"));
    /// ```
    pub fn named(&self, name: impl Into<Arc<str>>) -> Submission<'_> {
        Submission::to(self).named(name)
    }

    /// Gives what is submitted through the returned value `context`, instead of what surrounds the
    /// submission.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, Pool};
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let context = Context::capture();
    /// assert_eq!(pool.in_context(&context).submit(|| 1).join().unwrap(), 1);
    /// ```
    pub fn in_context<'p>(&'p self, context: &'p Context) -> Submission<'p> {
        Submission::to(self).in_context(context)
    }

    /// Gives what is submitted through the returned value nothing: for long-lived work, which must not
    /// inherit from, nor pin, whatever happened to surround its start.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// assert_eq!(pool.detached().submit(|| 1).join().unwrap(), 1);
    /// ```
    pub fn detached(&self) -> Submission<'_> {
        Submission::to(self).detached()
    }

    /// Submits a task, with what surrounds this call as its context.
    ///
    /// Where the queue is bounded and full, a plain thread waits for room. After a shutdown the task
    /// does not run: the handle is that of a cancelled one.
    ///
    /// # Panics
    ///
    /// Panics if a slot that the task would inherit is inside its own `with_mut`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let sum = pool.submit(|| (1..=100).sum::<i32>());
    /// assert_eq!(sum.join().unwrap(), 5050);
    /// ```
    #[track_caller]
    pub fn submit<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        Submission::to(self).submit(f)
    }

    /// Submits a task unless the bounded queue is full or the pool is shut down. Never waits.
    ///
    /// # Errors
    ///
    /// Hands the closure back in a [`SubmitError`] that says which of the two it was.
    ///
    /// # Panics
    ///
    /// As [`submit`](Pool::submit).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// assert_eq!(pool.try_submit(|| 1).unwrap().join().unwrap(), 1);
    /// pool.shutdown().unwrap();
    /// assert!(pool.try_submit(|| 2).unwrap_err().is_shut_down());
    /// ```
    #[track_caller]
    pub fn try_submit<F, R>(&self, f: F) -> Result<JoinHandle<R>, SubmitError<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        Submission::to(self).try_submit(f)
    }

    /// Runs `f` with a scope, from which tasks that borrow are submitted; returns when all of them are
    /// over. In shape and panics as [`std::thread::scope`].
    ///
    /// # Panics
    ///
    /// Panics if `f` does (after all tasks are over), if a task panicked and its handle was not joined,
    /// and if the pool is shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let (mut left, mut right) = (vec![3, 1, 2], vec![9, 8]);
    /// pool.scope(|s| {
    ///     s.submit(|| left.sort());
    ///     s.submit(|| right.sort());
    /// });
    /// assert_eq!((left, right), (vec![1, 2, 3], vec![8, 9]));
    /// ```
    ///
    /// What a task borrows must outlive the scope:
    ///
    /// ```compile_fail,E0373
    /// # let pool = cleanslate::Pool::new(1).unwrap();
    /// pool.scope(|s| {
    ///     let local = 1;
    ///     s.submit(|| println!("{local}"));
    /// });
    /// ```
    ///
    /// ```
    /// # let pool = cleanslate::Pool::new(1).unwrap();
    /// let outside = 1;
    /// pool.scope(|s| {
    ///     s.submit(|| println!("{outside}"));
    /// });
    /// ```
    #[track_caller]
    pub fn scope<'env, F, T>(&self, f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        Submission::to(self).scope(f)
    }

    /// Applies `f` to every item, each in a task of its own, and returns the results in input order.
    ///
    /// Items and `f` may borrow. The workers take turns at pulling items from the iterator, a chunk at a
    /// time and one by one where they are slow, and write the results in place: nothing is collected
    /// before or copied after.
    ///
    /// # Panics
    ///
    /// The first panic, of an item or of the iterator, resumes here; no item starts after it, and what
    /// was made is dropped. Panics if the pool is shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let text = String::from("to be or not to be");
    /// assert_eq!(pool.map(text.split(' '), str::len), [2, 2, 2, 3, 2, 2]);
    /// ```
    #[track_caller]
    pub fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        Submission::to(self).map(items, f)
    }

    /// Applies `f` to every element of a slice; otherwise as [`map`](Pool::map), and faster.
    ///
    /// # Panics
    ///
    /// As [`map`](Pool::map).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let words = ["one", "three"];
    /// assert_eq!(pool.map_slice(&words, |word| word.len()), [3, 5]);
    /// ```
    #[track_caller]
    pub fn map_slice<'s, T, F, R>(&self, items: &'s [T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&'s T) -> R + Sync,
        R: Send,
    {
        Submission::to(self).map_slice(items, f)
    }

    /// Applies `f` to every number of a range; otherwise as [`map`](Pool::map), and faster.
    ///
    /// # Panics
    ///
    /// As [`map`](Pool::map); and if the range is longer than a `usize` can say.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// assert_eq!(pool.map_range(-1_i64..2, |n| n * n), [1, 0, 1]);
    /// ```
    #[track_caller]
    pub fn map_range<N, F, R>(&self, range: Range<N>, f: F) -> Vec<R>
    where
        N: RangeIndex,
        F: Fn(N) -> R + Sync,
        R: Send,
    {
        Submission::to(self).map_range(range, f)
    }

    /// Applies `f` to every item until one fails; otherwise as [`map`](Pool::map).
    ///
    /// # Errors
    ///
    /// Returns an item's error, of those that happened the one that comes first in input order. No item
    /// starts after it, and the results that were made are dropped.
    ///
    /// # Panics
    ///
    /// As [`map`](Pool::map). A panic takes precedence over an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let parsed = pool.try_map(["1", "2"], str::parse::<i32>);
    /// assert_eq!(parsed, Ok(vec![1, 2]));
    /// assert!(pool.try_map(["1", "x"], str::parse::<i32>).is_err());
    /// ```
    #[track_caller]
    pub fn try_map<I, F, R, E>(&self, items: I, f: F) -> Result<Vec<R>, E>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> Result<R, E> + Sync,
        R: Send,
        E: Send,
    {
        Submission::to(self).try_map(items, f)
    }

    /// Applies `f` to every item, where a panic costs its item only; otherwise as [`map`](Pool::map). The
    /// number in a [`TaskError`] is the item's position.
    ///
    /// # Panics
    ///
    /// Panics if the iterator does, or if the pool is shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let results = pool.map_results([1, 0, 4], |n| 12 / n);
    /// assert_eq!(*results[0].as_ref().unwrap(), 12);
    /// assert!(results[1].as_ref().unwrap_err().is_panic());
    /// assert_eq!(*results[2].as_ref().unwrap(), 3);
    /// ```
    #[track_caller]
    pub fn map_results<I, F, R>(&self, items: I, f: F) -> Vec<Result<R, TaskError>>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        Submission::to(self).map_results(items, f)
    }

    /// Applies `f` to the items lazily and yields the results in input order.
    ///
    /// Nothing is pulled before the first `next`; then, on the consumer's thread, at most
    /// [`buffer`](Imap::buffer) items that are not yet yielded. So endless input works.
    ///
    /// # Panics
    ///
    /// Panics if a slot that the tasks would inherit is inside its own `with_mut`. The iterator's `next`
    /// panics where an item did, and if the pool is shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let mut halves = pool.imap((0..).step_by(2), |n| n / 2);
    /// assert_eq!(halves.nth(10), Some(10));
    /// ```
    #[track_caller]
    pub fn imap<I, F, R>(&self, items: I, f: F) -> Imap<I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        Submission::to(self).imap(items, f)
    }

    /// As [`imap`](Pool::imap), but yields the results as they come.
    ///
    /// # Panics
    ///
    /// As [`imap`](Pool::imap).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// assert_eq!(pool.imap_unordered(1..=4, |n| n * 10).sum::<i32>(), 100);
    /// ```
    #[track_caller]
    pub fn imap_unordered<I, F, R>(&self, items: I, f: F) -> ImapUnordered<I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        Submission::to(self).imap_unordered(items, f)
    }

    /// Runs `f` once on every worker, each in a task of its own; the results are in the order of the
    /// workers.
    ///
    /// A worker comes to it when its outermost task is over, or while that one waits: so `f` must not
    /// wait for a task that may itself be waiting on a worker.
    ///
    /// # Panics
    ///
    /// The first panic resumes here, after every worker was visited. Panics if the pool is shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(3).unwrap();
    /// assert_eq!(pool.broadcast(|| 1), [1, 1, 1]);
    /// ```
    #[track_caller]
    pub fn broadcast<F, R>(&self, f: F) -> Vec<R>
    where
        F: Fn() -> R + Sync,
        R: Send,
    {
        Submission::to(self).broadcast(f)
    }

    /// Closes the pool, lets it drain (tasks that drain may still submit) and waits until every worker
    /// has ended, its thread-local destructors included. Doing so again, or at the same time, waits as
    /// well.
    ///
    /// # Errors
    ///
    /// Returns a [`ShutdownError`] inside a task of the pool itself; the pool stays open then.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let last = pool.submit(|| "ran");
    /// pool.shutdown().unwrap();
    /// assert_eq!(last.join().unwrap(), "ran");
    /// assert!(pool.submit(|| ()).join().unwrap_err().is_cancelled());
    /// ```
    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        self.refuse_on_worker()?;
        self.core.close();
        self.core.threads.join();
        Ok(())
    }

    /// As [`shutdown`](Pool::shutdown), but waits for at most `limit`.
    ///
    /// # Errors
    ///
    /// Returns a [`ShutdownError`] if the workers have not ended by then (they go on draining), or
    /// inside a task of the pool itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel::<()>();
    /// let _busy = pool.submit(move || gate.recv());
    /// assert!(pool.shutdown_timeout(Duration::from_millis(5)).unwrap_err().is_timed_out());
    /// go.send(()).unwrap();
    /// pool.shutdown().unwrap();
    /// ```
    pub fn shutdown_timeout(&self, limit: Duration) -> Result<(), ShutdownError> {
        self.refuse_on_worker()?;
        self.core.close();
        // A limit beyond the clock's range is no limit.
        let deadline = Instant::now().checked_add(limit);
        match threads::Threads::join_until(&self.core, deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ShutdownError::timed_out()),
            Err(error) => Err(ShutdownError::no_reaper(error)),
        }
    }

    /// Closes the pool, cancels what has not started, and waits until every worker has ended. What is
    /// cancelled is dropped here and now.
    ///
    /// Calls of [`map`](Pool::map), [`scope`](Pool::scope) and [`broadcast`](Pool::broadcast) that are not
    /// over panic, when what they have started is.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Pool::shutdown).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::sync::mpsc;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel::<()>();
    /// let (tell, started) = mpsc::channel();
    /// let busy = pool.submit(move || (tell.send(()).unwrap(), gate.recv()).1);
    /// started.recv().unwrap();
    /// let waiting = pool.submit(move || drop(go));
    /// pool.shutdown_now().unwrap();
    /// assert!(waiting.join().unwrap_err().is_cancelled());
    /// assert!(busy.join().unwrap().is_err(), "the cancelled task's end of the channel was dropped");
    /// ```
    pub fn shutdown_now(&self) -> Result<(), ShutdownError> {
        self.refuse_on_worker()?;
        self.core.cancel();
        self.core.threads.join();
        Ok(())
    }

    /// A task of the pool cannot wait for the pool's end.
    fn refuse_on_worker(&self) -> Result<(), ShutdownError> {
        if current::runs_task_of(self.core.id) || self.worker_index().is_some() {
            return Err(ShutdownError::on_worker());
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.shutdown().is_err() {
            self.core.close();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

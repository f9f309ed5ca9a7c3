//! A rayon pool with the shape of the crate's own.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator,
};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::task::run;
use crate::context::Context;
use crate::executor::Executor;

/// A rayon pool that maps like the crate's own pool: every item is a task.
///
/// Make one with threads of its own, [wrap](Self::from) a rayon pool, or use the
/// [global](Self::global) one. Cloning shares the pool. The methods can be called from any thread; on
/// one of the pool's own threads the caller helps, as rayon's callers do.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::RayonPool, task_local};
///
/// task_local! { static SEEN: bool = false; }
///
/// let pool = RayonPool::new(2)?;
/// let dirty = pool.map(0..1000, |_| SEEN.replace(true));
/// assert!(dirty.iter().all(|dirty| !dirty));
/// # Ok::<(), rayon::ThreadPoolBuildError>(())
/// ```
#[derive(Clone)]
pub struct RayonPool {
    /// `None`: the global one.
    pool: Option<Arc<ThreadPool>>,
}

impl RayonPool {
    /// Makes a pool of its own with this many threads; `0` leaves the number to rayon.
    ///
    /// # Errors
    ///
    /// If the threads cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// assert_eq!(RayonPool::new(3).unwrap().workers(), 3);
    /// ```
    pub fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        ThreadPoolBuilder::new().num_threads(threads).build().map(Self::from)
    }

    /// The pool that rayon uses where none is named. A caller on a thread of some rayon pool uses
    /// that pool instead, as with bare rayon.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// assert_eq!(RayonPool::global().map_range(0..3, |n| n * n), [0, 1, 4]);
    /// ```
    #[must_use]
    pub const fn global() -> Self {
        Self { pool: None }
    }

    /// Counts the threads of the pool.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.pool
            .as_ref()
            .map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads())
    }

    /// Maps any items in parallel, each as a task, and returns the results in their order.
    ///
    /// The items are collected first, by the caller and as part of its task: rayon needs their number.
    /// [`map_slice`](Self::map_slice) and [`map_range`](Self::map_range) save that.
    ///
    /// # Panics
    ///
    /// As [`Context::capture`] does; and with the panic of an item, or the payload of a clean-up that
    /// fails, after all started items have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let words = String::from("a bc def");
    /// let lengths = RayonPool::new(2).unwrap().map(words.split(' '), str::len);
    /// assert_eq!(lengths, [1, 2, 3]);
    /// ```
    #[track_caller]
    pub fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator<Item: Send>,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        self.map_in(&Context::capture(), items, f)
    }

    /// Maps like [`map`](Self::map), in a context that you choose, with its carriers attached around
    /// every item.
    ///
    /// # Panics
    ///
    /// As [`map`](Self::map) does, and with a [`RunError`](crate::RunError) if a carrier cannot be
    /// attached.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, foreign::adopt_with, rayon::RayonPool};
    /// use std::cell::Cell;
    ///
    /// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    ///
    /// let context = Context::empty().carry(adopt_with(&LEVEL, || 3));
    /// let levels = RayonPool::new(2).unwrap().map_in(&context, 0..4, |_| LEVEL.replace(9));
    /// assert_eq!(levels, [3; 4]);
    /// ```
    pub fn map_in<I, F, R>(&self, context: &Context, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator<Item: Send>,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        self.collect(context, items.into_iter().collect::<Vec<_>>().into_par_iter(), f)
    }

    /// Maps references to the elements of a slice like [`map`](Self::map), without collecting them.
    ///
    /// # Panics
    ///
    /// As [`map`](Self::map) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// assert_eq!(RayonPool::new(2).unwrap().map_slice(&[1, 2, 3], |n| n + 1), [2, 3, 4]);
    /// ```
    #[track_caller]
    pub fn map_slice<T, F, R>(&self, items: &[T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&T) -> R + Sync,
        R: Send,
    {
        self.collect(&Context::capture(), items.par_iter(), f)
    }

    /// Maps the numbers of a range like [`map`](Self::map), without collecting them.
    ///
    /// # Panics
    ///
    /// As [`map`](Self::map) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// assert_eq!(RayonPool::new(2).unwrap().map_range(1..4, |n| n * n), [1, 4, 9]);
    /// ```
    #[track_caller]
    pub fn map_range<F, R>(&self, range: Range<usize>, f: F) -> Vec<R>
    where
        F: Fn(usize) -> R + Sync,
        R: Send,
    {
        self.collect(&Context::capture(), range.into_par_iter(), f)
    }

    /// Runs a closure on one of the pool's threads as a task, like [`install`](super::install).
    ///
    /// With the global pool it runs on the calling thread if that belongs to some rayon pool.
    ///
    /// # Panics
    ///
    /// As [`install`](super::install) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let pool = RayonPool::new(1).unwrap();
    /// assert_eq!(pool.install(rayon::current_thread_index), Some(0));
    /// ```
    #[track_caller]
    pub fn install<F, R>(&self, f: F) -> R
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let context = Context::capture();
        self.enter(|| run(&context, f))
    }

    /// Runs code of this module, not of others, where the pool's iterators run.
    fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => rayon::scope(|_| f()),
        }
    }

    fn collect<I, F, R>(&self, context: &Context, items: I, f: F) -> Vec<R>
    where
        I: IndexedParallelIterator,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        self.enter(|| items.map(|item| run(context, || f(item))).collect())
    }
}

impl From<ThreadPool> for RayonPool {
    fn from(pool: ThreadPool) -> Self {
        Self::from(Arc::new(pool))
    }
}

impl From<Arc<ThreadPool>> for RayonPool {
    fn from(pool: Arc<ThreadPool>) -> Self {
        Self { pool: Some(pool) }
    }
}

impl fmt::Debug for RayonPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RayonPool").field("is_global", &self.pool.is_none()).finish_non_exhaustive()
    }
}

impl Executor for RayonPool {
    #[track_caller]
    fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator<Item: Send, IntoIter: Send>,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        Self::map(self, items, f)
    }

    #[track_caller]
    fn map_slice<T, F, R>(&self, items: &[T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&T) -> R + Sync,
        R: Send,
    {
        Self::map_slice(self, items, f)
    }

    #[track_caller]
    fn map_range<F, R>(&self, range: Range<usize>, f: F) -> Vec<R>
    where
        F: Fn(usize) -> R + Sync,
        R: Send,
    {
        Self::map_range(self, range, f)
    }

    fn workers(&self) -> usize {
        Self::workers(self)
    }
}

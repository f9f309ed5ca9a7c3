//! A rayon pool with the shape of the crate's own.

use std::fmt;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::map::{ContainedItem, map, pull};
use super::outcome::{Outcome, drop_given};
use crate::context::Context;
use crate::executor::Executor;
use crate::frame::{Framed, discard};

/// A rayon pool with the shape of the crate's own: every closure is a task.
///
/// Make one with threads of its own, [wrap](Self::from) a rayon pool, or use the
/// [global](Self::global) one. It is a handle that can be cloned: clones are the same pool. The
/// methods can be called from any thread; on one of the pool's own threads the caller helps, as
/// rayon's callers do.
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
    /// What tasks get; `None`: what surrounds their submission.
    context: Option<Context>,
}

impl RayonPool {
    /// Makes a pool with this many threads of its own; `0` leaves the number to rayon.
    ///
    /// # Errors
    ///
    /// Returns an error if the threads cannot be started.
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

    /// Returns the pool that rayon uses where none is named. A caller on a thread of some rayon
    /// pool uses that pool instead, as with bare rayon.
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
        Self { pool: None, context: None }
    }

    /// Returns a handle whose tasks run in `context`, with its carriers attached, instead of in
    /// what surrounds their submission.
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
    /// let pool = RayonPool::new(2)?.in_context(&context);
    /// assert_eq!(pool.map(0..4, |_| LEVEL.replace(9)), [3; 4]);
    /// assert_eq!(pool.join(|| LEVEL.replace(9), || LEVEL.replace(9)), (3, 3));
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[must_use]
    pub fn in_context(&self, context: &Context) -> Self {
        Self { context: Some(context.clone()), ..self.clone() }
    }

    /// Returns the number of the pool's threads.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// assert_eq!(RayonPool::new(3).unwrap().workers(), 3);
    /// ```
    #[must_use]
    pub fn workers(&self) -> usize {
        self.pool
            .as_ref()
            .map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads())
    }

    /// Maps any items in parallel, each as a task, and returns the results in their order.
    ///
    /// The items are collected first, on the caller's thread, since rayon needs their number; each
    /// pull of the iterator is a task. [`map_slice`](Self::map_slice) and
    /// [`map_range`](Self::map_range) need not collect.
    ///
    /// # Panics
    ///
    /// Panics as [`Context::capture`] does. Panics with the first panic of a pull or an item, or
    /// with the payload of a failed clean-up, after all started items have ended (and those that
    /// rayon had split off with them: it does not check between the items of a leaf). Other
    /// payloads, results, and items that were not started are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let words = String::from("a bc def");
    /// let lengths = RayonPool::new(2)?.map(words.split(' '), str::len);
    /// assert_eq!(lengths, [1, 2, 3]);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator<Item: Send>,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        let items = Framed::new(items);
        let (context, f) = self.context_for(f);
        let each = |item: ContainedItem<I::Item>| f(item.into_inner());
        let outcome = pull(&context, items.into_inner())
            .and_then(|items| self.enter(|| map(&context, items.into_par_iter(), &each)));
        finish(outcome, context, f)
    }

    /// Maps references to the elements of a slice like [`map`](Self::map), without collecting them.
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Self::map) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// assert_eq!(RayonPool::new(2).unwrap().map_slice(&[1, 2, 3], |n| n + 1), [2, 3, 4]);
    /// ```
    #[track_caller]
    pub fn map_slice<'s, T, F, R>(&self, items: &'s [T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&'s T) -> R + Sync,
        R: Send,
    {
        let (context, f) = self.context_for(f);
        let outcome = self.enter(|| map(&context, items.par_iter(), &f));
        finish(outcome, context, f)
    }

    /// Maps the numbers of a range like [`map`](Self::map), without collecting them.
    ///
    /// # Panics
    ///
    /// Panics as [`map`](Self::map) does.
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
        let (context, f) = self.context_for(f);
        let outcome = self.enter(|| map(&context, range.into_par_iter(), &f));
        finish(outcome, context, f)
    }

    /// Runs code of this module, and no other code, where the pool's iterators run.
    pub(super) fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => rayon::scope(|_| f()),
        }
    }

    /// Returns the context of a task that is submitted now, and its closure, which is dropped while
    /// the panic unwinds if there is one.
    #[track_caller]
    pub(super) fn context_for<F>(&self, f: F) -> (Context, F) {
        let f = Framed::new(f);
        let context = match &self.context {
            Some(context) => context.clone().submitted(),
            None => Context::capture(),
        };
        (context, f.into_inner())
    }

    /// Returns rayon's pool, unless it is the global one.
    pub(super) fn own(&self) -> Option<&ThreadPool> {
        self.pool.as_deref()
    }
}

/// Ends a map: returns its results, or resumes its panic, after the closure has been dropped.
fn finish<F, R>(outcome: Outcome<Vec<R>>, context: Context, f: F) -> Vec<R> {
    discard(context);
    match (outcome, drop_given(f)) {
        (Ok(results), Ok(())) => results,
        (Ok(results), Err(first)) => {
            results.into_iter().for_each(discard);
            first.resume()
        }
        (Err(first), _) => first.resume(),
    }
}

impl From<ThreadPool> for RayonPool {
    fn from(pool: ThreadPool) -> Self {
        Self::from(Arc::new(pool))
    }
}

impl From<Arc<ThreadPool>> for RayonPool {
    fn from(pool: Arc<ThreadPool>) -> Self {
        Self { pool: Some(pool), context: None }
    }
}

// Its tasks' panics are caught, and leave nothing half done.
impl UnwindSafe for RayonPool {}
impl RefUnwindSafe for RayonPool {}

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
    fn map_slice<'s, T, F, R>(&self, items: &'s [T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&'s T) -> R + Sync,
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

//! Two tasks at a time, one on another pool, and one on every thread.

use rayon::{BroadcastContext, FnContext, ThreadPool};

use super::outcome::{drop_given, settle, settle_all, settle_two};
use super::pool::RayonPool;
use super::task::attempt;
use crate::frame::{Framed, discard};

/// Runs two closures, perhaps in parallel, each as a task: [`rayon::join`] with clean slots.
///
/// Both inherit what the current task hands down now.
///
/// # Panics
///
/// Panics as [`Context::capture`](crate::Context::capture) does. Panics with the panic of a
/// closure, or with the payload of a failed clean-up, after both have ended. If both panic, it is
/// the panic of `a`; the other one's payload is dropped.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::join, task_local};
///
/// task_local! { static SEEN: bool = false; }
///
/// SEEN.set(true);
/// let dirty = join(|| SEEN.replace(true), || SEEN.replace(true));
/// assert_eq!((dirty, SEEN.get()), ((false, false), true));
/// ```
#[track_caller]
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    RayonPool::global().join(a, b)
}

/// Runs two closures like [`join`], and tells each of them whether it was stolen:
/// [`rayon::join_context`] with clean slots.
///
/// # Panics
///
/// Panics as [`join`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::join_context;
///
/// let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
/// let stolen = pool.install(|| join_context(|to| to.migrated(), |to| to.migrated()));
/// assert_eq!(stolen, (false, false));
/// # Ok::<(), rayon::ThreadPoolBuildError>(())
/// ```
#[track_caller]
pub fn join_context<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce(FnContext) -> RA + Send,
    B: FnOnce(FnContext) -> RB + Send,
    RA: Send,
    RB: Send,
{
    let b = Framed::new(b);
    let (context, a) = RayonPool::global().context_for(a);
    let b = b.into_inner();
    let (a, b) =
        rayon::join_context(|to| attempt(&context, || a(to)), |to| attempt(&context, || b(to)));
    discard(context);
    settle_two(a, b)
}

/// Runs a closure on one of a pool's threads, as a task: [`ThreadPool::install`] with clean slots.
///
/// A parallel iterator inside the closure runs on that pool. It must be isolated itself: the
/// closure is a task, the iterator's items are not.
///
/// # Panics
///
/// Panics as [`Context::capture`](crate::Context::capture) does. Panics with the panic of the
/// closure, or with the payload of a failed clean-up.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::install, task_local};
///
/// task_local! { static N: u32 = 0; }
///
/// let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
/// let seen = [install(&pool, || N.replace(1)), install(&pool, || N.replace(1))];
/// assert_eq!(seen, [0, 0]);
/// # Ok::<(), rayon::ThreadPoolBuildError>(())
/// ```
#[track_caller]
pub fn install<F, R>(pool: &ThreadPool, f: F) -> R
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    let (context, f) = RayonPool::global().context_for(f);
    let outcome = pool.install(|| attempt(&context, f));
    discard(context);
    settle(outcome)
}

/// Runs a closure once on every thread of the current pool, each visit as a task:
/// [`rayon::broadcast`] with clean slots.
///
/// All visits inherit what the current task hands down now.
///
/// # Panics
///
/// Panics as [`Context::capture`](crate::Context::capture) does. Panics with the panic of a visit,
/// or with the payload of a failed clean-up, after all visits have ended. If several panic, it is
/// the panic of the lowest index; the other payloads are dropped.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::broadcast, task_local};
///
/// task_local! { static VISITS: u32 = 0; }
///
/// let visits = broadcast(|to| (to.index(), VISITS.replace(1)));
/// let threads = rayon::current_num_threads();
/// assert_eq!(visits, Vec::from_iter((0..threads).map(|index| (index, 0))));
/// ```
#[track_caller]
pub fn broadcast<F, R>(f: F) -> Vec<R>
where
    F: Fn(BroadcastContext<'_>) -> R + Sync,
    R: Send,
{
    RayonPool::global().visit_all(f)
}

impl RayonPool {
    /// Runs two closures, perhaps in parallel, each as a task, like [`join`] and
    /// [`ThreadPool::join`].
    ///
    /// # Panics
    ///
    /// Panics as [`join`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// fn sum(pool: &RayonPool, numbers: &[u64]) -> u64 {
    ///     if let [number] = numbers {
    ///         return *number;
    ///     }
    ///     let (left, right) = numbers.split_at(numbers.len() / 2);
    ///     let (left, right) = pool.join(|| sum(pool, left), || sum(pool, right));
    ///     left + right
    /// }
    /// assert_eq!(sum(&RayonPool::new(2)?, &[1, 2, 3, 4, 5]), 15);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        let b = Framed::new(b);
        let (context, a) = self.context_for(a);
        let b = b.into_inner();
        let (a, b) = (|| attempt(&context, a), || attempt(&context, b));
        let (a, b) = match self.own() {
            Some(pool) => pool.join(a, b),
            None => rayon::join(a, b),
        };
        discard(context);
        settle_two(a, b)
    }

    /// Runs a closure on one of the pool's threads as a task, like [`install`] and
    /// [`ThreadPool::install`].
    ///
    /// With the global pool it runs on the calling thread if that belongs to some rayon pool.
    ///
    /// # Panics
    ///
    /// Panics as [`install`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let pool = RayonPool::new(1)?;
    /// assert_eq!(pool.install(rayon::current_thread_index), Some(0));
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn install<F, R>(&self, f: F) -> R
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let (context, f) = self.context_for(f);
        let outcome = self.enter(|| attempt(&context, f));
        discard(context);
        settle(outcome)
    }

    /// Runs a closure once on every thread of the pool, each visit as a task, and returns the
    /// results in the threads' order.
    ///
    /// Like [`broadcast`], but takes the same kind of closure as
    /// [`Pool::broadcast`](crate::Pool::broadcast).
    ///
    /// # Panics
    ///
    /// Panics as [`broadcast`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let places = RayonPool::new(3)?.broadcast(rayon::current_thread_index);
    /// assert_eq!(places, [Some(0), Some(1), Some(2)]);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn broadcast<F, R>(&self, f: F) -> Vec<R>
    where
        F: Fn() -> R + Sync,
        R: Send,
    {
        self.visit_all(move |_| f())
    }

    #[track_caller]
    fn visit_all<F, R>(&self, f: F) -> Vec<R>
    where
        F: Fn(BroadcastContext<'_>) -> R + Sync,
        R: Send,
    {
        let (context, f) = self.context_for(f);
        let visit = |to: BroadcastContext<'_>| attempt(&context, || f(to));
        let outcomes = match self.own() {
            Some(pool) => pool.broadcast(visit),
            None => rayon::broadcast(visit),
        };
        discard(context);
        settle_all(outcomes, drop_given(f))
    }
}

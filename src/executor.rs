//! What pools have in common, so that code can be generic over which one it runs on.

use std::ops::Range;

use crate::pool::Pool;

/// A pool that maps a function over items, each of them a task of its own.
///
/// For code that is to run on more than one kind of pool. It is `Sync`, so that items can map in
/// turn. (Neither references nor `Arc`s implement it: they would hide the pool's own methods, which
/// accept more. `Pool` is a handle that can be cloned, and so is `RayonPool`.) Every item starts
/// with fresh slots and inherits what the caller hands down when it calls; what it touches is
/// dropped before the call returns. The results are in the order of the items.
///
/// # Panics
///
/// Panics if an item does, after all started ones have ended; if several panic, the pool decides
/// with which panic. A failed clean-up counts as the item's panic.
///
/// # Examples
///
/// ```
/// use cleanslate::{Executor, task_local};
///
/// task_local! { static SCRATCH: Vec<u64> = vec![]; }
///
/// fn squares(pool: &impl Executor) -> Vec<u64> {
///     pool.map([1, 2, 3], |n| SCRATCH.with_mut(|s| { s.push(n * n); s.iter().sum() }))
/// }
/// assert_eq!(squares(&cleanslate::Pool::new(2).unwrap()), [1, 4, 9]);
/// # #[cfg(feature = "rayon")]
/// assert_eq!(squares(&cleanslate::rayon::RayonPool::new(2).unwrap()), [1, 4, 9]);
/// ```
///
/// A type that holds one, and maps within a map:
///
/// ```
/// use cleanslate::{Executor, Pool};
///
/// struct Grid<E>(E);
///
/// impl<E: Executor> Grid<E> {
///     fn sums(&self, rows: &[Vec<u32>]) -> Vec<u32> {
///         self.0.map_slice(rows, |row| self.0.map_slice(row, |n| n * n).iter().sum())
///     }
/// }
///
/// let pool = Pool::new(2).unwrap();
/// assert_eq!(Grid(pool.clone()).sums(&[vec![1, 2], vec![3]]), [5, 9]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not map items as tasks",
    label = "not an `Executor`",
    note = "`Pool` is one, and with the feature `rayon` so is `RayonPool`"
)]
pub trait Executor: Sync {
    /// Maps any items, which may borrow from the caller.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Executor, Pool};
    ///
    /// fn doubled(pool: &impl Executor) -> Vec<u32> {
    ///     pool.map([1, 2], |n| 2 * n)
    /// }
    /// assert_eq!(doubled(&Pool::new(2)?), [2, 4]);
    /// # Ok::<_, cleanslate::BuildError>(())
    /// ```
    fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator<Item: Send, IntoIter: Send>,
        F: Fn(I::Item) -> R + Sync,
        R: Send;

    /// Maps references to the elements of a slice.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Executor, Pool};
    ///
    /// fn doubled(pool: &impl Executor) -> Vec<u32> {
    ///     pool.map_slice(&[1, 2], |n| 2 * n)
    /// }
    /// assert_eq!(doubled(&Pool::new(2)?), [2, 4]);
    /// # Ok::<_, cleanslate::BuildError>(())
    /// ```
    fn map_slice<'s, T, F, R>(&self, items: &'s [T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&'s T) -> R + Sync,
        R: Send;

    /// Maps the numbers of a range.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Executor, Pool};
    ///
    /// fn doubled(pool: &impl Executor) -> Vec<usize> {
    ///     pool.map_range(1..3, |n| 2 * n)
    /// }
    /// assert_eq!(doubled(&Pool::new(2)?), [2, 4]);
    /// # Ok::<_, cleanslate::BuildError>(())
    /// ```
    fn map_range<F, R>(&self, range: Range<usize>, f: F) -> Vec<R>
    where
        F: Fn(usize) -> R + Sync,
        R: Send;

    /// Returns the number of threads that run tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Executor, Pool};
    ///
    /// fn size(pool: &impl Executor) -> usize {
    ///     pool.workers()
    /// }
    /// assert_eq!(size(&Pool::new(2)?), 2);
    /// # Ok::<_, cleanslate::BuildError>(())
    /// ```
    fn workers(&self) -> usize;
}

impl Executor for Pool {
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

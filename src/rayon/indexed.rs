//! What an indexed parallel iterator has in addition.

use rayon::iter::{
    Chunks, Enumerate, ExponentialBlocks, IndexedParallelIterator, Interleave, InterleaveShortest,
    IntoParallelIterator, MaxLen, MinLen, ParallelIterator, Rev, Skip, StepBy, Take, UniformBlocks,
    Zip, ZipEq,
};

use super::isolated::Isolated;
use super::task::{merge, step, supplier};

/// Adaptors that call a closure, and methods that end the chain.
impl<I: IndexedParallelIterator> Isolated<I> {
    /// Folds runs of `chunk_size` items into one value each. Each call of either closure is a task.
    ///
    /// # Panics
    ///
    /// Panics if `chunk_size` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = (0..5).into_par_iter().isolated().fold_chunks(2, || 0, |sum, n| sum + n);
    /// assert_eq!(sums.collect::<Vec<_>>(), [1, 5, 4]);
    /// ```
    #[track_caller]
    pub fn fold_chunks<T, ID, F>(
        self,
        chunk_size: usize,
        identity: ID,
        fold_op: F,
    ) -> Isolated<impl IndexedParallelIterator<Item = T>>
    where
        ID: Fn() -> T + Send + Sync,
        F: Fn(T, I::Item) -> T + Send + Sync,
        T: Send,
    {
        let (base, context) = self.into_parts();
        let identity = supplier(context.clone(), identity);
        let base = base.fold_chunks(chunk_size, identity, merge(context.clone(), fold_op));
        Isolated::from_parts(base, context)
    }

    /// Folds like [`fold_chunks`](Self::fold_chunks), from a clone of `init`, which is made outside
    /// of the tasks.
    ///
    /// # Panics
    ///
    /// Panics if `chunk_size` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = (0..5).into_par_iter().isolated().fold_chunks_with(2, 0, |sum, n| sum + n);
    /// assert_eq!(sums.collect::<Vec<_>>(), [1, 5, 4]);
    /// ```
    #[track_caller]
    pub fn fold_chunks_with<T, F>(
        self,
        chunk_size: usize,
        init: T,
        fold_op: F,
    ) -> Isolated<impl IndexedParallelIterator<Item = T>>
    where
        T: Send + Clone,
        F: Fn(T, I::Item) -> T + Send + Sync,
    {
        let (base, context) = self.into_parts();
        let base = base.fold_chunks_with(chunk_size, init, merge(context.clone(), fold_op));
        Isolated::from_parts(base, context)
    }

    /// Yields the positions of the items for which a closure returns `true`, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let odd = [1, 2, 3].into_par_iter().isolated().positions(|n| n % 2 == 1);
    /// assert_eq!(odd.collect::<Vec<_>>(), [0, 2]);
    /// ```
    pub fn positions<P>(self, predicate: P) -> Isolated<impl ParallelIterator<Item = usize>>
    where
        P: Fn(I::Item) -> bool + Sync + Send,
    {
        self.adapt(|base, context| base.positions(step(context.clone(), predicate)))
    }

    /// Finds the position of an item for which a closure returns `true`, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!([4, 5, 6].into_par_iter().isolated().position_any(|n| n == 5), Some(1));
    /// ```
    pub fn position_any<P>(self, predicate: P) -> Option<usize>
    where
        P: Fn(I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.position_any(step(context, predicate))
    }

    /// Finds the position of the first item for which a closure returns `true`, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!([4, 5, 6].into_par_iter().isolated().position_first(|n| n > 4), Some(1));
    /// ```
    pub fn position_first<P>(self, predicate: P) -> Option<usize>
    where
        P: Fn(I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.position_first(step(context, predicate))
    }

    /// Finds the position of the last item for which a closure returns `true`, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!([4, 5, 6].into_par_iter().isolated().position_last(|n| n > 4), Some(2));
    /// ```
    pub fn position_last<P>(self, predicate: P) -> Option<usize>
    where
        P: Fn(I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.position_last(step(context, predicate))
    }

    /// Finds a position like [`position_any`](Self::position_any). Deprecated, as it is in rayon.
    ///
    /// # Examples
    ///
    /// ```
    /// # #![expect(deprecated)]
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!([4, 5, 6].into_par_iter().isolated().position(|n| n == 5), Some(1));
    /// ```
    #[deprecated(note = "not in order: use `position_any`, `position_first` or `position_last`")]
    pub fn position<P>(self, predicate: P) -> Option<usize>
    where
        P: Fn(I::Item) -> bool + Sync + Send,
    {
        self.position_any(predicate)
    }
}

/// Adaptors that call no closure. The chain stays isolated.
impl<I: IndexedParallelIterator> Isolated<I> {
    /// Works through blocks of growing size, one after the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let blocks = (0..1000).into_par_iter().isolated().by_exponential_blocks();
    /// assert_eq!(blocks.find_any(|n| *n == 7), Some(7));
    /// ```
    pub fn by_exponential_blocks(self) -> Isolated<ExponentialBlocks<I>> {
        self.adapt(|base, _| base.by_exponential_blocks())
    }

    /// Works through blocks of `block_size` items, one after the other.
    ///
    /// # Panics
    ///
    /// Panics if `block_size` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let blocks = (0..1000).into_par_iter().isolated().by_uniform_blocks(100);
    /// assert_eq!(blocks.find_any(|n| *n == 7), Some(7));
    /// ```
    #[track_caller]
    pub fn by_uniform_blocks(self, block_size: usize) -> Isolated<UniformBlocks<I>> {
        let (base, context) = self.into_parts();
        Isolated::from_parts(base.by_uniform_blocks(block_size), context)
    }

    /// Pairs every item with one of another iterator, whose own closures are bare unless it is
    /// isolated.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = [1, 2].into_par_iter().isolated().zip([4, 5, 6]).map(|(a, b)| a + b);
    /// assert_eq!(sums.collect::<Vec<_>>(), [5, 7]);
    /// ```
    pub fn zip<Z>(self, zip_op: Z) -> Isolated<Zip<I, Z::Iter>>
    where
        Z: IntoParallelIterator<Iter: IndexedParallelIterator>,
    {
        self.adapt(|base, _| base.zip(zip_op))
    }

    /// Pairs like [`zip`](Self::zip) with an iterator of the same length.
    ///
    /// # Panics
    ///
    /// Panics if the lengths differ.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = [1, 2].into_par_iter().isolated().zip_eq([4, 5]).map(|(a, b)| a + b);
    /// assert_eq!(sums.collect::<Vec<_>>(), [5, 7]);
    /// ```
    #[track_caller]
    pub fn zip_eq<Z>(self, zip_op: Z) -> Isolated<ZipEq<I, Z::Iter>>
    where
        Z: IntoParallelIterator<Iter: IndexedParallelIterator>,
    {
        let (base, context) = self.into_parts();
        Isolated::from_parts(base.zip_eq(zip_op), context)
    }

    /// Alternates with the items of another iterator, whose own closures are bare unless it is
    /// isolated.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let mixed = [1, 2].into_par_iter().isolated().interleave([7, 8, 9]).map(|n| n * 2);
    /// assert_eq!(mixed.collect::<Vec<_>>(), [2, 14, 4, 16, 18]);
    /// ```
    pub fn interleave<J>(self, other: J) -> Isolated<Interleave<I, J::Iter>>
    where
        J: IntoParallelIterator<Item = I::Item, Iter: IndexedParallelIterator>,
    {
        self.adapt(|base, _| base.interleave(other))
    }

    /// Alternates like [`interleave`](Self::interleave) until one of the two has no more items.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let mixed = [1, 2].into_par_iter().isolated().interleave_shortest([7, 8, 9]);
    /// assert_eq!(mixed.collect::<Vec<_>>(), [1, 7, 2, 8]);
    /// ```
    pub fn interleave_shortest<J>(self, other: J) -> Isolated<InterleaveShortest<I, J::Iter>>
    where
        J: IntoParallelIterator<Item = I::Item, Iter: IndexedParallelIterator>,
    {
        self.adapt(|base, _| base.interleave_shortest(other))
    }

    /// Collects the items in vectors of `chunk_size`.
    ///
    /// # Panics
    ///
    /// Panics if `chunk_size` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = (0..5).into_par_iter().isolated().chunks(2).map(|chunk| chunk.iter().sum());
    /// assert_eq!(sums.collect::<Vec<u32>>(), [1, 5, 4]);
    /// ```
    #[track_caller]
    pub fn chunks(self, chunk_size: usize) -> Isolated<Chunks<I>> {
        let (base, context) = self.into_parts();
        Isolated::from_parts(base.chunks(chunk_size), context)
    }

    /// Pairs every item with its position.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let products = [7, 8].into_par_iter().isolated().enumerate().map(|(i, n)| i * n);
    /// assert_eq!(products.collect::<Vec<_>>(), [0, 8]);
    /// ```
    pub fn enumerate(self) -> Isolated<Enumerate<I>> {
        self.adapt(|base, _| base.enumerate())
    }

    /// Keeps every `step`-th item. Those in between are still made.
    ///
    /// # Panics
    ///
    /// Panics if `step` is zero, when the iterator is driven.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let even = (0..5).into_par_iter().isolated().step_by(2).map(|n| n + 1);
    /// assert_eq!(even.collect::<Vec<_>>(), [1, 3, 5]);
    /// ```
    pub fn step_by(self, step: usize) -> Isolated<StepBy<I>> {
        self.adapt(|base, _| base.step_by(step))
    }

    /// Leaves out the first `n` items. Rayon still makes them.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let last = (0..5).into_par_iter().isolated().skip(3).map(|n| n + 1);
    /// assert_eq!(last.collect::<Vec<_>>(), [4, 5]);
    /// ```
    pub fn skip(self, n: usize) -> Isolated<Skip<I>> {
        self.adapt(|base, _| base.skip(n))
    }

    /// Keeps the first `n` items.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let first = (0..5).into_par_iter().isolated().take(2).map(|n| n + 1);
    /// assert_eq!(first.collect::<Vec<_>>(), [1, 2]);
    /// ```
    pub fn take(self, n: usize) -> Isolated<Take<I>> {
        self.adapt(|base, _| base.take(n))
    }

    /// Reverses the order of the items.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let down = (0..3).into_par_iter().isolated().rev().map(|n| n * 2);
    /// assert_eq!(down.collect::<Vec<_>>(), [4, 2, 0]);
    /// ```
    pub fn rev(self) -> Isolated<Rev<I>> {
        self.adapt(|base, _| base.rev())
    }

    /// Sets the number of items below which work is not split.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let items = (0..9).into_par_iter().isolated().with_min_len(4);
    /// assert_eq!(items.map(|n| n + 1).sum::<u32>(), 45);
    /// ```
    pub fn with_min_len(self, min: usize) -> Isolated<MinLen<I>> {
        self.adapt(|base, _| base.with_min_len(min))
    }

    /// Sets the number of items above which work is split.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let items = (0..9).into_par_iter().isolated().with_max_len(1);
    /// assert_eq!(items.map(|n| n + 1).sum::<u32>(), 45);
    /// ```
    pub fn with_max_len(self, max: usize) -> Isolated<MaxLen<I>> {
        self.adapt(|base, _| base.with_max_len(max))
    }
}

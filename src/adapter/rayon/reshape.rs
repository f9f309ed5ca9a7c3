//! Adapters that [`Isolated`] applies in a way that keeps the whole chain covered.
//!
//! Applied above the isolation by rayon, each of these pulls items, so that the folders
//! downstream, or the other side's closures, lie outside of every item. *Below* it, what they hand on
//! is an item like any other. An adapter that makes one item of several (`chunks`), or leaves some out
//! (`skip`), is isolated on both sides, since those are items too.

use rayon::iter::{
    Chain, Chunks, Enumerate, ExponentialBlocks, FlatMap, Flatten, FoldChunks, FoldChunksWith,
    IndexedParallelIterator, Interleave, InterleaveShortest, IntoParallelIterator, MaxLen, MinLen,
    ParallelIterator, Rev, Skip, StepBy, Take, UniformBlocks, Zip, ZipEq,
};

use super::isolated::Isolated;
use crate::context::Context;

impl<I> Isolated<I> {
    fn below<J>(self, adapter: impl FnOnce(I) -> J) -> Isolated<J> {
        let Self { base, context } = self;
        Isolated { base: adapter(base), context }
    }

    fn twice<J>(self, adapter: impl FnOnce(Self) -> J) -> Isolated<J> {
        let context: Context = self.context.clone();
        Isolated { base: adapter(self), context }
    }
}

macro_rules! below {
    ($($(#[$doc:meta])+ fn $name:ident $(<$($g:ident),+>)? ($($arg:ident: $ty:ty),*)
        -> $out:ty $(where $($w:ty: $b:path),+)?;)+) => {
        $(
            $(#[$doc])+
            pub fn $name $(<$($g),+>)? (self, $($arg: $ty),*) -> Isolated<$out>
            $(where $($w: $b),+)?
            {
                self.below(|base| base.$name($($arg),*))
            }
        )+
    };
}

impl<I: IndexedParallelIterator> Isolated<I> {
    below! {
        /// Numbers the items, below the isolation.
        ///
        /// # Examples
        ///
        /// ```
        /// use cleanslate::rayon::ParallelIteratorExt;
        /// use rayon::prelude::*;
        ///
        /// let numbered: Vec<_> = ["a", "b"].par_iter().isolated().enumerate().collect();
        /// assert_eq!(numbered, [(0, &"a"), (1, &"b")]);
        /// ```
        fn enumerate() -> Enumerate<I>;

        /// Reverses the order of the items, below the isolation.
        ///
        /// # Examples
        ///
        /// ```
        /// use cleanslate::rayon::ParallelIteratorExt;
        /// use rayon::prelude::*;
        ///
        /// let back: Vec<_> = (0..3).into_par_iter().isolated().rev().collect();
        /// assert_eq!(back, [2, 1, 0]);
        /// ```
        fn rev() -> Rev<I>;

        /// Pairs the items with those of another iterator. A pair is one task, the work of both sides
        /// included.
        ///
        /// # Examples
        ///
        /// ```
        /// use cleanslate::rayon::ParallelIteratorExt;
        /// use rayon::prelude::*;
        ///
        /// let sums = (0..3).into_par_iter().isolated().zip(5..9).map(|(a, b)| a + b);
        /// assert_eq!(sums.collect::<Vec<_>>(), [5, 7, 9]);
        /// ```
        fn zip<Z>(other: Z) -> Zip<I, Z::Iter>
        where Z: IntoParallelIterator, Z::Iter: IndexedParallelIterator;

        /// Pairs the items with as many of another iterator, like [`zip`](Self::zip).
        ///
        /// # Panics
        ///
        /// If the two iterators have different lengths.
        #[track_caller]
        fn zip_eq<Z>(other: Z) -> ZipEq<I, Z::Iter>
        where Z: IntoParallelIterator, Z::Iter: IndexedParallelIterator;

        /// Alternates with the items of another iterator, which are tasks too.
        ///
        /// # Examples
        ///
        /// ```
        /// use cleanslate::rayon::ParallelIteratorExt;
        /// use rayon::prelude::*;
        ///
        /// let mixed: Vec<_> = [1, 2].into_par_iter().isolated().interleave([7, 8, 9]).collect();
        /// assert_eq!(mixed, [1, 7, 2, 8, 9]);
        /// ```
        fn interleave<J>(other: J) -> Interleave<I, J::Iter>
        where J: IntoParallelIterator<Item = I::Item>, J::Iter: IndexedParallelIterator<Item = I::Item>;

        /// Alternates like [`interleave`](Self::interleave) until one of the two has no more items.
        fn interleave_shortest<J>(other: J) -> InterleaveShortest<I, J::Iter>
        where J: IntoParallelIterator<Item = I::Item>, J::Iter: IndexedParallelIterator<Item = I::Item>;

        /// Keeps the first `n` items, below the isolation.
        fn take(n: usize) -> Take<I>;

        /// Sets the number of items below which work is not split, below the isolation.
        ///
        /// # Examples
        ///
        /// ```
        /// use cleanslate::rayon::ParallelIteratorExt;
        /// use rayon::prelude::*;
        ///
        /// assert_eq!((0..9).into_par_iter().isolated().with_min_len(4).sum::<u32>(), 36);
        /// ```
        fn with_min_len(min: usize) -> MinLen<I>;

        /// Sets the number of items above which work is split, below the isolation.
        fn with_max_len(max: usize) -> MaxLen<I>;

        /// Works through blocks of growing size one after the other, below the isolation.
        fn by_exponential_blocks() -> ExponentialBlocks<I>;

        /// Works through blocks of this size one after the other, below the isolation.
        fn by_uniform_blocks(block_size: usize) -> UniformBlocks<I>;
    }

    /// Collects the items in vectors of `size`. Each item is a task, and then each vector.
    ///
    /// # Panics
    ///
    /// If `size` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let chunks: Vec<_> = (0..5).into_par_iter().isolated().chunks(2).collect();
    /// assert_eq!(chunks, [vec![0, 1], vec![2, 3], vec![4]]);
    /// ```
    #[track_caller]
    pub fn chunks(self, size: usize) -> Isolated<Chunks<Self>> {
        self.twice(|items| IndexedParallelIterator::chunks(items, size))
    }

    /// Folds runs of `size` items into one. Each item is a task, with its step of the fold, and then
    /// each result.
    ///
    /// # Panics
    ///
    /// If `size` is zero.
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
        size: usize,
        identity: ID,
        fold_op: F,
    ) -> Isolated<FoldChunks<Self, ID, F>>
    where
        ID: Fn() -> T + Send + Sync,
        F: Fn(T, I::Item) -> T + Send + Sync,
        T: Send,
    {
        self.twice(|items| IndexedParallelIterator::fold_chunks(items, size, identity, fold_op))
    }

    /// Folds like [`fold_chunks`](Self::fold_chunks), from a clone of `init`.
    ///
    /// # Panics
    ///
    /// If `size` is zero.
    #[track_caller]
    pub fn fold_chunks_with<T, F>(
        self,
        size: usize,
        init: T,
        fold_op: F,
    ) -> Isolated<FoldChunksWith<Self, T, F>>
    where
        T: Send + Clone,
        F: Fn(T, I::Item) -> T + Send + Sync,
    {
        self.twice(|items| IndexedParallelIterator::fold_chunks_with(items, size, init, fold_op))
    }

    /// Leaves out the first `n` items. Rayon makes them all the same: each is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..5).into_par_iter().isolated().skip(3).collect::<Vec<_>>(), [3, 4]);
    /// ```
    pub fn skip(self, n: usize) -> Isolated<Skip<Self>> {
        self.twice(|items| IndexedParallelIterator::skip(items, n))
    }

    /// Keeps every `step`-th item. Those between are made all the same: each is a task.
    ///
    /// # Panics
    ///
    /// If `step` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..5).into_par_iter().isolated().step_by(2).collect::<Vec<_>>(), [0, 2, 4]);
    /// ```
    pub fn step_by(self, step: usize) -> Isolated<StepBy<Self>> {
        self.twice(|items| IndexedParallelIterator::step_by(items, step))
    }
}

impl<I: ParallelIterator> Isolated<I> {
    /// Appends the items of another iterator, which are tasks too.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..2).into_par_iter().isolated().chain(5..7).collect::<Vec<_>>(), [0, 1, 5, 6]);
    /// ```
    pub fn chain<C>(self, other: C) -> Isolated<Chain<I, C::Iter>>
    where
        C: IntoParallelIterator<Item = I::Item>,
    {
        self.below(|base| base.chain(other))
    }

    /// Replaces each item by those of a parallel iterator. The item is a task, and so is each of
    /// those, which inherit what the items do.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let pairs = (0..3).into_par_iter().isolated().flat_map(|n| [n, n]);
    /// assert_eq!(pairs.collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
    /// ```
    pub fn flat_map<F, PI>(self, map_op: F) -> Isolated<FlatMap<Self, F>>
    where
        F: Fn(I::Item) -> PI + Sync + Send,
        PI: IntoParallelIterator,
    {
        self.twice(|items| ParallelIterator::flat_map(items, map_op))
    }

    /// Replaces each item, which is a parallel iterator, by its items, like
    /// [`flat_map`](Self::flat_map).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let flat = vec![vec![1, 2], vec![3]].into_par_iter().isolated().flatten();
    /// assert_eq!(flat.collect::<Vec<_>>(), [1, 2, 3]);
    /// ```
    pub fn flatten(self) -> Isolated<Flatten<Self>>
    where
        I::Item: IntoParallelIterator,
    {
        self.twice(ParallelIterator::flatten)
    }
}

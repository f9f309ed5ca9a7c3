//! Adaptors of any parallel iterator that call no closure. The chain stays isolated.

use rayon::iter::{
    Chain, Cloned, Copied, Flatten, FlattenIter, Intersperse, IntoParallelIterator, PanicFuse,
    ParallelIterator, SkipAny, TakeAny, WhileSome,
};

use super::isolated::Isolated;

impl<I: ParallelIterator> Isolated<I> {
    /// Clones every item. The clones are made outside of the tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let words = ["a".to_owned(), "bc".to_owned()];
    /// let cloned = words.par_iter().isolated().cloned().map(|word| word + "!");
    /// assert_eq!(cloned.collect::<Vec<_>>(), ["a!", "bc!"]);
    /// ```
    pub fn cloned<'a, T>(self) -> Isolated<Cloned<I>>
    where
        T: 'a + Clone + Send,
        I: ParallelIterator<Item = &'a T>,
    {
        self.adapt(|base, _| base.cloned())
    }

    /// Copies every item.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let copied = [1, 2].par_iter().isolated().copied().map(|n| n + 1);
    /// assert_eq!(copied.collect::<Vec<i32>>(), [2, 3]);
    /// ```
    pub fn copied<'a, T>(self) -> Isolated<Copied<I>>
    where
        T: 'a + Copy + Send,
        I: ParallelIterator<Item = &'a T>,
    {
        self.adapt(|base, _| base.copied())
    }

    /// Replaces every item, which is a parallel iterator, with its items. The items' own closures
    /// are bare, unless they are isolated.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let flat = vec![vec![1, 2], vec![3]].into_par_iter().isolated().flatten();
    /// assert_eq!(flat.map(|n| n + 1).collect::<Vec<_>>(), [2, 3, 4]);
    /// ```
    pub fn flatten(self) -> Isolated<Flatten<I>>
    where
        I::Item: IntoParallelIterator,
    {
        self.adapt(|base, _| base.flatten())
    }

    /// Replaces every item, which is a serial iterator, with its items. The iterators are bare.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let flat = vec![vec![1, 2], vec![3]].into_par_iter().isolated().flatten_iter();
    /// assert_eq!(flat.map(|n| n + 1).collect::<Vec<_>>(), [2, 3, 4]);
    /// ```
    pub fn flatten_iter(self) -> Isolated<FlattenIter<I>>
    where
        I::Item: IntoIterator<Item: Send>,
    {
        self.adapt(|base, _| base.flatten_iter())
    }

    /// Appends the items of another iterator, whose own closures are bare unless it is isolated.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let both = (0..2).into_par_iter().isolated().chain(5..7).map(|n| n * 2);
    /// assert_eq!(both.collect::<Vec<_>>(), [0, 2, 10, 12]);
    /// ```
    pub fn chain<C>(self, chain: C) -> Isolated<Chain<I, C::Iter>>
    where
        C: IntoParallelIterator<Item = I::Item>,
    {
        self.adapt(|base, _| base.chain(chain))
    }

    /// Takes the values in the items until an item is `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let all = [Some(1), Some(2)].into_par_iter().isolated().while_some().map(|n| n + 1);
    /// assert_eq!(all.sum::<u32>(), 5);
    /// ```
    pub fn while_some<T>(self) -> Isolated<WhileSome<I>>
    where
        I: ParallelIterator<Item = Option<T>>,
        T: Send,
    {
        self.adapt(|base, _| base.while_some())
    }

    /// Makes other threads stop as soon as they can when a closure panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let checked = (0..9).into_par_iter().isolated().map(|n| 9 - n).panic_fuse();
    /// assert_eq!(checked.map(|n| 9 / n).max(), Some(9));
    /// ```
    pub fn panic_fuse(self) -> Isolated<PanicFuse<I>> {
        self.adapt(|base, _| base.panic_fuse())
    }

    /// Puts clones of an item between every two items. The clones are made outside of the tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let spaced = [1, 2].into_par_iter().isolated().intersperse(0).map(|n| n * 2);
    /// assert_eq!(spaced.collect::<Vec<_>>(), [2, 0, 4]);
    /// ```
    pub fn intersperse(self, element: I::Item) -> Isolated<Intersperse<I>>
    where
        I::Item: Clone,
    {
        self.adapt(|base, _| base.intersperse(element))
    }

    /// Keeps `n` of the items, in no particular order.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..9).into_par_iter().isolated().take_any(3).map(|n| n * 2).count(), 3);
    /// ```
    pub fn take_any(self, n: usize) -> Isolated<TakeAny<I>> {
        self.adapt(|base, _| base.take_any(n))
    }

    /// Leaves out `n` of the items, in no particular order.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..9).into_par_iter().isolated().skip_any(3).map(|n| n * 2).count(), 6);
    /// ```
    pub fn skip_any(self, n: usize) -> Isolated<SkipAny<I>> {
        self.adapt(|base, _| base.skip_any(n))
    }
}

//! Adaptors of any parallel iterator that call a closure.
//!
//! Those that keep an indexed iterator indexed return a named type, since only that shows that they
//! do.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::adapted::{Inspect, Map, MapInit, MapWith, Update};
use super::fallible::Try;
use super::isolated::Isolated;
use super::task::{look, merge, step, supplier};

impl<I: ParallelIterator> Isolated<I> {
    /// Applies a closure to every item, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{rayon::ParallelIteratorExt, task_local};
    /// use rayon::prelude::*;
    ///
    /// task_local! { static SUM: u64 = 0; }
    ///
    /// let add = |n| SUM.with_mut(|sum| { *sum += n; *sum });
    /// let sums: Vec<_> = (0..100).into_par_iter().isolated().map(add).collect();
    /// assert_eq!(sums, Vec::from_iter(0..100));
    /// ```
    pub fn map<F, R>(self, map_op: F) -> Isolated<Map<I, F>>
    where
        F: Fn(I::Item) -> R + Sync + Send,
        R: Send,
    {
        self.adapt(|base, context| Map { base, context: context.clone(), map_op })
    }

    /// Applies a closure to every item and a clone of `init`, which is kept from item to item until
    /// the work is split. Each call is a task; the clones are made outside of the tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let shouted = ["a", "b"].par_iter().isolated().map_with(String::new(), |buffer, word| {
    ///     buffer.clear();
    ///     buffer.push_str(word);
    ///     buffer.to_uppercase()
    /// });
    /// assert_eq!(shouted.collect::<Vec<_>>(), ["A", "B"]);
    /// ```
    pub fn map_with<F, T, R>(self, init: T, map_op: F) -> Isolated<MapWith<I, T, F>>
    where
        F: Fn(&mut T, I::Item) -> R + Sync + Send,
        T: Send + Clone,
        R: Send,
    {
        self.adapt(|base, context| MapWith { base, context: context.clone(), init, map_op })
    }

    /// Applies a closure to every item and a value that `init` makes, which is kept from item to
    /// item until the work is split. Each call of either is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let squares = (0..4).into_par_iter().isolated().map_init(Vec::new, |scratch, n| {
    ///     scratch.clear();
    ///     scratch.resize(n, n);
    ///     scratch.iter().sum::<usize>()
    /// });
    /// assert_eq!(squares.collect::<Vec<_>>(), [0, 1, 4, 9]);
    /// ```
    pub fn map_init<F, INIT, T, R>(self, init: INIT, map_op: F) -> Isolated<MapInit<I, INIT, F>>
    where
        F: Fn(&mut T, I::Item) -> R + Sync + Send,
        INIT: Fn() -> T + Sync + Send,
        R: Send,
    {
        self.adapt(|base, context| MapInit { base, context: context.clone(), init, map_op })
    }

    /// Shows every item to a closure, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let positive = |n: &i32| assert!(*n > 0);
    /// assert_eq!([1, 2].par_iter().copied().isolated().inspect(positive).sum::<i32>(), 3);
    /// ```
    pub fn inspect<OP>(self, inspect_op: OP) -> Isolated<Inspect<I, OP>>
    where
        OP: Fn(&I::Item) + Sync + Send,
    {
        self.adapt(|base, context| Inspect { base, context: context.clone(), inspect_op })
    }

    /// Lets a closure change every item in place, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let next: Vec<_> = (0..3).into_par_iter().isolated().update(|n| *n += 1).collect();
    /// assert_eq!(next, [1, 2, 3]);
    /// ```
    pub fn update<F>(self, update_op: F) -> Isolated<Update<I, F>>
    where
        F: Fn(&mut I::Item) + Sync + Send,
    {
        self.adapt(|base, context| Update { base, context: context.clone(), update_op })
    }

    /// Keeps the items for which a closure returns `true`, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let even: Vec<_> = (0..6).into_par_iter().isolated().filter(|n| n % 2 == 0).collect();
    /// assert_eq!(even, [0, 2, 4]);
    /// ```
    pub fn filter<P>(self, filter_op: P) -> Isolated<impl ParallelIterator<Item = I::Item>>
    where
        P: Fn(&I::Item) -> bool + Sync + Send,
    {
        self.adapt(|base, context| base.filter(look(context.clone(), filter_op)))
    }

    /// Applies a closure to every item and keeps the values that it returns in a `Some`, each call
    /// a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let words = ["1", "two", "3"];
    /// let numbers = words.par_iter().isolated().filter_map(|word| word.parse().ok());
    /// assert_eq!(numbers.collect::<Vec<u32>>(), [1, 3]);
    /// ```
    pub fn filter_map<P, R>(self, filter_op: P) -> Isolated<impl ParallelIterator<Item = R>>
    where
        P: Fn(I::Item) -> Option<R> + Sync + Send,
        R: Send,
    {
        self.adapt(|base, context| base.filter_map(step(context.clone(), filter_op)))
    }

    /// Replaces every item with those of the parallel iterator that a closure returns, each call a
    /// task.
    ///
    /// The returned iterator is bare, unless the closure isolates it.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{rayon::ParallelIteratorExt, task_local};
    /// use rayon::prelude::*;
    ///
    /// task_local! { static SEEN: bool = false; }
    ///
    /// let inner = |n: u32| {
    ///     let items = (0..n).into_par_iter().isolated();
    ///     items.map(|_| SEEN.replace(true))
    /// };
    /// assert!(!(0..50).into_par_iter().isolated().flat_map(inner).any(|seen| seen));
    /// ```
    pub fn flat_map<F, PI>(self, map_op: F) -> Isolated<impl ParallelIterator<Item = PI::Item>>
    where
        F: Fn(I::Item) -> PI + Sync + Send,
        PI: IntoParallelIterator,
    {
        self.adapt(|base, context| base.flat_map(step(context.clone(), map_op)))
    }

    /// Replaces every item with those of the serial iterator that a closure returns, each call a
    /// task.
    ///
    /// The returned iterator is bare: it runs after the call. If it touches slots, collect it in
    /// the closure, or do that work in a `map` after this.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let counted = (0..4).into_par_iter().isolated().flat_map_iter(|n| 0..n);
    /// assert_eq!(counted.collect::<Vec<_>>(), [0, 0, 1, 0, 1, 2]);
    /// ```
    pub fn flat_map_iter<F, SI>(self, map_op: F) -> Isolated<impl ParallelIterator<Item = SI::Item>>
    where
        F: Fn(I::Item) -> SI + Sync + Send,
        SI: IntoIterator<Item: Send>,
    {
        self.adapt(|base, context| base.flat_map_iter(step(context.clone(), map_op)))
    }

    /// Folds runs of items, whose lengths rayon decides, into one value each. Each call of either
    /// closure is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = (1..=100).into_par_iter().isolated().fold(|| 0, |sum, n| sum + n);
    /// assert_eq!(sums.sum::<u32>(), 5050);
    /// ```
    pub fn fold<T, ID, F>(
        self,
        identity: ID,
        fold_op: F,
    ) -> Isolated<impl ParallelIterator<Item = T>>
    where
        F: Fn(T, I::Item) -> T + Sync + Send,
        ID: Fn() -> T + Sync + Send,
        T: Send,
    {
        self.adapt(|base, context| {
            base.fold(supplier(context.clone(), identity), merge(context.clone(), fold_op))
        })
    }

    /// Folds like [`fold`](Self::fold), from a clone of `init`, which is made outside of the tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = (1..=100).into_par_iter().isolated().fold_with(0, |sum, n| sum + n);
    /// assert_eq!(sums.sum::<u32>(), 5050);
    /// ```
    pub fn fold_with<F, T>(self, init: T, fold_op: F) -> Isolated<impl ParallelIterator<Item = T>>
    where
        F: Fn(T, I::Item) -> T + Sync + Send,
        T: Send + Clone,
    {
        self.adapt(|base, context| base.fold_with(init, merge(context.clone(), fold_op)))
    }

    /// Folds like [`fold`](Self::fold), until a step of the run fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = [1_u8, 2].par_iter().isolated().try_fold(|| 0, |sum: u8, n| sum.checked_add(*n));
    /// assert_eq!(sums.collect::<Option<Vec<_>>>().unwrap().into_iter().sum::<u8>(), 3);
    /// ```
    pub fn try_fold<T, R, ID, F>(
        self,
        identity: ID,
        fold_op: F,
    ) -> Isolated<impl ParallelIterator<Item = R>>
    where
        F: Fn(T, I::Item) -> R + Sync + Send,
        ID: Fn() -> T + Sync + Send,
        R: Try<Output = T> + Send,
    {
        self.adapt(|base, context| {
            let identity = supplier(context.clone(), identity);
            R::try_fold(base, identity, merge(context.clone(), fold_op))
        })
    }

    /// Folds like [`try_fold`](Self::try_fold), from a clone of `init`, which is made outside of
    /// the tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sums = [200_u8, 100].par_iter().isolated();
    /// let sums = sums.try_fold_with(99, |sum: u8, n| sum.checked_add(*n).ok_or("too much"));
    /// assert_eq!(sums.collect::<Result<Vec<_>, _>>(), Err("too much"));
    /// ```
    pub fn try_fold_with<F, T, R>(
        self,
        init: T,
        fold_op: F,
    ) -> Isolated<impl ParallelIterator<Item = R>>
    where
        F: Fn(T, I::Item) -> R + Sync + Send,
        R: Try<Output = T> + Send,
        T: Clone + Send,
    {
        self.adapt(|base, context| R::try_fold_with(base, init, merge(context.clone(), fold_op)))
    }

    /// Keeps items, in no particular order, until a closure has returned `false`. Each call is a
    /// task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let few = (0..1000).into_par_iter().isolated().take_any_while(|n| *n < 10);
    /// assert!(few.count() <= 10);
    /// ```
    pub fn take_any_while<P>(self, predicate: P) -> Isolated<impl ParallelIterator<Item = I::Item>>
    where
        P: Fn(&I::Item) -> bool + Sync + Send,
    {
        self.adapt(|base, context| base.take_any_while(look(context.clone(), predicate)))
    }

    /// Leaves out items, in no particular order, until a closure has returned `false`. Each call is
    /// a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let rest = (0..1000).into_par_iter().isolated().skip_any_while(|n| *n < 10);
    /// assert!(rest.count() >= 990);
    /// ```
    pub fn skip_any_while<P>(self, predicate: P) -> Isolated<impl ParallelIterator<Item = I::Item>>
    where
        P: Fn(&I::Item) -> bool + Sync + Send,
    {
        self.adapt(|base, context| base.skip_any_while(look(context.clone(), predicate)))
    }
}

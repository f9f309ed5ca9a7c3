//! Methods that end a chain and call a closure.

use std::cmp::Ordering;

use rayon::iter::{Either, ParallelExtend, ParallelIterator};

use super::isolated::Isolated;
use super::task::{compare, look, merge, step, step_with, supplier};

impl<I: ParallelIterator> Isolated<I> {
    /// Calls a closure with every item, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{rayon::ParallelIteratorExt, task_local};
    /// use rayon::prelude::*;
    ///
    /// task_local! { static SEEN: bool = false; }
    ///
    /// (0..100).into_par_iter().isolated().for_each(|_| assert!(!SEEN.replace(true)));
    /// assert!(!SEEN.is_set());
    /// ```
    pub fn for_each<OP>(self, op: OP)
    where
        OP: Fn(I::Item) + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.for_each(step(context, op));
    }

    /// Calls a closure with every item and a clone of `init`, which is kept from item to item until
    /// the work is split. Each call is a task; the clones are made outside of the tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    /// use std::sync::mpsc::channel;
    ///
    /// let (sender, receiver) = channel();
    /// (0..9).into_par_iter().isolated().for_each_with(sender, |to, n| to.send(n).unwrap());
    /// assert_eq!(receiver.iter().sum::<u32>(), 36);
    /// ```
    pub fn for_each_with<OP, T>(self, init: T, op: OP)
    where
        OP: Fn(&mut T, I::Item) + Sync + Send,
        T: Send + Clone,
    {
        let (base, context) = self.into_parts();
        base.for_each_with(init, step_with(context, op));
    }

    /// Calls a closure with every item and a value that `init` makes, which is kept from item to
    /// item until the work is split. Each call of either is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// (0..9).into_par_iter().isolated().for_each_init(Vec::new, |scratch, n| {
    ///     scratch.push(n);
    ///     assert_eq!(scratch.last(), Some(&n));
    /// });
    /// ```
    pub fn for_each_init<OP, INIT, T>(self, init: INIT, op: OP)
    where
        OP: Fn(&mut T, I::Item) + Sync + Send,
        INIT: Fn() -> T + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.for_each_init(supplier(context.clone(), init), step_with(context, op));
    }

    /// Reduces the items to one. Each call of either closure is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((1..=100).into_par_iter().isolated().reduce(|| 0, |a, b| a + b), 5050);
    /// ```
    pub fn reduce<OP, ID>(self, identity: ID, op: OP) -> I::Item
    where
        OP: Fn(I::Item, I::Item) -> I::Item + Sync + Send,
        ID: Fn() -> I::Item + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.reduce(supplier(context.clone(), identity), merge(context, op))
    }

    /// Reduces the items to one, if there are any. Each call is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((1..=4).into_par_iter().isolated().reduce_with(|a, b| a * b), Some(24));
    /// ```
    pub fn reduce_with<OP>(self, op: OP) -> Option<I::Item>
    where
        OP: Fn(I::Item, I::Item) -> I::Item + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.reduce_with(merge(context, op))
    }

    /// Finds the least item by a comparison, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let least = [3.5, 1.5].into_par_iter().isolated().min_by(|a: &f64, b| a.total_cmp(b));
    /// assert_eq!(least, Some(1.5));
    /// ```
    pub fn min_by<F>(self, f: F) -> Option<I::Item>
    where
        F: Sync + Send + Fn(&I::Item, &I::Item) -> Ordering,
    {
        let (base, context) = self.into_parts();
        base.min_by(compare(context, f))
    }

    /// Finds the item with the least key. Each call is a task; keys are compared outside of the
    /// tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let nearest = [-3, 1, 2].into_par_iter().isolated().min_by_key(|n: &i32| n.abs());
    /// assert_eq!(nearest, Some(1));
    /// ```
    pub fn min_by_key<K, F>(self, f: F) -> Option<I::Item>
    where
        K: Ord + Send,
        F: Sync + Send + Fn(&I::Item) -> K,
    {
        let (base, context) = self.into_parts();
        base.min_by_key(look(context, f))
    }

    /// Finds the greatest item by a comparison, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let greatest = [3.5, 1.5].into_par_iter().isolated().max_by(|a: &f64, b| a.total_cmp(b));
    /// assert_eq!(greatest, Some(3.5));
    /// ```
    pub fn max_by<F>(self, f: F) -> Option<I::Item>
    where
        F: Sync + Send + Fn(&I::Item, &I::Item) -> Ordering,
    {
        let (base, context) = self.into_parts();
        base.max_by(compare(context, f))
    }

    /// Finds the item with the greatest key. Each call is a task; keys are compared outside of the
    /// tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let farthest = [-3, 1, 2].into_par_iter().isolated().max_by_key(|n: &i32| n.abs());
    /// assert_eq!(farthest, Some(-3));
    /// ```
    pub fn max_by_key<K, F>(self, f: F) -> Option<I::Item>
    where
        K: Ord + Send,
        F: Sync + Send + Fn(&I::Item) -> K,
    {
        let (base, context) = self.into_parts();
        base.max_by_key(look(context, f))
    }

    /// Finds an item for which a closure returns `true`, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..99).into_par_iter().isolated().find_any(|n| *n == 7), Some(7));
    /// ```
    pub fn find_any<P>(self, predicate: P) -> Option<I::Item>
    where
        P: Fn(&I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.find_any(look(context, predicate))
    }

    /// Finds the first item for which a closure returns `true`, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..99).into_par_iter().isolated().find_first(|n| n % 10 == 7), Some(7));
    /// ```
    pub fn find_first<P>(self, predicate: P) -> Option<I::Item>
    where
        P: Fn(&I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.find_first(look(context, predicate))
    }

    /// Finds the last item for which a closure returns `true`, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..99).into_par_iter().isolated().find_last(|n| n % 10 == 7), Some(97));
    /// ```
    pub fn find_last<P>(self, predicate: P) -> Option<I::Item>
    where
        P: Fn(&I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.find_last(look(context, predicate))
    }

    /// Finds an item like [`find_any`](Self::find_any). Deprecated, as it is in rayon.
    ///
    /// # Examples
    ///
    /// ```
    /// # #![expect(deprecated)]
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..99).into_par_iter().isolated().find(|n| *n == 7), Some(7));
    /// ```
    #[deprecated(note = "not in order: use `find_any`, `find_first` or `find_last`")]
    pub fn find<P>(self, predicate: P) -> Option<I::Item>
    where
        P: Fn(&I::Item) -> bool + Sync + Send,
    {
        self.find_any(predicate)
    }

    /// Returns what a closure returns in a `Some` for any of the items, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let words = ["one", "2"].par_iter().isolated();
    /// assert_eq!(words.find_map_any(|word| word.parse().ok()), Some(2));
    /// ```
    pub fn find_map_any<P, R>(self, predicate: P) -> Option<R>
    where
        P: Fn(I::Item) -> Option<R> + Sync + Send,
        R: Send,
    {
        let (base, context) = self.into_parts();
        base.find_map_any(step(context, predicate))
    }

    /// Returns what a closure returns in a `Some` for the first possible item, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let words = ["one", "2", "3"].par_iter().isolated();
    /// assert_eq!(words.find_map_first(|word| word.parse().ok()), Some(2));
    /// ```
    pub fn find_map_first<P, R>(self, predicate: P) -> Option<R>
    where
        P: Fn(I::Item) -> Option<R> + Sync + Send,
        R: Send,
    {
        let (base, context) = self.into_parts();
        base.find_map_first(step(context, predicate))
    }

    /// Returns what a closure returns in a `Some` for the last possible item, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let words = ["one", "2", "3"].par_iter().isolated();
    /// assert_eq!(words.find_map_last(|word| word.parse().ok()), Some(3));
    /// ```
    pub fn find_map_last<P, R>(self, predicate: P) -> Option<R>
    where
        P: Fn(I::Item) -> Option<R> + Sync + Send,
        R: Send,
    {
        let (base, context) = self.into_parts();
        base.find_map_last(step(context, predicate))
    }

    /// Returns whether a closure returns `true` for any item, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert!((0..99).into_par_iter().isolated().any(|n| n == 7));
    /// ```
    pub fn any<P>(self, predicate: P) -> bool
    where
        P: Fn(I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.any(step(context, predicate))
    }

    /// Returns whether a closure returns `true` for every item, each call a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// assert!((0..99).into_par_iter().isolated().all(|n| n < 99));
    /// ```
    pub fn all<P>(self, predicate: P) -> bool
    where
        P: Fn(I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.all(step(context, predicate))
    }

    /// Collects the items for which a closure returns `true`, and the others. Each call is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let (even, odd): (Vec<_>, Vec<_>) =
    ///     (0..5).into_par_iter().isolated().partition(|n| n % 2 == 0);
    /// assert_eq!((even, odd), (vec![0, 2, 4], vec![1, 3]));
    /// ```
    pub fn partition<A, B, P>(self, predicate: P) -> (A, B)
    where
        A: Default + Send + ParallelExtend<I::Item>,
        B: Default + Send + ParallelExtend<I::Item>,
        P: Fn(&I::Item) -> bool + Sync + Send,
    {
        let (base, context) = self.into_parts();
        base.partition(look(context, predicate))
    }

    /// Collects what a closure returns on the left, and what it returns on the right. Each call is
    /// a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::{iter::Either, prelude::*};
    ///
    /// let (numbers, words): (Vec<_>, Vec<_>) =
    ///     ["1", "two"].par_iter().isolated().partition_map(|word| match word.parse::<u32>() {
    ///         Ok(number) => Either::Left(number),
    ///         Err(_) => Either::Right(*word),
    ///     });
    /// assert_eq!((numbers, words), (vec![1], vec!["two"]));
    /// ```
    pub fn partition_map<A, B, P, L, R>(self, predicate: P) -> (A, B)
    where
        A: Default + Send + ParallelExtend<L>,
        B: Default + Send + ParallelExtend<R>,
        P: Fn(I::Item) -> Either<L, R> + Sync + Send,
        L: Send,
        R: Send,
    {
        let (base, context) = self.into_parts();
        base.partition_map(step(context, predicate))
    }
}

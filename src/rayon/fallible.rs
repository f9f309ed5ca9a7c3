//! Methods whose closures may fail.

use std::ops::ControlFlow;
use std::task::Poll;

use rayon::iter::ParallelIterator;

use super::isolated::Isolated;
use super::task::{merge, supplier};

/// What a closure returns that may fail: a `Result`, an `Option`, a [`ControlFlow`], or a [`Poll`]
/// of a `Result` or of an `Option` of one.
///
/// Rayon has a trait of that name for these types, which is private there. This one cannot be
/// implemented elsewhere either.
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::{ParallelIteratorExt, Try};
/// use rayon::prelude::*;
///
/// fn check_all<R: Try<Output = ()> + Send>(check: impl Fn(u32) -> R + Sync + Send) -> R {
///     (0..9).into_par_iter().isolated().try_for_each(check)
/// }
/// assert_eq!(check_all(|n| (n < 9).then_some(())), Some(()));
/// assert_eq!(check_all(|n| if n == 7 { Err(n) } else { Ok(()) }), Err(7));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a `Result` nor an `Option`",
    label = "a closure that may fail returns one of these",
    note = "as with rayon's own `try_for_each` and its kin"
)]
pub trait Try: Sized + sealed::Sealed {
    /// The value to go on with.
    type Output;

    #[doc(hidden)]
    fn from_output(output: Self::Output) -> Self;

    // Rayon's own methods: only a type's implementation knows that they take the type.

    #[doc(hidden)]
    fn try_reduce<I, OP, ID>(iter: I, identity: ID, op: OP) -> Self
    where
        I: ParallelIterator<Item = Self>,
        OP: Fn(Self::Output, Self::Output) -> Self + Sync + Send,
        ID: Fn() -> Self::Output + Sync + Send;

    #[doc(hidden)]
    fn try_reduce_with<I, OP>(iter: I, op: OP) -> Option<Self>
    where
        I: ParallelIterator<Item = Self>,
        OP: Fn(Self::Output, Self::Output) -> Self + Sync + Send;

    #[doc(hidden)]
    fn try_fold<I, ID, F>(iter: I, identity: ID, fold_op: F) -> impl ParallelIterator<Item = Self>
    where
        I: ParallelIterator,
        F: Fn(Self::Output, I::Item) -> Self + Sync + Send,
        ID: Fn() -> Self::Output + Sync + Send,
        Self: Send;

    #[doc(hidden)]
    fn try_fold_with<I, F>(
        iter: I,
        init: Self::Output,
        fold_op: F,
    ) -> impl ParallelIterator<Item = Self>
    where
        I: ParallelIterator,
        F: Fn(Self::Output, I::Item) -> Self + Sync + Send,
        Self::Output: Clone + Send,
        Self: Send;
}

mod sealed {
    #[expect(unnameable_types, reason = "so that nobody else implements it")]
    pub trait Sealed {}
}

/// Implements [`Try`] for types that have rayon's trait of that name.
macro_rules! implement_try {
    ($(<$($generic:ident),+> $type:ty { $output:ty, $from_output:expr })+) => {$(
        impl<$($generic),+> sealed::Sealed for $type {}

        impl<$($generic),+> Try for $type {
            type Output = $output;

            fn from_output(output: $output) -> Self {
                $from_output(output)
            }

            fn try_reduce<I, OP, ID>(iter: I, identity: ID, op: OP) -> Self
            where
                I: ParallelIterator<Item = Self>,
                OP: Fn($output, $output) -> Self + Sync + Send,
                ID: Fn() -> $output + Sync + Send,
            {
                iter.try_reduce(identity, op)
            }

            fn try_reduce_with<I, OP>(iter: I, op: OP) -> Option<Self>
            where
                I: ParallelIterator<Item = Self>,
                OP: Fn($output, $output) -> Self + Sync + Send,
            {
                iter.try_reduce_with(op)
            }

            fn try_fold<I, ID, F>(
                iter: I,
                identity: ID,
                fold_op: F,
            ) -> impl ParallelIterator<Item = Self>
            where
                I: ParallelIterator,
                F: Fn($output, I::Item) -> Self + Sync + Send,
                ID: Fn() -> $output + Sync + Send,
                Self: Send,
            {
                iter.try_fold(identity, fold_op)
            }

            fn try_fold_with<I, F>(
                iter: I,
                init: $output,
                fold_op: F,
            ) -> impl ParallelIterator<Item = Self>
            where
                I: ParallelIterator,
                F: Fn($output, I::Item) -> Self + Sync + Send,
                $output: Clone + Send,
                Self: Send,
            {
                iter.try_fold_with(init, fold_op)
            }
        }
    )+};
}

implement_try! {
    <T> Option<T> { T, Some }
    <T, E> Result<T, E> { T, Ok }
    <B, C> ControlFlow<B, C> { C, ControlFlow::Continue }
    <T, E> Poll<Result<T, E>> { Poll<T>, |output: Poll<T>| output.map(Ok) }
    <T, E> Poll<Option<Result<T, E>>> {
        Poll<Option<T>>, |output: Poll<Option<T>>| output.map(|some| some.map(Ok))
    }
}

impl<I: ParallelIterator> Isolated<I> {
    /// Calls a closure with every item, each call a task, until one fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let check = |n| if n < 5 { Ok(()) } else { Err("too much") };
    /// assert_eq!((0..5).into_par_iter().isolated().try_for_each(check), Ok(()));
    /// assert_eq!((0..6).into_par_iter().isolated().try_for_each(check), Err("too much"));
    /// ```
    pub fn try_for_each<OP, R>(self, op: OP) -> R
    where
        OP: Fn(I::Item) -> R + Sync + Send,
        R: Try<Output = ()> + Send,
    {
        R::try_reduce(self.map(op), || (), |(), ()| R::from_output(()))
    }

    /// Calls a closure like [`for_each_with`](Self::for_each_with), until a call fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    /// use std::sync::mpsc::channel;
    ///
    /// let (sender, receiver) = channel();
    /// (0..9).into_par_iter().isolated().try_for_each_with(sender, |to, n| to.send(n))?;
    /// assert_eq!(receiver.iter().sum::<u32>(), 36);
    /// # Ok::<(), std::sync::mpsc::SendError<u32>>(())
    /// ```
    pub fn try_for_each_with<OP, T, R>(self, init: T, op: OP) -> R
    where
        OP: Fn(&mut T, I::Item) -> R + Sync + Send,
        T: Send + Clone,
        R: Try<Output = ()> + Send,
    {
        R::try_reduce(self.map_with(init, op), || (), |(), ()| R::from_output(()))
    }

    /// Calls a closure like [`for_each_init`](Self::for_each_init), until a call fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let words = ["1", "2", "three"];
    /// let failed = words.par_iter().isolated().try_for_each_init(String::new, |digits, word| {
    ///     digits.push_str(word);
    ///     word.parse::<u32>().map(drop)
    /// });
    /// assert!(failed.is_err());
    /// ```
    pub fn try_for_each_init<OP, INIT, T, R>(self, init: INIT, op: OP) -> R
    where
        OP: Fn(&mut T, I::Item) -> R + Sync + Send,
        INIT: Fn() -> T + Sync + Send,
        R: Try<Output = ()> + Send,
    {
        R::try_reduce(self.map_init(init, op), || (), |(), ()| R::from_output(()))
    }

    /// Reduces the values in the items, until an item or a call has failed. Each call of either
    /// closure is a task.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sum = |numbers: [u8; 2]| {
    ///     let numbers = numbers.into_par_iter().isolated().map(Some);
    ///     numbers.try_reduce(|| 0, |a: u8, b| a.checked_add(b))
    /// };
    /// assert_eq!((sum([100, 50]), sum([200, 100])), (Some(150), None));
    /// ```
    pub fn try_reduce<T, OP, ID>(self, identity: ID, op: OP) -> I::Item
    where
        OP: Fn(T, T) -> I::Item + Sync + Send,
        ID: Fn() -> T + Sync + Send,
        I::Item: Try<Output = T>,
    {
        let (base, context) = self.into_parts();
        I::Item::try_reduce(base, supplier(context.clone(), identity), merge(context, op))
    }

    /// Reduces like [`try_reduce`](Self::try_reduce), if there is any item.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::ParallelIteratorExt;
    /// use rayon::prelude::*;
    ///
    /// let sum = |numbers: &[u8]| {
    ///     let numbers = numbers.par_iter().isolated().map(|n| Some(*n));
    ///     numbers.try_reduce_with(|a: u8, b| a.checked_add(b))
    /// };
    /// assert_eq!((sum(&[]), sum(&[200]), sum(&[200, 100])), (None, Some(Some(200)), Some(None)));
    /// ```
    pub fn try_reduce_with<T, OP>(self, op: OP) -> Option<I::Item>
    where
        OP: Fn(T, T) -> I::Item + Sync + Send,
        I::Item: Try<Output = T>,
    {
        let (base, context) = self.into_parts();
        I::Item::try_reduce_with(base, merge(context, op))
    }
}

//! The isolated parallel iterator: the one that it wraps, and a context.

use rayon::iter::plumbing::{Consumer, ProducerCallback, UnindexedConsumer};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};

use super::task::ChainContext;
use crate::context::Context;
use crate::frame::Framed;

/// Makes tasks of the closures of a parallel iterator.
///
/// Implemented for every parallel iterator.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::ParallelIteratorExt, task_local};
/// use rayon::prelude::*;
///
/// task_local! { static SEEN: bool = false; }
///
/// let dirty = (0..100).into_par_iter().isolated().filter(|_| SEEN.replace(true)).count();
/// assert_eq!(dirty, 0);
/// ```
pub trait ParallelIteratorExt: ParallelIterator {
    /// Makes a task of every call of every closure that follows in the chain.
    ///
    /// Each call starts with fresh slots, except for what it inherits from the current task *now*,
    /// where the chain is isolated. What it touches is dropped, on the thread that ran it, before
    /// the call returns: neither the next call nor the next closure that the same item goes through
    /// sees any of it. Closures that belong to no item, such as the identity of a `fold`, a
    /// reduction or the `init` of `map_init`, are called as tasks too.
    ///
    /// What is *not* covered: closures upstream of the isolation, closures that generic code adds
    /// to a chain that it knows only as a [`ParallelIterator`], closures of a tuple, an `Either` or
    /// a bare iterator's `zip` that contains the isolated one, iterators that the closure of a
    /// `flat_map` or a `flat_map_iter` returns, and functions that are not a parallel iterator's
    /// methods, such as `par_sort_by_key`. They are bare, as without isolation; call a sort's
    /// functions in [`Context::run`].
    ///
    /// # Panics
    ///
    /// Panics as [`Context::capture`] does. The closures' panics are left to rayon; a call whose
    /// clean-up fails panics with the payload of the drop that panicked, or with the text of the
    /// [`CleanupError`](crate::CleanupError).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{rayon::ParallelIteratorExt, task_local};
    /// use rayon::prelude::*;
    ///
    /// task_local! { static CALLS: u32 = 0; }
    ///
    /// let dirty = (0..1000)
    ///     .into_par_iter()
    ///     .isolated()
    ///     .filter(|_| CALLS.replace(1) != 0)
    ///     .count();
    /// assert_eq!(dirty, 0);
    /// ```
    #[track_caller]
    fn isolated(self) -> Isolated<Self> {
        // A capture may panic: then the items are dropped while that unwinds.
        let base = Framed::new(self);
        let context = Context::capture();
        Isolated { base: base.into_inner(), context: ChainContext(context) }
    }

    /// Isolates like [`isolated`](Self::isolated), in a context that you choose, with its carriers
    /// attached around every call.
    ///
    /// # Panics
    ///
    /// The closures panic as with [`isolated`](Self::isolated), and with a
    /// [`RunError`](crate::RunError) if a carrier cannot be attached.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, rayon::ParallelIteratorExt, task_local};
    /// use rayon::prelude::*;
    ///
    /// task_local! { #[inherit] static USER: u32 = 0; }
    ///
    /// let context = USER.scope(7, Context::capture);
    /// let users = [(); 2].par_iter().isolated_in(&context).map(|()| USER.get());
    /// assert_eq!(users.collect::<Vec<_>>(), [7, 7]);
    /// ```
    fn isolated_in(self, context: &Context) -> Isolated<Self> {
        Isolated { base: self, context: ChainContext(context.clone().submitted()) }
    }
}

impl<I: ParallelIterator> ParallelIteratorExt for I {}

/// A parallel iterator whose closures run as tasks: see [`ParallelIteratorExt::isolated`].
///
/// It has every method of rayon's two traits that takes a closure or returns another iterator. They
/// behave like rayon's of the same names, except that every call of a closure is a task and that
/// the iterator they return is isolated as well. The others, such as `sum` and `collect`, are
/// rayon's own.
///
/// It is a [`ParallelIterator`], and an [`IndexedParallelIterator`] if the one that it wraps is.
/// Code that is generic over those does not see the methods of this type, so the closures that it
/// adds are bare.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::ParallelIteratorExt, task_local};
/// use rayon::prelude::*;
///
/// task_local! { static SEEN: bool = false; }
///
/// let seen: Vec<_> = (0..100)
///     .into_par_iter()
///     .isolated()
///     .map(|_| SEEN.replace(true))
///     .rev()
///     .map(|seen| seen | SEEN.replace(true))
///     .collect();
/// assert_eq!(seen, [false; 100]);
/// ```
#[derive(Clone, Debug)]
#[must_use = "iterator adaptors are lazy and do nothing unless consumed"]
pub struct Isolated<I> {
    base: I,
    context: ChainContext,
}

impl<I: ParallelIterator> Isolated<I> {
    /// Puts an adaptor on the iterator, below the isolation.
    pub(super) fn adapt<J>(self, adaptor: impl FnOnce(I, &ChainContext) -> J) -> Isolated<J> {
        let Self { base, context } = self;
        Isolated { base: adaptor(base, &context), context }
    }

    /// Takes the iterator out: for methods that end the chain, and for adaptors that panic, whose
    /// caller is named by rayon's `#[track_caller]`.
    pub(super) fn into_parts(self) -> (I, ChainContext) {
        (self.base, self.context)
    }

    pub(super) fn from_parts(base: I, context: ChainContext) -> Self {
        Self { base, context }
    }
}

impl<I: ParallelIterator> ParallelIterator for Isolated<I> {
    type Item = I::Item;

    fn drive_unindexed<C>(self, consumer: C) -> C::Result
    where
        C: UnindexedConsumer<Self::Item>,
    {
        self.base.drive_unindexed(consumer)
    }

    fn opt_len(&self) -> Option<usize> {
        self.base.opt_len()
    }
}

impl<I: IndexedParallelIterator> IndexedParallelIterator for Isolated<I> {
    fn len(&self) -> usize {
        self.base.len()
    }

    fn drive<C: Consumer<Self::Item>>(self, consumer: C) -> C::Result {
        self.base.drive(consumer)
    }

    fn with_producer<CB: ProducerCallback<Self::Item>>(self, callback: CB) -> CB::Output {
        self.base.with_producer(callback)
    }
}

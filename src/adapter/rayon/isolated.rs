//! The isolated parallel iterator, and where its drives begin.

use rayon::iter::plumbing::{Consumer, ProducerCallback, UnindexedConsumer};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};

use super::consumer::IsolatedConsumer;
use super::error::CarriersRefused;
use super::producer::IsolatedCallback;
use super::task::drive;
use crate::context::Context;

/// Makes a task of every item.
///
/// Implemented for every parallel iterator.
pub trait ParallelIteratorExt: ParallelIterator {
    /// Gives every item slots of its own: fresh, but for what it inherits from the current task *now*,
    /// where it is isolated.
    ///
    /// The closures of the chain, upstream and downstream, run in the task of the item that they
    /// work on. What an item touches is dropped on the thread that ran it, before the next item on
    /// that thread begins and before the chain returns. Pieces that belong to no item, such as the
    /// identity of a `fold`, a reduction, or the clone that `map_with` makes for a split, are
    /// tasks too. Indexed iterators stay indexed.
    ///
    /// Isolate before adapters that select (`step_by`, `skip`), after those that re-shape (`chunks`),
    /// and on both sides of a parallel `flat_map`. Where [`Isolated`] has an adapter of its own it does
    /// this for you. What stays uncovered is listed in `docs/rayon.md`. In debug builds a slot that is
    /// touched by an uncovered closure on the thread that drives the chain panics.
    ///
    /// # Panics
    ///
    /// As [`Context::capture`] does. Driving it panics as rayon does, with an item's panic; an item
    /// whose clean-up fails panics with the payload of the drop that panicked, or with the text of
    /// the [`CleanupError`](crate::CleanupError).
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
        Isolated { base: self, context: Context::capture() }
    }

    /// Isolates like [`isolated`](Self::isolated), in a context that you choose.
    ///
    /// # Panics
    ///
    /// If the context has carriers, with the text of a [`CarriersRefused`]. Driving it panics as
    /// with [`isolated`](Self::isolated).
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
    /// let users: Vec<u32> = [(); 2].par_iter().isolated_in(&context).map(|()| USER.get()).collect();
    /// assert_eq!(users, [7, 7]);
    /// ```
    #[track_caller]
    fn isolated_in(self, context: &Context) -> Isolated<Self> {
        match self.try_isolated_in(context) {
            Ok(isolated) => isolated,
            Err(refused) => panic!("{refused}"),
        }
    }

    /// Isolates like [`isolated_in`](Self::isolated_in), and says so if it cannot.
    ///
    /// # Errors
    ///
    /// If the context has carriers: see [`CarriersRefused`].
    fn try_isolated_in(self, context: &Context) -> Result<Isolated<Self>, CarriersRefused> {
        if context.has_carriers() {
            return Err(CarriersRefused::new(context.carrier_names()));
        }
        Ok(Isolated { base: self, context: context.clone() })
    }
}

impl<I: ParallelIterator> ParallelIteratorExt for I {}

/// A parallel iterator whose items are tasks: see [`ParallelIteratorExt::isolated`].
///
/// Its own methods are adapters under which a part of the chain would lie beside the items. They
/// apply the adapter below the isolation, or isolate a second time above it, and behave like
/// rayon's methods of the same name in all else.
#[derive(Clone, Debug)]
#[must_use = "iterator adaptors are lazy and do nothing unless consumed"]
pub struct Isolated<I> {
    pub(super) base: I,
    pub(super) context: Context,
}

impl<I: ParallelIterator> ParallelIterator for Isolated<I> {
    type Item = I::Item;

    fn drive_unindexed<C>(self, consumer: C) -> C::Result
    where
        C: UnindexedConsumer<Self::Item>,
    {
        let Self { base, context } = self;
        drive(&context, || base.drive_unindexed(IsolatedConsumer::new(consumer, &context)))
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
        let Self { base, context } = self;
        drive(&context, || base.drive(IsolatedConsumer::new(consumer, &context)))
    }

    fn with_producer<CB: ProducerCallback<Self::Item>>(self, callback: CB) -> CB::Output {
        let Self { base, context } = self;
        drive(&context, || base.with_producer(IsolatedCallback::new(callback, &context)))
    }
}

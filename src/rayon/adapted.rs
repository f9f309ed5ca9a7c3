//! The return types of the adaptors that call closures and keep an indexed iterator indexed.
//!
//! Seldom named: a function can return `Isolated<Map<I, F>>`, or `impl ParallelIterator`.

// Why not rayon's types: an opaque closure has all type parameters of the method that returns it,
// including the iterator, which rayon's type has as well. So each such method would double the size
// of the chain's type, and the time that it takes to compile.

use std::fmt;

use rayon::iter::plumbing::{Consumer, ProducerCallback, UnindexedConsumer};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};

use super::task::ChainContext;
use super::task::{change, look, step, step_with, supplier};

/// Declares iterators that keep their closures as they are, and become rayon's, with tasks for
/// closures, when they are driven: their parameters, fields, items and bounds, and what they
/// become.
macro_rules! adapted {
    ($(
        $(#[$attr:meta])*
        $name:ident<$($param:ident),+> { $($field:ident: $type:ty),+ }
        for<$($free:ident),*> $item:ty where { $($bounds:tt)+ }
        |$base:ident, $context:ident| $rayons:expr;
    )+) => {$(
        $(#[$attr])*
        #[derive(Clone)]
        #[must_use = "iterator adaptors are lazy and do nothing unless consumed"]
        pub struct $name<I, $($param),+> {
            pub(super) base: I,
            pub(super) context: ChainContext,
            $(pub(super) $field: $type),+
        }

        impl<I, $($param,)+ $($free),*> ParallelIterator for $name<I, $($param),+>
        where
            I: ParallelIterator,
            $($bounds)+
        {
            type Item = $item;

            fn drive_unindexed<C>(self, consumer: C) -> C::Result
            where
                C: UnindexedConsumer<Self::Item>,
            {
                let Self { base: $base, context: $context, $($field),+ } = self;
                $rayons.drive_unindexed(consumer)
            }

            fn opt_len(&self) -> Option<usize> {
                self.base.opt_len()
            }
        }

        impl<I, $($param,)+ $($free),*> IndexedParallelIterator for $name<I, $($param),+>
        where
            I: IndexedParallelIterator,
            $($bounds)+
        {
            fn len(&self) -> usize {
                self.base.len()
            }

            fn drive<C: Consumer<Self::Item>>(self, consumer: C) -> C::Result {
                let Self { base: $base, context: $context, $($field),+ } = self;
                $rayons.drive(consumer)
            }

            fn with_producer<CB: ProducerCallback<Self::Item>>(self, callback: CB) -> CB::Output {
                let Self { base: $base, context: $context, $($field),+ } = self;
                $rayons.with_producer(callback)
            }
        }

        impl<I: fmt::Debug, $($param),+> fmt::Debug for $name<I, $($param),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("base", &self.base).finish_non_exhaustive()
            }
        }
    )+};
}

adapted! {
    /// What [`Isolated::map`](super::Isolated::map) returns, in an `Isolated`.
    Map<F> { map_op: F }
    for<R> R where { F: Fn(I::Item) -> R + Sync + Send, R: Send, }
    |base, context| base.map(step(context, map_op));

    /// What [`Isolated::map_with`](super::Isolated::map_with) returns, in an `Isolated`.
    MapWith<T, F> { init: T, map_op: F }
    for<R> R where { F: Fn(&mut T, I::Item) -> R + Sync + Send, T: Send + Clone, R: Send, }
    |base, context| base.map_with(init, step_with(context, map_op));

    /// What [`Isolated::map_init`](super::Isolated::map_init) returns, in an `Isolated`.
    MapInit<INIT, F> { init: INIT, map_op: F }
    for<T, R> R where {
        F: Fn(&mut T, I::Item) -> R + Sync + Send,
        INIT: Fn() -> T + Sync + Send,
        R: Send,
    }
    |base, context| base.map_init(supplier(context.clone(), init), step_with(context, map_op));

    /// What [`Isolated::inspect`](super::Isolated::inspect) returns, in an `Isolated`.
    Inspect<F> { inspect_op: F }
    for<> I::Item where { F: Fn(&I::Item) + Sync + Send, }
    |base, context| base.inspect(look(context, inspect_op));

    /// What [`Isolated::update`](super::Isolated::update) returns, in an `Isolated`.
    Update<F> { update_op: F }
    for<> I::Item where { F: Fn(&mut I::Item) + Sync + Send, }
    |base, context| base.update(change(context, update_op));
}

//! Items that are pushed: a consumer around the one downstream.

use rayon::iter::plumbing::{Consumer, Reducer, UnindexedConsumer};

use super::folder::IsolatedFolder;
use super::task::piece;
use crate::context::Context;

/// Hands items on to a consumer. Whatever it asks of that one is a task.
pub(super) struct IsolatedConsumer<'c, C> {
    base: C,
    context: &'c Context,
}

impl<'c, C> IsolatedConsumer<'c, C> {
    pub(super) fn new(base: C, context: &'c Context) -> Self {
        Self { base, context }
    }
}

impl<'c, T, C: Consumer<T>> Consumer<T> for IsolatedConsumer<'c, C> {
    type Folder = IsolatedFolder<'c, C::Folder>;
    type Reducer = IsolatedReducer<'c, C::Reducer>;
    type Result = C::Result;

    fn split_at(self, index: usize) -> (Self, Self, Self::Reducer) {
        let Self { base, context } = self;
        let (left, right, reducer) = piece(context, || base.split_at(index));
        (
            Self::new(left, context),
            Self::new(right, context),
            IsolatedReducer { base: reducer, context },
        )
    }

    fn into_folder(self) -> Self::Folder {
        let Self { base, context } = self;
        IsolatedFolder::open(context, || base.into_folder())
    }

    fn full(&self) -> bool {
        piece(self.context, || self.base.full())
    }
}

impl<T, C: UnindexedConsumer<T>> UnindexedConsumer<T> for IsolatedConsumer<'_, C> {
    fn split_off_left(&self) -> Self {
        Self::new(piece(self.context, || self.base.split_off_left()), self.context)
    }

    fn to_reducer(&self) -> Self::Reducer {
        let base = piece(self.context, || self.base.to_reducer());
        IsolatedReducer { base, context: self.context }
    }
}

/// Reduces two results in a task of its own.
pub(super) struct IsolatedReducer<'c, R> {
    base: R,
    context: &'c Context,
}

impl<T, R: Reducer<T>> Reducer<T> for IsolatedReducer<'_, R> {
    fn reduce(self, left: T, right: T) -> T {
        let Self { base, context } = self;
        piece(context, || base.reduce(left, right))
    }
}

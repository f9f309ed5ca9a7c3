//! Items that are pulled: a producer around the one upstream.

use rayon::iter::plumbing::{Folder, Producer, ProducerCallback};

use super::folder::IsolatedFolder;
use super::items::Items;
use super::task::piece;
use crate::context::Context;
use crate::frame::Loose;

/// Hands on a producer that makes a task of each item.
pub(super) struct IsolatedCallback<'c, CB> {
    callback: CB,
    context: &'c Context,
}

impl<'c, CB> IsolatedCallback<'c, CB> {
    pub(super) fn new(callback: CB, context: &'c Context) -> Self {
        Self { callback, context }
    }
}

impl<T, CB: ProducerCallback<T>> ProducerCallback<T> for IsolatedCallback<'_, CB> {
    type Output = CB::Output;

    fn callback<P: Producer<Item = T>>(self, base: P) -> CB::Output {
        self.callback.callback(IsolatedProducer { base, context: self.context })
    }
}

struct IsolatedProducer<'c, P> {
    base: P,
    context: &'c Context,
}

impl<'c, P: Producer> Producer for IsolatedProducer<'c, P> {
    type Item = P::Item;
    type IntoIter = Items<'c, P::IntoIter, Loose>;

    fn into_iter(self) -> Self::IntoIter {
        let Self { base, context } = self;
        Items::new(piece(context, || base.into_iter()), Loose::new(), context)
    }

    fn min_len(&self) -> usize {
        self.base.min_len()
    }

    fn max_len(&self) -> usize {
        self.base.max_len()
    }

    fn split_at(self, index: usize) -> (Self, Self) {
        let Self { base, context } = self;
        let (left, right) = piece(context, || base.split_at(index));
        (Self { base: left, context }, Self { base: right, context })
    }

    fn fold_with<F: Folder<Self::Item>>(self, folder: F) -> F {
        let Self { base, context } = self;
        base.fold_with(IsolatedFolder::open(context, || folder)).close()
    }
}

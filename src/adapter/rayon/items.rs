//! Items that are pulled one after the other.

use std::borrow::Borrow;

use super::task::raise;
use crate::context::Context;
use crate::frame::{Frame, Loose};

/// Pulls items from an iterator, and ends a task before each.
///
/// `L` is a frame of its own, opened by the first item, or the one of the folder that it serves.
pub(super) struct Items<'c, I, L: Borrow<Loose>> {
    /// Dropped before the frame, in which it worked.
    iter: I,
    frame: L,
    context: &'c Context,
}

impl<'c, I, L: Borrow<Loose>> Items<'c, I, L> {
    pub(super) fn new(iter: I, frame: L, context: &'c Context) -> Self {
        Self { iter, frame, context }
    }

    #[inline]
    fn next_task(&self) {
        raise(self.frame.borrow().next_task(self.context));
    }

    /// Ends the last item's task, so that a fault shows here and not in a drop.
    #[inline]
    fn passed<T>(&self, item: Option<T>) -> Option<T> {
        if item.is_none() {
            raise(self.frame.borrow().end_task());
        }
        item
    }
}

impl<I: Iterator, L: Borrow<Loose>> Iterator for Items<'_, I, L> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        self.next_task();
        let item = self.iter.next();
        self.passed(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.iter.size_hint()
    }

    /// A call, so its frame can be a pinned one, whose clean tasks cost a load and a branch.
    #[inline]
    fn fold<B, F>(self, init: B, mut f: F) -> B
    where
        F: FnMut(B, I::Item) -> B,
    {
        let Self { iter, frame, context } = self;
        raise(frame.borrow().end_task());
        let mut task = Frame::enter(context);
        let result = iter.fold(init, |result, item| {
            let result = f(result, item);
            raise(task.next_task());
            result
        });
        raise(task.end());
        result
    }
}

impl<I: DoubleEndedIterator, L: Borrow<Loose>> DoubleEndedIterator for Items<'_, I, L> {
    #[inline]
    fn next_back(&mut self) -> Option<I::Item> {
        self.next_task();
        let item = self.iter.next_back();
        self.passed(item)
    }

    #[inline]
    fn rfold<B, F>(self, init: B, mut f: F) -> B
    where
        F: FnMut(B, I::Item) -> B,
    {
        let Self { iter, frame, context } = self;
        raise(frame.borrow().end_task());
        let mut task = Frame::enter(context);
        let result = iter.rfold(init, |result, item| {
            let result = f(result, item);
            raise(task.next_task());
            result
        });
        raise(task.end());
        result
    }
}

impl<I: ExactSizeIterator, L: Borrow<Loose>> ExactSizeIterator for Items<'_, I, L> {
    #[inline]
    fn len(&self) -> usize {
        self.iter.len()
    }
}

//! Items that are pushed one after the other.

use rayon::iter::plumbing::Folder;

use super::items::Items;
use super::task::raise;
use crate::context::Context;
use crate::frame::Loose;

/// Hands items on to a folder, and ends a task after each.
///
/// The frame is open from the start to the end, and not only during `consume`: the closures
/// upstream of the isolation run in the folder that calls this one, before it does.
pub(super) struct IsolatedFolder<'c, F> {
    /// Dropped before the frame, in which it was filled.
    base: F,
    frame: Loose,
    context: &'c Context,
}

impl<'c, F> IsolatedFolder<'c, F> {
    /// Makes the folder in a task of its own, and begins the first item's.
    pub(super) fn open(context: &'c Context, base: impl FnOnce() -> F) -> Self {
        let frame = Loose::new();
        raise(frame.next_task(context));
        let base = base();
        raise(frame.next_task(context));
        Self { base, frame, context }
    }

    /// Ends the last task, and gives back the folder, whose results go on.
    pub(super) fn close(self) -> F {
        let Self { base, frame, .. } = self;
        raise(frame.close());
        base
    }
}

impl<T, F: Folder<T>> Folder<T> for IsolatedFolder<'_, F> {
    type Result = F::Result;

    #[inline]
    fn consume(self, item: T) -> Self {
        // The frame is taken out too: if the base unwinds it closes behind it.
        let Self { base, frame, context } = self;
        let base = base.consume(item);
        raise(frame.next_task(context));
        Self { base, frame, context }
    }

    fn consume_iter<I>(self, iter: I) -> Self
    where
        I: IntoIterator<Item = T>,
    {
        let Self { base, frame, context } = self;
        let base = base.consume_iter(Items::new(iter.into_iter(), &frame, context));
        raise(frame.next_task(context));
        Self { base, frame, context }
    }

    fn complete(self) -> Self::Result {
        let Self { base, frame, .. } = self;
        let result = base.complete();
        raise(frame.close());
        result
    }

    /// Called after every item, also after one that was rejected upstream and never consumed.
    #[inline]
    fn full(&self) -> bool {
        raise(self.frame.next_task(self.context));
        self.base.full()
    }
}

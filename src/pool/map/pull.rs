//! How a helper calls the user's iterator.

use crate::context::Context;
use crate::frame::{self, Failure};
use crate::panic::catch;
use crate::pool::core::Core;
use crate::pool::error::Labelled;
use crate::pool::isolation::Isolation;

/// See the module's documentation.
pub(crate) struct Pull<'p> {
    pub(super) core: &'p Core,
    pub(super) context: &'p Context,
    pub(super) label: &'p dyn Labelled,
    /// Whether each call has a frame of its own. Else it is one of the helper's tasks.
    pub(super) apart: bool,
    pub(super) is_over: &'p dyn Fn() -> bool,
}

impl Pull<'_> {
    /// Calls `next`.
    #[inline(always)]
    pub(super) fn next<I: Iterator>(&self, items: &mut I) -> Result<Option<I::Item>, Failure> {
        if self.apart { self.next_apart(items) } else { Ok(items.next()) }
    }

    /// Calls it in a task of its own, which inherits from the context but carries nothing: a
    /// carrier that cannot attach costs the items for which it cannot, and not the map. Never
    /// unwinds.
    #[cold]
    #[inline(never)]
    fn next_apart<I: Iterator>(&self, items: &mut I) -> Result<Option<I::Item>, Failure> {
        let mut item = None;
        let called = self.call_apart(&mut || item = items.next());
        if called.is_err() {
            self.discard(item.take());
        }
        called.map(|()| item)
    }

    fn call_apart(&self, next: &mut dyn FnMut()) -> Result<(), Failure> {
        self.core.watched(self.label, None, || match self.core.isolation {
            Isolation::Leaky => catch(next).map_err(Failure::Panic),
            Isolation::Reset => catch(|| frame::run(self.context.inherits(), next))
                .map_err(Failure::Panic)?
                .map_err(Failure::Cleanup),
        })
    }

    /// Returns whether nothing more is to be pulled.
    pub(super) fn is_over(&self) -> bool {
        (self.is_over)()
    }

    /// Drops an item whose pull could not be cleaned up.
    pub(super) fn discard<T>(&self, item: T) {
        self.core.drop_contained(item, self.label);
    }
}

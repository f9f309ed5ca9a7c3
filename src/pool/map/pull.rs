//! How a helper calls the user's iterator.

use crate::context::{self, Call, Context, Once};
use crate::frame::Failure;
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
        let mut pull = Once::Closure(|| items.next());
        self.call_apart(&mut pull)?;
        Ok(pull.into_result())
    }

    fn call_apart(&self, pull: &mut dyn Call) -> Result<(), Failure> {
        let called = self.core.watched(self.label, None, || match self.core.isolation {
            Isolation::Leaky => catch(|| pull.call()).map_err(Failure::Panic),
            Isolation::Reset => context::call_bare(self.context, pull),
        });
        if called.is_err() && !pull.is_over() {
            // It has pulled an item, and fails for what it has leaked.
            self.core.call_contained(&mut || pull.give_up(), self.label);
        }
        called
    }

    /// Returns whether nothing more is to be pulled.
    pub(super) fn is_over(&self) -> bool {
        (self.is_over)()
    }
}

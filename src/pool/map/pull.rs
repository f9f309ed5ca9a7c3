//! How a helper calls the user's iterator.

use crate::context::{Call, Context, Once};
use crate::frame::Failure;
use crate::pool::core::Core;
use crate::pool::error::Labelled;

/// See the module's documentation.
pub(crate) struct Pull<'p> {
    pub(super) core: &'p Core,
    pub(super) label: &'p dyn Labelled,
    /// The context of each call, if it is made apart from the helper's tasks. `None`: it is one of
    /// them.
    pub(super) apart: Option<&'p Context>,
    pub(super) is_over: &'p dyn Fn() -> bool,
    /// How many items to pull between two looks whether the map is over.
    pub(super) block: usize,
}

impl Pull<'_> {
    /// Calls `next`.
    #[inline(always)]
    pub(super) fn next<I: Iterator>(&self, items: &mut I) -> Result<Option<I::Item>, Failure> {
        match self.apart {
            None => Ok(items.next()),
            Some(context) => self.next_apart(context, items),
        }
    }

    /// Calls it in a task of its own. Never unwinds.
    #[cold]
    #[inline(never)]
    fn next_apart<I: Iterator>(
        &self,
        context: &Context,
        items: &mut I,
    ) -> Result<Option<I::Item>, Failure> {
        let mut pull = Once::Closure(|| items.next());
        self.call_apart(context, &mut pull)?;
        Ok(pull.into_result())
    }

    fn call_apart(&self, context: &Context, pull: &mut dyn Call) -> Result<(), Failure> {
        let isolation = self.core.isolation;
        let called = self.core.watched(self.label, None, || isolation.call(context, pull));
        if called.is_err() && !pull.is_over() {
            // It has pulled an item, and fails because of what it has leaked.
            self.core.call_contained(&mut || pull.give_up(), self.label);
        }
        called
    }

    /// Returns whether nothing more is to be pulled.
    pub(super) fn is_over(&self) -> bool {
        (self.is_over)()
    }
}

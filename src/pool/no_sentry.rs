//! The pool's side of the sentinel, where the crate is built without it.

use super::core::Core;
use super::error::Label;
use crate::frame::Failure;

/// See the module's documentation.
pub(crate) struct Sentry;

impl Sentry {
    /// A worker begins with its tasks: nobody watches it.
    pub(crate) fn take_post(&self, _core: &Core, _index: usize) {}

    /// Runs `f`.
    #[inline(always)]
    pub(crate) fn watch<R>(
        &self,
        _core: &Core,
        _label: &Label,
        f: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        f()
    }

    #[inline(always)]
    pub(crate) fn watches_each_task(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn may_renew(&self) -> bool {
        false
    }
}

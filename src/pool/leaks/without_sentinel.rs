//! What stands for the watch in a crate that is built without the sentinel: it does nothing.

use crate::frame::Failure;
use crate::pool::core::Core;
use crate::pool::error::Labelled;

/// Watches nothing.
pub(crate) struct LeakWatch;

impl LeakWatch {
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn may_renew(&self) -> bool {
        false
    }
}

impl Core {
    /// Does nothing.
    pub(crate) fn begin_leak_watch(&self, _index: usize) {}

    /// Runs `f`.
    #[inline(always)]
    pub(crate) fn watched<R>(
        &self,
        _label: &dyn Labelled,
        _item: Option<usize>,
        f: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        f()
    }

    /// Runs `f`.
    #[inline(always)]
    pub(crate) fn unwatched(&self, f: impl FnOnce()) {
        f();
    }
}

/// Does nothing.
#[inline(always)]
pub(crate) fn begin_item(_number: usize) {}

//! Calling functions of others.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls a function of somebody else's; `None` if it panics.
pub(super) fn contain<R>(f: impl FnOnce() -> R) -> Option<R> {
    // The payload is leaked: its drop may panic as well.
    catch_unwind(AssertUnwindSafe(f)).map_err(ManuallyDrop::new).ok()
}

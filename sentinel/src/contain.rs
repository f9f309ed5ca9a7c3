//! Calling functions of others.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls a function of somebody else's; `None` if it panics.
pub(super) fn contain<R>(f: impl FnOnce() -> R) -> Option<R> {
    let drop_payload = |payload| {
        // Its drop may panic as well. What that panics with is leaked, or this might never end.
        catch_unwind(AssertUnwindSafe(|| drop(payload))).unwrap_or_else(mem::forget);
    };
    catch_unwind(AssertUnwindSafe(f)).map_err(drop_payload).ok()
}

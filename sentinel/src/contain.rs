//! Calling other people's functions.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls somebody else's function. Returns `None` if it panics.
pub(super) fn contain<R>(f: impl FnOnce() -> R) -> Option<R> {
    let drop_payload = |payload| {
        // Its drop may panic as well. The payload of that panic is leaked, or this might never end.
        catch_unwind(AssertUnwindSafe(|| drop(payload))).unwrap_or_else(mem::forget);
    };
    catch_unwind(AssertUnwindSafe(f)).map_err(drop_payload).ok()
}

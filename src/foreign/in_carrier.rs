//! Whether a carrier's code runs on this thread.

use std::cell::Cell;

thread_local! {
    static IN_CARRIER: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether a carrier's code runs on this thread: then installed carriers stay out of what
/// it captures, since they would carry themselves for ever.
pub(super) fn is_in_carrier() -> bool {
    IN_CARRIER.get()
}

/// Marks that a carrier's code runs, or, inside a scoped one, that it does not.
pub(super) struct InCarrier {
    before: bool,
}

impl InCarrier {
    #[inline]
    pub(super) fn enter() -> Self {
        Self { before: IN_CARRIER.replace(true) }
    }

    pub(super) fn interrupt() -> Self {
        Self { before: IN_CARRIER.replace(false) }
    }
}

impl Drop for InCarrier {
    #[inline]
    fn drop(&mut self) {
        IN_CARRIER.set(self.before);
    }
}

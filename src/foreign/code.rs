//! Whether a carrier's code runs on this thread. Installed carriers stay out of what such code
//! captures, since they would carry themselves for ever.

use std::cell::Cell;

use crate::frame::InNoTask;
use crate::panic::{HowDropped, UserValue};

thread_local! {
    static IN_CARRIER: Cell<bool> = const { Cell::new(false) };
}

/// Puts the mark back, also when the code unwinds.
struct Mark {
    before: bool,
}

impl Drop for Mark {
    #[inline]
    fn drop(&mut self) {
        let _gone = IN_CARRIER.try_with(|mark| mark.set(self.before));
    }
}

/// Returns whether a carrier's code runs on this thread.
#[inline]
pub(super) fn is_in_carrier() -> bool {
    IN_CARRIER.try_with(Cell::get).unwrap_or(false)
}

/// Calls a carrier's code, marked as such.
#[inline]
pub(super) fn in_carrier<R>(f: impl FnOnce() -> R) -> R {
    marked(true, f)
}

/// Calls code that is a carrier's, or not.
#[inline]
pub(super) fn marked<R>(is_carriers: bool, f: impl FnOnce() -> R) -> R {
    // Where thread-locals are not native, a thread that ends has no mark any more.
    let before = IN_CARRIER.try_with(|mark| mark.replace(is_carriers)).unwrap_or(false);
    let _mark = Mark { before };
    f()
}

/// Calls what a carrier's code leads to but what is not its own: a task that it waits for, and
/// drops of what belongs to tasks.
#[inline]
pub(crate) fn not_in_carrier<R>(f: impl FnOnce() -> R) -> R {
    marked(false, f)
}

/// A carrier, or what it has captured: shared, and its drop is the carrier's code.
pub(super) type OfCarrier<T> = UserValue<T, AsCarriers>;

/// See [`OfCarrier`].
pub(super) struct AsCarriers;

impl HowDropped for AsCarriers {
    fn call(drop: &mut dyn FnMut()) {
        in_carrier(|| InNoTask::call(drop));
    }
}

//! How many values were leaked on purpose.

use std::sync::atomic::{AtomicU64, Ordering};

/// Values that were leaked on purpose since the process started.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// Returns how many values clean-up has given up on since the process started.
///
/// A slot whose `Drop` reads or sets it again at every round would keep a worker busy for ever, so
/// the value of the last round is leaked and the task fails with an error that names the slot. Also
/// leaked are a value that is in use when its task ends (the process exits from within `with`, or a
/// stackful coroutine was suspended there), or when a poll of its future returns (such a coroutine,
/// too); a closure that a pool has not let in, if 64 drops of such closures lie below (each has
/// submitted the next one); a closure that a scope has to end where even its drop would
/// [lie too deep](crate::TaskError::is_too_deep); and the payload of a panic in a drop, if it is
/// the eighth in a row: each came from the drop of the one before. The number is `0` in a healthy
/// program.
///
/// # Examples
///
/// ```
/// assert_eq!(cleanslate::leaked_values(), 0);
/// ```
pub fn leaked_values() -> u64 {
    // Relaxed: a statistic; nothing is read because of its value.
    LEAKED.load(Ordering::Relaxed)
}

/// Leaks a value, and counts it if it has anything to drop.
#[cold]
pub(crate) fn leak<T>(value: T) {
    if std::mem::needs_drop::<T>() {
        count_leak();
    }
    #[expect(clippy::mem_forget, reason = "that is what leaking is")]
    std::mem::forget(value);
}

/// Counts a value that is leaked with its box, since it may hold pointers into itself.
#[cold]
#[inline(never)]
pub(super) fn count_leak() {
    // Relaxed: a statistic, see `leaked_values`.
    LEAKED.fetch_add(1, Ordering::Relaxed);
}

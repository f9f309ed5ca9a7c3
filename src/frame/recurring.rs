//! What ends a slot that keeps coming back, since the drop of its value fills it again (R11).
//!
//! - *In the same frame*: the loop that undoes a task's trail undoes what drops have touched as
//!   well. Each entry knows its generation, that is how many drops led to it, and there are so many
//!   generations, and so many values of later ones.
//! - *In a frame of its own*, which begins to count anew: that of a task which the drop runs, of a
//!   future or a context that it leaves, of a copy that it has captured. Frames that are opened
//!   while a clean-up calls user code have the flag `CLEANING`, and how many of their clean-ups lie
//!   on one another is counted per thread.

use super::thread::{CLEANING, GENERATION, Thread};

/// Generations of values that a clean-up drops. POSIX does four rounds for its keys.
pub(super) const ROUNDS: u32 = 8 * GENERATION;

/// Values of later generations that a clean-up drops in all. Slots that fill each other could
/// otherwise branch at every generation.
pub(super) const EXTRA: usize = 4096;

/// Clean-ups that may lie on one another, each called by a drop of the one below.
const NESTED: u32 = 32;

/// Returns whether a value that a drop has left is not to be dropped any more. Counts the drop if
/// it is.
#[cold]
pub(super) fn is_recurring(generation: u32, extra: &mut usize) -> bool {
    if generation >= ROUNDS || *extra == 0 {
        return true;
    }
    *extra -= 1;
    false
}

/// Calls a part of a clean-up, which was called by another one, and tells it whether it may drop
/// anything: a drop may call the next. Once that was not so, it is not until the outermost of them
/// is over, since each may have called several.
#[cold]
pub(super) fn in_cleanup<R>(thread: &Thread, part: impl FnOnce(bool) -> R) -> R {
    let below = thread.cleanups.get();
    thread.cleanups.set(NESTED.min(below + 1));
    let mark = thread.flags.get() & CLEANING;
    thread.flags.set(thread.flags.get() | CLEANING);
    let result = part(below < NESTED);
    thread.flags.set(thread.flags.get() & !CLEANING | mark);
    if below == 0 || thread.cleanups.get() < NESTED {
        thread.cleanups.set(below);
    }
    result
}

//! The undo trail: what the open frames have touched, and how it is undone.
//!
//! An entry says "this cell shows a value of its own since then". Undoing it takes the value away,
//! shows what was there before, and *then* drops the value: whatever that `Drop` touches is pushed
//! on top of the trail and undone by the same loop. Every entry knows its generation, that is how
//! many drops of the same clean-up led to it; one of generation [`ROUNDS`] is not dropped any more but
//! leaked, so the loop ends (R11).

#![expect(unsafe_code, reason = "entries reach cells by pointer and drop erased values")]

use std::ptr::NonNull;

use super::cell::RawCell;
use super::failure::{self, CleanupError};
use super::thread::Thread;
use super::value::{self, Released};
use crate::panic::catch;

/// Generations of values that a clean-up drops. POSIX does four rounds for its keys.
pub(super) const ROUNDS: u32 = 8;

/// Values that a clean-up may drop beyond those that were there at its start. Slots that fill each
/// other could otherwise branch at every generation.
const EXTRA: usize = 4096;

/// One touched cell.
pub(super) struct Entry {
    pub(super) cell: NonNull<RawCell>,
    /// The task that touched it.
    pub(super) epoch: u64,
    pub(super) generation: u32,
}

/// Undoes everything above `mark`, the youngest first, and says what went wrong.
///
/// Runs code of others (`Drop`), every piece of it contained.
#[cold]
pub(super) fn unwind(thread: &Thread, mark: usize) -> Option<CleanupError> {
    let mut error = None;
    let outer = thread.generation();
    let mut left = thread.mark().saturating_sub(mark) + EXTRA;
    while let Some(entry) = thread.pop_above(mark) {
        // SAFETY: C1: a cell stays in place while the trail has an entry for it; `remove_entry`
        // below is the last use.
        let cell = unsafe { entry.cell.as_ref() };
        if let Some(header) = cell.unlink() {
            if cell.is_heir() {
                // An earlier drop may have captured it (R8).
                thread.forget_capture();
            }
            // SAFETY: just unlinked, so it is ours (V4).
            match unsafe { value::release(header) } {
                Released::Value if entry.generation >= ROUNDS || left == 0 => {
                    // Leaked with its box: the value may hold pointers into itself.
                    failure::count_leak();
                    CleanupError::add(&mut error, CleanupError::recurring(cell.name()));
                }
                Released::Value => {
                    left -= 1;
                    thread.set_generation(entry.generation + 1);
                    let dropped = catch(|| {
                        // SAFETY: `release` has just said that there is a value.
                        unsafe { value::drop_released(header) };
                    });
                    thread.set_generation(outer);
                    if let Err(payload) = dropped {
                        CleanupError::add(&mut error, CleanupError::panicked(cell.name(), payload));
                    }
                    // SAFETY: still ours, made for this cell, and empty after the drop.
                    unsafe { cell.recycle(header) };
                }
                Released::Box => {
                    // SAFETY: ours, made for this cell, and empty.
                    unsafe { cell.recycle(header) };
                }
                Released::Orphaned => {}
            }
        }
        cell.remove_entry();
    }
    error
}

//! How a slot is touched, the first time in a task.

use std::mem::needs_drop;
use std::ptr::NonNull;

use super::cell::RawCell;
use super::epoch::ROOT;
use super::permanent::Gone;
use super::thread::{DROPS, INDIRECT, Thread};
use super::thread_end::admit;
use super::trail::TrailEntry;
use super::value::Header;

/// Touches a slot in the current task. Returns an empty box that the cell now shows.
///
/// Afterwards the slot counts as touched whatever happens, so that a slot that the initialiser
/// touches is dropped before this one.
#[inline(always)]
pub(crate) fn touch<T>(thread: &Thread, cell: &RawCell) -> Result<NonNull<Header>, Gone> {
    admit(thread, cell)?;
    let epoch = thread.own_epoch();
    debug_assert!(cell.shown(epoch).is_none(), "touched already");
    if is_direct::<T>(thread) && cell.epoch() != ROOT && !cell.is_scoped() {
        return Ok(cell.place::<T>(epoch));
    }
    let header = cell.vacant::<T>();
    cell.link(header, epoch);
    let generation = thread.note_entry(needs_drop::<T>());
    thread.trail.push(TrailEntry { cell: NonNull::from(cell), epoch, generation });
    cell.add_entry();
    Ok(header)
}

/// Returns whether a value of the innermost task needs no entry on the trail: see [`INDIRECT`] and
/// [`DROPS`].
#[inline]
pub(crate) fn is_direct<T>(thread: &Thread) -> bool {
    !needs_drop::<T>() && thread.flags.get() & (INDIRECT | DROPS) == 0
}

//! The values of a future between two polls: taken off the thread, and put back on the next one.
//!
//! # Invariants
//!
//! - **P1 (owned).** A parked box belongs to its `Parked` (V4) and is not borrowed: a poll is a
//!   function call, so every borrow inside it is over.
//! - **P2 (type).** A box goes back into the cell of the slot that it came from, so its type fits.
//! - **P3 (order).** Boxes are kept in the order of first touch, the oldest first, and put back so.

#![expect(unsafe_code, reason = "moves boxes between the cells of different threads")]

use std::ptr::NonNull;

use super::cell::{RawCell, SlotHandle};
use super::failure::{CleanupError, discard};
use super::stack::Frame;
use super::thread::{self, TRAILED, Thread};
use super::trail::Entry;
use super::value::{self, Header, Released};
use crate::context::Context;

struct Item {
    slot: SlotHandle,
    /// The box, while it is parked here. While a poll runs, the items stay in place without theirs, so
    /// that a poll which touches nothing new puts them back without making anything.
    header: Option<NonNull<Header>>,
}

/// The slots of a suspended task.
#[derive(Default)]
pub(crate) struct Parked {
    items: Vec<Item>,
}

#[expect(clippy::non_send_fields_in_send_ty, reason = "boxes by pointer, see below")]
// SAFETY: slots hold `T: Send` (a bound of `TaskLocal` and `OwnedLocal`), the boxes are owned (P1)
// and used by one thread at a time, since every method that touches them takes `&mut self`.
unsafe impl Send for Parked {}
// SAFETY: `&Parked` gives access to nothing.
unsafe impl Sync for Parked {}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.items.iter().map(|item| item.slot.name())).finish()
    }
}

impl Parked {
    /// Runs one poll with these values in their slots, and takes them back afterwards.
    ///
    /// If the task is over, which `is_over` says, or if `f` unwinds, they are dropped in the frame
    /// instead, the youngest first.
    #[inline]
    pub(crate) fn swap_in<R>(
        &mut self,
        context: &Context,
        f: impl FnOnce() -> R,
        is_over: impl FnOnce(&R) -> bool,
    ) -> (R, Result<(), CleanupError>) {
        // Dropped only when the poll unwinds: the task is over then, and its values see that the
        // thread is panicking.
        let frame = Frame::enter_keeping(context);
        if !self.items.is_empty() {
            self.put(thread::current());
        }
        let result = f();
        let mut ended = Ok(());
        if is_over(&result) {
            ended = frame.end();
            self.items.clear();
        } else {
            frame.suspend(|thread, mark| self.take(thread, mark));
        }
        (result, ended)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Drops the values, the youngest first, in a frame of their own. `f` runs in it before.
    pub(crate) fn end(&mut self, context: &Context, f: impl FnOnce()) -> Result<(), CleanupError> {
        let ((), ended) = self.swap_in(context, f, |()| true);
        ended
    }

    fn put(&mut self, thread: &Thread) {
        for item in &mut self.items {
            let Some(header) = item.header.take() else { continue };
            let mut placed = false;
            match &item.slot {
                SlotHandle::Declared(slot) => {
                    // SAFETY: C1: there as long as this thread is.
                    placed = put_back(thread, unsafe { slot.cell().as_ref() }, header);
                }
                SlotHandle::Owned(slot) => {
                    slot.visit(&mut |cell| placed = put_back(thread, cell, header));
                }
            }
            if !placed {
                // The owner is gone, or this thread is: the value ends here.
                drop_value(header);
            }
        }
    }

    /// Takes everything above the frame's mark off the trail, the oldest first.
    ///
    /// Leases of worker-locals stay behind: they end with the poll.
    fn take(&mut self, thread: &Thread, mark: usize) {
        let mut kept = 0;
        let mut index = mark;
        thread.trail_is_fixed.set(true);
        // The drop of a lease may touch further slots, which are taken along as well.
        while let Some(cell) = thread.cell_at(index) {
            index += 1;
            // SAFETY: C1: in place while it has an entry; `remove_entry` is the last use.
            let cell = unsafe { cell.as_ref() };
            if let Some(header) = cell.unlink() {
                if cell.stays() {
                    drop_value(header);
                } else {
                    self.keep(kept, cell, header);
                    kept += 1;
                }
            }
            cell.remove_entry();
        }
        thread.cut(mark);
        thread.trail_is_fixed.set(false);
        self.items.truncate(kept);
    }

    /// Parks a value at a position, where most often its own item waits for it.
    fn keep(&mut self, position: usize, cell: &RawCell, header: NonNull<Header>) {
        if let Some(item) = self.items.get_mut(position)
            && cell.is_of(&item.slot)
        {
            item.header = Some(header);
            return;
        }
        self.items.truncate(position);
        self.items.push(Item { slot: cell.handle(), header: Some(header) });
    }
}

#[inline]
fn put_back(thread: &Thread, cell: &RawCell, header: NonNull<Header>) -> bool {
    if !thread.admit(cell) {
        return false;
    }
    cell.link(header, thread.epoch());
    thread.push(Entry { cell: NonNull::from(cell), generation: 0 });
    cell.add_entry();
    thread.raise(TRAILED);
    if cell.is_heir() {
        thread.diverge();
    }
    true
}

fn drop_value(header: NonNull<Header>) {
    // SAFETY: parked, so it is ours (P1).
    if let Released::Value = unsafe { value::release(header) } {
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // SAFETY: `release` has just said that there is a value.
            unsafe { value::drop_released(header) };
        }));
        if let Err(payload) = dropped {
            discard(payload);
        }
    }
    // SAFETY: ours, and by P1 nobody uses it.
    unsafe { value::free_box(header) };
}

impl Drop for Parked {
    fn drop(&mut self) {
        if !self.items.is_empty()
            && let Err(error) = self.end(&Context::empty(), || {})
        {
            discard(error.into_payload());
        }
    }
}

//! The values of a future between two polls: taken off the thread, and put back on the next one.
//!
//! # Invariants
//!
//! - **P1 (owned).** Between two polls a box belongs to its `Parked` (V4) and is not borrowed: a poll
//!   is a function call, so every borrow inside it is over. During a poll it belongs to its cell.
//! - **P2 (type).** A box goes back into the cell of the slot that it came from, so its type fits.
//! - **P3 (order).** Boxes are kept in the order of first touch, the oldest first, and put back so.
//! - **P4 (linked).** During a poll the items are the undo list of their values, which have no entry
//!   on the trail. All are linked before code of others runs in the frame, so each is its cell's
//!   top again when the frames above are closed, unless the owner of its slot took it away (C4).
//!   A poll that completes or unwinds hands them over to the trail.
//! - **P5 (home).** While `home` is the id of the running thread, the items' cells are that thread's,
//!   admitted, and declared: so they are in place (C1). In any other case they are looked up first.

#![expect(unsafe_code, reason = "moves boxes between the cells of different threads")]

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::cell::{RawCell, SlotHandle};
use super::failure::{CleanupError, discard};
use super::stack::Open;
use super::thread::{self, DIVERGED, LOOSE, TASK, TRAILED, Thread};
use super::trail::Entry;
use super::value::{self, Header, Released};
use crate::context::Context;

/// The id of no thread.
const NOWHERE: u64 = 0;

struct Item {
    slot: SlotHandle,
    /// Where it was linked last (P5).
    cell: NonNull<RawCell>,
    header: NonNull<Header>,
}

/// The slots of a suspended task.
#[derive(Default)]
pub(crate) struct Parked {
    items: Vec<Item>,
    /// See P5. `NOWHERE` always if there is a slot that an object owns.
    home: u64,
    /// What a frame with these values starts with: `DIVERGED` if one of the slots is inheritable.
    /// Without `TRAILED`, since the frame has one task, and its end puts the flag back anyhow.
    flags: u32,
}

#[expect(clippy::non_send_fields_in_send_ty, reason = "boxes by pointer, see below")]
// SAFETY: slots hold `T: Send` (a bound of `TaskLocal` and `OwnedLocal`), the boxes are owned (P1)
// and used by one thread at a time, since every method that touches them takes `&mut self`. Cells are
// used on their own thread only (P5).
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
        let frame = Open::enter_keeping(context, self.flags);
        let linked = Linked { parked: self, frame: &frame };
        linked.parked.put(&frame);
        let result = f();
        let mut linked = ManuallyDrop::new(linked);
        let ended = if is_over(&result) {
            linked.end()
        } else {
            linked.parked.take(&frame);
            // Nothing is left on the trail, so nothing can fail.
            frame.close()
        };
        (result, ended.map_or(Ok(()), Err))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Drops the values, the youngest first, in a frame of their own. `f` runs in it before.
    pub(crate) fn end(&mut self, context: &Context, f: impl FnOnce()) -> Result<(), CleanupError> {
        let ((), ended) = self.swap_in(context, f, |()| true);
        ended
    }

    /// Links the values into the cells of this thread.
    #[inline]
    fn put(&mut self, frame: &Open<'_>) {
        if self.items.is_empty() {
            return;
        }
        let thread = thread::current();
        // Else the thread is another one, or ending.
        if self.home != thread.id() {
            self.move_in(thread, frame);
            return;
        }
        let epoch = thread.epoch();
        let items = self.items.as_slice();
        // An iterator makes the compiler divide by the items' size to count the rounds.
        #[expect(clippy::needless_range_loop, reason = "an iterator's end costs a division")]
        for index in 0..items.len() {
            let item = &items[index];
            // SAFETY: P5 and C1: this thread's, and in place.
            unsafe { item.cell.as_ref() }.link(item.header, epoch);
        }
    }

    /// The same, after looking for the cells.
    #[cold]
    #[inline(never)]
    fn move_in(&mut self, thread: &Thread, frame: &Open<'_>) {
        let mut lost = Vec::new();
        self.items.retain_mut(|item| {
            let mut is_placed = false;
            let mut place = |cell: &RawCell| {
                if frame.is_open() && thread.admit(cell) {
                    cell.link(item.header, thread.epoch());
                    // There is none, but the cell is in use all the same.
                    cell.add_entry();
                    item.cell = NonNull::from(cell);
                    is_placed = true;
                }
            };
            match &item.slot {
                // SAFETY: C1: there as long as this thread is.
                SlotHandle::Declared(slot) => place(unsafe { slot.cell().as_ref() }),
                SlotHandle::Owned(slot) => slot.visit(&mut place),
            }
            if !is_placed {
                lost.push(item.header);
            }
            is_placed
        });
        self.settle(thread);
        if self.home == NOWHERE {
            // Unlinking takes care of owners that have gone.
            thread.raise(TRAILED);
        }
        // The owner is gone, or this thread is: these values end here. After the rest is linked (P4).
        for header in lost {
            drop_value(header);
        }
    }

    /// Notes whose cells the items have, after a change.
    fn settle(&mut self, thread: &Thread) {
        (self.home, self.flags) = (thread.id(), 0);
        for item in &self.items {
            match &item.slot {
                SlotHandle::Owned(_) => self.home = NOWHERE,
                SlotHandle::Declared(_) => {
                    // SAFETY: C1: this thread's cell, as the callers have just seen to.
                    if unsafe { item.cell.as_ref() }.is_heir() {
                        self.flags = DIVERGED;
                    }
                }
            }
        }
    }

    /// Takes the values back, and those that the poll has added.
    ///
    /// Leases of worker-locals stay behind: they end with the poll.
    #[inline]
    fn take(&mut self, frame: &Open<'_>) {
        let thread = thread::current();
        if thread.flags.get() & (TRAILED | LOOSE) != 0 {
            self.take_slow(thread, frame);
            return;
        }
        let items = self.items.as_slice();
        // By index: see `put`.
        #[expect(clippy::needless_range_loop, reason = "an iterator's end costs a division")]
        for index in 0..items.len() {
            let item = &items[index];
            // SAFETY: P5: linked by `put`, or the flags would say otherwise; the cell is in place.
            let cell = unsafe { item.cell.as_ref() };
            // SAFETY: P4: the cell's top, and nobody else could take it away.
            unsafe { cell.unlink_top(item.header) };
        }
    }

    #[inline(never)]
    fn take_slow(&mut self, thread: &Thread, frame: &Open<'_>) {
        let Some(mark) = frame.mark_alone(thread) else { return };
        thread.forget_capture();
        // First the leases, while all that they may look at is in place. Their drops may touch
        // further slots, which are taken along.
        let mut index = mark;
        thread.trail_is_fixed.set(true);
        while let Some(cell) = thread.cell_at(index) {
            index += 1;
            // SAFETY: C1: in place while it has an entry.
            let cell = unsafe { cell.as_ref() };
            if cell.stays()
                && let Some(header) = cell.unlink()
            {
                drop_value(header);
            }
        }
        self.items.retain(|item| {
            // SAFETY: C1: in place while it counts an entry; `remove_entry` is the last use.
            let cell = unsafe { item.cell.as_ref() };
            let unlinked = cell.unlink();
            debug_assert!(unlinked.is_none_or(|header| header == item.header), "P4");
            cell.remove_entry();
            unlinked.is_some()
        });
        for index in mark..index {
            let Some(entry) = thread.cell_at(index) else { break };
            // SAFETY: C1: in place while it has an entry; `remove_entry` is the last use.
            let cell = unsafe { entry.as_ref() };
            if !cell.stays()
                && let Some(header) = cell.unlink()
            {
                self.items.push(Item { slot: cell.handle(), cell: entry, header });
            }
            cell.remove_entry();
        }
        self.settle(thread);
        thread.cut(mark);
        thread.trail_is_fixed.set(false);
        thread.lower(TASK);
    }
}

/// The values of a poll that runs, and its frame. Dropped only when the poll unwinds: the task is
/// over then, and its values see that the thread is panicking.
struct Linked<'p, 'f, 'c> {
    parked: &'p mut Parked,
    frame: &'f Open<'c>,
}

impl Linked<'_, '_, '_> {
    /// Ends the task and closes the frame.
    #[inline(never)]
    fn end(&mut self) -> Option<CleanupError> {
        let mut error = None;
        if !self.parked.items.is_empty() {
            let thread = thread::current();
            // The youngest first, and so those that the trail knows already.
            error = self.frame.end_task(thread);
            for item in self.parked.items.drain(..) {
                let epoch = thread.epoch();
                thread.push(Entry { cell: item.cell, epoch, generation: 0 });
            }
            thread.raise(TRAILED);
        }
        if let Some(fault) = self.frame.close() {
            CleanupError::add(&mut error, fault);
        }
        error
    }
}

impl Drop for Linked<'_, '_, '_> {
    #[cold]
    fn drop(&mut self) {
        if let Some(error) = self.end() {
            // The poll's own panic is on its way.
            discard(error.into_payload());
        }
    }
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

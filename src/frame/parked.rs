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
use super::failure::CleanupError;
use super::stack::Open;
use super::thread::{self, DIVERGED, TASK, TRAILED, Thread};
use super::trail::Entry;
use super::value::{self, Header, Released};
use crate::context::Context;

/// The id of no thread.
const NOWHERE: u64 = 0;

/// A value, and where it was linked last (P5).
#[derive(Clone, Copy)]
struct Item {
    cell: NonNull<RawCell>,
    header: NonNull<Header>,
}

impl Item {
    /// # Safety
    ///
    /// - The cell is this thread's, and in place (P5).
    #[inline]
    unsafe fn link(&self, epoch: u64) {
        // SAFETY: the caller's.
        unsafe { self.cell.as_ref() }.link(self.header, epoch);
    }

    /// # Safety
    ///
    /// - It is linked in a cell that is in place (P5), and nobody else can take it away (P4).
    #[inline]
    unsafe fn unlink(&self) {
        // SAFETY: the caller's.
        let cell = unsafe { self.cell.as_ref() };
        // SAFETY: the caller's.
        unsafe { cell.unlink_top(self.header) };
    }
}

/// The values, in the order of first touch (P3). The first has a place of its own, since most futures
/// have one or none.
#[derive(Default)]
struct Items {
    first: Option<Item>,
    /// Empty if there is no first.
    rest: Vec<Item>,
}

impl Items {
    fn iter(&self) -> impl DoubleEndedIterator<Item = &Item> {
        self.first.iter().chain(&self.rest)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Item> {
        match index.checked_sub(1) {
            None => self.first.as_mut(),
            Some(index) => self.rest.get_mut(index),
        }
    }

    /// Both are there, and `a` is not behind `b`.
    fn swap(&mut self, a: usize, b: usize) {
        match (a, &mut self.first) {
            (0, Some(first)) if b > 0 => std::mem::swap(first, &mut self.rest[b - 1]),
            (0, _) => {}
            _ => self.rest.swap(a - 1, b - 1),
        }
    }

    fn truncate(&mut self, len: usize) {
        if len == 0 {
            self.first = None;
        }
        self.rest.truncate(len.saturating_sub(1));
    }

    fn push(&mut self, item: Item) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.rest.push(item),
        }
    }

    /// Takes all out.
    fn drain(&mut self) -> impl Iterator<Item = Item> {
        self.first.take().into_iter().chain(self.rest.drain(..))
    }
}

// Out of line, so that the loops' set-up is no cost of a future with one slot.
/// # Safety
///
/// - As for [`Item::link`].
#[cold]
#[inline(never)]
unsafe fn link_all(items: &[Item], epoch: u64) {
    for item in items {
        // SAFETY: the caller's.
        unsafe { item.link(epoch) };
    }
}

/// # Safety
///
/// - As for [`Item::unlink`].
#[cold]
#[inline(never)]
unsafe fn unlink_all(items: &[Item]) {
    for item in items {
        // SAFETY: the caller's.
        unsafe { item.unlink() };
    }
}

/// The slots of a suspended task.
#[derive(Default)]
pub(crate) struct Parked {
    items: Items,
    /// Whose values the items are, one for one. Apart from them, since a poll on the same thread as the
    /// last one needs only them.
    slots: Vec<SlotHandle>,
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
        f.debug_list().entries(self.slots.iter().map(SlotHandle::name)).finish()
    }
}

impl Parked {
    /// Runs one poll with these values in their slots, and takes them back afterwards.
    ///
    /// If the task is over, which `is_over` says, or if `f` unwinds, they are dropped in the frame
    /// instead, the youngest first.
    #[inline(always)]
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
        let parked = &mut *linked.parked;
        let ended = if is_over(&result) { end(parked, &frame) } else { parked.take(&frame) };
        (result, ended.map_or(Ok(()), Err))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.first.is_none()
    }

    /// Drops the values, the youngest first, in a frame of their own. `f` runs in it before.
    pub(crate) fn end(&mut self, context: &Context, f: impl FnOnce()) -> Result<(), CleanupError> {
        let ((), ended) = self.swap_in(context, f, |()| true);
        ended
    }

    /// Links the values into the cells of this thread.
    #[inline]
    fn put(&mut self, frame: &Open<'_>) {
        let Some(first) = &self.items.first else { return };
        let thread = thread::current();
        if self.home != thread.id() {
            // The thread is another one, or ending.
            self.move_in(frame);
            return;
        }
        let epoch = thread.epoch();
        // SAFETY: P5.
        unsafe { first.link(epoch) };
        if !self.items.rest.is_empty() {
            // SAFETY: P5.
            unsafe { link_all(&self.items.rest, epoch) };
        }
    }

    /// The same, after looking for the cells.
    #[cold]
    #[inline(never)]
    fn move_in(&mut self, frame: &Open<'_>) {
        let thread = thread::current();
        let mut lost = Vec::new();
        self.retain(|item, slot| {
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
            match slot {
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

    /// Forgets the values that are not to be kept. `keep` may change where the others are linked.
    fn retain(&mut self, mut keep: impl FnMut(&mut Item, &SlotHandle) -> bool) {
        let mut kept = 0;
        for index in 0..self.slots.len() {
            let Some(item) = self.items.get_mut(index) else { break };
            if keep(item, &self.slots[index]) {
                self.items.swap(kept, index);
                self.slots.swap(kept, index);
                kept += 1;
            }
        }
        self.items.truncate(kept);
        self.slots.truncate(kept);
    }

    /// Notes whose cells the items have, after a change.
    fn settle(&mut self, thread: &Thread) {
        (self.home, self.flags) = (thread.id(), 0);
        for (item, slot) in self.items.iter().zip(&self.slots) {
            match slot {
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

    /// Takes the values back, and those that the poll has added, and closes the frame.
    ///
    /// Leases of worker-locals stay behind: they end with the poll.
    #[inline]
    fn take(&mut self, frame: &Open<'_>) -> Option<CleanupError> {
        let thread = thread::current();
        if !frame.is_plain(thread) {
            return self.take_slow(frame);
        }
        if let Some(first) = &self.items.first {
            // SAFETY: P4 and P5: linked by `put`, or the flags would say otherwise.
            unsafe { first.unlink() };
            if !self.items.rest.is_empty() {
                // SAFETY: as above.
                unsafe { unlink_all(&self.items.rest) };
            }
        }
        frame.close_plain(thread);
        None
    }

    #[cold]
    #[inline(never)]
    fn take_slow(&mut self, frame: &Open<'_>) -> Option<CleanupError> {
        let thread = thread::current();
        let mark = frame.mark_alone(thread)?;
        thread.forget_capture();
        // First the leases, while all that they may look at is in place. Their drops may touch
        // further slots, which are taken along.
        let mut index = mark;
        // A lease's drop may poll another future.
        let was_fixed = thread.trail_is_fixed.replace(true);
        while let Some(cell) = thread.cell_at(index) {
            index += 1;
            // SAFETY: C1: in place while it has an entry.
            let cell = unsafe { cell.as_ref() };
            if cell.stays()
                && let Some(header) = cell.unlink()
            {
                drop_value(header);
                // What it left open, and what it captured, ends here.
                Open::close_above(thread);
                thread.forget_capture();
            }
        }
        self.retain(|item, _| {
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
                self.slots.push(cell.handle());
                self.items.push(Item { cell: entry, header });
            }
            cell.remove_entry();
        }
        self.settle(thread);
        thread.cut(mark);
        thread.trail_is_fixed.set(was_fixed);
        thread.lower(TASK);
        // Nothing is left on the trail, so nothing can fail.
        frame.close()
    }
}

/// The values of a poll that runs, and its frame. Dropped only when the poll unwinds: the task is
/// over then, and its values see that the thread is panicking.
struct Linked<'p, 'f, 'c> {
    parked: &'p mut Parked,
    frame: &'f Open<'c>,
}

impl Drop for Linked<'_, '_, '_> {
    #[inline]
    fn drop(&mut self) {
        // The poll's own panic is on its way.
        end_discarding(self.parked, self.frame);
    }
}

#[cold]
#[inline(never)]
fn end_discarding(parked: &mut Parked, frame: &Open<'_>) {
    if let Some(error) = end(parked, frame) {
        drop(error);
    }
}

/// Ends the task and closes the frame.
#[inline(never)]
fn end(parked: &mut Parked, frame: &Open<'_>) -> Option<CleanupError> {
    let mut error = None;
    if !parked.is_empty() {
        let thread = thread::current();
        // The youngest first, and so those that the trail knows already.
        error = frame.end_task(thread);
        for item in parked.items.drain() {
            let epoch = thread.epoch();
            thread.push(Entry { cell: item.cell, epoch, generation: 0 });
        }
        parked.slots.clear();
        thread.raise(TRAILED);
    }
    if let Some(fault) = frame.close() {
        CleanupError::add(&mut error, fault);
    }
    error
}

fn drop_value(header: NonNull<Header>) {
    // SAFETY: parked, so it is ours (P1).
    if let Released::Value = unsafe { value::release(header) } {
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // SAFETY: `release` has just said that there is a value.
            unsafe { value::drop_released(header) };
        }));
        if let Err(payload) = dropped {
            drop(payload);
        }
    }
    // SAFETY: ours, and by P1 nobody uses it.
    unsafe { value::free_box(header) };
}

impl Drop for Parked {
    fn drop(&mut self) {
        if !self.is_empty()
            && let Err(error) = self.end(&Context::empty(), || {})
        {
            drop(error);
        }
    }
}

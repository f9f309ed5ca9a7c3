//! The values of a future between two polls: taken off the thread, and put back on the next one.
//!
//! # Invariants
//!
//! - **P1 (owned).** Between two polls a box belongs to its `Parked` (V4) and is not in use: a box
//!   that is in use when a poll returns, by a coroutine that is suspended there, is leaked. During
//!   a poll it belongs to its cell, and `home` is `LINKED`: if the process exits from within the
//!   poll and the future is dropped then, it lets its boxes be.
//! - **P2 (type).** A box goes back into the cell of the slot that it came from, so its type fits.
//! - **P3 (order).** Boxes are kept, and put back, in the order of first touch, the oldest first.
//! - **P4 (linked).** During a poll the items are the undo list of their values, which have no
//!   entry on the trail. All are linked before user code runs in the frame, so each is its cell's
//!   top again when the poll returns and what it has added is taken away, unless the owner of its
//!   slot took it away (C4), or a scope lies on it in which a coroutine is suspended: then the
//!   scope's box is leaked. (While such a scope lies there, the poll may add a value to the same
//!   cell.) A poll that completes or unwinds hands the items over to the trail. Where the thread's
//!   slots have ended, none is linked: they stay with the `Parked`, `home` is not `LINKED`, and
//!   nothing is touched.
//! - **P5 (home).** While `home` is the id of the running thread, the items' cells are that
//!   thread's and admitted, and stay in place: those of declared slots are permanent, the others
//!   are kept by the items themselves. In any other case they are looked up first.

#![expect(unsafe_code, reason = "moves boxes between the cells of different threads")]

use std::mem::{ManuallyDrop, take};
use std::ptr::NonNull;
use std::sync::Arc;

use super::cell::{OwnersLock, RawCell, SlotHandle};
use super::failure::CleanupError;
use super::snapshot::Snapshot;
use super::task::{EXTRA, Open, check_order, end_task, forget_capture, give_up_capture, undo};
use super::thread::{self, DIVERGED, INDIRECT, NOBODY, Thread, seldom};
use super::thread_end::{admit, register};
use super::trail::TrailEntry;
use super::value::{self, Header};

/// Added to the id of a home if there is more than one item, or an owned slot's, or a capture.
const SEVERAL: u64 = 1;
/// Used instead of an id, also with `SEVERAL` added: a poll is running (P1).
const LINKED: u64 = NOBODY + 2;

/// Its values are taken out again, so every touch leaves an entry on the trail.
type PollFrame = Open<INDIRECT>;

/// A value, and where it was linked last (P5).
struct ParkedItem {
    cell: NonNull<RawCell>,
    header: NonNull<Header>,
    slot: SlotHandle,
}

impl ParkedItem {
    /// # Safety
    ///
    /// - The cell is in place (P5).
    #[inline]
    unsafe fn cell(&self) -> &RawCell {
        // SAFETY: the caller's.
        unsafe { self.cell.as_ref() }
    }

    /// Returns whether the value is what its cell shows and is not in use. Otherwise a coroutine is
    /// suspended in there (P1, P4).
    ///
    /// # Safety
    ///
    /// - The cell is in place (P5), and the owner of its slot has not taken the value away (P4).
    #[inline]
    unsafe fn is_at_rest(&self) -> bool {
        // SAFETY: the caller's; the box belongs to the cell.
        unsafe { self.cell() }.is_top(self.header) && unsafe { self.header.as_ref() }.is_unused()
    }

    /// Links the value on this thread. Returns `false` if the slot's owner is gone.
    fn move_in(&mut self, thread: &Thread, epoch: u64) -> bool {
        match &mut self.slot {
            SlotHandle::Declared(slot) => self.cell = slot.cell(),
            SlotHandle::Owned(cell) => match cell.slot().cell() {
                Some(here) => {
                    *cell = here;
                    self.cell = NonNull::from(cell.raw());
                }
                None => return false,
            },
        }
        // SAFETY: just looked up.
        let cell = unsafe { self.cell() };
        admit(thread, cell).is_ok() && cell.link_unless_ended(self.header, epoch)
    }
}

/// The slots of a suspended task.
#[derive(Default)]
pub(crate) struct Parked {
    /// The values, in the order of first touch (P3).
    items: Vec<ParkedItem>,
    /// See P5. It means nothing without items.
    home: u64,
    /// The lock of the home's owned cells, if there is one among the items (C4).
    lock: Option<Arc<OwnersLock>>,
    /// Whether one of the slots is inheritable.
    diverges: bool,
    /// Between two polls, the task's last capture, if it is still what a new one would give (R8).
    /// Only if the task diverges: otherwise a capture costs no more than a look.
    capture: Option<Arc<Snapshot>>,
    /// What went wrong so far: values that ended before their task, and leases, which end with
    /// their poll.
    failed: Option<CleanupError>,
}

#[expect(clippy::non_send_fields_in_send_ty, reason = "boxes by pointer, see below")]
// SAFETY: the values are `Send`: their slots ask for that, but for leases, which end with their
// poll (`InFutures`).
// Boxes are owned (P1) and used by one thread at a time, since every method that touches them takes
// `&mut self`. Cells are used on their own thread only (P5).
unsafe impl Send for Parked {}
// SAFETY: `&Parked` gives access to nothing but the slots' names.
unsafe impl Sync for Parked {}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.items.iter().map(|item| item.slot.name())).finish()
    }
}

impl Parked {
    /// Runs one poll with these values in their slots, and takes them back afterwards.
    ///
    /// If the task is over, which `is_over` tells, or if `f` unwinds, the values are dropped in the
    /// frame instead, the youngest first. Then what went wrong in any of the task's polls is
    /// returned.
    #[inline(always)]
    pub(crate) fn poll<R>(
        &mut self,
        inherits: Option<&Arc<Snapshot>>,
        f: impl FnOnce() -> R,
        is_over: impl FnOnce(&R) -> bool,
    ) -> (R, Option<CleanupError>) {
        let mut frame = PollFrame::new();
        if self.diverges {
            seldom();
            frame.enter_with(inherits, DIVERGED);
        } else {
            frame.enter(inherits);
        }
        self.put();
        let unwinding = FinishOnUnwind { parked: self, frame: &frame };
        let result = f();
        let parked = &mut *ManuallyDrop::new(unwinding).parked;
        let error = if is_over(&result) {
            finish(parked, &frame)
        } else {
            parked.take(&frame);
            None
        };
        (result, error)
    }

    /// Calls `f` in a frame, and then drops the values in it, the youngest first.
    pub(crate) fn end(
        &mut self,
        inherits: Option<&Arc<Snapshot>>,
        f: impl FnOnce(),
    ) -> Option<CleanupError> {
        self.poll(inherits, f, |()| true).1
    }

    /// Links the values into the cells of this thread.
    #[inline]
    fn put(&mut self) {
        let thread = thread::current();
        match self.items.as_slice() {
            [] => {}
            // Most futures have one or none: this path takes no loop.
            [item, ..] if self.home == thread.id.get() => {
                // SAFETY: P5.
                unsafe { item.cell() }.link(item.header, thread.fresh_epoch());
                self.home = LINKED;
            }
            _ => self.put_several(),
        }
    }

    #[inline(never)]
    fn put_several(&mut self) {
        let thread = thread::current();
        let is_plain = self.lock.is_none() && self.capture.is_none();
        if self.home == thread.id.get() + SEVERAL && is_plain {
            self.link_all(thread.fresh_epoch());
        } else {
            self.put_slow();
        }
    }

    /// Does the same on another thread than the last time, or where owners may be gone.
    #[cold]
    #[inline(never)]
    fn put_slow(&mut self) {
        let thread = thread::current();
        if self.is_linked() {
            // P1.
            let _not_ours = ManuallyDrop::new(take(&mut self.items));
            return;
        }
        if register(thread).is_err() {
            // They are not linked. They wait for another thread or for the task's end.
            return;
        }
        let epoch = thread.own_epoch();
        if self.home == thread.id.get() + SEVERAL
            && self.locked_if_whole(|parked| {
                parked.link_all(epoch);
                true
            })
        {
            return self.recall(thread);
        }
        let mut lost = Vec::new();
        for mut item in take(&mut self.items) {
            if item.move_in(thread, epoch) {
                self.items.push(item);
            } else {
                lost.push(item);
            }
        }
        self.settle(thread);
        self.home = LINKED + (self.home & SEVERAL);
        self.recall(thread);
        // After the rest is linked (P4).
        self.end_lost(lost);
    }

    /// Gives the task's last capture to the thread, until something changes or the poll ends.
    fn recall(&mut self, thread: &Thread) {
        if let Some(capture) = self.capture.take() {
            thread.keep_capture(capture);
        }
    }

    /// Takes back the values, and those that the poll has added, and closes the frame.
    #[inline(always)]
    fn take(&mut self, frame: &PollFrame) {
        if let Some(flags) = frame.plain() {
            match self.items.as_slice() {
                [] => return frame.close_plain(flags),
                // SAFETY: P5; it is not an owned slot's.
                [item, ..] if self.home == LINKED && unsafe { item.is_at_rest() } => {
                    // SAFETY: P5.
                    unsafe { item.cell() }.unlink_top(item.header);
                    self.home = thread::current().id.get();
                    return frame.close_plain(flags);
                }
                _ => {}
            }
        }
        self.take_several(frame);
    }

    #[inline(never)]
    fn take_several(&mut self, frame: &PollFrame) {
        let is_plain = frame.plain().is_some();
        let is_quick = is_plain && self.home == LINKED + SEVERAL && self.lock.is_none();
        if !is_quick || !self.unlink_all(thread::current()) {
            self.take_slow(is_plain, frame);
        }
        // Nothing is left in the frame that could fail, at most what the poll has captured.
        frame.close();
    }

    #[cold]
    #[inline(never)]
    fn take_slow(&mut self, is_plain: bool, frame: &PollFrame) {
        let thread = thread::current();
        if !frame.is_open() || !self.items.is_empty() && !self.is_linked() {
            return;
        }
        // What is undone below is to be this poll's, not what lies on top of it.
        check_order(thread, frame.clean());
        if is_plain && self.locked_if_whole(|parked| parked.unlink_all(thread)) {
            return;
        }
        let added = end_leases(thread, &mut self.failed);
        // A lease's drop is user code.
        check_order(thread, frame.clean());
        let epoch = thread.epoch.get();
        // Whether the task's last capture has what is left behind (R8).
        let mut is_stale = false;
        // The youngest first, as they lie on one another in a cell.
        let mut younger = Vec::new();
        for TrailEntry { cell: place, epoch, .. } in added.into_iter().rev() {
            // SAFETY: C1: in place while it has an entry; `remove_entry` is the last use.
            let cell = unsafe { place.as_ref() };
            is_stale |= cell.is_inheritable() && !cell.is_at_rest(epoch);
            // SAFETY: as above.
            let is_ours = |header: &NonNull<Header>| !unsafe { header.as_ref() }.leak_if_used();
            if let Some(header) = cell.unlink(epoch).filter(is_ours) {
                younger.push(ParkedItem { cell: place, header, slot: cell.handle() });
            }
            cell.remove_entry();
        }
        self.items.reverse();
        self.locked(|parked| {
            parked.items.retain(|item| {
                // SAFETY: P5.
                let cell = unsafe { item.cell() };
                is_stale |= cell.is_inheritable() && !cell.is_at_rest(epoch);
                let unlinked = cell.unlink_locked(epoch);
                debug_assert!(unlinked.is_none_or(|header| header == item.header), "P4");
                // SAFETY: just taken out of the cell.
                unlinked.is_some_and(|header| !unsafe { header.as_ref() }.leak_if_used())
            });
        });
        self.items.reverse();
        self.items.extend(younger.into_iter().rev());
        self.settle(thread);
        if is_stale {
            forget_capture(thread);
        }
        if self.diverges {
            self.capture = thread.take_capture();
            self.home |= if self.capture.is_some() { SEVERAL } else { 0 };
        }
    }

    /// Returns whether the items, of which there is at least one, lie in their cells. During a poll
    /// they do, unless the thread's slots have ended.
    fn is_linked(&self) -> bool {
        self.home & !SEVERAL == LINKED
    }

    /// Calls `f` with the lock of the home's owned cells, if there are any (C4): one lock for all
    /// of them. `f` runs no user code.
    fn locked<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        // Put back afterwards, which is cheaper than counting a reference.
        let lock = self.lock.take();
        let guard = lock.as_ref().map(|lock| lock.lock());
        let result = f(self);
        drop(guard);
        self.lock = lock;
        result
    }

    /// Does the same if no owner of a value is gone; returns whether `f` was called and succeeded.
    fn locked_if_whole(&mut self, f: impl FnOnce(&mut Self) -> bool) -> bool {
        self.locked(|parked| {
            // SAFETY: P5, as the callers have seen.
            let has_lost = parked.items.iter().any(|item| unsafe { item.cell() }.has_ended());
            !has_lost && f(parked)
        })
    }

    #[inline]
    fn link_all(&mut self, epoch: u64) {
        for item in &self.items {
            // SAFETY: P5, as the callers have seen.
            unsafe { item.cell() }.link(item.header, epoch);
        }
        self.home = LINKED + SEVERAL;
    }

    /// Takes all of them out of their cells, unless one is not at rest.
    #[inline]
    fn unlink_all(&mut self, thread: &Thread) -> bool {
        // SAFETY: P5, and no owner is gone (P4), as the callers have seen.
        if !self.items.iter().all(|item| unsafe { item.is_at_rest() }) {
            return false;
        }
        for item in &self.items {
            // SAFETY: P5, as the callers have seen.
            unsafe { item.cell() }.unlink_top(item.header);
        }
        self.home = thread.id.get() + SEVERAL;
        true
    }

    /// Drops the values of owners that are gone, or of a task that ends where slots are gone.
    #[cold]
    fn end_lost(&mut self, lost: Vec<ParkedItem>) {
        for ParkedItem { header, slot, .. } in lost.into_iter().rev() {
            // SAFETY: parked, so it is ours (P1).
            if let Err(payload) = unsafe { value::end(header) } {
                let error = CleanupError::panicked(slot.name(), payload);
                CleanupError::add(&mut self.failed, Some(error));
            }
        }
    }

    /// Notes whose cells the items have, after a change.
    fn settle(&mut self, thread: &Thread) {
        let several = if self.items.len() > 1 { SEVERAL } else { 0 };
        (self.home, self.diverges) = (thread.id.get() + several, false);
        let mut lock = None;
        for item in &self.items {
            match &item.slot {
                SlotHandle::Owned(cell) => {
                    self.home = thread.id.get() + SEVERAL;
                    lock = Some(cell.lock());
                }
                // SAFETY: P5, as the callers have seen to.
                SlotHandle::Declared(_) => self.diverges |= unsafe { item.cell() }.is_inheritable(),
            }
        }
        // Counted only when it is another lock, not after every poll that has touched something.
        if self.lock.as_ref().map(Arc::as_ptr) != lock.map(Arc::as_ptr) {
            self.lock = lock.cloned();
        }
    }
}

/// Ends a task whose poll unwinds; its values see that the thread is panicking.
struct FinishOnUnwind<'p> {
    parked: &'p mut Parked,
    frame: &'p PollFrame,
}

impl Drop for FinishOnUnwind<'_> {
    #[inline]
    fn drop(&mut self) {
        finish_discarding(self.parked, self.frame);
    }
}

#[cold]
#[inline(never)]
fn finish_discarding(parked: &mut Parked, frame: &PollFrame) {
    // The poll's own panic is on its way.
    drop(finish(parked, frame));
}

/// Ends the task in its frame (first what the poll has added, then the values that it had before),
/// and closes the frame.
#[inline]
fn finish(parked: &mut Parked, frame: &PollFrame) -> Option<CleanupError> {
    let mut error = None;
    if !parked.items.is_empty() || parked.failed.is_some() {
        error = finish_slow(parked, frame.clean());
    }
    CleanupError::add(&mut error, frame.close());
    error
}

#[cold]
#[inline(never)]
fn finish_slow(parked: &mut Parked, clean: u32) -> Option<CleanupError> {
    let thread = thread::current();
    let mut error = parked.failed.take();
    CleanupError::add(&mut error, end_task(thread, clean));
    // The items keep the cells of owned slots in place until the task has ended.
    let items = take(&mut parked.items);
    if !items.is_empty() && !parked.is_linked() {
        parked.end_lost(items);
        CleanupError::add(&mut error, parked.failed.take());
        if let Some(capture) = parked.capture.take() {
            give_up_capture(capture);
        }
    } else if !items.is_empty() {
        for item in &items {
            // SAFETY: P5.
            unsafe { item.cell() }.add_entry();
            thread.trail.push(TrailEntry {
                cell: item.cell,
                epoch: thread.epoch.get(),
                generation: 0,
            });
        }
        CleanupError::add(&mut error, end_task(thread, clean));
    }
    error
}

/// Takes what the poll has touched off the trail and returns it, except for leases of
/// worker-locals, which end here, the youngest first. Meanwhile everything that their drops may
/// look at is in place.
fn end_leases(thread: &Thread, failed: &mut Option<CleanupError>) -> Vec<TrailEntry> {
    let mut kept = Vec::new();
    let mut extra = EXTRA;
    loop {
        // In the first round everything from the poll, and then what the leases' drops have
        // touched.
        let touched = thread.trail.take(thread.epoch.get());
        if touched.is_empty() {
            return kept;
        }
        let mut leases = Vec::new();
        for entry in touched {
            // SAFETY: C1: in place while it has an entry.
            let is_lease = unsafe { entry.cell.as_ref() }.is_lease();
            if is_lease { &mut leases } else { &mut kept }.push(entry);
        }
        for lease in leases.iter().rev() {
            CleanupError::add(failed, undo(thread, *lease, &mut extra));
        }
    }
}

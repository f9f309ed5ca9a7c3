//! A slot's place on one thread: which value it shows now, and which ones it hides.
//!
//! # Invariants
//!
//! - **C1 (place).** A cell that a trail has an entry for, or that is registered, stays where it
//!   is: a declared slot's is [permanent](super::permanent); that of an
//!   [`OwnedLocal`](crate::OwnedLocal) is kept by its thread's table while `entries` is not zero,
//!   and by whoever has an `Arc` of it.
//! - **C2 (shown).** If the cell's epoch is that of a task that is open on this thread, the top box
//!   has that task's value. Epochs are never used twice on a thread, so with any other epoch the
//!   cell shows nothing, and the top box, unless the epoch is `NEVER`, is stale: without a value
//!   that needs a drop.
//! - **C3 (chain).** The top box, the one below, and so on are of this cell's type, the youngest
//!   first. All have values of open tasks, except a stale one, which is the lowest, and those of
//!   scopes whose task is over, since a coroutine is suspended there.
//! - **C4 (lock).** A cell of an owned slot may be emptied by another thread, which drops the
//!   owner. All cells of one thread's owned slots share a lock. It is held by all who link, unlink
//!   or recycle without borrowing the owner; `ended` changes under it, and nothing is linked after
//!   that. Access through the owner needs no lock: while it is borrowed it is not dropped.

#![expect(unsafe_code, reason = "cells own boxes, which they reach by pointer")]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::epoch::ROOT;
use super::leak;
use super::snapshot::Inheritance;
use super::value::{self, Header, Shown};

/// What the engine asks of a declared slot.
pub(crate) trait Slot: Sync {
    /// Returns the path under which the slot was declared.
    fn name(&self) -> &'static str;
    /// Returns the slot's cell on this thread (C1).
    fn cell(&self) -> NonNull<RawCell>;
    /// Returns how tasks inherit it, if they do.
    fn inheritance(&self) -> Option<&dyn Inheritance> {
        None
    }
}

/// What the engine asks of a slot that an object owns.
pub(crate) trait OwnedSlot: Send + Sync {
    /// Returns the slot's type and where it was made.
    fn name(&self) -> String;
    /// Returns the slot's cell on this thread, or `None` once the owner is gone or the thread ends.
    fn cell(&self) -> Option<Arc<dyn OwnedCell>>;
}

/// The cell of an owned slot on one thread.
pub(crate) trait OwnedCell: Send + Sync {
    fn raw(&self) -> &RawCell;
    fn slot(&self) -> &dyn OwnedSlot;
    /// Returns the lock of its thread (C4).
    fn lock(&self) -> &Arc<OwnersLock>;
    /// Frees what the cell keeps, and takes it off the owner's list, since the thread is ending.
    fn leave(&self);
}

/// Keeps the drops of owners away from one thread's cells (C4). Counts the cells whose owners are
/// gone, for the next sweep.
pub(crate) type OwnersLock = Mutex<usize>;

/// A slot as a suspended future keeps it. The cell is the one that held the value last.
#[derive(Clone)]
pub(crate) enum SlotHandle {
    Declared(&'static dyn Slot),
    Owned(Arc<dyn OwnedCell>),
}

impl SlotHandle {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Declared(slot) => slot.name().to_owned(),
            Self::Owned(cell) => cell.slot().name(),
        }
    }
}

/// Where a cell belongs.
#[derive(Clone, Copy)]
enum Origin {
    Declared(&'static dyn Slot),
    /// The keeper of the cell keeps both alive: see [`RawCell::owned`].
    Owned {
        slot: NonNull<dyn OwnedSlot>,
        lock: NonNull<OwnersLock>,
    },
}

/// What becomes of a slot's value when the poll of an isolated future ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFutures {
    /// It goes with the future.
    Travels,
    /// It ends with the poll: the lease of a worker-local.
    EndsWithPoll,
}

/// A slot's place on one thread.
#[repr(C)]
pub(crate) struct RawCell {
    /// The task whose value it shows: see [`now`](Self::now).
    epoch: Cell<u64>,
    /// One box for the next nested value, so that the steady state does not allocate.
    spare: Cell<Option<NonNull<Header>>>,
    top: Cell<NonNull<Header>>,
    pub(super) is_registered: Cell<bool>,
    /// Whether the owner is gone (C4).
    has_ended: Cell<bool>,
    /// Whether tasks may inherit it.
    is_inheritable: bool,
    in_futures: InFutures,
    /// How many entries it has on this thread's trail. Counted for owned slots only, whose cells
    /// can go away (C1).
    entries: Cell<u32>,
    origin: Origin,
}

impl RawCell {
    pub(crate) const fn declared(
        slot: &'static dyn Slot,
        in_futures: InFutures,
        is_inheritable: bool,
    ) -> Self {
        Self::new(Origin::Declared(slot), in_futures, is_inheritable)
    }

    /// # Safety
    ///
    /// - `slot` and `lock` outlive the cell.
    pub(crate) unsafe fn owned(
        slot: NonNull<dyn OwnedSlot>,
        lock: NonNull<OwnersLock>,
        in_futures: InFutures,
    ) -> Self {
        Self::new(Origin::Owned { slot, lock }, in_futures, false)
    }

    const fn new(origin: Origin, in_futures: InFutures, is_inheritable: bool) -> Self {
        Self {
            epoch: Cell::new(Shown::NOTHING.epoch),
            spare: Cell::new(None),
            top: Cell::new(Shown::NOTHING.header),
            is_registered: Cell::new(false),
            has_ended: Cell::new(false),
            is_inheritable,
            in_futures,
            entries: Cell::new(0),
            origin,
        }
    }

    pub(super) fn is_owned(&self) -> bool {
        matches!(self.origin, Origin::Owned { .. })
    }

    pub(super) fn is_inheritable(&self) -> bool {
        self.is_inheritable
    }

    /// Returns whether its values are leases of a worker-local.
    pub(crate) fn is_lease(&self) -> bool {
        self.in_futures == InFutures::EndsWithPoll
    }

    pub(crate) fn has_entries(&self) -> bool {
        self.entries.get() != 0
    }

    pub(super) fn inheritance(&self) -> Option<&'static dyn Inheritance> {
        match self.origin {
            Origin::Declared(slot) => slot.inheritance(),
            Origin::Owned { .. } => None,
        }
    }

    /// Returns a handle by which a future that takes the cell's value along finds the slot again.
    /// The cell has an entry on the trail.
    pub(super) fn handle(&self) -> SlotHandle {
        match self.origin {
            Origin::Declared(slot) => SlotHandle::Declared(slot),
            Origin::Owned { slot, .. } => {
                // SAFETY: it outlives the cell: see `RawCell::owned`.
                match unsafe { slot.as_ref() }.cell() {
                    Some(cell) => SlotHandle::Owned(cell),
                    None => unreachable!("a cell with an entry is in its thread's table (C1)"),
                }
            }
        }
    }

    pub(crate) fn name(&self) -> String {
        match self.origin {
            Origin::Declared(slot) => slot.name().to_owned(),
            // SAFETY: it outlives the cell: see `RawCell::owned`.
            Origin::Owned { slot, .. } => unsafe { slot.as_ref() }.name(),
        }
    }

    /// Keeps the owner's drop away (C4). Returns `None` if there is no owner.
    fn lock(&self) -> Option<MutexGuard<'_, usize>> {
        match &self.origin {
            Origin::Declared(_) => None,
            // SAFETY: it outlives the cell: see `RawCell::owned`.
            Origin::Owned { lock, .. } => Some(unsafe { lock.as_ref() }.lock()),
        }
    }

    /// Returns whether its owner is gone, and with the owner its values. The caller holds the lock
    /// (C4).
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Returns whether its owner is gone, for a caller that does not hold the lock.
    pub(crate) fn has_ended_by_now(&self) -> bool {
        let _lock = self.lock();
        self.has_ended()
    }

    /// Returns the value of the task with this epoch, if it has touched the slot.
    #[inline]
    pub(crate) fn shown(&self, epoch: u64) -> Option<NonNull<Header>> {
        if self.epoch.get() == epoch { Some(self.top.get()) } else { None }
    }

    /// Returns the epoch of the task whose value it shows.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    #[inline]
    fn now(&self) -> Shown {
        Shown { epoch: self.epoch.get(), header: self.top.get() }
    }

    #[inline]
    fn show(&self, shown: Shown) {
        self.epoch.set(shown.epoch);
        self.top.set(shown.header);
    }

    /// Returns a box to hold the next value: the spare one, or a new one.
    pub(crate) fn vacant<T>(&self) -> NonNull<Header> {
        self.spare.take().unwrap_or_else(value::alloc::<T>)
    }

    /// Shows `header` on top of what there is. The caller owns the box, and hands it to this cell
    /// (V4).
    #[inline]
    pub(crate) fn link(&self, header: NonNull<Header>, epoch: u64) {
        // SAFETY: owned by the caller, so it is alive.
        unsafe { header.as_ref() }.set_below(self.now());
        self.show(Shown { epoch, header });
    }

    /// Links a box for a caller that does not borrow the owner (C4). Returns `false` if the owner
    /// is gone; the box then stays the caller's.
    pub(super) fn link_unless_ended(&self, header: NonNull<Header>, epoch: u64) -> bool {
        let _lock = self.lock();
        if !self.has_ended() {
            self.link(header, epoch);
        }
        !self.has_ended()
    }

    /// Shows an empty box for a value that needs no trail entry, in place of a stale one if there
    /// is one.
    ///
    /// To be called only where neither the root nor an open task has a value in this cell.
    pub(super) fn place<T>(&self, epoch: u64) -> NonNull<Header> {
        if let Some(header) = self.stale() {
            // SAFETY: the top box belongs to this cell (V4).
            let head = unsafe { header.as_ref() };
            if head.is_unused() {
                head.forget_plain();
                self.epoch.set(epoch);
                return header;
            }
            // Leaked: somebody is using it although its task has ended (V4).
            self.show(Shown::NOTHING);
            leak::count_leak();
        }
        let header = self.vacant::<T>();
        self.link(header, epoch);
        header
    }

    /// Shows the stale value in place as one of the innermost task that needs no trail entry. The
    /// caller puts another one in its place at once. Returns `None` if there is none, it is in use,
    /// or it is the root's.
    ///
    /// To be called only where no other open task, unless it is the root, has a value in this cell.
    #[inline]
    pub(crate) fn reuse(&self, epoch: u64) -> Option<NonNull<Header>> {
        let header = self.stale()?;
        // SAFETY: the top box belongs to this cell (V4).
        let head = unsafe { header.as_ref() };
        (head.is_idle() && !head.is_scoped.get()).then(|| {
            self.epoch.set(epoch);
            header
        })
    }

    /// Returns the top box, unless it has the root's value.
    #[inline]
    fn stale(&self) -> Option<NonNull<Header>> {
        // `NEVER` and `ROOT` are the lowest epochs.
        if self.epoch() > ROOT { Some(self.top.get()) } else { None }
    }

    /// Takes the value of the task with this epoch away, and shows the one below. Returns `None` if
    /// the owner took it before.
    ///
    /// What lies on top of it belongs to scopes and polls that are open on the Rust stack although
    /// this task ends, because the process exits from within them, or a coroutine is suspended
    /// there. It is leaked.
    #[inline]
    pub(crate) fn unlink(&self, epoch: u64) -> Option<NonNull<Header>> {
        if self.is_owned() { self.unlink_owned(epoch) } else { self.unlink_locked(epoch) }
    }

    // A call, so that cells without a lock do not pay for it.
    #[inline(never)]
    fn unlink_owned(&self, epoch: u64) -> Option<NonNull<Header>> {
        let _lock = self.lock();
        self.unlink_locked(epoch)
    }

    /// Does the same for a caller that holds the lock (C4).
    #[inline]
    pub(super) fn unlink_locked(&self, epoch: u64) -> Option<NonNull<Header>> {
        loop {
            let shown = self.now();
            let header = shown.top()?;
            // SAFETY: the top box belongs to this cell (V4).
            let head = unsafe { header.as_ref() };
            self.show(head.below());
            if shown.epoch == epoch && !head.is_scoped.get() {
                return Some(header);
            }
            leak::count_leak();
        }
    }

    /// Returns whether it shows the value of the task with this epoch, and nobody uses that: no
    /// scope lies on it, and nobody borrows it.
    pub(super) fn is_at_rest(&self, epoch: u64) -> bool {
        self.shown(epoch).is_some_and(|header| {
            // SAFETY: the top box belongs to this cell (V4).
            let head = unsafe { header.as_ref() };
            !head.is_scoped.get() && head.is_unused()
        })
    }

    /// Returns whether the top box is a scope's, which only that scope takes out. If the innermost
    /// task has not touched the slot, a coroutine is suspended in there whose task has ended.
    #[inline]
    pub(super) fn is_scoped(&self) -> bool {
        // SAFETY: the top box belongs to this cell (V4).
        self.stale().is_some_and(|header| unsafe { header.as_ref() }.is_scoped.get())
    }

    /// Returns whether this is the top box.
    #[inline]
    pub(super) fn is_top(&self, header: NonNull<Header>) -> bool {
        // A cell that shows nothing has a pointer to no box there.
        self.top.get() == header
    }

    /// Takes the top box away, which the caller knows to be `header`. The caller holds the lock
    /// (C4).
    #[inline]
    pub(super) fn unlink_top(&self, header: NonNull<Header>) {
        debug_assert!(self.is_top(header));
        // SAFETY: the top box belongs to this cell (V4).
        self.show(unsafe { header.as_ref() }.below());
    }

    /// Takes a scope's box away. Returns `false` if it is no longer there, since its task ended, or
    /// a poll of its task returned, before the scope ended: it was leaked then. The caller borrows
    /// the owner (C4).
    #[inline]
    pub(crate) fn unlink_scoped(&self, header: NonNull<Header>) -> bool {
        if self.is_top(header) {
            self.unlink_top(header);
            return true;
        }
        self.unlink_from_the_middle(header)
    }

    /// For scopes that do not end in reverse order, which takes stackful coroutines.
    #[cold]
    fn unlink_from_the_middle(&self, header: NonNull<Header>) -> bool {
        let mut next = self.now().top();
        while let Some(above) = next {
            // SAFETY: a box of this cell's chain (C3).
            let above = unsafe { above.as_ref() };
            next = above.below().top();
            if next == Some(header) {
                // SAFETY: the same.
                above.set_below(unsafe { header.as_ref() }.below());
                return true;
            }
        }
        false
    }

    /// Puts an empty box aside for the next value, or frees it.
    ///
    /// # Safety
    ///
    /// - The caller owns the box (V4), which was made for this cell's type, is empty and in
    ///   nobody's use.
    #[inline]
    pub(crate) unsafe fn recycle(&self, header: NonNull<Header>) {
        let is_kept = if self.is_owned() { self.keep_owned(header) } else { self.keep(header) };
        if !is_kept {
            // SAFETY: the caller's.
            unsafe { value::free_box(header) };
        }
    }

    /// Keeps a box as the spare one, if there is none.
    #[inline]
    fn keep(&self, header: NonNull<Header>) -> bool {
        let has_none = self.spare.get().is_none();
        if has_none {
            self.spare.set(Some(header));
        }
        has_none
    }

    #[inline(never)]
    fn keep_owned(&self, header: NonNull<Header>) -> bool {
        let _lock = self.lock();
        !self.has_ended() && self.keep(header)
    }

    pub(super) fn add_entry(&self) {
        if self.is_owned() {
            self.entries.set(self.entries.get() + 1);
        }
    }

    pub(super) fn remove_entry(&self) {
        if self.is_owned() {
            self.entries.set(self.entries.get() - 1);
        }
    }

    /// Frees the boxes that are left when the thread ends, after its last task.
    pub(crate) fn free_boxes(&self) {
        let lock = self.lock();
        let boxes = self.take_boxes();
        drop(lock);
        for header in boxes {
            // SAFETY: it belonged to this cell, which has let go of it.
            unsafe { value::free_left(header) };
        }
    }

    /// Takes all boxes away. The caller holds the lock (C4).
    fn take_boxes(&self) -> Vec<NonNull<Header>> {
        let mut boxes = Vec::from_iter(self.spare.take());
        let mut next = self.now().top();
        self.show(Shown::NOTHING);
        while let Some(header) = next {
            boxes.push(header);
            // SAFETY: a box of this cell's chain (C3).
            next = unsafe { header.as_ref() }.below().top();
        }
        boxes
    }

    /// Takes all values away, the youngest first, because the owner is gone. They become the
    /// caller's.
    ///
    /// The caller has exclusive access to the owner, so none of them is borrowed.
    pub(crate) fn end(&self) -> Vec<NonNull<Header>> {
        let mut lock = self.lock();
        self.has_ended.set(true);
        if let Some(ended) = lock.as_deref_mut() {
            *ended += 1;
        }
        self.take_boxes()
    }
}

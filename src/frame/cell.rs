//! A slot's place on one thread: which value it shows now, and which ones it hides.
//!
//! # Invariants
//!
//! - **C1 (place).** A cell that is on a trail, linked by a future that is being polled, or in the
//!   registry stays where it is until its entries are gone: a declared slot's cell is a
//!   `thread_local!` without a destructor, which lives as long as its thread; an
//!   [`OwnedLocal`](crate::OwnedLocal)'s is kept by the thread's table while `entries` is not zero.
//! - **C2 (shown).** If `shown.epoch` is that of a frame that is open on this thread, `top` is that frame's
//!   value for this slot. Epochs are never used twice on a thread, so a cell with any other epoch
//!   shows nothing, whatever `top` points to. Without a `top` the epoch is `NEVER`.
//! - **C3 (chain).** `top`, its `below`, and so on are boxes of this cell's type, the youngest first.
//!   All but a stale `top` are values of frames that are open.
//! - **C4 (lock).** A cell with a `lock` may be emptied by another thread, which drops the owner.
//!   Whoever links, unlinks or recycles without borrowing the owner holds the lock and looks at
//!   `ended` first. Access through the owner needs no lock: while it is borrowed it is not dropped.

#![expect(unsafe_code, reason = "cells are reached through the trail by pointer")]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::thread::Thread;
use super::value::{self, Header, Kept, Shown};
use crate::context::Inheritance;

/// Never the epoch of a frame: the cell shows nothing.
pub(crate) const NEVER: u64 = 0;
/// The epoch of the thread itself, outside any task.
pub(crate) const ROOT: u64 = 1;
/// The epoch of a thread whose slots have been torn down. No cell has it.
pub(crate) const GONE: u64 = u64::MAX;

/// What the engine asks of a declared slot.
pub(crate) trait Slot: Sync {
    /// The path under which it was declared.
    fn name(&self) -> &'static str;
    /// The slot's cell on this thread (C1).
    fn cell(&self) -> NonNull<RawCell>;
    /// How tasks inherit it, if they do.
    fn inheritance(&self) -> Option<&dyn Inheritance>;
}

/// What the engine asks of a slot that an object owns.
pub(crate) trait OwnedSlot: Send + Sync {
    /// Its type and where it was made.
    fn name(&self) -> String;
    /// Calls back with its cell on this thread; not at all once the owner is gone.
    fn visit(&self, f: &mut dyn FnMut(&RawCell));
    /// Another handle to this slot.
    fn handle(&self) -> Arc<dyn OwnedSlot>;
}

/// Where a cell belongs.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    Declared(&'static dyn Slot),
    /// Kept alive by whoever keeps the cell.
    Owned(NonNull<dyn OwnedSlot>),
}

/// A slot that is not tied to the thread that looks at it.
#[derive(Clone)]
pub(crate) enum SlotHandle {
    Declared(&'static dyn Slot),
    Owned(Arc<dyn OwnedSlot>),
}

impl SlotHandle {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Declared(slot) => slot.name().to_owned(),
            Self::Owned(slot) => slot.name(),
        }
    }
}

/// A slot's place on one thread.
///
/// Aligned so that `shown`, which is moved as one, never lies across two lines of the cache.
// For speed only, and not every system gives thread-locals an alignment beyond a word's.
#[repr(C)]
#[cfg_attr(target_os = "linux", repr(align(16)))]
pub(crate) struct RawCell {
    shown: Cell<Shown>,
    /// One box for the next nested value, so that the steady state does not allocate.
    spare: Cell<Option<NonNull<Header>>>,
    pub(super) registered: Cell<bool>,
    /// Entries on this thread's trail, or links of a future. Counted only for owned cells, which can go away (C1).
    entries: Cell<u32>,
    origin: Origin,
    /// Its values are bound to this thread: a suspended future does not take them along.
    stays: bool,
    /// Tasks may inherit it.
    heir: bool,
    /// `true` inside: the owner is gone. `None` for declared slots, which have no owner.
    lock: Option<NonNull<Mutex<bool>>>,
}

impl RawCell {
    pub(crate) const fn declared(slot: &'static dyn Slot, stays: bool, heir: bool) -> Self {
        Self::new(Origin::Declared(slot), stays, heir, None)
    }

    /// # Safety
    ///
    /// - `slot` and `lock` outlive the cell.
    pub(crate) unsafe fn owned(
        slot: NonNull<dyn OwnedSlot>,
        stays: bool,
        lock: NonNull<Mutex<bool>>,
    ) -> Self {
        Self::new(Origin::Owned(slot), stays, false, Some(lock))
    }

    const fn new(
        origin: Origin,
        stays: bool,
        heir: bool,
        lock: Option<NonNull<Mutex<bool>>>,
    ) -> Self {
        Self {
            shown: Cell::new(Shown::NOTHING),
            spare: Cell::new(None),
            registered: Cell::new(false),
            entries: Cell::new(0),
            origin,
            stays,
            heir,
            lock,
        }
    }

    pub(crate) fn is_owned(&self) -> bool {
        self.lock.is_some()
    }

    pub(crate) fn is_heir(&self) -> bool {
        self.heir
    }

    pub(crate) fn stays(&self) -> bool {
        self.stays
    }

    pub(crate) fn has_entries(&self) -> bool {
        self.entries.get() != 0
    }

    pub(crate) fn inheritance(&self) -> Option<&'static dyn Inheritance> {
        match self.origin {
            Origin::Declared(slot) => slot.inheritance(),
            Origin::Owned(_) => None,
        }
    }

    pub(crate) fn handle(&self) -> SlotHandle {
        match self.origin {
            Origin::Declared(slot) => SlotHandle::Declared(slot),
            Origin::Owned(slot) => {
                // SAFETY: whoever keeps the cell keeps the slot: see `RawCell::owned`.
                SlotHandle::Owned(unsafe { slot.as_ref() }.handle())
            }
        }
    }

    pub(crate) fn name(&self) -> String {
        match self.origin {
            Origin::Declared(slot) => slot.name().to_owned(),
            // SAFETY: whoever keeps the cell keeps the slot: see `RawCell::owned`.
            Origin::Owned(slot) => unsafe { slot.as_ref() }.name(),
        }
    }

    /// Keeps the owner's drop away (C4). Its content says whether the owner is gone already.
    fn lock(&self) -> Option<MutexGuard<'_, bool>> {
        // SAFETY: it outlives the cell: see `RawCell::owned`.
        self.lock.map(|lock| unsafe { lock.as_ref() }.lock())
    }

    /// Whether its owner is gone, and its values with the owner.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().as_deref() == Some(&true)
    }

    /// The value that this thread's innermost frame holds.
    #[inline]
    pub(crate) fn shown(&self, thread: &Thread) -> Option<NonNull<Header>> {
        let shown = self.shown.get();
        if shown.epoch != thread.epoch() {
            return None;
        }
        // SAFETY: C2: no thread's epoch is `NEVER` (T4), so there is a top.
        Some(unsafe { shown.top.unwrap_unchecked() })
    }

    /// The epoch of the frame whose value it shows.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.shown.get().epoch
    }

    #[inline]
    fn show(&self, top: NonNull<Header>, epoch: u64) {
        self.shown.set(Shown { epoch, top: Some(top) });
    }

    /// A box to hold the next value: the spare one, or a new one.
    pub(crate) fn vacant<T>(&self) -> NonNull<Header> {
        self.spare.take().unwrap_or_else(value::alloc::<T>)
    }

    /// Shows `header` on top of what there is. Undone by [`unlink`](Self::unlink).
    #[inline]
    pub(crate) fn link(&self, header: NonNull<Header>, epoch: u64) {
        // SAFETY: a box that the caller owns and hands to this cell (V4), so it is alive.
        let head = unsafe { header.as_ref() };
        head.below.set(self.shown.get());
        self.show(header, epoch);
    }

    /// Takes the top value away and shows the one below. `None` if the owner took it before.
    #[inline]
    pub(crate) fn unlink(&self) -> Option<NonNull<Header>> {
        if self.is_owned() { self.unlink_locked() } else { self.pop() }
    }

    /// The same where the caller knows what is on top.
    ///
    /// # Safety
    ///
    /// - `header` is the cell's top box.
    /// - The slot is a declared one, so no owner can take the box away meanwhile.
    #[inline]
    pub(super) unsafe fn unlink_top(&self, header: NonNull<Header>) {
        debug_assert!(!self.is_owned());
        debug_assert_eq!(self.shown.get().top, Some(header));
        // SAFETY: the top box belongs to this cell (V4), so it is alive.
        self.shown.set(unsafe { header.as_ref() }.below.get());
    }

    #[inline(never)]
    fn unlink_locked(&self) -> Option<NonNull<Header>> {
        let lock = self.lock();
        if lock.as_deref() == Some(&true) {
            return None;
        }
        self.pop()
    }

    #[inline]
    fn pop(&self) -> Option<NonNull<Header>> {
        let header = self.shown.get().top?;
        // SAFETY: the top box belongs to this cell (V4), so it is alive.
        self.shown.set(unsafe { header.as_ref() }.below.get());
        Some(header)
    }

    /// Puts an empty box aside for the next value, or frees it.
    ///
    /// # Safety
    ///
    /// - The caller owns the box (V4), which was made for this cell's type and is empty.
    pub(crate) unsafe fn recycle(&self, header: NonNull<Header>) {
        let lock = self.lock();
        if self.spare.get().is_none() && lock.as_deref() != Some(&true) {
            self.spare.set(Some(header));
        } else {
            drop(lock);
            // SAFETY: the caller owns it and hands it over.
            unsafe { value::free_box(header) };
        }
    }

    /// The box in place, for a value that needs no trail entry, if it can be used again.
    ///
    /// Only where the top is the root's value or a stale one, never that of another open frame.
    #[inline]
    pub(super) fn reuse(&self, epoch: u64) -> Option<NonNull<Header>> {
        let header = self.shown.get().top?;
        if self.epoch() == ROOT {
            return None;
        }
        // SAFETY: the top box belongs to this cell, and by the caller's word its frame is over.
        let head = unsafe { header.as_ref() };
        if !head.empty_if_unused() {
            return self.disown(header);
        }
        self.show(header, epoch);
        Some(header)
    }

    /// The same for a box with a value that nobody uses, which the caller writes over.
    #[inline]
    pub(super) fn reuse_idle(&self, epoch: u64) -> Option<NonNull<Header>> {
        let Shown { epoch: before, top } = self.shown.get();
        // SAFETY: as in `reuse`.
        let is_idle = |header: &NonNull<Header>| unsafe { header.as_ref() }.is_idle();
        let header = top.filter(is_idle).filter(|_| before != ROOT)?;
        self.show(header, epoch);
        Some(header)
    }

    /// Leaves a stale box to whoever still uses it.
    #[cold]
    fn disown(&self, header: NonNull<Header>) -> Option<NonNull<Header>> {
        self.shown.set(Shown::NOTHING);
        // SAFETY: the cell owned it until the line above, and its value needs no drop.
        let Kept::Orphaned = (unsafe { value::revive(header) }) else {
            unreachable!("it was in use a moment ago")
        };
        None
    }

    /// Shows a box for a value that needs no trail entry, in a cell without a usable top.
    pub(super) fn place(&self, header: NonNull<Header>, epoch: u64) {
        // SAFETY: a box that the caller owns and hands to this cell (V4), so it is alive.
        let head = unsafe { header.as_ref() };
        head.below.set(Shown::NOTHING);
        self.show(header, epoch);
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

    /// Frees the boxes of a cell none of whose values are left, at the end of its thread.
    ///
    /// A stale top is a value without drop glue, or none.
    pub(crate) fn free_boxes(&self) {
        let lock = self.lock();
        let boxes = [self.shown.replace(Shown::NOTHING).top, self.spare.take()];
        drop(lock);
        for header in boxes.into_iter().flatten() {
            // SAFETY: it belonged to this cell, which has let go of it. If somebody still uses it,
            // it is theirs.
            if let Kept::Box = unsafe { value::revive(header) } {
                // SAFETY: nobody uses it, and the value in it, if any, needs no drop.
                unsafe { value::free_box(header) };
            }
        }
    }

    /// Takes all values away because the owner is gone.
    ///
    /// The caller holds the lock and has just set `ended` (C4). Nothing is borrowed, since every
    /// borrow of a value borrows the owner.
    pub(crate) fn drain(&self) -> Vec<NonNull<Header>> {
        let mut boxes = Vec::new();
        boxes.extend(self.spare.take());
        let mut next = self.shown.replace(Shown::NOTHING).top;
        while let Some(header) = next {
            boxes.push(header);
            // SAFETY: a box of this cell's chain (C3).
            next = unsafe { header.as_ref() }.below.get().top;
        }
        boxes
    }
}

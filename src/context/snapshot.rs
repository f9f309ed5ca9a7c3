//! The immutable set of inherited values that a context shares with its tasks.
//!
//! # Invariants
//!
//! - **N1 (counted).** A non-null `*const Snapshot` in the engine comes from `Arc::as_ptr` or
//!   `Arc::into_raw`. `Thread::context` borrows the count of whoever opened a pinned frame, and owns one
//!   for a loose frame; a pointer in `Thread::captured` or a record's `captured` owns one.

#![expect(
    unsafe_code,
    reason = "the frames keep snapshots by pointer, so that the hot path copies a word"
)]

use std::sync::Arc;

use super::inherit::{Copied, Inheritance};
use super::{CaptureError, SnapshotRef};
use crate::frame::thread::{self, Thread};
use crate::frame::{self, Drops};

/// One slot's copy.
struct Item {
    slot: &'static dyn Inheritance,
    copied: Copied,
}

/// The inherited values of a context. Never empty, never changed.
pub(crate) struct Snapshot {
    items: Vec<Item>,
    /// Some slot is declared `with = f`: a task that captures holds values of its own (R7).
    derives: bool,
}

impl Drop for Snapshot {
    /// Drops every copy, each contained.
    fn drop(&mut self) {
        let mut drops = Drops::default();
        for item in self.items.drain(..) {
            drops.contain(|| drop(item));
        }
        drops.resume();
    }
}

/// Slots are told apart by where their declaration lies.
fn is_same(a: &dyn Inheritance, b: &dyn Inheritance) -> bool {
    std::ptr::addr_eq(a, b)
}

impl Snapshot {
    /// The paths of the slots, for `Debug`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.items.iter().map(|item| item.slot.name())
    }

    fn find(&self, slot: &dyn Inheritance) -> Option<&Copied> {
        self.items.iter().find(|item| is_same(item.slot, slot)).map(|item| &item.copied)
    }

    /// Gives up a counted pointer. Never unwinds.
    ///
    /// If it was the last count, the copies are dropped in a frame of their own: that is code of
    /// others, which must neither see the current task's slots nor unwind through the engine.
    pub(crate) fn release(snapshot: *const Self) {
        if snapshot.is_null() {
            return;
        }
        // SAFETY: N1: the caller gives up a count that it owns.
        let counted = unsafe { Arc::from_raw(snapshot) };
        if let Some(last) = Arc::into_inner(counted)
            && let Err(failure) = frame::contained(|| drop(last))
        {
            frame::discard(frame::CleanupError::from_failure(failure).into_payload());
        }
    }

    /// Takes a count of a pointer that the caller knows to be alive, and gives the pointer back.
    pub(crate) fn retain(snapshot: *const Self) -> *const Self {
        Self::share(snapshot).map_or(std::ptr::null(), Arc::into_raw)
    }

    /// Another count of a pointer in the engine.
    #[inline]
    fn share(snapshot: *const Self) -> SnapshotRef {
        if snapshot.is_null() {
            return None;
        }
        // SAFETY: N1: somebody holds a count while the pointer is in the engine.
        unsafe { Arc::increment_strong_count(snapshot) };
        // SAFETY: the count was added on the line above.
        Some(unsafe { Arc::from_raw(snapshot) })
    }
}

/// The copy that the current task inherits for this slot.
pub(crate) fn inherited(thread: &Thread, slot: &dyn Inheritance) -> Option<Copied> {
    let snapshot = thread.context();
    if snapshot.is_null() {
        return None;
    }
    // SAFETY: N1: whoever opened the frame keeps it alive while the frame is open.
    unsafe { &*snapshot }.find(slot).cloned()
}

/// Captures what the current task would hand down. O(1) if nothing inheritable has changed since
/// the last time, O(inheritable slots that this thread has ever touched) otherwise.
#[inline]
pub(crate) fn capture() -> Result<SnapshotRef, CaptureError> {
    let thread = thread::current();
    let captured = thread.captured();
    if !captured.is_null() {
        return Ok(Snapshot::share(captured));
    }
    if thread.context().is_null() && !thread.has_diverged() {
        return Ok(None);
    }
    capture_slow(thread)
}

#[inline(never)]
fn capture_slow(thread: &Thread) -> Result<SnapshotRef, CaptureError> {
    let context = thread.context();
    // SAFETY: N1, as in `inherited`.
    let derives = !context.is_null() && unsafe { &*context }.derives;
    if !thread.has_diverged() && !derives {
        return Ok(Snapshot::share(context));
    }
    rebuild(thread, Snapshot::share(context))
}

/// Copies what the current task holds, and shares what it has not touched.
#[cold]
fn rebuild(thread: &Thread, parent: SnapshotRef) -> Result<SnapshotRef, CaptureError> {
    let inherited: &[Item] = parent.as_deref().map_or(&[], |parent| &parent.items);
    for item in inherited {
        if item.slot.derives() {
            item.slot.materialise();
        }
    }
    let mut items = Vec::with_capacity(inherited.len());
    let mut touched: Vec<&'static dyn Inheritance> = Vec::new();
    for slot in thread.heirs() {
        if !slot.is_touched() {
            continue;
        }
        touched.push(slot);
        match slot.copy_current() {
            Ok(Some(copied)) => items.push(Item { slot, copied }),
            Ok(None) => {}
            Err(_) => return Err(CaptureError::new(slot.name())),
        }
    }
    for item in inherited {
        if !touched.iter().any(|slot| is_same(*slot, item.slot)) {
            items.push(Item { slot: item.slot, copied: item.copied.clone() });
        }
    }
    let derives = items.iter().any(|item| item.slot.derives());
    let snapshot = (!items.is_empty()).then(|| Arc::new(Snapshot { items, derives }));
    // A copy is code of others: it may have captured, or changed a slot, in which case what was
    // captured then is dropped in favour of this one.
    thread.forget_capture();
    if let Some(snapshot) = &snapshot {
        thread.set_captured(Arc::into_raw(Arc::clone(snapshot)));
    }
    Ok(snapshot)
}

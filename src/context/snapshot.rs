//! The immutable set of inherited values that a context shares with its tasks.
//!
//! # Invariants
//!
//! - **N1 (counted).** A non-null [`Raw`] in the engine comes from a [`Shared`] of a snapshot.
//!   `Thread::context` borrows a count: that of whoever opened a pinned frame, or that of a loose
//!   frame's record.

#![expect(
    unsafe_code,
    reason = "the frames keep snapshots by pointer, so that the hot path copies a word"
)]

use super::inherit::{Copied, Inheritance};
use super::shared::{Purse, Shared};
use super::{CaptureError, SnapshotRef};
use crate::frame;
use crate::frame::thread::{self, Thread};
use crate::panic::Drops;

/// One slot's copy.
struct Item {
    slot: &'static dyn Inheritance,
    copied: Copied,
}

/// A snapshot as the engine's frames keep it, or null (N1).
pub(crate) type Raw = *const ();

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

    /// The context's word for the engine, without a count.
    #[inline]
    pub(crate) fn as_raw(snapshot: &SnapshotRef) -> Raw {
        snapshot.as_ref().map_or(std::ptr::null(), Shared::as_raw)
    }

    /// Takes a count for a word that the caller knows to be alive, and gives the word back.
    pub(crate) fn retain(raw: Raw) -> Raw {
        Self::share(raw).map_or(std::ptr::null(), Shared::into_raw)
    }

    /// Gives up a word with its count. Never unwinds.
    pub(crate) fn release(raw: Raw) {
        if !raw.is_null() {
            // SAFETY: N1: the caller gives up a count that it owns.
            Self::end(Shared::into_inner(unsafe { Shared::<Self>::from_raw(raw) }));
        }
    }

    /// Drops the copies in a frame of their own: that is code of others, which must neither see the
    /// current task's slots nor unwind through the engine.
    fn end(last: Option<Self>) {
        if let Some(last) = last {
            let _unreportable = frame::contained(|| drop(last));
        }
    }

    /// Another count for a word in the engine.
    #[inline]
    fn share(raw: Raw) -> SnapshotRef {
        if raw.is_null() {
            return None;
        }
        // SAFETY: N1: somebody holds a count while the word is in the engine.
        let shared = unsafe { Shared::<Self>::borrow_raw(raw) };
        Some(Shared::clone(&shared))
    }
}

/// A capture that a task keeps, to give it out again while nothing inheritable changes.
pub(crate) struct Capture(Purse<Snapshot>);

impl Capture {
    /// One more count.
    #[inline]
    pub(crate) fn draw(&self) -> SnapshotRef {
        Some(self.0.draw())
    }

    /// Drops the values too if nobody else has them. Never unwinds.
    pub(crate) fn end(self) {
        Snapshot::end(Purse::into_inner(self.0));
    }
}

/// The copy that the current task inherits for this slot.
pub(crate) fn inherited(thread: &Thread, slot: &dyn Inheritance) -> Option<Copied> {
    let context = thread.context();
    if context.is_null() {
        return None;
    }
    // SAFETY: N1: whoever opened the frame keeps it alive while the frame is open.
    unsafe { Shared::<Snapshot>::borrow_raw(context) }.find(slot).cloned()
}

/// Captures what the current task would hand down. O(1) if nothing inheritable has changed since
/// the last time, O(inheritable slots that this thread has ever touched) otherwise.
#[inline]
pub(crate) fn capture() -> Result<SnapshotRef, CaptureError> {
    let thread = thread::current();
    if let Some(kept) = thread.draw_capture() {
        return Ok(Some(kept));
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
    let derives = !context.is_null() && unsafe { Shared::<Snapshot>::borrow_raw(context) }.derives;
    if !thread.has_diverged() && !derives {
        return Ok(Snapshot::share(context));
    }
    rebuild(thread, Snapshot::share(context))
}

/// Copies what the current task holds, and shares what it has not touched.
#[cold]
fn rebuild(thread: &Thread, parent: SnapshotRef) -> Result<SnapshotRef, CaptureError> {
    let task = thread.epoch();
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
    let snapshot = (!items.is_empty()).then(|| Shared::new(Snapshot { items, derives }));
    // A copy is code of others: it may have captured, or changed a slot, in which case what was
    // captured then is dropped in favour of this one.
    thread.forget_capture();
    Ok(snapshot.map(|(shared, purse)| {
        // It may also have ended this task, or left a frame behind: this is no capture of theirs.
        if thread.epoch() == task {
            thread.keep_capture(Capture(purse));
        }
        shared
    }))
}

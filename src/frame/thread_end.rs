//! The end of a thread: its own values end, and then its slots cannot be used any more.

#![expect(unsafe_code, reason = "cells are reached by pointer")]

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cell::RawCell;
use super::epoch::GONE;
use super::permanent::{self, Gone};
use super::task::{give_up_capture, unwind};
use super::thread::{self, ID_STEP, INDIRECT, NESTED, NOBODY, Thread};

/// The id that the next thread gets. None is used twice.
static NEXT_ID: AtomicU64 = AtomicU64::new(NOBODY + ID_STEP);

/// Makes sure that this thread's end will be noticed (T2).
#[inline]
pub(crate) fn register(thread: &Thread) -> Result<(), Gone> {
    if thread.id.get() == NOBODY { register_slow(thread) } else { Ok(()) }
}

#[cold]
fn register_slow(thread: &Thread) -> Result<(), Gone> {
    if thread.is_gone() {
        return Err(Gone);
    }
    permanent::at_end(teardown)?;
    #[cfg(feature = "sentinel")]
    ignore_own();
    // Relaxed: only uniqueness matters, and that comes with the addition.
    thread.id.set(NEXT_ID.fetch_add(ID_STEP, Ordering::Relaxed));
    Ok(())
}

/// Tells the sentinel, once, what the engine keeps per thread.
#[cfg(feature = "sentinel")]
fn ignore_own() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| cleanslate_sentinel::ignore(|ignored| thread::current().list(ignored)));
}

/// Makes sure that a cell may be linked on this thread, which it may not after the teardown.
#[inline]
pub(crate) fn admit(thread: &Thread, cell: &RawCell) -> Result<(), Gone> {
    if cell.is_registered.get() { Ok(()) } else { admit_slow(thread, cell) }
}

/// Admits a cell at its very first touch on this thread.
#[cold]
fn admit_slow(thread: &Thread, cell: &RawCell) -> Result<(), Gone> {
    register(thread)?;
    cell.is_registered.set(true);
    if !cell.is_owned() {
        thread.add_cell(cell);
    }
    Ok(())
}

/// Ends what the thread itself holds, and frees what the state owns (T2).
///
/// A panic here would abort the process, so panics of values' drops are swallowed.
fn teardown() {
    let thread = thread::current();
    // If the process exits from within such a drop, this is no part of it.
    thread.discards.set(None);
    // The process may exit from within tasks. They then end here, the innermost first.
    while let Some(epoch) = thread.trail.last_epoch() {
        if epoch != thread.epoch.get() {
            // The innermost task inherits it, but none below does.
            thread.inherits.set(ptr::null());
        }
        thread.epoch.set(epoch);
        thread.flags.set(NESTED | INDIRECT);
        drop(unwind(thread));
    }
    while let Some(snapshot) = thread.take_any_capture() {
        give_up_capture(snapshot);
    }
    thread.flags.set(NESTED | INDIRECT);
    thread.id.set(NOBODY);
    thread.epoch.set(GONE);
    // Whoever opened a frame may keep its snapshot, but nothing is inherited from here on.
    thread.inherits.set(ptr::null());
    if let Some(f) = thread.at_end.take() {
        f();
    }
    for cell in thread.take_cells() {
        // SAFETY: C1: declared slots' cells are permanent.
        let cell = unsafe { cell.as_ref() };
        cell.is_registered.set(false);
        cell.free_boxes();
    }
    thread.free();
}

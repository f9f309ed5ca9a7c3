//! What is attached on this thread: the lists of the contexts whose tasks run on it, one on top of
//! the other; and whether a carrier's code runs there.
//!
//! # Invariants
//!
//! - **C1 (lexical).** `INNERMOST` and each level's `outer` are null, or point to a level on this
//!   thread's stack whose call of [`on_a_level`] has not returned. That call borrows the level's
//!   list.

#![expect(unsafe_code, reason = "levels are found through pointers into the stack")]

use std::cell::Cell;
use std::ptr::null;

use super::carried::{Attached, Carried, around_one, around_several};
use super::error::CarrierError;

struct Level {
    carriers: *const [Carried],
    outer: *const Level,
    /// Whether a carrier's code runs, also one below.
    in_carrier: Cell<bool>,
}

thread_local! {
    static INNERMOST: Cell<*const Level> = const { Cell::new(null()) };
}

/// Takes the innermost level away, also when the call unwinds.
struct Leave {
    outer: *const Level,
}

impl Drop for Leave {
    #[inline]
    fn drop(&mut self) {
        INNERMOST.set(self.outer);
    }
}

/// Calls `f` with a level for these carriers, whose code runs there at first, and with whether a
/// carrier's code called this.
#[inline]
fn on_a_level<R>(carriers: &[Carried], f: impl FnOnce(bool) -> R) -> R {
    let outer = INNERMOST.get();
    let level = Level { carriers, outer, in_carrier: Cell::new(true) };
    let _leave = Leave { outer };
    INNERMOST.set(&raw const level);
    f(is_in_carrier_on(outer))
}

/// Calls `body`, which must not unwind, with all carriers attached; meanwhile [`on_this_thread`]
/// finds them. It was called unless something could not be attached.
#[inline]
pub(super) fn around(carriers: &[Carried], mut body: impl FnMut()) -> Option<CarrierError> {
    // By value, one in the other: each reference would be one more load for the task.
    on_a_level(carriers, |before| around_one(carriers, &mut move || marked(before, &mut body)))
}

/// The same for a body that calls [`reattach`].
pub(super) fn around_tasks(
    carriers: &[Carried],
    mut body: impl FnMut(Attached<'_>),
) -> Option<CarrierError> {
    on_a_level(carriers, |before| {
        around_several(Attached::NOTHING, carriers, &mut |attached| {
            marked(before, || body(attached));
        })
    })
}

/// Calls what carriers are attached around, which is a carrier's code only if that was so before.
#[inline]
fn marked(before: bool, body: impl FnOnce()) {
    // Not always the caller's: a scoped carrier may call its body inside a context.
    // SAFETY: C1; not null, since the caller's level is there.
    let level = unsafe { &*INNERMOST.get() };
    let marked = level.in_carrier.replace(before);
    body();
    level.in_carrier.set(marked);
}

/// Makes the thread ready for the next task in the same context, as detaching and attaching would.
/// `false`: one of the carriers cannot, and all have to be detached and attached.
pub(crate) fn reattach(attached: Attached<'_>) -> bool {
    in_carrier(|| attached.reattach())
}

/// Calls a carrier's code, marked as such.
pub(super) fn in_carrier<R>(f: impl FnOnce() -> R) -> R {
    on_a_level(&[], |_| f())
}

/// Calls what a wait of a carrier's code runs on top of it: tasks, which are not its code.
#[inline]
pub(crate) fn not_in_carrier<R>(f: impl FnOnce() -> R) -> R {
    if is_in_carrier() { not_in_carrier_slow(f) } else { f() }
}

#[cold]
#[inline(never)]
fn not_in_carrier_slow<R>(f: impl FnOnce() -> R) -> R {
    on_a_level(&[], |_| {
        // SAFETY: C1; not null, since this call's level is there.
        unsafe { &*INNERMOST.get() }.in_carrier.set(false);
        f()
    })
}

/// Returns whether a carrier's code runs on this thread: then installed carriers stay out of what
/// it captures, since they would carry themselves for ever.
pub(super) fn is_in_carrier() -> bool {
    is_in_carrier_on(INNERMOST.get())
}

#[inline]
fn is_in_carrier_on(level: *const Level) -> bool {
    // SAFETY: C1: null, or a level whose call lasts, on this thread's stack.
    unsafe { level.as_ref() }.is_some_and(|level| level.in_carrier.get())
}

/// Returns the carriers that are attached on this thread, the outermost first.
pub(super) fn on_this_thread() -> Vec<Carried> {
    let mut all = Vec::new();
    let mut next = INNERMOST.get();
    while !next.is_null() {
        // SAFETY: C1: a level whose call lasts, on this thread's stack; what is read never changes.
        let level = unsafe { &*next };
        // SAFETY: C1: that call borrows the list.
        let carriers = unsafe { &*level.carriers };
        all.extend(carriers.iter().rev().cloned());
        next = level.outer;
    }
    all.reverse();
    all
}

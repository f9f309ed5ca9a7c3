//! What is attached on this thread: the lists of the contexts whose tasks run on it, one on top of
//! the other.
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
use super::code::{in_carrier, is_in_carrier, marked};
use super::error::CarrierError;

struct Level {
    carriers: *const [Carried],
    outer: *const Level,
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

/// Calls `f` with a level for these carriers, whose code it calls, and with whether a carrier's
/// code called this.
#[inline]
fn on_a_level<R>(carriers: &[Carried], f: impl FnOnce(bool) -> R) -> R {
    let outer = INNERMOST.get();
    let level = Level { carriers, outer };
    let _leave = Leave { outer };
    INNERMOST.set(&raw const level);
    let before = is_in_carrier();
    in_carrier(|| f(before))
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

/// Makes the thread ready for the next task in the same context, as detaching and attaching would.
/// `false`: one of the carriers cannot, and all have to be detached and attached.
pub(crate) fn reattach(attached: Attached<'_>) -> bool {
    in_carrier(|| attached.reattach())
}

/// Returns the carriers that are attached on this thread, each once, in the order in which they
/// were attached, those several times for the last time.
pub(super) fn on_this_thread() -> Vec<Carried> {
    let mut all: Vec<Carried> = Vec::new();
    let mut next = INNERMOST.get();
    while !next.is_null() {
        // SAFETY: C1: a level whose call lasts, on this thread's stack; what is read never changes.
        let level = unsafe { &*next };
        // SAFETY: C1: that call borrows the list.
        let carriers = unsafe { &*level.carriers };
        for carried in carriers.iter().rev() {
            if !all.iter().any(|nearer| nearer.is_by_the_carrier_of(carried)) {
                all.push(carried.clone());
            }
        }
        next = level.outer;
    }
    all.reverse();
    all
}

//! What is attached on this thread: the lists of the contexts whose tasks run on it, one on top of
//! the other.
//!
//! # Invariants
//!
//! - **C1 (lexical).** `INNERMOST` and each level's `outer` are null, or point to a level on this
//!   thread's stack whose call of [`around`] has not returned. That call borrows the level's list.

#![expect(unsafe_code, reason = "levels are found through pointers into the stack")]

use std::cell::Cell;
use std::ptr::null;

use super::carried::{self, Carried, TaskBody};
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

/// Calls `body`, which must not unwind, with all carriers attached; meanwhile [`on_this_thread`]
/// finds them. It was called unless something could not be attached.
#[inline]
pub(super) fn around(carriers: &[Carried], body: TaskBody<'_>) -> Option<CarrierError> {
    let level = Level { carriers, outer: INNERMOST.get() };
    let _leave = Leave { outer: level.outer };
    INNERMOST.set(&raw const level);
    carried::around(carriers, body)
}

/// Returns the carriers that are attached on this thread, the outermost first.
pub(super) fn on_this_thread() -> Vec<Carried> {
    let mut all = Vec::new();
    let mut next = INNERMOST.get();
    while !next.is_null() {
        // SAFETY: C1: a level whose call lasts, on this thread's stack; nobody changes it.
        let level = unsafe { &*next };
        // SAFETY: C1: that call borrows the list.
        let carriers = unsafe { &*level.carriers };
        all.extend(carriers.iter().rev().cloned());
        next = level.outer;
    }
    all.reverse();
    all
}

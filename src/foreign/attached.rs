//! What is attached on this thread: the lists of the contexts whose tasks run on it, one on top of
//! the other.
//!
//! # Invariants
//!
//! - **A1 (lexical).** `INNERMOST` and each level's `outer` are null, or point to a level on this
//!   thread's stack whose call of [`on_a_level`] has not returned. That call borrows the level's
//!   list, which a stack keeps, as a frame's snapshot (S3).

#![expect(unsafe_code, reason = "levels are found through pointers into the stack")]

use std::cell::Cell;
use std::ptr::null;

use super::carried::{Attached, Carried, Progress, around_one, around_several};
use super::code::{in_carrier, is_in_carrier, marked};
use super::error::CarrierError;

struct Level {
    carriers: *const [Carried],
    /// How many of them are attached. Unless all are, the code of the next one is running.
    progress: Progress,
    outer: *const Level,
}

thread_local! {
    static INNERMOST: Cell<*const Level> = const { Cell::new(null()) };
}

/// Removes the innermost level, also when the call unwinds.
struct Leave {
    outer: *const Level,
}

impl Drop for Leave {
    #[inline]
    fn drop(&mut self) {
        INNERMOST.set(self.outer);
    }
}

/// Calls `f`, which calls these carriers' code, with a level for them. `f` is given how many are
/// attached, and whether it was a carrier's code that called this.
#[inline]
fn on_a_level<R>(carriers: &[Carried], f: impl FnOnce(&Progress, bool) -> R) -> R {
    let outer = INNERMOST.get();
    let level = Level { carriers, progress: Progress::default(), outer };
    let _leave = Leave { outer };
    INNERMOST.set(&raw const level);
    let before = is_in_carrier();
    in_carrier(|| f(&level.progress, before))
}

/// Calls `body`, which must not unwind, with all carriers attached; meanwhile [`on_this_thread`]
/// finds them. `body` is not called if a carrier cannot be attached.
#[inline]
pub(super) fn around(carriers: &[Carried], mut body: impl FnMut()) -> Option<CarrierError> {
    // By value, one in the other: each reference would be one more load for the task.
    on_a_level(carriers, |progress, before| {
        around_one(carriers, progress, &mut move || marked(before, &mut body))
    })
}

/// The same for a body that calls [`Attached::reattach`].
pub(super) fn around_tasks(
    carriers: &[Carried],
    mut body: impl FnMut(Attached<'_>),
) -> Option<CarrierError> {
    on_a_level(carriers, |progress, before| {
        around_several(Attached::NOTHING, carriers, progress, &mut |attached| {
            marked(before, || body(attached));
        })
    })
}

/// Asks an attached carrier what it calls nothing.
pub(super) fn nothing_of(carried: &Carried) -> Result<Option<Carried>, CarrierError> {
    on_a_level(std::slice::from_ref(carried), |_, _| carried.nothing())
}

/// What is attached on this thread.
#[derive(Default)]
pub(super) struct Here {
    /// Each once, in the order in which they were attached; the last time counts.
    pub(super) attached: Vec<Carried>,
    /// Those whose own code runs below this call. They are left out of `attached`, unless they were
    /// attached on top of that code: what they do may have led to this call, and would again.
    pub(super) at_work: Vec<Carried>,
}

/// Returns the carriers that are attached on this thread.
pub(super) fn on_this_thread() -> Here {
    let mut here = Here::default();
    let mut next = INNERMOST.get();
    while !next.is_null() {
        // SAFETY: A1: a level whose call lasts, on this thread's stack; nobody else changes it.
        let level = unsafe { &*next };
        // SAFETY: A1: that call borrows the list.
        let carriers = unsafe { &*level.carriers };
        let (attached, others) = carriers.split_at(level.progress.get());
        here.at_work.extend(others.first().cloned());
        for carried in attached.iter().rev() {
            let mut known = here.attached.iter().chain(&here.at_work);
            if !known.any(|one| one.is_by_the_carrier_of(carried)) {
                here.attached.push(carried.clone());
            }
        }
        next = level.outer;
    }
    here.attached.reverse();
    here
}

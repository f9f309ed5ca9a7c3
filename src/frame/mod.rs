//! The per-thread engine: epochs, the undo trail, and the frames of running tasks.
//!
//! Read it in this order: [`value`] (a value and its borrow state), [`cell`] (a slot's place on one
//! thread), [`thread`] (the state, and how a slot is touched), [`trail`] (how that is undone), [`stack`]
//! (frames), [`task`] (one whole task). The idea in one paragraph: every task has an epoch of its
//! own, and a slot's cell shows a value only if the cell's epoch is the current one. So a new task
//! makes every slot look untouched without visiting any, and ending a task undoes what its trail
//! says. `docs/engine.md` has the whole story.

pub(crate) mod cell;
mod failure;
#[cfg_attr(not(test), expect(dead_code, reason = "no task spans several closures any more"))]
mod loose;
#[cfg(feature = "sentinel")]
mod own;
mod parked;
pub(crate) mod permanent;
#[cfg(test)]
mod random_tests;
#[cfg_attr(not(test), expect(dead_code, reason = "as `loose`"))]
mod stack;
mod task;
pub(crate) mod thread;
mod trail;
pub(crate) mod value;

pub(crate) use failure::Failure;
pub use failure::{CleanupError, leaked_values};
pub(crate) use parked::Parked;
pub(crate) use stack::{Frame, Pin};
pub(crate) use task::{attached, contained, run, run_attached, run_open, take_taint};

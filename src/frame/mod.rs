//! One thread: values, the cells that show them, the trail that undoes them, and the frames of its
//! tasks.
//!
//! The idea in one paragraph: every task has an epoch of its own, and a slot's cell shows a value
//! only if the cell's epoch is the current one. So a new task makes every slot look untouched
//! without visiting any, and ending a task undoes what its trail says. `docs/engine.md` has the
//! whole story.
//!
//! Each module knows only those before it:
//!
//! - [`permanent`]: thread-locals that stay in place; [`epoch`]: the numbers of tasks.
//! - [`mod@leak`]: what was leaked; [`value`]: a value and its borrow state; [`snapshot`]: what is
//!   inherited.
//! - [`cell`]: a slot's place on one thread; [`trail`]: which cells the open tasks have touched.
//! - [`thread`]: the state of one thread; [`failure`]: how a task can fail.
//! - [`task`]: frames: how a task begins, how it ends, and how its values are dropped; [`framed`]:
//!   values that are dropped in the task around, or in none; [`mod@discard`]: what the user threw.
//! - [`thread_end`]: the end of the thread; [`touch`]: the first touch of a slot; [`capture`]: what
//!   a task hands down; [`parked`]: the values of a suspended future.

pub(crate) mod capture;
pub(crate) mod cell;
mod discard;
mod epoch;
mod failure;
mod framed;
mod leak;
mod parked;
pub(crate) mod permanent;
#[cfg(all(test, not(loom)))]
mod random_tests;
pub(crate) mod snapshot;
mod task;
#[cfg(all(test, not(loom)))]
mod task_tests;
pub(crate) mod thread;
pub(crate) mod thread_end;
pub(crate) mod touch;
mod trail;
pub(crate) mod value;

pub use failure::CleanupError;
pub(crate) use failure::Failure;
pub(crate) use framed::{Alone, Framed, InNoTask};
pub(crate) use leak::leak;
pub use leak::leaked_values;
pub(crate) use parked::Parked;
pub(crate) use task::{Frame, contained, discard, give_up, run};

//! Synchronisation: [`Event`], for tasks and threads that wait for one another.
//!
//! `seam` is the one place through which the crate reaches atomics, locks and threads.

mod event;
pub(crate) mod seam;

pub use event::Event;

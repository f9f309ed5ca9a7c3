//! Synchronisation: [`Event`], for tasks and threads that wait for one another.
//!
//! `seam` is the one place through which the crate reaches atomics, locks and threads.

#[cfg(feature = "tokio")]
pub(crate) mod driven;
mod event;
#[cfg(all(loom, test))]
pub(crate) mod model;
pub(crate) mod seam;

pub use event::Event;

//! Synchronisation: [`Event`], for tasks and threads that wait for one another.
//!
//! `seam` is the one place through which the crate reaches atomics, locks and threads.
//!
//! ```
//! use cleanslate::{Pool, sync::Event};
//!
//! let (pool, ready) = (Pool::new(1)?, Event::new());
//! pool.scope(|s| {
//!     s.submit(|| ready.set());
//!     ready.wait();
//! });
//! assert!(ready.is_set());
//! # Ok::<_, cleanslate::BuildError>(())
//! ```

#[cfg(feature = "tokio")]
pub(crate) mod driven;
mod event;
#[cfg(all(loom, test))]
pub(crate) mod model;
pub(crate) mod process;
pub(crate) mod seam;

pub use event::Event;

//! Finds and names what a task left in thread-locals that nobody registered.
//!
//! On Linux with glibc (x86-64 and AArch64) every thread-local that a task left changed is found
//! and named, in any crate and in any C library. [`watch()`] and [`assert_clean`] look at one
//! closure, on any thread; with [`PoolBuilder::sentinel`](crate::PoolBuilder::sentinel) a pool
//! looks at each of its tasks, and does what its [`Sentinel`] says.
//!
//! ```
//! use std::cell::Cell;
//! use cleanslate::sentinel;
//!
//! thread_local! { static REQUEST_ID: Cell<u64> = const { Cell::new(0) }; }
//!
//! let (answer, report) = sentinel::watch(|| {
//!     REQUEST_ID.set(42);
//!     "done"
//! });
//! assert_eq!(answer, "done");
//! if sentinel::supported().is_ok() {
//!     assert!(report.leaks()[0].path().is_some_and(|path| path.ends_with("REQUEST_ID")));
//! }
//! ```
//!
//! The looking is done by the crate [`cleanslate_sentinel`], which works with any executor and
//! whose items are found here as well. Its documentation says what it cannot see and what is
//! allowed. What cleanslate itself keeps per thread, `task_local!`s and `worker_local!`s among it,
//! never shows.

mod incident;
#[expect(clippy::module_inception, reason = "the folder is named after its main noun")]
mod sentinel;

pub use cleanslate_sentinel::{
    BuiltInRule, Ignored, Inventory, InventoryError, Leak, Report, Unsupported, Variable,
    WatchError, Watcher, assert_clean, ignore, supported, try_watch, watch,
};

pub use self::incident::Incident;
pub(crate) use self::sentinel::Action;
pub use self::sentinel::Sentinel;

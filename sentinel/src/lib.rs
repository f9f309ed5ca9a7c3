//! Finds and names what a task left in thread-locals that nobody registered.
//!
//! On Linux with glibc (x86-64 and AArch64) every `thread_local!` of Rust and every `__thread` of C
//! lies in one of a few blocks of memory of its thread. The sentinel copies these blocks before a
//! task, compares them after it and looks up what changed in the symbol tables of the program and
//! its libraries. So it sees thread-locals in any crate and C library, by name. `docs/sentinel.md`
//! has the mechanism, the argument for its soundness and measured figures.
//!
//! ```
//! use std::cell::Cell;
//! use cleanslate_sentinel as sentinel;
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
//! # What it cannot see
//!
//! * Heap data behind a pointer that did not change: a `RefCell<Vec<_>>` that already has room is
//!   seen because its length lies in the thread-local, a `Box<Vec<_>>` is not.
//! * A value that was changed and put back, or overwritten with the same bytes.
//! * `pthread_setspecific` and the `thread_local` crate's maps: their data lies on the heap.
//! * What the C library itself keeps, such as the locale of `uselocale`.
//! * Names in stripped files: module and offset are still reported, but rules by name cannot apply.
//! * Other systems: [`supported`] says so.
//!
//! # What is allowed
//!
//! What std, the C library and popular crates keep per thread by design is no leak. cleanslate's
//! own state, `task_local!`s and `worker_local!`s never show. The table of built-in rules is in
//! `docs/sentinel.md`; [`Sentinel::allow`] adds to them.

mod change;
mod ignore;
mod inventory;
mod layout;
mod leak;
mod module;
mod name;
mod plan;
mod report;
mod rule;
mod sentinel;
mod symbols;
mod tls;
mod unsupported;
mod watch;
mod watcher;

pub use self::ignore::{Ignored, ignore};
pub use self::inventory::{Inventory, InventoryError, Variable};
pub use self::leak::Leak;
pub use self::report::Report;
pub use self::rule::BuiltInRule;
pub use self::sentinel::Sentinel;
pub use self::unsupported::Unsupported;
pub use self::watch::{WatchError, assert_clean, supported, try_watch, watch};
pub use self::watcher::Watcher;

//! Finds and names what a task left in thread-locals that nobody registered.
//!
//! On Linux with glibc (x86-64 and AArch64), this module finds and names thread-locals that a task
//! left changed, in any crate and in any C library. [`watch()`] and [`assert_clean`] look at one
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
//! The work is done by the crate [`cleanslate_sentinel`], which works with any executor and whose
//! items are found here as well. (Their examples use `cleanslate_sentinel`, where you write
//! `cleanslate::sentinel`. The [`Sentinel`] of this module has the rules of the one there, and what
//! a pool does about a leak.) Its documentation describes what it cannot see, which alarms are
//! false and what is allowed. What cleanslate itself keeps per thread, including `task_local!`s and
//! `worker_local!`s, never shows.
//!
//! State on the heap, behind a pointer that stays the same, is not seen by itself;
//! [`Sentinel::probe`] compares what a function reads there. With the feature `tracing` the current
//! span is compared in this way.
//!
//! # What to do about a leak
//!
//! Declare state of your own that belongs to one task with [`task_local!`](crate::task_local).
//! State of another crate is given to each task afresh by [`adopt`](crate::foreign::adopt), if its
//! key has a name that you can write. Most keys are private, but have functions around them. Then a
//! [`Carrier`](crate::foreign::Carrier) over these functions does the same:
//!
//! ```
//! use cleanslate::foreign::{BoxError, Carrier};
//! use cleanslate::{Pool, sentinel::Sentinel};
//!
//! mod locale {
//!     // Somebody else's crate: it keeps the locale in a thread-local that nobody can name.
//!     # use std::cell::Cell;
//!     # thread_local! { static CURRENT: Cell<&'static str> = const { Cell::new("C") }; }
//!     pub fn current() -> &'static str {
//!         # CURRENT.get()
//!     }
//!     pub fn set(name: &'static str) {
//!         # CURRENT.set(name)
//!     }
//! }
//!
//! /// Every task begins with the default locale, and leaves the one that it found.
//! struct DefaultLocale;
//!
//! impl Carrier for DefaultLocale {
//!     type Captured = ();
//!     type Attached = &'static str;
//!     fn name(&self) -> &str { "locale" }
//!     fn capture(&self) -> Result<(), BoxError> { Ok(()) }
//!     fn attach(&self, (): &()) -> Result<&'static str, BoxError> {
//!         let before = locale::current();
//!         locale::set("C");
//!         Ok(before)
//!     }
//!     fn detach(&self, before: &'static str) -> Result<(), BoxError> {
//!         locale::set(before);
//!         Ok(())
//!     }
//! }
//!
//! # if cleanslate::sentinel::supported().is_err() { return; }
//! let builder = Pool::builder().workers(1).carry(DefaultLocale);
//! let pool = builder.sentinel(Sentinel::new().panic()).build().unwrap();
//! pool.submit(|| locale::set("de")).join().unwrap();
//! assert_eq!(pool.submit(locale::current).join().unwrap(), "C");
//! assert_eq!(pool.stats().leaks, 0);
//! ```
//!
//! Declare what is kept per thread on purpose with [`worker_local!`](crate::worker_local), or allow
//! it. For the rest there is [`Sentinel::renew`].

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

//! Finds and names thread-locals that a piece of code left changed, in any crate and in any C
//! library, on any executor, with nothing registered.
//!
//! On Linux with glibc (x86-64 and AArch64) every `thread_local!` of Rust and every `__thread` of C
//! lies in one of a few blocks of memory of its thread. [`watch()`] copies these blocks before the
//! code runs, compares them afterwards, and looks up what changed in the symbol tables of the
//! program and its libraries.
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
//! `docs/sentinel.md` in the repository explains how this works, why it is sound, and what it
//! costs.
//!
//! # Around each test
//!
//! [`assert_clean`] around the body of each test finds the test that leaves something for the next
//! one on its thread. One [`Sentinel`] for all of them holds what the program may keep:
//!
//! ```
//! use std::cell::RefCell;
//! use std::sync::LazyLock;
//! use cleanslate_sentinel::Sentinel;
//!
//! thread_local! { static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) }; }
//!
//! static KEPT: LazyLock<Sentinel> = LazyLock::new(|| {
//!     // A cache that each thread fills once, and a buffer that is there to be used again.
//!     Sentinel::new().allow_first_touch("my_app::cache").allow("*::BUFFER")
//! });
//!
//! // In a program of tests, `#[test] fn a_line_is_encoded() { … }`.
//! # if cleanslate_sentinel::supported().is_err() { return; }
//! KEPT.assert_clean(|| {
//!     BUFFER.with_borrow_mut(|buffer| buffer.extend(b"line"));
//!     assert_eq!(BUFFER.take(), b"line");
//! });
//! ```
//!
//! # On an executor
//!
//! [`watch()`] works in any task of any executor. An executor that watches each task keeps a
//! [`Watcher`] for each thread, and names its own state with [`ignore()`].
//!
//! What runs on top of a task while it waits is a part of its watch: on rayon, a closure that calls
//! `join` or a parallel iterator may run other items meanwhile, and what they leave is attributed
//! to the closure as well.
//!
//! A future is watched poll by poll, since other tasks run on its thread in between:
//!
//! ```
//! use std::future::{Future, poll_fn};
//! use std::pin::pin;
//! use cleanslate_sentinel as sentinel;
//!
//! async fn watched<F: Future>(name: &str, future: F) -> F::Output {
//!     let mut future = pin!(future);
//!     poll_fn(|cx| {
//!         let (poll, report) = sentinel::watch(|| future.as_mut().poll(cx));
//!         if !report.leaks().is_empty() {
//!             eprintln!("{name}: {report}");
//!         }
//!         poll
//!     })
//!     .await
//! }
//! # let waker = std::task::Waker::noop();
//! # let mut cx = std::task::Context::from_waker(waker);
//! # assert!(pin!(watched("ready", async { 1 })).poll(&mut cx).is_ready());
//! ```
//!
//! # What it cannot see
//!
//! * Heap data behind a pointer that did not change: a `RefCell<Vec<_>>` that grows is seen because
//!   its length lies in the thread-local, a `Box<Vec<_>>` is not. Nor is the entry of a map that
//!   gets another value. The first touch may be all that is ever seen of such a leak. A
//!   [probe](Sentinel::probe) compares what a function reads there.
//! * A tracing span that was entered and never left, without the feature `tracing`.
//! * A value that was changed and put back, or overwritten with the same bytes.
//! * `pthread_setspecific` and the `thread_local` crate's maps: their data lies on the heap.
//! * What the C library itself keeps, such as the locale of `uselocale`.
//! * Names in stripped files: module and offset are still reported, but rules by name cannot apply.
//! * Other systems: [`supported`] returns an error there.
//!
//! # False alarms
//!
//! Bytes are compared, not values. So what is equal for the program may still differ:
//!
//! * *A variant that came and went.* `None` does not clear the bytes of an earlier `Some(7_u64)`.
//!   The same is true of any `enum`, and of what a `MaybeUninit` no longer holds. An `Option` of a
//!   pointer (`Box`, `Arc`, `&`) has no such bytes.
//! * *Room that stays.* A `Vec` that was emptied keeps its buffer.
//! * *First touch.* A thread-local with an initialiser or a destructor changes when it is first
//!   used, whatever it holds then.
//! * *Numbers that only grow*: generations, statistics, the state of a random number generator.
//!
//! [`Sentinel::allow`] lets a variable pass, [`Sentinel::allow_first_touch`] only its first touch,
//! and [`Sentinel::unused_rules`] returns the rules that match nothing. In a test you can also run
//! the code once before it is watched.
//!
//! # What is allowed
//!
//! What std, the C library and popular crates keep per thread by design is no leak.
//! [`Sentinel::built_in_rules`] lists it, and [`Sentinel::allow`] adds to it.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod built_in;
mod change;
mod contain;
mod error;
mod ignore;
mod inventory;
mod layout;
mod leak;
mod lease;
mod module;
mod name;
mod plan;
mod policy;
mod probe;
mod report;
mod rule;
mod sentinel;
mod source;
mod symbols;
mod tls;
mod verdict;
mod watch;
mod watcher;

pub use self::built_in::BuiltInRule;
pub use self::error::{Unsupported, WatchError};
pub use self::ignore::{Ignored, ignore};
pub use self::inventory::{Inventory, InventoryError, Variable};
pub use self::leak::Leak;
pub use self::report::Report;
pub use self::sentinel::Sentinel;
pub use self::watch::{assert_clean, supported, try_watch, watch};
pub use self::watcher::Watcher;

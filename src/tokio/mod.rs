//! Tasks on tokio: each isolated, each with what surrounds its spawning.
//!
//! [`fn@spawn`], [`spawn_blocking`], [`spawn_local`] and [`JoinSet`] correspond to tokio's, and
//! take the same closures and futures. What they start has slots of its own and inherits what the
//! caller hands down, as every task does; [installed](crate::foreign::install) carriers come along.
//! On a handle to another runtime, spawn a future that is
//! [isolated](crate::future::FutureExt::isolated), or a closure in [`isolated`](crate::isolated):
//! that is all there is to it.
//!
//! [`RuntimeCarrier`] is for the other direction: tasks of a [`Pool`](crate::Pool) that spawn on
//! the runtime from which they were submitted.
//!
//! Import single items, or the module under another name: after `use cleanslate::tokio;`, the
//! attribute `#[tokio::main]` would be looked up in this module.
//!
//! A future that waits for a pool should not block its thread:
//! [`Pool::reserve`](crate::Pool::reserve) awaits room in a bounded queue, and a
//! [`JoinHandle`](crate::JoinHandle) can be awaited. A wait that blocks a thread that drives
//! tokio's futures is reported on standard error, once: the first 64 waits in runtimes are checked,
//! and then one in 64.
//!
//! ```
//! use cleanslate::{task_local, tokio::spawn};
//!
//! task_local! { static SEEN: bool = false; }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let task = || spawn(async { SEEN.replace(true) });
//! assert_eq!((task().await.unwrap(), task().await.unwrap()), (false, false));
//! # });
//! ```

mod join_set;
mod runtime;
mod spawn;

pub use join_set::JoinSet;
pub use runtime::RuntimeCarrier;
pub use spawn::{spawn, spawn_blocking, spawn_local};

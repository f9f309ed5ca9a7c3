//! Task-local slots that travel with jobs.
//!
//! A job queue hands work to another process, and there the context is lost: the worker answers
//! with nobody's tenant, or with the last one's. Here a [`Wire`] says which slots travel, what they
//! hold goes into the job's metadata, and a layer for [`apalis`] workers runs each job in a task of
//! its own that starts with them.
//!
//! [`apalis`]: https://docs.rs/apalis
//!
//! ```
//! use apalis_core::task::{Task, builder::TaskBuilder};
//! use cleanslate::task_local;
//! use cleanslate_jobs::Wire;
//!
//! task_local! {
//!     #[inherit]
//!     static TENANT: String = "nobody".to_owned();
//! }
//!
//! let wire = Wire::new().slot("tenant", &TENANT);
//!
//! // Where the job is sent.
//! TENANT.set("acme".to_owned());
//! let job: Task<u32> = TaskBuilder::new(7).metadata(&wire.capture()?).build();
//!
//! // Where it is done; `JobLayer` does this for each job of a worker.
//! let context = wire.restore(job.metadata())?;
//! let greeting = context.run(|| format!("job {} of {}", job.args, TENANT.get()));
//! assert_eq!(greeting, "job 7 of acme");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # What travels, and what does not
//!
//! - **Slots that the wire names**, as JSON. Only `#[inherit]` slots can: the policy stays with the
//!   slot.
//! - What a child task would start with, so the `f` of `#[inherit(with = f)]` runs once for each
//!   hop: on capture. It does not run again on the other side.
//! - **Not** slots that the sender has not set: the job finds the declared default.
//! - **Never carriers**: spans and the like are state of one process. apalis carries the W3C trace
//!   context by itself.
//!
//! The same values cross HTTP calls as a `baggage` header: [`Wire::capture_baggage`].
//!
//! # Metadata is untrusted input
//!
//! Whoever can write to the queue can write any tenant into a job. Restoring checks that a value
//! decodes, not that it is true: authenticate at the worker, as for a request from outside, before
//! a slot decides what a job may read. Values lie in the queue's storage as plain text, and stay
//! there as long as the job does: send a user's id, never a token.

mod baggage;
mod captured;
mod error;
mod guarded;
mod layer;
mod on_pool;
mod wire;

pub use captured::Captured;
pub use error::{CaptureError, RestoreError};
pub use layer::{JobLayer, JobService};
pub use on_pool::{OnPool, on_pool};
pub use wire::Wire;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

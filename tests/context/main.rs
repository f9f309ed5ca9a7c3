//! What a task inherits, what is carried to it, and what stays with a worker.

#[path = "../support/mod.rs"]
mod support;

mod carriers;
mod contexts;
mod inherit;
#[cfg(feature = "tracing")]
mod tracing;
mod worker_local;

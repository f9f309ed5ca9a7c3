//! What a task inherits, and what stays with a worker.

#[path = "../support/mod.rs"]
mod support;

mod contexts;
mod exits;
mod given;
mod inherit;
mod initialisers;
mod instances;
mod snapshots;
mod worker_local;

//! Tasks on tokio.

#[path = "../support/mod.rs"]
mod support;

mod blocking;
mod permit;
mod runtime;
mod spawn;

//! Tasks on tokio.

#[path = "../support/mod.rs"]
mod support;

mod blocking;
mod budget;
mod permit;
mod spawn;

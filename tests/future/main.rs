//! Isolated futures.

#[path = "../support/mod.rs"]
mod support;

mod captures;
mod faults;
mod isolated;
mod polls;
mod scoped;

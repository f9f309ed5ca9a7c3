//! Isolated futures.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod isolated;
mod polls;
mod scoped;

//! Isolated futures.

#[path = "../support/mod.rs"]
mod support;

mod isolated;
mod polls;
mod scoped;

//! Values whose drop panics.

use super::{Census, Counted};

/// Panics when it is dropped, and is counted.
#[derive(Debug)]
pub(crate) struct Fails {
    _counted: Counted,
}

impl Fails {
    pub(crate) fn new(census: &Census) -> Self {
        Self { _counted: census.token() }
    }

    /// Makes a closure own it.
    pub(crate) fn held(&self) {}
}

impl Drop for Fails {
    fn drop(&mut self) {
        panic!("a drop, on purpose");
    }
}

/// Panics when it is cloned.
#[derive(Debug)]
pub(crate) struct FailsToClone;

impl Clone for FailsToClone {
    fn clone(&self) -> Self {
        panic!("a clone, on purpose");
    }
}

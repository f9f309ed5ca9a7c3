//! Values whose drop panics.

use cleanslate::task_local;

use super::{Census, Counted};

task_local! {
    /// Whether the current task, or the thread outside of tasks, has dropped one.
    pub(crate) static HAS_FAILED: bool = false;
}

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
        HAS_FAILED.set(true);
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

/// A copy of it panics when it is dropped.
#[derive(Default)]
pub(crate) struct FailsAsCopy {
    is_copy: bool,
}

impl Clone for FailsAsCopy {
    fn clone(&self) -> Self {
        Self { is_copy: true }
    }
}

impl Drop for FailsAsCopy {
    fn drop(&mut self) {
        assert!(!self.is_copy, "a copy, on purpose");
    }
}

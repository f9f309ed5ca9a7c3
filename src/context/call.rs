//! What a task runs, without its types: so that what stands around a task is compiled once, and not
//! for every closure that an application submits.

use std::mem::ManuallyDrop;

use crate::frame::{self, Failure};

/// A closure, and then its result.
pub(crate) trait Call {
    /// Calls the closure, the first time, and keeps its result.
    fn call(&mut self);
    /// Drops what there is: the closure if it was not called, or the result.
    fn give_up(&mut self);
    /// Leaks it, and counts that.
    fn leak(&mut self);
}

/// See [`Call`].
pub(crate) enum Once<F, R> {
    Closure(F),
    Result(R),
    Neither,
}

impl<F: FnOnce() -> R, R> Once<F, R> {
    #[inline]
    pub(crate) fn new(f: F) -> Self {
        Self::Closure(f)
    }

    /// Returns the result of a closure that was called and has returned.
    #[inline]
    pub(crate) fn into_result(self) -> R {
        match self {
            Self::Result(result) => result,
            _ => unreachable!("a task that has not failed has a result"),
        }
    }
}

impl<F: FnOnce() -> R, R> Call for Once<F, R> {
    #[inline]
    fn call(&mut self) {
        if let Self::Closure(f) = std::mem::replace(self, Self::Neither) {
            *self = Self::Result(f());
        }
    }

    fn give_up(&mut self) {
        drop(std::mem::replace(self, Self::Neither));
    }

    #[cold]
    fn leak(&mut self) {
        frame::leak(std::mem::replace(self, Self::Neither));
    }
}

/// A closure that has returned: its drop gives the result up.
pub(super) struct Called<'t>(&'t mut dyn Call);

impl<'t> Called<'t> {
    #[inline]
    pub(super) fn now(task: &'t mut dyn Call) -> Self {
        task.call();
        Self(task)
    }

    /// Leaves the result where it is.
    #[inline]
    pub(super) fn keep(self) -> Result<(), Failure> {
        let _kept = ManuallyDrop::new(self);
        Ok(())
    }
}

impl Drop for Called<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

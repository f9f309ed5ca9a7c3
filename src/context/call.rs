//! What a task runs, without its types: so that what stands around a task is compiled once, and not
//! for every closure that an application submits.

use crate::frame;

/// A closure, and then its result.
pub(crate) trait Call {
    /// Calls the closure, the first time, and keeps its result.
    fn call(&mut self);
    /// Returns whether there is neither any more: the closure has panicked, or was given up.
    fn is_over(&self) -> bool;
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

    fn is_over(&self) -> bool {
        matches!(self, Self::Neither)
    }

    fn give_up(&mut self) {
        drop(std::mem::replace(self, Self::Neither));
    }

    #[cold]
    fn leak(&mut self) {
        frame::leak(std::mem::replace(self, Self::Neither));
    }
}

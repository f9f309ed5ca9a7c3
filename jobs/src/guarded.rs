//! [`Guarded`].

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::panicking;

/// A value of the user's, which may panic in its drop. If the thread unwinds already, that panic is
/// contained: a second one would abort the process.
pub(crate) struct Guarded<T>(
    /// `None` once it was taken out or dropped, which `self` does not outlive.
    Option<T>,
);

impl<T> Guarded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("it is taken once, here")
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is taken by what consumes it")
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is taken by what consumes it")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        match catch_unwind(AssertUnwindSafe(|| drop(value))) {
            Err(payload) if !panicking() => resume_unwind(payload),
            // The payload is a value like any other, and may panic in its drop: leaked.
            dropped => _ = ManuallyDrop::new(dropped),
        }
    }
}

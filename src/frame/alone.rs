//! [`Alone`].

#![expect(unsafe_code, reason = "moves the value out of its place")]

use std::mem::{ManuallyDrop, needs_drop};

use super::task::contained;

/// A value of the user's of which nobody knows in whose task it is dropped: one that is shared, or
/// the closure of a task that is never called. So it is dropped in none of theirs, and contained
/// while a panic unwinds.
pub(crate) struct Alone<T>(ManuallyDrop<T>);

impl<T> Alone<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    #[inline]
    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: it is not used again, since `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }

    #[inline]
    pub(crate) fn get(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Alone<T> {
    fn drop(&mut self) {
        if needs_drop::<T>() {
            // SAFETY: it is not used again, since it is being dropped.
            let value = unsafe { ManuallyDrop::take(&mut self.0) };
            if let Err(failure) = contained(|| drop(value)) {
                failure.into_payload().resume_unless_panicking();
            }
        }
    }
}

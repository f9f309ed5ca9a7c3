//! [`Alone`].

#![expect(unsafe_code, reason = "drops the value where a panic of that can be caught")]

use std::mem::{ManuallyDrop, needs_drop};

use super::task::contained;

/// A value of the user's that is shared, so that anybody may be the last to have it: it is dropped
/// in none of their tasks, and contained while a panic unwinds.
pub(crate) struct Alone<T>(ManuallyDrop<T>);

impl<T> Alone<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    #[inline]
    pub(crate) fn get(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Alone<T> {
    fn drop(&mut self) {
        if needs_drop::<T>() {
            // In its place: it may be larger than what is left of the stack.
            // SAFETY: it is not used again, since it is being dropped.
            let drop = || unsafe { ManuallyDrop::drop(&mut self.0) };
            if let Err(failure) = contained(drop) {
                failure.into_payload().resume_unless_panicking();
            }
        }
    }
}

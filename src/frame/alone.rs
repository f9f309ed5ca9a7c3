//! [`Alone`].

#![expect(unsafe_code, reason = "drops the value elsewhere than in its place")]

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
            // SAFETY: it is not used again, since it is being dropped.
            let value = unsafe { ManuallyDrop::take(&mut self.0) };
            if let Err(failure) = contained(|| drop(value)) {
                failure.into_payload().resume_unless_panicking();
            }
        }
    }
}

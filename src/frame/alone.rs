//! [`Alone`].

use super::task::contained;

/// A value of the user's that is shared, so that anybody may be the last to have it: it is dropped
/// in none of their tasks, and contained while a panic unwinds.
pub(crate) struct Alone<T>(
    /// `None` once it is being dropped.
    Option<T>,
);

impl<T> Alone<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    #[inline]
    pub(crate) fn get(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("it is taken by its drop"),
        }
    }
}

impl<T> Drop for Alone<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() {
            let value = self.0.take();
            if let Err(failure) = contained(|| drop(value)) {
                failure.into_payload().resume_unless_panicking();
            }
        }
    }
}

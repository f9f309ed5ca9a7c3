//! [`Framed`].

#![expect(unsafe_code, reason = "drops the value where a panic of that can be caught")]

use std::mem::{ManuallyDrop, needs_drop};
use std::ops::{Deref, DerefMut};

use super::failure::Failure;
use super::task::contained;
use super::thread;
use crate::panic::catch;

/// A value of the user's that belongs to tasks which may never begin, or are over, and then is
/// dropped by whoever has it: if that is a task, as a part of it, else in a frame of its own, so
/// that nothing stays on the thread. While a panic unwinds, that of its drop is contained.
pub(crate) struct Framed<T>(ManuallyDrop<T>);

impl<T> Framed<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    #[inline]
    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: it is not used again, since `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Deref for Framed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Framed<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Framed<T> {
    #[inline]
    fn drop(&mut self) {
        if const { needs_drop::<T>() } {
            // In its place: it may be larger than what is left of the stack.
            drop_framed(&mut || {
                // SAFETY: it is not used again, since it is being dropped.
                unsafe { ManuallyDrop::drop(&mut self.0) };
            });
        }
    }
}

// Through a pointer, so that it is compiled once. With a frame on top of the task's a slot that its
// closures fill again would have no end: each frame counts its drops from the beginning.
#[cold]
fn drop_framed(drop: &mut dyn FnMut()) {
    let dropped = match thread::current().is_in_frame() {
        true => catch(drop).map_err(Failure::Panic),
        false => contained(drop),
    };
    if let Err(failure) = dropped {
        failure.into_payload().resume_unless_panicking();
    }
}

//! [`Framed`].

use super::failure::Failure;
use super::task::contained;
use super::thread;
use crate::panic::{HowDropped, UserValue, catch};

/// A value of the user's that belongs to tasks which may never begin, or are over, and then is
/// dropped by whoever has it: if that is a task, as a part of it, else in a frame of its own, so
/// that nothing stays on the thread. While a panic unwinds, that of its drop is contained.
pub(crate) type Framed<T> = UserValue<T, InFrame>;

/// See [`Framed`].
pub(crate) struct InFrame;

impl HowDropped for InFrame {
    // With a frame on top of the task's a slot that its closures fill again would have no end: each
    // frame counts its drops from the beginning.
    #[cold]
    fn call(drop: &mut dyn FnMut()) {
        let dropped = match thread::current().is_in_frame() {
            true => catch(drop).map_err(Failure::Panic),
            false => contained(drop),
        };
        if let Err(failure) = dropped {
            failure.into_payload().resume_unless_panicking();
        }
    }
}

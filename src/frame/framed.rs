//! What drops values of the user's as a part of the task around it, or of none.

use super::task::contained;
use super::thread;
use crate::panic::{Guard, HowDropped, UserValue};

/// A value of the user's that belongs to tasks which may never begin, or are over. It is then
/// dropped by whoever has it: if that is a task, as a part of it, else in a frame of its own, so
/// that nothing stays on the thread. While a panic unwinds, a panic of its drop is contained.
pub(crate) type Framed<T> = UserValue<T, InFrame>;

/// A value of the user's that is shared, so that anybody may be the last to have it: it is dropped
/// in none of their tasks, and contained while a panic unwinds.
pub(crate) type Alone<T> = UserValue<T, InNoTask>;

/// See [`Framed`].
pub(crate) struct InFrame;

/// See [`Alone`].
pub(crate) struct InNoTask;

impl HowDropped for InFrame {
    // In a frame on top of the task's, a slot that its closures keep filling would have no end:
    // each frame counts its drops from the beginning.
    #[cold]
    fn call(drop: &mut dyn FnMut()) {
        match thread::current().is_in_frame() {
            true => Guard::call(drop),
            false => InNoTask::call(drop),
        }
    }
}

impl HowDropped for InNoTask {
    fn call(drop: &mut dyn FnMut()) {
        if let Err(failure) = contained(drop) {
            failure.into_payload().resume_unless_panicking();
        }
    }
}

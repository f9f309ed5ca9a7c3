//! [`Alone`].

use super::task::contained;
use crate::panic::{HowDropped, UserValue};

/// A value of the user's that is shared, so that anybody may be the last to have it: it is dropped
/// in none of their tasks, and contained while a panic unwinds.
pub(crate) type Alone<T> = UserValue<T, InNoTask>;

/// See [`Alone`].
pub(crate) struct InNoTask;

impl HowDropped for InNoTask {
    fn call(drop: &mut dyn FnMut()) {
        if let Err(failure) = contained(drop) {
            failure.into_payload().resume_unless_panicking();
        }
    }
}

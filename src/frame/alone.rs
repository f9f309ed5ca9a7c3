//! [`Alone`].

use super::task::{ROUNDS, contained};
use super::{leak, thread};
use crate::panic::{HowDropped, UserValue};

/// For how many generations a drop counts: its frame has a clean-up in turn, so several drops may
/// come of one, and of each of these.
const STEPS: u32 = 3;

/// A value of the user's that is shared, so that anybody may be the last to have it: it is dropped
/// in none of their tasks, and contained while a panic unwinds.
pub(crate) type Alone<T> = UserValue<T, InNoTask>;

/// See [`Alone`].
pub(crate) struct InNoTask;

impl HowDropped for InNoTask {
    fn call(drop: &mut dyn FnMut()) {
        let thread = thread::current();
        let generation = thread.generation() + STEPS;
        if generation > ROUNDS {
            return leak::count_leak();
        }
        let dropped = contained(|| {
            thread.set_generation(generation);
            drop();
        });
        if let Err(failure) = dropped {
            failure.into_payload().resume_unless_panicking();
        }
    }
}

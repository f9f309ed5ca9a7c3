//! What a task is called, and why it has no result.

use std::panic::Location;
use std::sync::Arc;

use crate::frame::Failure;

/// What a task is called in errors: its name, or where it was submitted, and its number.
#[derive(Clone)]
pub(crate) struct Label {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) at: &'static Location<'static>,
    pub(crate) id: u64,
}

/// Why a task has no result.
pub(crate) enum Cause {
    /// It panicked, or could not be given its foreign state, or could not be cleaned up.
    Failed(Failure),
    /// Its handle cancelled it.
    CancelledByHandle,
    /// The pool was shut down before it began.
    ShutDown,
    /// It would have had to run on top of too many others.
    TooDeep,
    /// The workers live in another process.
    Forked,
}

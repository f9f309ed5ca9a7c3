//! What a task is called, and why it has no result.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::frame::Failure;

pub(crate) const SHUT_DOWN: &str = "the pool is shut down";
pub(crate) const FORKED: &str =
    "the pool has no workers in this process, a forked child of the one that built it";
pub(crate) const TOO_DEEP: &str = "too many tasks lie on top of one another on this thread (at \
                                   most 256 may, or as many as three quarters of its stack hold)";

/// The name that the user gave a task. One word, since every queued task has one.
pub(crate) type Name = Arc<Arc<str>>;

/// What a task is called in errors: its name, or where it was submitted, and its number.
#[derive(Clone)]
pub(crate) struct Label {
    pub(crate) name: Option<Name>,
    pub(crate) at: &'static Location<'static>,
    pub(crate) id: u64,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "task `{}` (#{})", name.escape_debug(), self.id),
            None => write!(f, "task #{} (submitted at {})", self.id, self.at),
        }
    }
}

/// Something that has a label, and makes it when there is something to report.
pub(crate) trait Labelled: Sync {
    fn label(&self) -> Label;
}

impl Labelled for Label {
    fn label(&self) -> Label {
        self.clone()
    }
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

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

/// What a task is called in errors: its name, or where it was submitted, and which one it is.
#[derive(Clone)]
pub(crate) struct Label {
    pub(crate) name: Option<Name>,
    pub(crate) at: &'static Location<'static>,
    pub(crate) which: Which,
}

/// Which of those that have the same name and place.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    /// The task that has this number in its pool.
    Task(u64),
    /// The item at this position of a map.
    Item(usize),
    /// Something that is not a task, and has a name.
    Other,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map(|name| name.escape_debug());
        match (self.which, name) {
            (Which::Task(number), Some(name)) => write!(f, "task `{name}` (#{number})"),
            (Which::Task(number), None) => write!(f, "task #{number} (submitted at {})", self.at),
            (Which::Item(position), Some(name)) => write!(f, "item {position} of task `{name}`"),
            (Which::Item(position), None) => {
                write!(f, "item {position} of the task submitted at {}", self.at)
            }
            (Which::Other, Some(name)) => write!(f, "`{name}`"),
            (Which::Other, None) => write!(f, "what was submitted at {}", self.at),
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

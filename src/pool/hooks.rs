//! Code of the user that the pool calls at certain moments.

use std::fmt;

use super::error::TaskError;
use crate::frame::{self, Failure};

type OnWorker = Box<dyn Fn(usize) + Send + Sync>;
type OnPanic = Box<dyn Fn(TaskError) + Send + Sync>;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) worker_start: Option<OnWorker>,
    pub(crate) worker_stop: Option<OnWorker>,
    pub(crate) panic: Option<OnPanic>,
}

impl Hooks {
    pub(crate) fn worker_starts(&self, index: usize) -> Result<(), Failure> {
        call(self.worker_start.as_deref(), index)
    }

    pub(crate) fn worker_stops(&self, index: usize) -> Result<(), Failure> {
        call(self.worker_stop.as_deref(), index)
    }

    /// Hands a failure that nobody else hears of to the panic hook. A panic of the hook itself ends
    /// here: the process's own panic hook has printed it, and there is nobody left to tell.
    pub(crate) fn report(&self, error: TaskError) {
        let _unreportable = frame::contained(|| match &self.panic {
            Some(hook) => hook(error),
            None => drop(error),
        });
    }
}

fn call(hook: Option<&(dyn Fn(usize) + Send + Sync)>, index: usize) -> Result<(), Failure> {
    match hook {
        Some(hook) => frame::contained(|| hook(index)),
        None => Ok(()),
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("worker_start", &self.worker_start.is_some())
            .field("worker_stop", &self.worker_stop.is_some())
            .field("panic", &self.panic.is_some())
            .finish()
    }
}

//! User code that the pool calls at certain moments.

use std::fmt;

use crate::frame::{self, Failure};
use crate::pool::error::TaskError;
use crate::sync::seam::{Condvar, Mutex};

type OnWorker = Box<dyn Fn(usize) + Send + Sync>;
type OnPanic = Box<dyn Fn(TaskError) + Send + Sync>;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) worker_start: Option<OnWorker>,
    pub(crate) worker_stop: Option<OnWorker>,
    pub(crate) panic: Option<OnPanic>,
    /// Where a worker whose start hook fails must not serve: what has become of the first ones.
    pub(crate) startup: Option<Startup>,
}

/// How the first workers of a pool have started: `build` waits for all of them.
#[derive(Default)]
pub(crate) struct Startup {
    state: Mutex<Starts>,
    changed: Condvar,
}

#[derive(Default)]
struct Starts {
    settled: usize,
    failed: Option<(usize, String)>,
    /// `build` has its answer. Later workers are replacements.
    built: bool,
}

impl Startup {
    /// A worker's start hook has ended. Returns false for a replacement whose hook failed, so that it
    /// has to be replaced in turn.
    pub(crate) fn settle(&self, index: usize, failed: Option<String>) -> bool {
        let mut state = self.state.lock();
        if state.built {
            return failed.is_none();
        }
        state.settled += 1;
        if let Some(text) = failed {
            state.failed.get_or_insert((index, text));
        }
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Waits for `workers` workers; returns which one has failed first, and how, if one has.
    pub(crate) fn wait(&self, workers: usize) -> Option<(usize, String)> {
        let mut state = self.state.lock();
        while state.settled < workers && state.failed.is_none() {
            state = self.changed.wait(state);
        }
        state.built = true;
        state.failed.take()
    }
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

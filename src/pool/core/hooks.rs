//! User code that the pool calls at certain moments.

use std::fmt;

use crate::frame;
use crate::pool::error::TaskError;
use crate::pool::scheduler::wait;
use crate::sync::seam::{self, Mutex, Thread};

pub(crate) type OnWorker = Box<dyn Fn(usize) + Send + Sync>;
type OnPanic = Box<dyn Fn(TaskError) + Send + Sync>;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) worker_start: Option<OnWorker>,
    pub(crate) worker_stop: Option<OnWorker>,
    pub(crate) panic: Option<OnPanic>,
    /// Where a worker whose start hook fails must not serve: what has become of the first workers.
    pub(crate) startup: Option<Startup>,
}

impl Drop for Hooks {
    /// Never unwinds, and runs in no task: a pool may end on any thread, long after the call that
    /// gave it its hooks.
    fn drop(&mut self) {
        frame::discard(self.worker_start.take());
        frame::discard(self.worker_stop.take());
        frame::discard(self.panic.take());
    }
}

/// How the first workers of a pool have started: `build` waits for all of them.
#[derive(Default)]
pub(crate) struct Startup(Mutex<Starts>);

#[derive(Default)]
struct Starts {
    settled: usize,
    failed: Option<(usize, String)>,
    /// Whom to tell of the last one.
    builder: Option<Thread>,
    /// `build` has its answer. Later workers are replacements.
    built: bool,
}

impl Startup {
    /// Notes that a worker's start hook has ended. Returns false for a replacement whose hook
    /// failed, so that it has to be replaced in turn.
    pub(crate) fn settle(&self, index: usize, failed: Option<String>) -> bool {
        let mut state = self.0.lock();
        if state.built {
            return failed.is_none();
        }
        state.settled += 1;
        if let Some(text) = failed {
            state.failed.get_or_insert((index, text));
        }
        if let Some(builder) = &state.builder {
            builder.unpark();
        }
        true
    }

    /// Waits for all of `workers` workers; returns which one has failed first, and how, if one has.
    /// The builder may be a worker itself, of another pool: it runs what is directed to it
    /// meanwhile.
    pub(crate) fn wait(&self, workers: usize) -> Option<(usize, String)> {
        self.0.lock().builder = Some(seam::current());
        wait::wait_until(|| self.0.lock().settled == workers);
        let mut state = self.0.lock();
        state.built = true;
        state.builder = None;
        state.failed.take()
    }
}

impl Hooks {
    /// Hands a failure that nobody else is told of to the panic hook. A panic of the hook itself
    /// ends here: the process's own panic hook has printed it, and there is nobody left to tell.
    pub(crate) fn report(&self, error: TaskError) {
        let _unreportable = frame::contained(|| match &self.panic {
            Some(hook) => hook(error),
            None => drop(error),
        });
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("worker_start", &self.worker_start.is_some())
            .field("worker_stop", &self.worker_stop.is_some())
            .field("panic", &self.panic.is_some())
            .field("requires_worker_start", &self.startup.is_some())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn of_several_starts_that_fail_the_first_is_told() {
        let startup = Startup::default();
        assert!(startup.settle(1, Some("first".to_owned())));
        assert!(startup.settle(0, Some("second".to_owned())));
        assert_eq!(startup.wait(2), Some((1, "first".to_owned())));
    }
}

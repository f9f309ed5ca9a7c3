//! What runs on a thread of the pool, and what it owes at its end.

use super::Core;
use super::counters::Tally;
use crate::frame::Failure;
use crate::pool::scheduler::current::{self, InTask};

/// A task, a visit or a map's helper that runs on this thread: counted as running, and the thread marked
/// as running a task, until it is over.
///
/// The mark stays until the drop: what follows a task (drops, wakes) is user code too, and waits like a
/// task's.
#[must_use]
pub(crate) struct Running<'c> {
    pub(crate) tally: Tally<'c>,
    _in_task: InTask,
}

impl<'c> Running<'c> {
    #[inline]
    pub(crate) fn begin(core: &'c Core) -> Self {
        let tally = core.tally();
        tally.add(|c| &c.running, 1);
        Self { tally, _in_task: current::enter_task(core.id) }
    }

    /// Counts how it ended: `completed` tasks went well, and one failed, if there is a failure. Comes
    /// before the end can be seen by anybody.
    #[inline]
    pub(crate) fn end(&self, completed: u64, failure: Option<&Failure>) {
        if completed != 0 {
            self.tally.add(|c| &c.completed, completed);
        }
        match failure {
            None => {}
            Some(Failure::Panic(_)) => self.tally.add(|c| &c.panicked, 1),
            Some(_) => self.tally.add(|c| &c.failed, 1),
        }
        self.tally.sub(|c| &c.running, 1);
    }
}

/// Something that was admitted and is not a job: a map, a broadcast or a hook, while it lasts. Its drop
/// counts it as finished.
#[must_use]
pub(crate) struct Activity<'c> {
    core: &'c Core,
    pub(crate) number: u64,
}

impl<'c> Activity<'c> {
    /// Begins an activity, unless the pool is closed.
    pub(crate) fn begin(core: &'c Core) -> Option<Self> {
        let number = core.count_in().ok()?;
        // It is under way from the start, not a task that waits in the queue.
        core.tally().add(|c| &c.claimed, 1);
        Some(Self { core, number })
    }
}

impl Drop for Activity<'_> {
    fn drop(&mut self) {
        self.core.finished(self.core.tally());
    }
}

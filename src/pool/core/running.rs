//! What runs on a thread of the pool, and what it owes at its end.

use super::counters::Tally;
use super::{Core, Place};
use crate::frame::Failure;
use crate::pool::scheduler::current::{self, Doing, InTask};
use crate::sync::seam::atomic::{Ordering, fence};

/// A task, a visit or a map's helper that runs on this thread: counted as running, and the thread
/// marked as running a task, until it is over.
///
/// The mark stays until the drop: what follows a task (drops, wakes) is user code too, and waits
/// like a task's.
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
        Self { tally, _in_task: current::enter(core.id, Doing::Task) }
    }

    /// Counts how it ended: `completed` tasks went well, and one failed, if there is a failure.
    /// Comes before the end can be seen by anybody.
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
        self.tally.add(|c| &c.running, 1_u64.wrapping_neg());
    }
}

/// A hook that runs on a worker while the pool is open: it counts as a task, may submit and wait as
/// one does, and the pool is not quiescent before its drop.
#[must_use]
pub(crate) struct HookRun<'c> {
    core: &'c Core,
    _in_task: InTask,
}

impl<'c> HookRun<'c> {
    /// Begins a hook, unless the pool is closed.
    pub(crate) fn begin(core: &'c Core) -> Option<Self> {
        // Relaxed: ordered by the fence.
        core.hook_runs.fetch_add(1, Ordering::Relaxed);
        // SeqCst: the count before the look whether the pool is closing. Whoever sees it closing
        // looks at the count after a fence of its own (`Core::is_quiescent`), so it finds this
        // hook, or the hook finds the pool closing.
        fence(Ordering::SeqCst);
        if core.is_closing() {
            end_hook(core);
            return None;
        }
        Some(Self { core, _in_task: current::enter(core.id, Doing::Task) })
    }
}

impl Drop for HookRun<'_> {
    fn drop(&mut self) {
        end_hook(self.core);
    }
}

fn end_hook(core: &Core) {
    // Release: what the hook has submitted is counted before; see `Core::is_quiescent`.
    core.hook_runs.fetch_sub(1, Ordering::Release);
    // SeqCst: as in `Core::finished`.
    fence(Ordering::SeqCst);
    if core.is_closing() {
        core.sleepers.notify_all();
    }
}

/// Something that was admitted and is not a job: a map or a broadcast, while it lasts. Its drop
/// counts it as finished.
///
/// The caller's thread drops what is left of it (results, the closure), which is user code:
/// meanwhile that thread keeps the pool open, and cannot wait for its end.
#[must_use]
pub(crate) struct Activity<'c> {
    core: &'c Core,
    pub(crate) number: u64,
    _keeps_open: InTask,
}

impl<'c> Activity<'c> {
    /// Begins an activity, unless the pool is closed.
    pub(crate) fn begin(core: &'c Core) -> Option<Self> {
        let number = core.admit(Place::NotNeeded).ok()?;
        // It is under way from the start, not a task that waits in the queue.
        core.tally().add(|c| &c.claimed, 1);
        Some(Self { core, number, _keeps_open: current::enter(core.id, Doing::Other) })
    }
}

impl Drop for Activity<'_> {
    fn drop(&mut self) {
        self.core.finished(self.core.tally());
    }
}

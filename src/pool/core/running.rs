//! What runs on a thread of the pool: what it is counted as, and what it owes at its end.

use std::sync::Arc;

use super::{Core, Entry, Place};
use crate::frame::Failure;
use crate::pool::scheduler::current::{self, Doing, InTask};
use crate::pool::scheduler::worker_slot::{Counters, Tally};
use crate::sync::seam::atomic::{AtomicU64, Ordering, fence};

impl Core {
    /// Returns the counters of the current thread.
    #[inline]
    pub(crate) fn tally(&self) -> Tally<'_> {
        match current::serves_in(self.id) {
            Some(index) => self.slots[index].tally(),
            None => Tally { counters: &self.shared, alone: false },
        }
    }

    /// Returns the sum of one counter over all threads.
    pub(crate) fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        // Acquire: pairs with the Release of the single writers.
        let read = |counters| counter(counters).load(Ordering::Acquire);
        self.slots
            .iter()
            .fold(read(&self.shared), |sum, slot| sum.wrapping_add(read(&slot.counters)))
    }

    /// Runs an entry that a worker has taken off the queue, unless the pool is cancelled.
    #[inline]
    pub(crate) fn run(&self, entry: Arc<dyn Entry>, tally: Tally<'_>) {
        if self.is_cancelled() { entry.cancel(self) } else { entry.run(self, tally) }
    }

    /// Counts a task that was claimed: it gives its place in a bounded queue back.
    #[inline]
    pub(crate) fn claimed(&self, tally: Tally<'_>) {
        tally.add(|c| &c.claimed, 1);
        if let Some(capacity) = &self.capacity {
            capacity.release();
        }
    }

    /// Counts a task that is over, to the last access.
    #[inline]
    pub(crate) fn finished(&self, tally: Tally<'_>) {
        tally.add(|c| &c.finished, 1);
        // A worker that serves looks for itself whether it was the last before it falls asleep.
        if tally.alone {
            return;
        }
        // SeqCst: the count before the phase; `enter_phase` has the other half. Either this thread
        // finds the pool closing, or those who are woken for that find the count. And the count
        // before the look for waiters; see `idle.rs`.
        fence(Ordering::SeqCst);
        if self.is_closing() {
            self.sleepers.notify_all();
        }
        self.tell_if_idle_after_fence();
    }
}

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
    /// Begins it, on a thread that counts on `tally`.
    #[inline]
    pub(crate) fn begin(core: &Core, tally: Tally<'c>) -> Self {
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
    #[inline]
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

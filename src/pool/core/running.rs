//! What runs on a thread of the pool: what it is counted as, and what it owes at its end.

use super::Core;
use crate::frame::Failure;
use crate::pool::scheduler::counters::Counters;
use crate::pool::scheduler::current::{self, Doing, Mark};
use crate::sync::seam::atomic::{AtomicU64, Ordering, fence};

impl Core {
    /// Returns the counters of the current thread.
    #[inline]
    pub(crate) fn tally(&self) -> Tally<'_> {
        match current::serves_in(self.id) {
            Some(index) => Tally { counters: &self.slots[index].counters, alone: true },
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
}

/// The counters that the current thread counts on.
#[derive(Clone, Copy)]
pub(crate) struct Tally<'a> {
    pub(crate) counters: &'a Counters,
    /// Whether the current thread is the only one that writes to them.
    pub(crate) alone: bool,
}

impl Tally<'_> {
    /// Adds to one of the counters, wrapping.
    #[inline]
    pub(crate) fn add(self, counter: impl FnOnce(&Counters) -> &AtomicU64, n: u64) {
        let counter = counter(self.counters);
        if self.alone {
            // Relaxed load: this thread wrote the value. Release: whoever reads `finished` sees
            // what the task did; the other counters need no order.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Release);
        } else {
            // Release: as above.
            counter.fetch_add(n, Ordering::Release);
        }
    }

    /// Counts how something that ran has ended: `completed` tasks went well, and one failed, if
    /// there is a failure. Comes before the end can be seen by anybody.
    #[inline]
    pub(crate) fn ended(self, completed: u64, failure: Option<&Failure>) {
        if completed != 0 {
            self.add(|c| &c.completed, completed);
        }
        if let Some(failure) = failure {
            self.failed(failure);
        }
        self.add(|c| &c.running, 1_u64.wrapping_neg());
    }

    /// Counts a failure.
    #[inline]
    pub(crate) fn failed(self, failure: &Failure) {
        match failure {
            Failure::Panic(_) => self.add(|c| &c.panicked, 1),
            _ => self.add(|c| &c.failed, 1),
        }
    }
}

/// Something that was admitted and is under way on this thread: a job from its claim on, to be run
/// or to be dropped, or a map or a broadcast, while it lasts. Its drop counts it as finished.
///
/// The mark on the thread stays to the end: what follows a task (drops, wakes), and what is left of
/// a map, is user code too, which the pool waits for.
#[must_use]
pub(crate) struct Activity<'c> {
    core: &'c Core,
    tally: Tally<'c>,
    _mark: Mark,
}

impl<'c> Activity<'c> {
    /// Begins it, on a thread that counts on `tally`.
    #[inline]
    pub(crate) fn begin(core: &'c Core, tally: Tally<'c>, what: Doing) -> Self {
        let mark = current::enter(core.id, what);
        tally.add(|c| &c.claimed, 1);
        Self { core, tally, _mark: mark }
    }
}

impl Drop for Activity<'_> {
    #[inline]
    fn drop(&mut self) {
        self.tally.add(|c| &c.finished, 1);
        // A worker that serves looks for itself whether it was the last before it falls asleep.
        if self.tally.alone {
            return;
        }
        // SeqCst: the count before the phase; `enter_phase` has the other half. Either this thread
        // finds the pool closing, or those who are woken for that find the count. And the count
        // before the look for waiters; see `idle.rs`.
        fence(Ordering::SeqCst);
        if self.core.is_closing() {
            self.core.sleepers.notify_all();
        }
        self.core.tell_if_idle_after_fence();
    }
}

/// A hook that runs on a worker while the pool is open: it counts as a task, may submit and wait as
/// one does, and the pool is not quiescent before its drop.
#[must_use]
pub(crate) struct HookRun<'c> {
    core: &'c Core,
    _in_task: Mark,
}

impl<'c> HookRun<'c> {
    /// Begins a hook, unless the pool is closed.
    pub(crate) fn begin(core: &'c Core) -> Option<Self> {
        // Relaxed: ordered by the fence.
        core.hook_runs.fetch_add(1, Ordering::Relaxed);
        let run = Self { core, _in_task: current::enter(core.id, Doing::TASK) };
        // SeqCst: the count before the look whether the pool is closing. Whoever sees it closing
        // looks at the count after a fence of its own (`Core::is_quiescent`), so it finds this
        // hook, or the hook finds the pool closing.
        fence(Ordering::SeqCst);
        (!core.is_closing()).then_some(run)
    }
}

impl Drop for HookRun<'_> {
    fn drop(&mut self) {
        // Release: what the hook has submitted is counted before; see `Core::is_quiescent`.
        self.core.hook_runs.fetch_sub(1, Ordering::Release);
        // SeqCst: as in the drop of `Activity`.
        fence(Ordering::SeqCst);
        if self.core.is_closing() {
            self.core.sleepers.notify_all();
        }
    }
}

//! What a pool shares with its workers and its handles.

use std::num::NonZeroUsize;
use std::panic::Location;
use std::sync::Arc;

use super::capacity::Capacity;
use super::counters::{Counters, Tally};
use super::current;
use super::error::{Cause, Label, TaskError};
use super::hooks::Hooks;
use super::intake::{Admission, Intake};
use super::isolation::Isolation;
use super::queue::{Queue, Runnable};
use super::seat::{Seat, Visit};
use super::sentry::Sentry;
use super::sleep::Sleepers;
use super::threads::Threads;
use crate::foreign::CarrierSet;
use crate::frame::{self, Failure};
use crate::sync::seam::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// See the module's documentation.
pub(crate) struct Core {
    /// Never 0, never used twice.
    pub(crate) id: u64,
    pub(crate) isolation: Isolation,
    /// Attached around every task, unless the pool is leaky.
    pub(crate) carriers: CarrierSet,
    pub(crate) intake: Intake,
    pub(crate) capacity: Option<Capacity>,
    pub(crate) queue: Queue,
    pub(crate) sleepers: Sleepers,
    pub(crate) seats: Box<[Arc<Seat>]>,
    /// For the tasks that other threads than the workers run or cancel.
    shared: Counters,
    /// Set after the intake was closed. On a line of its own kind: read often, written once.
    closing: AtomicBool,
    pub(crate) hooks: Hooks,
    pub(crate) threads: Threads,
    pub(crate) sentry: Sentry,
    pub(crate) renewed: AtomicU64,
    pub(crate) unobserved: AtomicU64,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(
        workers: NonZeroUsize,
        isolation: Isolation,
        carriers: CarrierSet,
        capacity: Option<usize>,
        hooks: Hooks,
        threads: Threads,
        sentry: Sentry,
    ) -> Self {
        let id = current::new_pool_id();
        Self {
            id,
            isolation,
            carriers,
            intake: Intake::new(),
            capacity: capacity.map(Capacity::new),
            queue: Queue::new(),
            sleepers: Sleepers::new(),
            seats: (0..workers.get()).map(|index| Arc::new(Seat::new(id, index))).collect(),
            shared: Counters::default(),
            closing: AtomicBool::new(false),
            hooks,
            threads,
            sentry,
            renewed: AtomicU64::new(0),
            unobserved: AtomicU64::new(0),
        }
    }

    /// The counters of the current thread.
    #[inline]
    pub(crate) fn tally(&self) -> Tally<'_> {
        match current::index_in(self.id) {
            Some(index) => Tally { counters: &self.seats[index].counters, alone: true },
            None => Tally { counters: &self.shared, alone: false },
        }
    }

    /// Counts a submission, or says that it comes too late.
    #[inline]
    pub(crate) fn admit(&self) -> Admission {
        self.intake.admit(|| current::runs_task_of(self.id))
    }

    /// A submission that was counted is not let in.
    pub(crate) fn reject(&self) {
        let tally = self.tally();
        tally.add(|c| &c.claimed, 1);
        self.finished(tally);
    }

    /// A task is over, to the last access.
    #[inline]
    pub(crate) fn finished(&self, tally: Tally<'_>) {
        tally.add(|c| &c.finished, 1);
        // A worker looks for itself whether it was the last before it falls asleep.
        if !tally.alone && self.is_closing() {
            self.sleepers.notify_all();
        }
    }

    /// A task was claimed: it gives its place in a bounded queue back.
    #[inline]
    pub(crate) fn claimed(&self, tally: Tally<'_>) {
        tally.add(|c| &c.claimed, 1);
        if let Some(capacity) = &self.capacity {
            capacity.release();
        }
    }

    /// Puts an entry on the queue and wakes somebody for it, if need be.
    #[inline]
    pub(crate) fn enqueue(&self, entry: Arc<dyn Runnable>) {
        self.queue.push(entry);
        self.sleepers.notify();
        self.look_for_cancellation();
    }

    /// To be called after work was made visible. Either the thread that cancels finds the work, or this
    /// one finds the pool cancelled: the fence in `notify` lies between the work and this look, and
    /// `cancel` sets the flag, SeqCst, before it looks for work.
    #[inline]
    fn look_for_cancellation(&self) {
        if self.is_closing() && self.intake.is_cancelled() {
            self.cancel_unstarted();
        }
    }

    /// Addresses a visit to every worker.
    pub(crate) fn deliver_all(&self, visit: &Arc<impl Visit + 'static>) {
        for seat in &self.seats {
            seat.deliver(Arc::clone(visit) as Arc<dyn Visit>);
        }
        // SeqCst: the visits before the look.
        fence(Ordering::SeqCst);
        self.look_for_cancellation();
    }

    /// `n` entries of the queue have died there.
    pub(crate) fn died_in_queue(&self, n: u64) {
        if n != 0 && self.queue.died(n as isize) {
            self.queue.sweep(|| self.sleepers.notify());
        }
    }

    /// Whether nothing that was admitted is left, for good. True after the closing only.
    pub(crate) fn is_quiescent(&self) -> bool {
        if !self.is_closing() {
            return false;
        }
        // The finished ones first, the count after them: both only grow, and the first never exceeds
        // the second, so if they are equal they were so at the end of the sum. Acquire and SeqCst keep
        // the reads in this order.
        let finished = self.sum(|c| &c.finished);
        finished == self.intake.count()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Closes the pool for new work and lets the workers see it.
    pub(crate) fn close(&self) {
        self.intake.close();
        self.wake_for_closing();
    }

    /// Closes the pool for all work and cancels what has not started.
    pub(crate) fn cancel(&self) {
        self.intake.cancel();
        self.wake_for_closing();
        self.cancel_unstarted();
    }

    #[cold]
    fn cancel_unstarted(&self) {
        while let Some(entry) = self.queue.pop() {
            entry.cancel(self);
        }
        for seat in &self.seats {
            seat.cancel_visits();
        }
    }

    fn wake_for_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
        if let Some(capacity) = &self.capacity {
            capacity.wake_all();
        }
        self.sleepers.notify_all();
    }

    /// The sum of one counter over all threads.
    pub(crate) fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        // Acquire: pairs with the Release of the single writers.
        let read = |counters| counter(counters).load(Ordering::Acquire);
        self.seats
            .iter()
            .fold(read(&self.shared), |sum, seat| sum.wrapping_add(read(&seat.counters)))
    }

    /// A failure that no handle will report: of a detached task, of a hook, of a drop.
    pub(crate) fn report(&self, label: Label, cause: Cause) {
        if let Cause::Failed(_) = &cause {
            // Relaxed: a statistic.
            self.unobserved.fetch_add(1, Ordering::Relaxed);
            self.hooks.report(TaskError::new(label, cause));
        }
    }

    /// The same, named after something that is not a task.
    #[track_caller]
    pub(crate) fn report_for(&self, what: impl Into<Arc<str>>, failure: Failure) {
        let label = Label { name: Some(what.into()), at: Location::caller(), id: 0 };
        self.report(label, Cause::Failed(failure));
    }

    /// Drops what belongs to others, contained; a panic is reported under `label`.
    pub(crate) fn drop_contained<T>(&self, value: T, label: &Label) {
        if !std::mem::needs_drop::<T>() {
            return;
        }
        let dropped = self.sentry.watch(self, label, || frame::contained(|| drop(value)));
        if let Err(failure) = dropped {
            self.report(label.clone(), Cause::Failed(failure));
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The workers are gone; what is left are tombstones and late tickets, of which nothing borrows.
        while let Some(entry) = self.queue.pop() {
            entry.cancel(self);
        }
    }
}

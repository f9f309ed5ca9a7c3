//! What a pool shares with its workers and its handles.

pub(crate) mod admission;
pub(crate) mod capacity;
pub(crate) mod hooks;
mod idle;
#[cfg(all(loom, test))]
mod model;
mod phase;
mod running;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(all(test, not(loom)))]
mod tests;

use std::num::NonZeroUsize;
use std::panic::Location;
use std::sync::Arc;

use self::admission::Admission;
use self::capacity::Capacity;
pub(crate) use self::capacity::Place;
use self::hooks::Hooks;
use self::idle::IdleWaiters;
pub(crate) use self::running::{Activity, HookRun, Tally};
use super::error::{Cause, Label, Labelled, Refused, TaskError, Which};
use super::isolation::Isolation;
use super::leaks::LeakWatch;
use super::scheduler::counters::Counters;
use super::scheduler::queue::{Queue, Stale};
use super::scheduler::sleep::Sleepers;
use super::scheduler::threads::Threads;
use super::scheduler::worker_slot::WorkerSlot;
use super::scheduler::{current, wait};
use crate::foreign::CarrierSet;
use crate::frame::{self, Failure};
use crate::sync::process::{Process, ProcessMutex};
use crate::sync::seam::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// What the queue holds: a job, or a ticket of a group. A scope lists its jobs, too.
pub(crate) trait Entry: Stale {
    /// Runs it, or ends it without running it, if the pool is cancelled. Returns `false` if it was
    /// stale.
    #[must_use]
    fn run(self: Arc<Self>, core: &Core, how: How<'_>) -> bool;
}

/// How a job that is claimed comes to its end.
#[derive(Clone, Copy)]
pub(crate) enum How<'t> {
    /// It is run by a thread that has taken it off the queue, and counts on this.
    Run(Tally<'t>),
    /// It is run by a thread that waits for it.
    Inline,
    /// It is run by the thread that submits it, and nobody else ever sees it.
    Here,
    /// It is cancelled by its handle, where it lies on the queue.
    CancelByHandle,
    /// It is cancelled where it lies on the queue, since the pool is shut down.
    ShutDown,
    /// It was not let in. Nothing counts it.
    Refuse(Refused),
}

/// What the builder decides.
pub(crate) struct Settings {
    pub(crate) workers: NonZeroUsize,
    pub(crate) isolation: Isolation,
    pub(crate) carriers: Option<CarrierSet>,
    pub(crate) capacity: Option<usize>,
    pub(crate) hooks: Hooks,
    pub(crate) leak_watch: LeakWatch,
    pub(crate) caller_helps: bool,
}

/// See the module's documentation.
pub(crate) struct Core {
    /// Never 0, never used twice.
    pub(crate) id: u64,
    pub(crate) isolation: Isolation,
    /// Attached around every task, unless the pool is leaky.
    pub(crate) carriers: Option<CarrierSet>,
    admission: Admission,
    capacity: Option<Capacity>,
    pub(crate) queue: Queue<dyn Entry>,
    pub(crate) sleepers: Sleepers,
    pub(crate) slots: Box<[Arc<WorkerSlot>]>,
    /// For the tasks that threads other than the workers run or cancel.
    shared: Counters,
    /// Set after the admission was closed. Read often, written twice.
    phase: AtomicU8,
    /// Hooks that run now and count as tasks.
    hook_runs: AtomicUsize,
    /// Held while a directed task is delivered to every worker, so that all see one order.
    delivering: ProcessMutex<()>,
    pub(crate) hooks: Hooks,
    idle: IdleWaiters,
    pub(crate) threads: Arc<Threads>,
    pub(crate) leak_watch: LeakWatch,
    /// The process that the workers live in.
    process: Process,
    /// Whether plain threads run what they wait for.
    caller_helps: bool,
    /// Whether the last handle lets go of the workers instead of waiting for them.
    pub(crate) detaches: AtomicBool,
    pub(crate) renewed: AtomicU64,
    pub(crate) unobserved: AtomicU64,
}

impl Core {
    pub(crate) fn new(settings: Settings, id: u64, threads: Threads) -> Self {
        let Settings { workers, isolation, carriers, capacity, hooks, leak_watch, caller_helps } =
            settings;
        // In other pools, tasks need what only a worker has: slots that stay, carriers, what the
        // start hook has set up, the watch.
        let caller_helps = caller_helps
            && isolation == Isolation::Reset
            && carriers.is_none()
            && hooks.worker_start.is_none()
            && !leak_watch.is_on();
        Self {
            id,
            isolation,
            carriers,
            admission: Admission::new(),
            capacity: capacity.map(Capacity::new),
            queue: Queue::new(),
            sleepers: Sleepers::new(),
            slots: (0..workers.get()).map(|index| Arc::new(WorkerSlot::new(id, index))).collect(),
            shared: Counters::default(),
            phase: AtomicU8::new(phase::OPEN),
            hook_runs: AtomicUsize::new(0),
            delivering: ProcessMutex::new(()),
            hooks,
            idle: IdleWaiters::default(),
            threads: Arc::new(threads),
            leak_watch,
            process: Process::current(),
            caller_helps,
            detaches: AtomicBool::new(false),
            renewed: AtomicU64::new(0),
            unobserved: AtomicU64::new(0),
        }
    }

    /// Returns whether work waits besides `own` entries of the queue, and no worker is idle that
    /// would take it.
    pub(crate) fn is_crowded(&self, own: u64) -> bool {
        !self.sleepers.is_anybody_idle() && self.queue.live() > own
    }

    /// Returns whether the current thread claims the tasks that it waits for: to run them, or to
    /// end them once the pool is cancelled, as any thread does. Otherwise a thread that cancels
    /// might wait, in the drop of one task, for the next one in the queue, while the worker that
    /// would come to that one waits for the first.
    #[inline]
    pub(crate) fn claims_here(&self) -> bool {
        self.helps_here() || self.is_cancelled()
    }

    /// Returns whether the current thread runs what it waits for: because it runs a task, or
    /// because plain threads do so in this pool. A thread whose slots have ended cannot: a task
    /// would have none there.
    #[inline]
    pub(crate) fn helps_here(&self) -> bool {
        current::in_task() || self.caller_helps && !frame::thread::current().is_gone()
    }

    /// Notes that `n` entries of the queue have become stale there.
    pub(crate) fn mark_stale(&self, n: u64) {
        if n != 0 && self.queue.mark_stale(n as isize) {
            self.queue.sweep(|| self.sleepers.notify());
        }
    }

    /// Returns whether this process is a child of the one that the workers live in.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_parent()
    }

    /// Blocks until `done`, whose change must unpark this thread; returns false if it never will
    /// be, since the workers live in another process.
    pub(crate) fn wait_until(&self, done: impl FnMut() -> bool) -> bool {
        wait::wait_until_or(done, || self.is_forked())
    }

    /// Reports a failure that no handle will: of a detached task, of a hook, of a drop.
    pub(crate) fn report(&self, label: Label, cause: Cause) {
        if let Cause::Failed(_) = &cause {
            self.report_error(TaskError::new(label, cause));
        }
    }

    /// Reports an error that a handle has given, and that goes no further. An error that says that
    /// the task never ran is not a failure to report.
    pub(crate) fn report_error(&self, error: TaskError) {
        if error.is_panic() || error.is_cleanup() || error.is_carrier() {
            // Relaxed: a statistic.
            self.unobserved.fetch_add(1, Ordering::Relaxed);
            self.unwatched(|| self.hooks.report(error));
        }
    }

    /// Reports a failure, named after something that is not a task. To be called by a worker that
    /// runs none.
    #[track_caller]
    pub(crate) fn report_for(&self, what: impl Into<Arc<str>>, failure: Failure) {
        let name = Some(Arc::new(what.into()));
        let label = Label { name, at: Location::caller(), which: Which::Other };
        current::run_hook(|| self.report(label, Cause::Failed(failure)));
    }

    /// Drops what belongs to the user, contained; a panic is reported under `label`.
    #[inline]
    pub(crate) fn drop_contained<T>(&self, value: T, label: &dyn Labelled) {
        if const { std::mem::needs_drop::<T>() } {
            let mut value = Some(value);
            self.call_contained(&mut || value = None, label);
        }
    }

    /// The same for what `drop` drops.
    pub(crate) fn call_contained(&self, drop: &mut dyn FnMut(), label: &dyn Labelled) {
        let dropped = self.watched(label, None, || frame::contained(drop));
        if let Err(failure) = dropped {
            self.report(label.label(), Cause::Failed(failure));
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.is_forked() {
            self.threads.forget();
        }
    }
}

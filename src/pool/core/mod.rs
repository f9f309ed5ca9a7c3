//! What a pool shares with its workers and its handles.

pub(crate) mod admission;
pub(crate) mod capacity;
pub(crate) mod counters;
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
use std::task::{Poll, Waker};

use self::admission::{Admission, Admitted};
use self::capacity::{Capacity, NoPlace, Waiting};
use self::counters::{Counters, Tally};
use self::hooks::Hooks;
use self::idle::IdleWaiters;
pub(crate) use self::running::{Activity, HookRun, Running};
use super::error::{Cause, Label, Labelled, TaskError};
use super::isolation::Isolation;
use super::leaks::LeakWatch;
use super::scheduler::current;
use super::scheduler::queue::{Queue, Stale};
use super::scheduler::sleep::Sleepers;
use super::scheduler::threads::Threads;
use super::scheduler::worker_slot::{DirectedTask, WorkerSlot};
use crate::context::Context;
use crate::foreign::CarrierSet;
use crate::frame::{self, Failure};
use crate::sync::seam::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::seam::{Mutex, Process};

/// What the queue holds: a job, or a ticket of a group.
pub(crate) trait Entry: Stale {
    /// Runs it, on a worker of `core` that has taken it off the queue.
    fn run(self: Arc<Self>, core: &Core);
    /// Ends it without running it: it was taken off the queue because the pool was shut down.
    fn cancel(&self, core: &Core);
    /// The same where it lies on the queue, by whoever put it there too late.
    fn cancel_on_queue(&self, core: &Core);
}

/// Why a submission was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    ShutDown,
    Forked,
}

/// The place in a bounded queue of something that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It waits for one.
    Wait,
    /// It is refused if there is none.
    Refuse,
    /// It has one already.
    Taken,
    /// It needs none, since it is no task that waits in the queue.
    NotNeeded,
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
    /// For the tasks that other threads than the workers run or cancel.
    shared: Counters,
    /// Set after the admission was closed. Read often, written twice.
    phase: AtomicU8,
    /// Hooks that run now and count as tasks.
    hook_runs: AtomicUsize,
    /// Held while a directed task is delivered to every worker, so that all see one order.
    delivering: Mutex<()>,
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

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(settings: Settings, id: u64, threads: Threads) -> Self {
        let Settings { workers, isolation, carriers, capacity, hooks, leak_watch, caller_helps } =
            settings;
        // What a worker has and other threads do not: these tasks cannot do without.
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
            delivering: Mutex::new(()),
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

    /// Returns the counters of the current thread.
    #[inline]
    pub(crate) fn tally(&self) -> Tally<'_> {
        match current::serves_in(self.id) {
            Some(index) => Tally { counters: &self.slots[index].counters, alone: true },
            None => Tally { counters: &self.shared, alone: false },
        }
    }

    // --- Coming in ---

    /// Lets something in: takes its place in a bounded queue, and counts it. Returns its number. If
    /// it is refused, its place is given back.
    ///
    /// Where there is no place, a thread that runs a task passes.
    #[inline]
    pub(crate) fn admit(&self, place: Place) -> Result<u64, Refused> {
        if let Some(capacity) = &self.capacity {
            self.take_place(capacity, place)?;
        }
        match self.admission.admit(|| current::keeps_open(self.id)) {
            Admitted::Yes(number) => Ok(number),
            refused => Err(self.refuse(refused, place)),
        }
    }

    #[cold]
    fn refuse(&self, refused: Admitted, place: Place) -> Refused {
        if refused == Admitted::TooLate {
            // On the counters of no thread: this one may have left its loop, where a worker would
            // look for itself whether it was the last.
            let tally = Tally { counters: &self.shared, alone: false };
            tally.add(|c| &c.claimed, 1);
            self.finished(tally);
        }
        if place != Place::NotNeeded {
            self.give_place_back();
        }
        Refused::ShutDown
    }

    #[cold]
    fn take_place(&self, capacity: &Capacity, place: Place) -> Result<(), Refused> {
        let taken = match place {
            Place::Taken | Place::NotNeeded => Ok(()),
            _ if current::in_task() => {
                capacity.take_anyway();
                Ok(())
            }
            Place::Wait => capacity.take(|| self.is_forked()),
            Place::Refuse => capacity.try_take(),
        };
        taken.map_err(|why| self.refusal(why))
    }

    fn refusal(&self, why: NoPlace) -> Refused {
        match why {
            NoPlace::Full => Refused::Full,
            NoPlace::Closed if self.is_forked() => Refused::Forked,
            NoPlace::Closed => Refused::ShutDown,
        }
    }

    /// Takes a place in a bounded queue for a task that comes later, without waiting.
    pub(crate) fn try_reserve(&self) -> Result<(), Refused> {
        match &self.capacity {
            _ if self.is_closed_here() => Err(Refused::ShutDown),
            None => Ok(()),
            Some(capacity) => self.take_place(capacity, Place::Refuse),
        }
    }

    /// Takes a place in a bounded queue for a task that comes later, or goes into the line in which
    /// `line` stands from then on.
    pub(crate) fn poll_reserve<'c>(
        &'c self,
        line: &mut Option<Waiting<'c>>,
        waker: &Waker,
    ) -> Poll<Result<(), Refused>> {
        let capacity = match &self.capacity {
            Some(capacity) if !current::in_task() && !self.is_closed_here() => capacity,
            // At once, also out of the line: a task would wait there for itself.
            _ => {
                *line = None;
                return Poll::Ready(self.try_reserve());
            }
        };
        let arrives = line.is_none();
        let taken = line.get_or_insert_with(|| capacity.wait()).poll(waker);
        if arrives && taken.is_pending() && self.is_forked() {
            *line = None;
            return Poll::Ready(Err(Refused::Forked));
        }
        taken.map_err(|why| self.refusal(why))
    }

    /// Gives back a place in a bounded queue that no task came for.
    pub(crate) fn give_place_back(&self) {
        if let Some(capacity) = &self.capacity {
            capacity.release();
        }
    }

    /// Returns the number that the next task will have, for one that never gets one.
    pub(crate) fn next_number(&self) -> u64 {
        self.admission.count()
    }

    /// Returns how many tasks have come in.
    pub(crate) fn admitted(&self) -> u64 {
        self.admission.count()
    }

    /// Puts an entry on the queue and wakes somebody for it, if need be. Returns whether the pool
    /// was cancelled meanwhile: then nobody may come for the entry, and the caller has to
    /// [cancel](Entry::cancel_on_queue) it.
    ///
    /// That one and no other: what else is on the queue has nothing to do with what this thread
    /// runs, and its drop may wait for just that.
    #[inline]
    #[must_use]
    pub(crate) fn enqueue(&self, entry: Arc<dyn Entry>) -> bool {
        self.queue.push(entry);
        self.sleepers.notify();
        // Either the thread that cancels finds the entry, or this one finds the pool cancelled: a
        // SeqCst fence, that in `notify`, lies between the entry and this look, and another one in
        // `enter_phase` between the phase and the look for work.
        self.is_cancelled()
    }

    /// Puts entries on the queue, all of them before anybody is woken: a thread that is woken may
    /// take this one's processor at once, and for long. Returns the same as
    /// [`enqueue`](Self::enqueue).
    #[must_use]
    pub(crate) fn enqueue_all(&self, entries: impl Iterator<Item = Arc<dyn Entry>>) -> bool {
        let mut pushed = 0;
        for entry in entries {
            self.queue.push(entry);
            pushed += 1;
        }
        for _ in 0..pushed {
            self.sleepers.notify();
        }
        self.is_cancelled()
    }

    /// Puts back an entry that gave way to others. Returns the same as [`enqueue`](Self::enqueue).
    #[must_use]
    pub(crate) fn enqueue_second(&self, entry: Arc<dyn Entry>) -> bool {
        self.queue.push_second(entry);
        self.sleepers.notify();
        self.is_cancelled()
    }

    /// Returns whether work waits besides `own` entries of the queue, and no worker is idle that
    /// would take it.
    pub(crate) fn is_crowded(&self, own: u64) -> bool {
        !self.sleepers.is_anybody_idle() && self.queue.live() > own
    }

    /// Addresses a task to every worker. Racing callers come one after the other, so that all
    /// workers see the same order, and tasks that wait for one another meet.
    pub(crate) fn deliver_to_all(&self, task: &Arc<impl DirectedTask + 'static>) {
        let delivering = self.delivering.lock();
        for slot in &self.slots {
            slot.deliver(Arc::clone(task) as Arc<dyn DirectedTask>);
        }
        drop(delivering);
        // SeqCst: the tasks before the look, as in `enqueue`.
        fence(Ordering::SeqCst);
        if self.is_cancelled() {
            self.cancel_directed();
        }
    }

    // --- Running ---

    /// Returns whether the current thread claims the tasks that it waits for: to run them, or to
    /// end them once the pool is cancelled, as any thread does. Whoever cancels may otherwise wait,
    /// in the drop of one task, for the next one in the queue, while the worker that would come to
    /// it waits for the first.
    #[inline]
    pub(crate) fn claims_here(&self) -> bool {
        self.helps_here() || self.is_cancelled()
    }

    /// Runs an entry that a worker has taken off the queue, unless the pool is cancelled.
    #[inline]
    pub(crate) fn run(&self, entry: Arc<dyn Entry>) {
        if self.is_cancelled() { entry.cancel(self) } else { entry.run(self) }
    }

    /// Returns whether the current thread runs what it waits for: because it runs a task, or
    /// because plain threads do so in this pool. One whose slots have ended cannot: a task would
    /// have none there.
    #[inline]
    pub(crate) fn helps_here(&self) -> bool {
        current::in_task() || self.caller_helps && !frame::thread::current().is_gone()
    }

    /// Runs user code as the task with `label`: isolated, watched, caught.
    #[inline]
    pub(crate) fn run_task<R>(
        &self,
        label: &impl Labelled,
        context: &Context,
        task: impl FnOnce() -> R,
    ) -> Result<R, Failure> {
        self.watched(label, None, || self.isolation.run(context, task))
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
        // finds the pool closing, or those who are woken for that find the count.
        fence(Ordering::SeqCst);
        if self.is_closing() {
            self.sleepers.notify_all();
        }
        self.tell_if_idle();
    }

    /// Notes that `n` entries of the queue have become stale there.
    pub(crate) fn mark_stale(&self, n: u64) {
        if n != 0 && self.queue.mark_stale(n as isize) {
            self.queue.sweep(|| self.sleepers.notify());
        }
    }

    // --- Waiting ---

    /// Returns whether this process is a child of the one that the workers live in. A system call,
    /// so it is asked where a thread would block anyway.
    #[cold]
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_parent()
    }

    /// Blocks until `done`, whose change must unpark this thread; returns false if it never will
    /// be, since the workers live in another process.
    pub(crate) fn wait_until(&self, done: impl FnMut() -> bool) -> bool {
        current::wait_until_or(done, || self.is_forked())
    }

    /// Returns the sum of one counter over all threads.
    pub(crate) fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        // Acquire: pairs with the Release of the single writers.
        let read = |counters| counter(counters).load(Ordering::Acquire);
        self.slots
            .iter()
            .fold(read(&self.shared), |sum, slot| sum.wrapping_add(read(&slot.counters)))
    }

    // --- Failures that nobody waits for ---

    /// Reports a failure that no handle will: of a detached task, of a hook, of a drop.
    pub(crate) fn report(&self, label: Label, cause: Cause) {
        if let Cause::Failed(_) = &cause {
            // Relaxed: a statistic.
            self.unobserved.fetch_add(1, Ordering::Relaxed);
            self.hooks.report(TaskError::new(label, cause));
        }
    }

    /// Reports a failure, named after something that is not a task. To be called by a worker that
    /// runs none.
    #[track_caller]
    pub(crate) fn report_for(&self, what: impl Into<Arc<str>>, failure: Failure) {
        let label = Label { name: Some(Arc::new(what.into())), at: Location::caller(), id: 0 };
        current::run_hook(|| self.report(label, Cause::Failed(failure)));
    }

    /// Drops what belongs to the user, contained; a panic is reported under `label`.
    pub(crate) fn drop_contained<T>(&self, value: T, label: &impl Labelled) {
        if !std::mem::needs_drop::<T>() {
            return;
        }
        let dropped = self.watched(label, None, || frame::contained(|| drop(value)));
        if let Err(failure) = dropped {
            self.report(label.label(), Cause::Failed(failure));
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.is_forked() {
            // What lies in the queue belongs to the parent, and may borrow from stacks that are
            // gone.
            while let Some(entry) = self.queue.pop() {
                #[expect(clippy::mem_forget, reason = "nothing of it may be dropped here")]
                std::mem::forget(entry);
            }
            self.threads.forget();
            return;
        }
        // The workers are gone; what is left are stale entries and late tickets, of which nothing
        // borrows.
        while let Some(entry) = self.queue.pop() {
            entry.cancel(self);
        }
    }
}

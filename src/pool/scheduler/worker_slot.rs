//! A worker's place in its pool: what outlives the thread that is bound to it.
//!
//! Threads can be replaced ([`WorkerSlot::retire`]); the index, the counters and the inbox stay.
//! One thread is bound at a time: the old one unbinds before its successor is started.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counters::Counters;
use crate::sync::process::ProcessMutex;
use crate::sync::seam::Thread;
use crate::sync::seam::atomic::{AtomicU8, Ordering};

/// A task that is addressed to one worker and to no other: a broadcast's visit.
pub(crate) trait DirectedTask: Send + Sync {
    /// Runs on the worker.
    fn run(&self);
    /// Called when the pool is shut down for good. Returns whether the task is cancelled: then
    /// [`cancel`](DirectedTask::cancel) is called, outside of any lock. A task that has to run all
    /// the same stays where it is. Runs no user code.
    #[must_use]
    fn may_cancel(&self) -> bool;
    /// Ends a task that was cancelled, in place of running it.
    fn cancel(&self);
}

/// See the module's documentation.
pub(crate) struct WorkerSlot {
    pub(crate) pool: u64,
    pub(crate) index: usize,
    /// Written by the bound thread only.
    pub(crate) counters: Counters,
    inbox: ProcessMutex<Inbox>,
    /// What the bound thread is called for: one word, so that one look between two tasks is enough.
    calls: AtomicU8,
}

/// The inbox has something in it; a hint that saves its lock.
const DIRECTED: u8 = 1;
/// The bound thread is to be replaced.
const RETIRING: u8 = 1 << 1;

struct Inbox {
    tasks: VecDeque<Arc<dyn DirectedTask>>,
    /// The thread that was bound last: what is addressed to the worker once it has gone waits for
    /// the next one.
    thread: Option<Thread>,
}

impl WorkerSlot {
    pub(crate) fn new(pool: u64, index: usize) -> Self {
        Self {
            pool,
            index,
            counters: Counters::default(),
            inbox: ProcessMutex::new(Inbox { tasks: VecDeque::new(), thread: None }),
            calls: AtomicU8::new(0),
        }
    }

    /// Binds `thread`, which serves here from now on.
    pub(crate) fn bind(&self, thread: Thread) {
        // The lock orders what the threads of this slot do, one after the other.
        self.inbox.lock_at_home().thread = Some(thread);
        self.stay();
    }

    /// Addresses a task to this worker and wakes it, wherever it waits.
    pub(crate) fn deliver(&self, task: Arc<dyn DirectedTask>) {
        let thread = {
            let Some(mut inbox) = self.inbox.lock() else { return };
            inbox.tasks.push_back(task);
            // Release: pairs with the Acquire in `is_called`. A worker that misses it has not
            // parked yet, or is woken by the `unpark` below; one that is not bound yet looks before
            // it parks.
            self.calls.fetch_or(DIRECTED, Ordering::Release);
            inbox.thread.clone()
        };
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    /// Returns whether the bound thread has something else to do than the pool's tasks.
    #[inline]
    pub(crate) fn is_called(&self) -> bool {
        // Acquire: pairs with the Release in `deliver`.
        self.calls.load(Ordering::Acquire) != 0
    }

    #[inline]
    pub(crate) fn has_directed(&self) -> bool {
        // Acquire: as in `is_called`.
        self.calls.load(Ordering::Acquire) & DIRECTED != 0
    }

    fn next_directed(&self) -> Option<Arc<dyn DirectedTask>> {
        let mut inbox = self.inbox.lock()?;
        let task = inbox.tasks.pop_front();
        if inbox.tasks.is_empty() {
            // Relaxed: only ever changed under the lock, which orders it.
            self.calls.fetch_and(!DIRECTED, Ordering::Relaxed);
        }
        task
    }

    /// Runs the oldest directed task, if there is one; returns whether there was. To be called by
    /// the bound thread.
    #[inline]
    pub(crate) fn run_directed(&self) -> bool {
        self.has_directed() && self.run_directed_now()
    }

    #[cold]
    fn run_directed_now(&self) -> bool {
        let Some(task) = self.next_directed() else { return false };
        task.run();
        true
    }

    /// Cancels the directed tasks that can be. The others keep their places, so that the order in
    /// which they were addressed holds for every worker.
    pub(crate) fn cancel_directed(&self) {
        let mut cancelled = Vec::new();
        if let Some(mut inbox) = self.inbox.lock() {
            inbox.tasks.retain(|task| {
                let cancels = task.may_cancel();
                if cancels {
                    cancelled.push(Arc::clone(task));
                }
                !cancels
            });
        }
        // Outside of the lock, since the end of a task may wake its owner.
        for task in cancelled {
            task.cancel();
        }
    }

    /// Asks for a fresh thread here: the bound one ends before its next outermost task.
    pub(crate) fn retire(&self) {
        // Relaxed: a flag of the thread's own, or a request that may be seen later.
        self.calls.fetch_or(RETIRING, Ordering::Relaxed);
    }

    /// Takes that back.
    pub(crate) fn stay(&self) {
        // Relaxed: as in `retire`.
        self.calls.fetch_and(!RETIRING, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_retiring(&self) -> bool {
        // Relaxed: as in `retire`.
        self.calls.load(Ordering::Relaxed) & RETIRING != 0
    }
}

//! Waiting for any of several jobs: each completion appends the number of its job to one list.

#[cfg(all(loom, test))]
mod model;

use std::collections::VecDeque;

use crate::sync::seam::{Mutex, MutexGuard, Process, Thread, lock_unless};

/// The numbers of the jobs that are done and that the consumer has not looked at yet.
pub(crate) struct CompletionQueue {
    state: Mutex<QueueState>,
    /// In another one nobody completes anything any more, and nobody may let go of the lock.
    process: Process,
}

struct QueueState {
    done: VecDeque<usize>,
    /// The thread that waits now. The consumer may move between threads from one wait to the next.
    consumer: Option<Thread>,
}

impl CompletionQueue {
    pub(crate) fn new() -> Self {
        let state = QueueState { done: VecDeque::new(), consumer: None };
        Self { state: Mutex::new(state), process: Process::current() }
    }

    /// `None` if a thread of the parent process held the lock when this one was forked.
    fn lock(&self) -> Option<MutexGuard<'_, QueueState>> {
        lock_unless(&self.state, || self.process.is_parent())
    }

    /// Called by the completion of job `number`.
    pub(crate) fn push(&self, number: usize) {
        let consumer = {
            let Some(mut state) = self.lock() else { return };
            state.done.push_back(number);
            state.consumer.take()
        };
        if let Some(thread) = consumer {
            thread.unpark();
        }
    }

    /// Returns whether there is nothing to look at now.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_none_or(|state| state.done.is_empty())
    }

    /// Returns the number of a job that is done; else the next completion will unpark the thread.
    pub(crate) fn pop_or_register(&self, thread: impl FnOnce() -> Thread) -> Option<usize> {
        let mut state = self.lock()?;
        let number = state.done.pop_front();
        if number.is_none() {
            state.consumer = Some(thread());
        }
        number
    }
}

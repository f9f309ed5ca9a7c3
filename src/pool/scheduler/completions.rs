//! Waiting for any of several jobs: each completion appends the number of its job to one list.

#[cfg(all(loom, test))]
mod model;

use std::collections::VecDeque;

use crate::sync::process::ProcessMutex;
use crate::sync::seam::Thread;

/// The numbers of the jobs that are done and that the consumer has not looked at yet.
pub(crate) struct CompletionQueue {
    state: ProcessMutex<QueueState>,
}

struct QueueState {
    done: VecDeque<usize>,
    /// The thread that waits now. The consumer may move between threads from one wait to the next.
    consumer: Option<Thread>,
}

impl CompletionQueue {
    pub(crate) fn new() -> Self {
        let state = QueueState { done: VecDeque::new(), consumer: None };
        Self { state: ProcessMutex::new(state) }
    }

    /// Called by the completion of job `number`.
    pub(crate) fn push(&self, number: usize) {
        let consumer = {
            let Some(mut state) = self.state.lock() else { return };
            state.done.push_back(number);
            state.consumer.take()
        };
        if let Some(thread) = consumer {
            thread.unpark();
        }
    }

    /// Returns whether there is nothing to look at now.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().is_none_or(|state| state.done.is_empty())
    }

    /// Returns the number of a job that is done; otherwise the next completion will unpark the
    /// thread.
    pub(crate) fn pop_or_register(&self, thread: impl FnOnce() -> Thread) -> Option<usize> {
        let mut state = self.state.lock()?;
        let number = state.done.pop_front();
        if number.is_none() {
            state.consumer = Some(thread());
        }
        number
    }
}

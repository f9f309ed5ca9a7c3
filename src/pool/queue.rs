//! The pool's queue, and the dead entries in it.
//!
//! A job can be claimed through its handle while its share of the `Arc` still lies in the queue: a
//! tombstone. In fork-join recursion on one worker every job would leave one. They are counted, and
//! when they outnumber the live entries by far, whoever leaves one sweeps: it turns the queue round
//! once and drops the dead. Each sweep drops at least half of what it looks at, so a tombstone costs
//! a constant.

use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;

use super::core::Core;
use crate::sync::seam::atomic::{AtomicBool, AtomicIsize, Ordering};

/// What the queue holds: a job, or a ticket of a group.
pub(crate) trait Runnable: Send + Sync {
    /// Taken off the queue by a worker of `core`.
    fn run(self: Arc<Self>, core: &Core);
    /// Taken off the queue because the pool was shut down.
    fn cancel(&self, core: &Core);
    /// Whether there is nothing left to run.
    fn is_dead(&self) -> bool;
}

/// Tombstones that are not worth a sweep.
const TOLERATED: isize = 64;

/// See the module's documentation. On lines of its own: the count of the dead changes often.
#[repr(align(128))]
pub(crate) struct Queue {
    sender: Sender<Arc<dyn Runnable>>,
    receiver: Receiver<Arc<dyn Runnable>>,
    /// How many entries are dead, about: a job can be popped before whoever claimed it has counted it.
    dead: AtomicIsize,
    sweeping: AtomicBool,
}

impl Queue {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver, dead: AtomicIsize::new(0), sweeping: AtomicBool::new(false) }
    }

    #[inline]
    pub(crate) fn push(&self, entry: Arc<dyn Runnable>) {
        // Cannot fail: the queue holds a receiver.
        let _sent = self.sender.send(entry);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Arc<dyn Runnable>> {
        self.receiver.try_recv().ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.receiver.len()
    }

    /// A popped entry was dead.
    pub(crate) fn buried(&self) {
        // Relaxed: an estimate.
        self.dead.fetch_sub(1, Ordering::Relaxed);
    }

    /// `n` entries died in the queue. Returns whether it is time to sweep.
    pub(crate) fn died(&self, n: isize) -> bool {
        // Relaxed: an estimate.
        let dead = self.dead.fetch_add(n, Ordering::Relaxed) + n;
        if dead <= TOLERATED {
            return false;
        }
        let len = isize::try_from(self.len()).unwrap_or(isize::MAX);
        dead - TOLERATED > 2 * (len - dead).max(0)
    }

    /// Turns the queue round once and drops the dead entries. `moved` is called after each live entry
    /// that was put back: for a moment it was in nobody's sight, so a worker may have fallen asleep.
    pub(crate) fn sweep(&self, moved: impl Fn()) {
        // Acquire and Release: one sweeper at a time.
        if self.sweeping.swap(true, Ordering::Acquire) {
            return;
        }
        for _ in 0..self.len() {
            let Some(entry) = self.pop() else { break };
            if entry.is_dead() {
                self.buried();
            } else {
                self.push(entry);
                moved();
            }
        }
        self.sweeping.store(false, Ordering::Release);
    }
}

//! What is counted about tasks, and on which counters a thread counts.

use crate::frame::Failure;
use crate::sync::seam::atomic::{AtomicU64, Ordering};

/// What is counted about the tasks that one worker ran, or that all other threads ran.
///
/// On lines of their own (128 bytes: two lines are fetched at a time), so that a worker's counting
/// does not slow down another's.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    /// Tasks that are no longer waiting to start: claimed to be run or to be cancelled.
    pub(crate) claimed: AtomicU64,
    /// What was admitted and is over, to the last access.
    pub(crate) finished: AtomicU64,
    /// Tasks that run now, those that wait below others included.
    pub(crate) running: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) inline: AtomicU64,
    /// Tasks that the sentinel saw leave a thread-local changed.
    pub(crate) leaks: AtomicU64,
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
        match failure {
            None => {}
            Some(Failure::Panic(_)) => self.add(|c| &c.panicked, 1),
            Some(_) => self.add(|c| &c.failed, 1),
        }
        self.add(|c| &c.running, 1_u64.wrapping_neg());
    }
}

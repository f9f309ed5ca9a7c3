//! Who may still bring work: one word that counts what was admitted and says when it is over.
//!
//! Invariants:
//!
//! 1. The flags are only ever set. They share the word with the count, so that each submission
//!    comes either before the closing or after it, in the one order of changes to the word.
//! 2. Everything that is counted here is counted as finished once, when it is over.
//! 3. After the closing only a running task of the pool is admitted, and that one is not finished.
//!    So once the count equals the sum of the finished ones *after* the closing, nothing is left
//!    for good. A submission that found the pool open and comes too late all the same is counted
//!    for a moment; it counts itself as finished and wakes everybody, so nobody is left asleep over
//!    it.

use crate::sync::seam::atomic::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;
const CANCELLED: u64 = 1 << 62;
const COUNT: u64 = CANCELLED - 1;

/// See the module's documentation. On lines of its own: every submitter writes to it.
#[repr(align(128))]
pub(crate) struct Admission {
    word: AtomicU64,
}

/// What became of a submission.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It is counted, with this number.
    Yes(u64),
    /// The pool is closed.
    No,
    /// The pool was closed at this moment. It is counted, and has to be counted as finished.
    TooLate,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// Counts a submission, unless the pool is closed. `draining` is asked whether the caller runs
    /// a task of the pool, which may submit until the pool is cancelled.
    #[inline]
    pub(crate) fn admit(&self, draining: impl Fn() -> bool) -> Admitted {
        let may =
            |word: u64| word & (CLOSED | CANCELLED) == 0 || (word & CANCELLED == 0 && draining());
        // Relaxed: the change below decides.
        if !may(self.word.load(Ordering::Relaxed)) {
            return Admitted::No;
        }
        // AcqRel: the order with the closing is that of the changes to this one word; Acquire shows
        // what was done before the closing to one that is too late, and Release is for `count`.
        let before = self.word.fetch_add(1, Ordering::AcqRel);
        if may(before) { Admitted::Yes(before & COUNT) } else { Admitted::TooLate }
    }

    /// Admits nobody but running tasks any more.
    pub(crate) fn close(&self) {
        // AcqRel: as in `admit`.
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Admits nobody any more.
    pub(crate) fn cancel(&self) {
        // AcqRel: as in `admit`.
        self.word.fetch_or(CLOSED | CANCELLED, Ordering::AcqRel);
    }

    /// Returns how many were counted.
    pub(crate) fn count(&self) -> u64 {
        // Acquire: whoever has seen a task finished, or the closing, sees what was counted before.
        self.word.load(Ordering::Acquire) & COUNT
    }

    /// Returns whether the pool is closed for the calling thread.
    pub(crate) fn is_closed(&self) -> bool {
        // Acquire: as in `count`.
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pool_counts_nobody_but_its_running_tasks() {
        let admission = Admission::new();
        assert_eq!(admission.admit(|| false), Admitted::Yes(0));
        admission.close();
        assert_eq!(admission.admit(|| false), Admitted::No);
        assert_eq!(admission.admit(|| true), Admitted::Yes(1));
        admission.cancel();
        assert_eq!(admission.admit(|| true), Admitted::No);
        assert_eq!((admission.count(), admission.is_closed()), (2, true));
    }
}

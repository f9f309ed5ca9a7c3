//! Who may still bring work: one word that counts what was admitted and says when it is over.
//!
//! Invariants:
//!
//! 1. The flags are only ever set. They share the word with the count, so that each submission comes
//!    either before the closing or after it, in the one order of changes to the word.
//! 2. Everything that is counted here is counted as finished once, when it is over or rejected.
//! 3. After the closing only a running task of the pool is admitted, and that one is not finished. So
//!    once the count equals the sum of the finished ones *after* the closing, it does so for good.

use crate::sync::seam::atomic::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;
const CANCELLED: u64 = 1 << 62;
const COUNT: u64 = CANCELLED - 1;

/// See the module's documentation. On lines of its own: every submitter writes to it.
#[repr(align(128))]
pub(crate) struct Intake {
    word: AtomicU64,
}

/// The number of a submission, and whether it was let in. Both kinds are counted.
#[must_use]
pub(crate) struct Admission {
    pub(crate) number: u64,
    pub(crate) admitted: bool,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// Counts a submission. `draining` is asked whether the caller runs a task of the pool if the pool
    /// is closed.
    #[inline]
    pub(crate) fn admit(&self, draining: impl FnOnce() -> bool) -> Admission {
        // SeqCst: comes before the caller's later look at any other word, as `close` does.
        let before = self.word.fetch_add(1, Ordering::SeqCst);
        let admitted =
            before & (CLOSED | CANCELLED) == 0 || (before & CANCELLED == 0 && draining());
        Admission { number: before & COUNT, admitted }
    }

    /// Admits nobody but running tasks any more.
    pub(crate) fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Admits nobody any more.
    pub(crate) fn cancel(&self) {
        self.word.fetch_or(CLOSED | CANCELLED, Ordering::SeqCst);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        // SeqCst: in `Core::is_quiescent` this read comes after those of the finished counters.
        self.word.load(Ordering::SeqCst) & COUNT
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.word.load(Ordering::SeqCst) & CLOSED != 0
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed: a hint to start nothing more.
        self.word.load(Ordering::Relaxed) & CANCELLED != 0
    }
}

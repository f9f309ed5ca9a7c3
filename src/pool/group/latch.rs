//! The latch of a group: lets helpers in to data on the owner's stack, and lets the owner wait
//! until the last one is out.
//!
//! A group puts several tickets (shares of one `Arc`) on the queue. A ticket that is taken late,
//! even after the owner has returned, must not touch the owner's stack.
//!
//! Invariants:
//!
//! 1. `CLOSED` is never unset. A ticket that finds it set does not enter.
//! 2. A helper is inside from a successful [`enter`](HelperLatch::enter) to its
//!    [`leave`](HelperLatch::leave); the owner's data outlives every moment at which the latch is
//!    not both closed and empty.
//! 3. The latch is closed and empty for good from the first moment it is both; the thread that
//!    makes it so tells the owner, through data that the ticket itself keeps alive.
//! 4. The high half counts the tickets that are still on the queue, so that the owner can say, when
//!    it closes, how many dead ones it leaves behind.

use crate::sync::seam::atomic::{AtomicU64, Ordering};
use crate::sync::seam::try_update;

const INSIDE: u64 = 1;
const INSIDE_MASK: u64 = (1 << 31) - 1;
const CLOSED: u64 = 1 << 31;
const QUEUED: u64 = 1 << 32;

/// See the module's documentation.
pub(crate) struct HelperLatch {
    word: AtomicU64,
}

impl HelperLatch {
    /// Makes a latch with `tickets` tickets on the queue.
    pub(crate) fn new(tickets: usize) -> Self {
        Self { word: AtomicU64::new(tickets as u64 * QUEUED) }
    }

    /// Lets the owner itself in, which comes before it closes the latch.
    pub(crate) fn enter_as_owner(&self) {
        // Relaxed: the owner reads nothing on the strength of it.
        self.word.fetch_add(INSIDE, Ordering::Relaxed);
    }

    /// Lets a ticket in that has come off the queue, unless the latch is closed. Returns whether it
    /// did: then [`leave`](Self::leave) is owed.
    #[must_use]
    pub(crate) fn enter(&self) -> bool {
        // No order: what a helper reads was written before its ticket was put on the queue, which
        // orders it. What it writes is ordered by `leave`.
        let enters = |word| (word & CLOSED == 0).then(|| word - QUEUED + INSIDE);
        try_update(&self.word, enters)
    }

    /// Counts `n` more tickets, which are about to be put on the queue; false if it is too late for
    /// them.
    #[must_use]
    pub(crate) fn issue(&self, n: usize) -> bool {
        // Relaxed: only counted. Once the latch is closed, nobody looks at the count any more.
        self.word.fetch_add(n as u64 * QUEUED, Ordering::Relaxed) & CLOSED == 0
    }

    /// Returns how many tickets are on the queue.
    pub(crate) fn queued(&self) -> u64 {
        // Relaxed: a hint.
        self.word.load(Ordering::Relaxed) / QUEUED
    }

    /// Lets nobody in any more; returns the number of tickets left on the queue, to the first
    /// caller only. Called inside, or by the owner.
    pub(crate) fn close(&self) -> u64 {
        // Relaxed: what the closer writes is ordered by its `leave`.
        let before = self.word.fetch_or(CLOSED, Ordering::Relaxed);
        if before & CLOSED == 0 { before / QUEUED } else { 0 }
    }

    /// Lets a helper out; returns whether it was the last one out of a closed latch, and so has to
    /// tell the owner.
    #[must_use]
    pub(crate) fn leave(&self) -> bool {
        // Release: hands what this helper wrote to the owner, through every later change of the
        // word (a release sequence). The last one only tells the owner, which looks for itself.
        let before = self.word.fetch_sub(INSIDE, Ordering::Release);
        before & (CLOSED | INSIDE_MASK) == CLOSED | INSIDE
    }

    /// Returns whether the latch is closed and empty, for good.
    pub(crate) fn is_over(&self) -> bool {
        // Acquire: pairs with the Release of every `leave`.
        self.word.load(Ordering::Acquire) & (CLOSED | INSIDE_MASK) == CLOSED
    }

    /// Returns whether the latch is closed.
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: a hint to stop early.
        self.word.load(Ordering::Relaxed) & CLOSED != 0
    }
}

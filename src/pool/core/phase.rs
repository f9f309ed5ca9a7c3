//! How far a pool is on its way to its end: open, closing, cancelled; and whether it is there.

use super::{Core, How};
use crate::pool::scheduler::{current, wait};
use crate::sync::seam;
use crate::sync::seam::atomic::{Ordering, fence};

/// The phases. They only ever grow.
pub(super) const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const CANCELLED: u8 = 2;

impl Core {
    /// Returns whether nothing that was admitted is left, for good. True only after the closing.
    pub(crate) fn is_quiescent(&self) -> bool {
        if !self.is_closing() {
            return false;
        }
        // SeqCst: the phase before the hooks; `HookRun::begin` has the other half. No hook that
        // counts begins any more, and what earlier ones have submitted is in the count.
        fence(Ordering::SeqCst);
        // Acquire: pairs with the Release at the end of a hook.
        if self.hook_runs.load(Ordering::Acquire) != 0 {
            return false;
        }
        self.is_idle()
    }

    pub(crate) fn is_closing(&self) -> bool {
        // Acquire: pairs with the Release of `enter_phase`, which comes after the admission was
        // closed.
        self.phase.load(Ordering::Acquire) != OPEN
    }

    /// Returns whether nothing new may start.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // Acquire: as in `is_closing`.
        self.phase.load(Ordering::Acquire) == CANCELLED
    }

    /// Notes that this thread is about to wait for the pool's end: says so if it drives
    /// futures, and there is something to wait for.
    pub(crate) fn note_wait_for_end(&self) {
        /// A task whose end was seen may not be finished yet. Whoever is about to wait can afford
        /// to let it finish.
        const YIELDS: u32 = 16;
        let is_busy = |_| {
            let is_busy = !self.is_idle();
            if is_busy {
                seam::yield_now();
            }
            is_busy
        };
        if cfg!(feature = "tokio") && (0..YIELDS).all(is_busy) {
            wait::note_wait();
        }
    }

    /// Closes the pool for new work and lets the workers see it.
    pub(crate) fn close(&self) {
        self.admission.close();
        self.enter_phase(CLOSING);
    }

    /// Closes the pool for all work and cancels what has not started.
    pub(crate) fn cancel(&self) {
        self.admission.cancel();
        self.enter_phase(CANCELLED);
        self.cancel_unstarted();
    }

    fn enter_phase(&self, phase: u8) {
        // Release: whoever sees the phase sees the admission closed.
        self.phase.fetch_max(phase, Ordering::Release);
        // SeqCst: the phase before what comes next: the look for work of a thread that cancels, and
        // that of the workers that are woken for what is finished and for hooks.
        fence(Ordering::SeqCst);
        if self.is_forked() {
            // Nobody waits here, and a lock that a thread of the parent held at the fork stays
            // held.
            return;
        }
        if let Some(capacity) = &self.capacity {
            capacity.close();
        }
        self.sleepers.notify_all();
    }

    /// Cancels what has not started: what is directed to the workers first, since that is soon
    /// done, and the queue may be long.
    ///
    /// The drop of a task may shut the pool down as well, and so come to the next one. What would
    /// lie too deep is left to the calls below, and to the workers, which have been woken.
    #[cold]
    fn cancel_unstarted(&self) {
        self.cancel_directed();
        while current::may_end() {
            match self.queue.pop() {
                Some(entry) => {
                    let was_live = entry.run(self, How::Run(self.tally()));
                    if !was_live {
                        self.queue.removed_stale();
                    }
                }
                // What a sweep moves is out of sight for a moment. It runs no user code.
                None if self.queue.is_being_swept() => seam::yield_now(),
                None if self.queue.is_empty() => return,
                None => {}
            }
        }
    }

    /// Cancels what is directed to the workers. Runs no user code.
    #[cold]
    pub(super) fn cancel_directed(&self) {
        for slot in &self.slots {
            slot.cancel_directed();
        }
    }
}

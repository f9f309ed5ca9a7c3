//! [`Verdict`]: why a map stops before its end.

use crate::frame::Failure;
use crate::sync::process::{self, lock_unless};
use crate::sync::seam::Mutex;
use crate::sync::seam::atomic::{AtomicU8, Ordering};

const NOT_STOPPED: u8 = 0;
const CANCELLED: u8 = 1;

/// See the module's documentation.
pub(crate) struct Verdict<E> {
    /// The rank of the reason that is kept, or will be in a moment.
    rank: AtomicU8,
    reason: Mutex<StopReason<E>>,
}

/// The reasons, each one taking precedence over those before it.
pub(crate) enum StopReason<E> {
    /// It does not stop.
    None,
    /// The pool was shut down. If nothing was left to start, that does not matter.
    Cancelled,
    /// An item stops the others.
    Stop { position: usize, with: E },
    /// Something failed.
    Failed(Failure),
}

impl<E> Verdict<E> {
    pub(crate) fn new() -> Self {
        Self { rank: AtomicU8::new(NOT_STOPPED), reason: Mutex::new(StopReason::None) }
    }

    /// Returns whether nothing new is to start.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        // Relaxed: seen soon; what the owner reads is ordered by the latch.
        self.rank.load(Ordering::Relaxed) != NOT_STOPPED
    }

    /// Returns whether the results are in vain: something has failed, or an item stops the others.
    pub(crate) fn is_in_vain(&self) -> bool {
        // Relaxed: as in `is_stopped`.
        self.rank.load(Ordering::Relaxed) > CANCELLED
    }

    /// Stops the map for a reason. Of several failures the first is kept, of several stops the one
    /// that comes first in the input. Returns the reason that is not.
    ///
    /// None is kept where a thread of the parent process held the lock when this one was forked.
    #[must_use = "a failure is to be reported"]
    pub(crate) fn stop(
        &self,
        reason: StopReason<E>,
        is_forked: impl FnOnce() -> bool,
    ) -> StopReason<E> {
        // Relaxed: as in `is_stopped`.
        self.rank.fetch_max(reason.rank(), Ordering::Relaxed);
        let Some(mut kept) = lock_unless(&self.reason, is_forked) else { return reason };
        match reason.takes_precedence_over(&kept) {
            true => std::mem::replace(&mut *kept, reason),
            false => reason,
        }
    }

    /// Returns the reason that was kept.
    pub(crate) fn into_reason(self) -> StopReason<E> {
        process::into_inner(self.reason).unwrap_or(StopReason::None)
    }
}

impl<E> StopReason<E> {
    fn takes_precedence_over(&self, kept: &Self) -> bool {
        match (self, kept) {
            (Self::Stop { position, .. }, Self::Stop { position: kept, .. }) => position < kept,
            (_, kept) => self.rank() > kept.rank(),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::None => NOT_STOPPED,
            Self::Cancelled => CANCELLED,
            Self::Stop { .. } => 2,
            Self::Failed(_) => 3,
        }
    }
}

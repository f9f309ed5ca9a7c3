//! What is counted about tasks.

use crate::sync::seam::atomic::AtomicU64;

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
    /// Tasks that run now, including those that wait below others.
    pub(crate) running: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) inline: AtomicU64,
    /// Tasks that the sentinel saw leave a thread-local changed.
    pub(crate) leaks: AtomicU64,
}

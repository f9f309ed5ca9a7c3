//! [`Stats`].

use super::core::Core;
use crate::sync::seam::atomic::Ordering;

/// What a pool is doing and has done; made by [`Pool::stats`](crate::Pool::stats).
///
/// Each worker counts for itself and none is stopped to be read, so the numbers of a busy pool
/// belong to slightly different moments. What happened before the call (a task whose `join` has
/// returned, for example) is counted.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(2).unwrap();
/// pool.map(0..100, |n| n);
/// let stats = pool.stats();
/// assert_eq!((stats.workers, stats.completed, stats.queued), (2, 100, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Worker threads.
    pub workers: usize,
    /// Tasks that run now, including those that wait below another one on the same thread. A helper
    /// of a map counts once.
    pub running: usize,
    /// Submitted tasks that wait to start. Items of a map, helpers and visits do not count.
    pub queued: usize,
    /// Tasks that returned. Items of maps and visits of broadcasts count, those of a reduction once
    /// their results are part of what is kept. Pulls from an iterator, the `init` of `map_init` and
    /// the calls that reduce results do not, except the call of `identity` for a reduction of no
    /// items.
    pub completed: u64,
    /// Tasks that panicked. Panics of a map's pulls, of `init`, of the calls that reduce results,
    /// and of the drop of what a helper keeps (what `init` made, a result so far) count, too; those
    /// of an `imap`'s pulls do not, nor do those of drops of what was given.
    pub panicked: u64,
    /// Tasks that could not be cleaned up, or could not be given their foreign state.
    pub failed: u64,
    /// Submitted tasks that were let in and never ran: cancelled before they started, or dropped
    /// where they would have [lain too deep](crate::TaskError::is_too_deep). Items of maps and
    /// visits do not count.
    pub cancelled: u64,
    /// Tasks that ran on a thread that waited for them, instead of being taken off the queue.
    pub inline: u64,
    /// Failures that no handle could report: of detached tasks, of hooks, of drops.
    pub unobserved: u64,
    /// Worker threads that were replaced by fresh ones.
    pub renewed: u64,
    /// How often the sentinel saw that a task left a thread-local changed, including calls that
    /// reduce results; 0 in a pool without a sentinel. What the pool drops or pulls for a task
    /// outside of it, such as a result that nobody asked for, counts by itself, so such a task may
    /// count twice.
    pub leaks: u64,
}

pub(crate) fn read(core: &Core) -> Stats {
    // What ended is read before what began, so that no difference is below 0.
    let claimed = core.sum(|c| &c.claimed);
    let queued = core.admitted().saturating_sub(claimed);
    Stats {
        workers: core.slots.len(),
        // A gauge that is written on several threads can be caught in between.
        running: usize::try_from(core.sum(|c| &c.running) as i64).unwrap_or(0),
        queued: usize::try_from(queued).unwrap_or(usize::MAX),
        completed: core.sum(|c| &c.completed),
        panicked: core.sum(|c| &c.panicked),
        failed: core.sum(|c| &c.failed),
        cancelled: core.sum(|c| &c.cancelled),
        inline: core.sum(|c| &c.inline),
        // Relaxed: statistics.
        unobserved: core.unobserved.load(Ordering::Relaxed),
        renewed: core.renewed.load(Ordering::Relaxed),
        leaks: core.sum(|c| &c.leaks),
    }
}

//! Waiting until nothing is left to do, for now.
//!
//! Nobody looks for such a moment unless somebody waits for it. A worker that falls asleep or calls
//! a hook, and any other thread that has finished something, looks whether there is a waiter; both
//! sides have a SeqCst fence between what they write and what they read:
//!
//! | writes | reads |
//! |---|---|
//! | the waiter: that there is one | what is finished |
//! | whoever finished the last task: that it is finished | whether there is a waiter |
//!
//! So either the waiter finds everything finished, or the other one finds the waiter and tells it.
//! A moment is counted under the lock, after a look under the lock: a moment that a waiter finds
//! counted after its own entry comes after everything that it had submitted before.

use super::Core;
use crate::sync::process::lock_unless;
use crate::sync::seam::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::seam::{self, Mutex, Thread};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct IdleWaiters {
    count: AtomicUsize,
    /// How many moments were found at which nothing was left to do.
    moments: AtomicU64,
    threads: Mutex<Vec<Thread>>,
}

impl Core {
    /// Returns whether everything that was admitted is finished, at some moment during the call.
    pub(super) fn is_idle(&self) -> bool {
        // The finished ones first, the count after them: both only grow, and the first never
        // exceeds the second, so if they are equal they were so at the end of the sum. Acquire
        // keeps the reads in this order.
        let finished = self.sum(|c| &c.finished);
        finished == self.admitted()
    }

    /// Waits for a moment at which everything that was admitted is finished; returns false in a
    /// forked child, where it never comes.
    pub(crate) fn wait_until_idle(&self) -> bool {
        let waiters = &self.idle;
        let before = {
            let mut threads = waiters.threads.lock();
            threads.push(seam::current());
            // Relaxed: ordered by the fence.
            waiters.count.fetch_add(1, Ordering::Relaxed);
            // Relaxed: changes under the lock only.
            waiters.moments.load(Ordering::Relaxed)
        };
        // SeqCst: that there is a waiter before what is finished; see the module.
        fence(Ordering::SeqCst);
        // Acquire: pairs with the Release in `tell_if_idle`; what the tasks did is visible.
        let told = || waiters.moments.load(Ordering::Acquire) != before;
        let idle = self.wait_until(|| told() || self.is_idle());
        // A waiter that was told is off the list already.
        if seam::take_out(&mut waiters.threads.lock(), &seam::current()) {
            // Relaxed: one that is too high costs a look at the list.
            waiters.count.fetch_sub(1, Ordering::Relaxed);
        }
        idle
    }

    /// Tells those who wait for it if nothing is left to do. To be called by a thread that has
    /// finished something, before it sleeps, ends, or goes on to what nobody counts.
    pub(crate) fn tell_if_idle(&self) {
        // SeqCst: what is finished before the look for waiters; see the module.
        fence(Ordering::SeqCst);
        self.tell_if_idle_after_fence();
    }

    /// The same after a SeqCst fence that follows on what was finished.
    #[inline]
    pub(super) fn tell_if_idle_after_fence(&self) {
        // Relaxed: ordered by the fence.
        if self.idle.count.load(Ordering::Relaxed) != 0 {
            self.tell_waiters_if_idle();
        }
    }

    #[cold]
    fn tell_waiters_if_idle(&self) {
        // At the fork a thread of the parent may have held the lock.
        let Some(mut threads) = lock_unless(&self.idle.threads, || self.is_forked()) else {
            return;
        };
        if !self.is_idle() {
            return;
        }
        // Release: pairs with the Acquire of the waiters.
        self.idle.moments.fetch_add(1, Ordering::Release);
        let told = std::mem::take(&mut *threads);
        // Relaxed: as in `wait_until_idle`.
        self.idle.count.fetch_sub(told.len(), Ordering::Relaxed);
        drop(threads);
        told.iter().for_each(Thread::unpark);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::pool::core::testing::core;

    #[test]
    fn whoever_has_waited_is_off_the_list() {
        let core = core(1);
        assert!(core.wait_until_idle());
        assert!(core.idle.threads.lock().is_empty());
    }
}

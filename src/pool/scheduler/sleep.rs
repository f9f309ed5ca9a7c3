//! How workers fall asleep and are woken.
//!
//! A wake-up costs the submitter a system call, so it is made only when somebody sleeps and nobody
//! is searching already. A worker *searches* from the moment it is notified, or takes itself off
//! the list because it saw work or a call, until it has found work or goes back to sleep. One word
//! counts both kinds: sleepers in the low half, searchers in the high. A worker that runs a task is
//! counted as neither.
//!
//! Invariants:
//!
//! 1. A worker is in `idle` if and only if it is counted as a sleeper; both change under the lock.
//! 2. Whoever takes a worker off `idle` counts it as a searcher in the same step, sets its
//!    `notified` flag and unparks it. The worker owns that count from then on.
//! 3. *No work is left to sleepers alone.* Whoever makes work visible calls
//!    [`notify`](Sleepers::notify) afterwards; whoever stops being counted as a searcher, or counts
//!    itself as a sleeper, looks for work afterwards. In each pair both sides have a SeqCst fence
//!    between their write and their read, so at least one sees the other:
//!
//!    | writes | fence | reads |
//!    |---|---|---|
//!    | submitter: work into the queue | `notify` | sleepers and searchers |
//!    | worker: itself as a sleeper | `fall_asleep` | the queue |
//!    | worker: itself no longer a searcher | `stop_searching` | the queue |
//!
//!    If the submitter sees no sleeper, every worker that falls asleep later sees the work. If it
//!    sees a searcher and therefore wakes nobody, the last searcher, when it stops, sees the work:
//!    it takes it, or wakes a sleeper for it. What is directed to one worker is not part of this:
//!    see `WorkerSlot::deliver`.

use std::sync::Arc;

use super::awake::{Awake, QUICK, nanos};
use crate::sync::process::ProcessMutex;
use crate::sync::seam::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::seam::{Clock, Thread, current, park};

const SLEEPER: usize = 1;
const SEARCHER: usize = 1 << (usize::BITS / 2);

/// One worker's sleep: what its thread keeps for itself.
pub(crate) struct Sleeper {
    listed: Arc<Listed>,
    /// Whether it is counted as a searcher.
    searching: bool,
    /// Whether the last work *arrived* so soon after the worker had run out of it that staying
    /// awake would have caught it. (The worker's own clock at the moment when it runs again would
    /// count the wake-up as idleness: where wake-ups take long it would then never stay awake.)
    in_burst: bool,
    awake: Awake,
}

/// A worker as seen by those who wake it.
struct Listed {
    thread: Thread,
    notified: AtomicBool,
    /// When it was last notified, in nanoseconds since the pool's start.
    arrived: AtomicU64,
}

impl Sleeper {
    pub(crate) fn of_this_thread() -> Self {
        let listed = Listed {
            thread: current(),
            notified: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
        };
        Self { listed: Arc::new(listed), searching: false, in_burst: false, awake: Awake::NEW }
    }
}

/// See the module's documentation. On cache lines of its own: every submitter reads it, and workers
/// that come and go write to it.
#[repr(align(128))]
pub(crate) struct Sleepers {
    counts: AtomicUsize,
    /// In a forked child nobody is there to be woken.
    idle: ProcessMutex<Vec<Arc<Listed>>>,
    clock: Clock,
}

impl Sleepers {
    pub(crate) fn new() -> Self {
        Self {
            counts: AtomicUsize::new(0),
            idle: ProcessMutex::new(Vec::new()),
            clock: Clock::start(),
        }
    }

    /// Wakes a sleeper, if there is one and nobody is searching. To be called after work was made
    /// visible.
    #[inline]
    pub(crate) fn notify(&self) {
        // SeqCst: invariant 3, the work before the counts.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence; the decision is taken again under the lock.
        let counts = self.counts.load(Ordering::Relaxed);
        if counts != 0 && counts < SEARCHER {
            self.wake_one();
        }
    }

    /// Returns whether a worker sleeps or looks for work.
    pub(crate) fn is_anybody_idle(&self) -> bool {
        // Relaxed: a hint.
        self.counts.load(Ordering::Relaxed) != 0
    }

    #[cold]
    fn wake_one(&self) {
        let now = self.clock.nanos();
        let sleeper = {
            let Some(mut idle) = self.idle.lock() else { return };
            // Relaxed: sleepers change under this lock only; a searcher that stops at this moment
            // looks at the queue afterwards (invariant 3).
            if self.counts.load(Ordering::Relaxed) >= SEARCHER {
                return;
            }
            let Some(sleeper) = idle.pop() else { return };
            // Relaxed: read again only after a fence.
            self.counts.fetch_add(SEARCHER - SLEEPER, Ordering::Relaxed);
            // Relaxed: published by the next line.
            sleeper.arrived.store(now, Ordering::Relaxed);
            // Release: pairs with the Acquire in `fall_asleep`. Under the lock: the worker may find
            // itself off the list and fall asleep anew at once, and must not be taken for notified
            // then.
            sleeper.notified.store(true, Ordering::Release);
            sleeper
        };
        sleeper.thread.unpark();
    }

    /// Wakes everybody.
    pub(crate) fn notify_all(&self) {
        let sleepers = {
            let Some(mut idle) = self.idle.lock() else { return };
            let sleepers = std::mem::take(&mut *idle);
            // Relaxed: as in `wake_one`.
            self.counts.fetch_add((SEARCHER - SLEEPER) * sleepers.len(), Ordering::Relaxed);
            for sleeper in &sleepers {
                // Release: as in `wake_one`.
                sleeper.notified.store(true, Ordering::Release);
            }
            sleepers
        };
        for sleeper in sleepers {
            sleeper.thread.unpark();
        }
    }

    /// Sleeps until notified, or until `called` says that there is something else to do. Afterwards
    /// the worker is counted as a searcher. `has_work` is asked after it has been counted as a
    /// sleeper.
    pub(crate) fn fall_asleep(
        &self,
        sleeper: &mut Sleeper,
        has_work: impl Fn() -> bool,
        called: impl Fn() -> bool,
    ) {
        let was_searching = std::mem::replace(&mut sleeper.searching, true);
        let me = &sleeper.listed;
        {
            let mut idle = self.idle.lock_at_home();
            // Relaxed: nobody can notify this worker before it is on the list, and the lock orders
            // that.
            me.notified.store(false, Ordering::Relaxed);
            idle.push(Arc::clone(me));
            // Relaxed: ordered by the fence below.
            let searcher = if was_searching { SEARCHER } else { 0 };
            self.counts.fetch_add(SLEEPER.wrapping_sub(searcher), Ordering::Relaxed);
        }
        // SeqCst: invariant 3, the sleeper before the queue.
        fence(Ordering::SeqCst);
        if has_work() {
            sleeper.in_burst = true;
        } else {
            let began = self.clock.nanos();
            // Acquire: pairs with the Release of whoever notified; its work is visible then.
            let notified = || me.notified.load(Ordering::Acquire);
            // It is on the list and can be notified like any other, so nothing depends on this.
            if sleeper.in_burst {
                let _in_time = sleeper.awake.until(QUICK, &mut || notified() || called());
            }
            while !notified() && !called() {
                park();
            }
            if notified() {
                // Relaxed: published with `notified`.
                let idle = me.arrived.load(Ordering::Relaxed).saturating_sub(began);
                sleeper.in_burst = idle < nanos(QUICK);
                return;
            }
        }
        let mut idle = self.idle.lock_at_home();
        // Unless it was notified in the meantime, and so taken off the list and counted as a
        // searcher.
        if let Some(place) = idle.iter().position(|listed| Arc::ptr_eq(listed, me)) {
            let _me = idle.swap_remove(place);
            // Relaxed: as in `wake_one`. A searcher, since there may be more work than it can take,
            // for which nobody was woken while it was one before.
            self.counts.fetch_add(SEARCHER - SLEEPER, Ordering::Relaxed);
        }
    }

    /// Counts out a worker that has found work or something else to do, if it is a searcher. If it
    /// was the last one and there is more work, somebody else is woken.
    #[inline]
    pub(crate) fn stop_searching(&self, sleeper: &mut Sleeper, has_work: impl Fn() -> bool) {
        if sleeper.searching {
            sleeper.searching = false;
            self.count_out(has_work);
        }
    }

    #[cold]
    fn count_out(&self, has_work: impl Fn() -> bool) {
        // Relaxed: ordered by the fence below.
        let before = self.counts.fetch_sub(SEARCHER, Ordering::Relaxed);
        if before / SEARCHER != 1 || before % SEARCHER == 0 {
            // No sleeper, or another searcher: a worker that falls asleep after this looks at the
            // queue itself.
            return;
        }
        // SeqCst: invariant 3, the searcher before the queue.
        fence(Ordering::SeqCst);
        if has_work() {
            self.wake_one();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    use super::*;

    /// Returns what a worker takes an idle time for, if work came this long after it began.
    fn in_burst_after(pause: Duration) -> bool {
        let sleepers = Sleepers::new();
        let mut sleeper = Sleeper::of_this_thread();
        let told = Cell::new(false);
        let notify_once = || {
            if !told.replace(true) {
                let began = Instant::now();
                while began.elapsed() < pause {}
                sleepers.notify();
            }
            false
        };
        sleepers.fall_asleep(&mut sleeper, || false, notify_once);
        assert!(told.get());
        sleeper.in_burst
    }

    #[test]
    fn work_that_came_soon_is_a_burst_and_work_that_came_late_is_none() {
        // The thread may lose its processor in between, but hardly each time.
        assert!((0..100).any(|_| in_burst_after(Duration::ZERO)));
        assert!(!in_burst_after(2 * QUICK));
    }
}

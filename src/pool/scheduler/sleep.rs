//! How workers fall asleep and are woken.
//!
//! A wake-up costs the submitter a system call, so it is made only when somebody sleeps and nobody is
//! searching already. A worker *searches* from the moment it is notified until it has found work (or
//! goes back to sleep). One word counts both kinds: sleepers in the low half, searchers in the high.
//!
//! Invariants:
//!
//! 1. A worker is in `idle` if and only if it is counted as a sleeper; both change under the lock.
//! 2. Whoever takes a worker off `idle` counts it as a searcher in the same step, sets its `notified`
//!    flag and unparks it. The worker owns that count from then on.
//! 3. *No work is left to sleepers alone.* Whoever makes work visible calls [`notify`](Sleepers::notify)
//!    afterwards; whoever stops being counted as a searcher, or counts itself as a sleeper, looks for
//!    work afterwards. In each pair both sides have a SeqCst fence between their write and their read,
//!    so at least one sees the other:
//!
//!    | writes | fence | reads |
//!    |---|---|---|
//!    | submitter: work into the queue | `notify` | sleepers and searchers |
//!    | worker: itself as a sleeper | `fall_asleep` | the queue |
//!    | worker: itself no longer a searcher | `stop_searching` | the queue |
//!
//!    If the submitter sees no sleeper, every worker that falls asleep later sees the work. If it sees a
//!    searcher and therefore wakes nobody, the last searcher, when it stops, sees the work and wakes a
//!    sleeper for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::seam::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::seam::{Mutex, Thread, current, park, spin_loop};

const SLEEPER: usize = 1;
const SEARCHER: usize = 1 << (usize::BITS / 2);

/// How often a worker that is on the list already looks whether it is notified, before it parks: one
/// or two microseconds, in which a wake-up costs no system call. Since it can be notified meanwhile
/// like any sleeper, nothing depends on its keeping the processor.
const LOOKS: usize = if cfg!(loom) { 0 } else { 100 };

/// How often it yields its processor after that, before it parks, if it is in a burst of work.
const YIELDS: usize = if cfg!(loom) { 0 } else { 30 };
/// A sleep that was shorter belongs to a burst.
const BURST: Duration = Duration::from_micros(50);

/// The sleeping side of one worker thread; made by that thread.
pub(crate) struct Sleeper {
    thread: Thread,
    notified: AtomicBool,
    /// Whether the last sleep was short: then the next is likely to be as well.
    in_burst: AtomicBool,
}

impl Sleeper {
    pub(crate) fn of_this_thread() -> Arc<Self> {
        Arc::new(Self {
            thread: current(),
            notified: AtomicBool::new(false),
            in_burst: AtomicBool::new(false),
        })
    }
}

/// See the module's documentation. On lines of its own: every submitter reads it, and workers that
/// come and go write to it.
#[repr(align(128))]
pub(crate) struct Sleepers {
    counts: AtomicUsize,
    idle: Mutex<Vec<Arc<Sleeper>>>,
}

impl Sleepers {
    pub(crate) fn new() -> Self {
        Self { counts: AtomicUsize::new(0), idle: Mutex::new(Vec::new()) }
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

    #[cold]
    fn wake_one(&self) {
        let sleeper = {
            let mut idle = self.idle.lock();
            // Relaxed: sleepers change under this lock only; a searcher that stops at this moment looks
            // at the queue afterwards (invariant 3).
            if self.counts.load(Ordering::Relaxed) >= SEARCHER {
                return;
            }
            let Some(sleeper) = idle.pop() else { return };
            // Relaxed: read again only after a fence.
            self.counts.fetch_add(SEARCHER - SLEEPER, Ordering::Relaxed);
            // Release: pairs with the Acquire in `fall_asleep`. Under the lock: the worker may find
            // itself off the list and fall asleep anew at once, and must not be taken for notified then.
            sleeper.notified.store(true, Ordering::Release);
            sleeper
        };
        sleeper.thread.unpark();
    }

    /// Wakes everybody.
    pub(crate) fn notify_all(&self) {
        let sleepers = {
            let mut idle = self.idle.lock();
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

    /// Sleeps until notified, or until `called` says that there is something else to do. `searching` says
    /// whether the worker is counted as a searcher; afterwards it is. `has_work` is asked after it has
    /// been counted as a sleeper.
    pub(crate) fn fall_asleep(
        &self,
        me: &Arc<Sleeper>,
        searching: bool,
        has_work: impl Fn() -> bool,
        called: impl Fn() -> bool,
    ) {
        {
            let mut idle = self.idle.lock();
            // Relaxed: nobody can notify this worker before it is on the list, and the lock orders that.
            me.notified.store(false, Ordering::Relaxed);
            idle.push(Arc::clone(me));
            // Relaxed: ordered by the fence below.
            let searcher = if searching { SEARCHER } else { 0 };
            self.counts.fetch_add(SLEEPER.wrapping_sub(searcher), Ordering::Relaxed);
        }
        // SeqCst: invariant 3, the sleeper before the queue.
        fence(Ordering::SeqCst);
        if !has_work() {
            let began = Instant::now();
            let mut looks = LOOKS;
            // Relaxed: this worker's own.
            let mut yields = if me.in_burst.load(Ordering::Relaxed) { YIELDS } else { 0 };
            loop {
                // Acquire: pairs with the Release of whoever notified; its work is visible then.
                if me.notified.load(Ordering::Acquire) {
                    me.in_burst.store(began.elapsed() < BURST, Ordering::Relaxed);
                    return;
                }
                if called() {
                    break;
                }
                if looks != 0 {
                    looks -= 1;
                    spin_loop();
                } else if yields != 0 {
                    yields -= 1;
                    std::thread::yield_now();
                } else {
                    park();
                }
            }
        }
        let mut idle = self.idle.lock();
        // Unless it was notified in the meantime, and so taken off the list and counted as a searcher.
        if let Some(place) = idle.iter().position(|sleeper| Arc::ptr_eq(sleeper, me)) {
            let _me = idle.swap_remove(place);
            // Relaxed: as in `wake_one`. A searcher, since there may be more work than it can take, for
            // which nobody was woken while it was one before.
            self.counts.fetch_add(SEARCHER - SLEEPER, Ordering::Relaxed);
        }
    }

    /// The worker, counted as a searcher, has found work or something else to do. If it was the last
    /// one and there is more work, somebody else is woken.
    pub(crate) fn stop_searching(&self, has_work: impl Fn() -> bool) {
        // Relaxed: ordered by the fence below.
        let before = self.counts.fetch_sub(SEARCHER, Ordering::Relaxed);
        if before / SEARCHER != 1 || before.is_multiple_of(SEARCHER) {
            // No sleeper, or another searcher: a worker that falls asleep after this looks at the queue itself.
            return;
        }
        // SeqCst: invariant 3, the searcher before the queue.
        fence(Ordering::SeqCst);
        if has_work() {
            self.wake_one();
        }
    }
}

//! [`Turns`]: a lock under which user code runs.
//!
//! An iterator's `next` may take its time, may wait for tasks, may even broadcast. A helper that waits
//! for its turn therefore waits like any worker: it runs the visits addressed to it.
//!
//! Invariants:
//!
//! 1. *A free lock is not left to sleepers alone.* Who sleeps is on the list. Whoever ends a turn takes
//!    one helper off the list, if there is one, and wakes it; a helper that was taken off tries for the
//!    lock, and if somebody else has got in first, that one's end of turn wakes the next. One that is to
//!    run a visit instead takes itself off, or passes the wake-up on if somebody else has done so.
//! 2. Between the end of a turn and the look for sleepers lies a SeqCst fence, as between a sleeper's
//!    entry in the list and its last try for the lock. So at least one of the two sees the other.

use std::ops::{Deref, DerefMut};

use crate::pool::scheduler::current;
use crate::sync::seam::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::seam::{self, Mutex, MutexGuard, Thread};

/// How often a helper tries to get its turn before it goes to sleep: about a microsecond.
const SPINS: usize = if cfg!(loom) { 0 } else { 64 };

/// See the module's documentation.
pub(crate) struct Turns<T> {
    state: Mutex<T>,
    /// Helpers that sleep until it is their turn.
    sleepers: Mutex<Vec<Thread>>,
    /// How many there are.
    count: AtomicUsize,
}

/// The turn of one helper. Its end, also while unwinding, wakes one that sleeps for the next.
pub(crate) struct Turn<'t, T> {
    // In this order: the lock is free before the look for sleepers.
    state: MutexGuard<'t, T>,
    _next: WakeNext<'t, T>,
}

/// Wakes a sleeper when it is dropped.
struct WakeNext<'t, T>(&'t Turns<T>);

impl<T> Turns<T> {
    pub(crate) fn new(state: T) -> Self {
        Self {
            state: Mutex::new(state),
            sleepers: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
        }
    }

    /// Returns what the lock guards, when all turns are over.
    pub(crate) fn into_inner(self) -> T {
        self.state.into_inner()
    }

    /// Waits for a turn.
    pub(crate) fn take(&self) -> Turn<'_, T> {
        for _ in 0..=SPINS {
            if let Some(state) = self.state.try_lock() {
                return self.turn(state);
            }
            seam::spin_loop();
        }
        self.sleep_until_free()
    }

    fn turn<'t>(&'t self, state: MutexGuard<'t, T>) -> Turn<'t, T> {
        Turn { state, _next: WakeNext(self) }
    }

    #[cold]
    fn sleep_until_free(&self) -> Turn<'_, T> {
        let slot = current::slot();
        let me = seam::current();
        loop {
            self.enlist(&me);
            // SeqCst: invariant 2, the sleeper before its try.
            fence(Ordering::SeqCst);
            if let Some(state) = self.state.try_lock() {
                let _woken = !self.strike_off(&me);
                return self.turn(state);
            }
            match slot.as_ref().filter(|slot| slot.has_directed()) {
                None => {
                    seam::park();
                    // Woken for the turn, for a visit, or for no reason.
                    let _woken = !self.strike_off(&me);
                }
                Some(slot) => {
                    if !self.strike_off(&me) {
                        // A visit may take long.
                        self.wake_one();
                    }
                    let _ran = slot.run_directed();
                }
            }
        }
    }

    fn enlist(&self, thread: &Thread) {
        let mut sleepers = self.sleepers.lock();
        sleepers.push(thread.clone());
        // Relaxed: ordered by the fence after it.
        self.count.store(sleepers.len(), Ordering::Relaxed);
    }

    /// Takes a thread off the list; returns whether it was still on it.
    fn strike_off(&self, thread: &Thread) -> bool {
        let mut sleepers = self.sleepers.lock();
        let Some(place) = sleepers.iter().position(|sleeper| sleeper.id() == thread.id()) else {
            return false;
        };
        let _thread = sleepers.swap_remove(place);
        // Relaxed: only ever changed under the lock.
        self.count.store(sleepers.len(), Ordering::Relaxed);
        true
    }

    #[cold]
    fn wake_one(&self) {
        let woken = {
            let mut sleepers = self.sleepers.lock();
            let woken = sleepers.pop();
            // Relaxed: as in `strike_off`.
            self.count.store(sleepers.len(), Ordering::Relaxed);
            woken
        };
        if let Some(thread) = woken {
            thread.unpark();
        }
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

impl<T> Drop for WakeNext<'_, T> {
    fn drop(&mut self) {
        // SeqCst: invariant 2, the free lock before the look.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if self.0.count.load(Ordering::Relaxed) != 0 {
            self.0.wake_one();
        }
    }
}

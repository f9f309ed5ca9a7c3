//! The bound of a pool's queue: a counter of the tasks that nobody has claimed yet.
//!
//! Plain threads wait for room; threads that run a task pass over the limit (they would wait for
//! themselves). A blocked thread counts itself in `waiting` before it looks at `used` again, and a
//! claim lowers `used` before it looks at `waiting`, both SeqCst: one of them sees the other.

use crate::sync::seam::atomic::{AtomicUsize, Ordering};
use crate::sync::seam::blocking::{Condvar, Mutex};

pub(crate) struct Capacity {
    limit: usize,
    used: AtomicUsize,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    room: Condvar,
}

impl Capacity {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            lock: Mutex::new(()),
            room: Condvar::new(),
        }
    }

    /// Takes a place if there is one.
    pub(crate) fn try_take(&self) -> bool {
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                (used < self.limit).then_some(used + 1)
            })
            .is_ok()
    }

    /// Takes a place over the limit, if need be.
    pub(crate) fn take_anyway(&self) {
        self.used.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for a place; returns without one when `given_up` says so.
    pub(crate) fn wait_and_take(&self, given_up: impl Fn() -> bool) -> bool {
        if self.try_take() {
            return true;
        }
        let mut lock = self.lock.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let taken = loop {
            if self.try_take() {
                break true;
            }
            if given_up() {
                break false;
            }
            self.room.wait(&mut lock);
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        taken
    }

    /// Gives a place back.
    pub(crate) fn release(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) != 0 {
            // Under the lock: a waiter is either before its look at `used` or inside `wait`.
            let _lock = self.lock.lock();
            self.room.notify_one();
        }
    }

    /// Lets every waiting thread look at `given_up` again.
    pub(crate) fn wake_all(&self) {
        let _lock = self.lock.lock();
        self.room.notify_all();
    }
}

//! A worker's place in its pool: what outlives the thread that sits there.
//!
//! Threads can be replaced ([`Seat::retire`]); the index, the counters and the mailbox stay.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counters::Counters;
use crate::sync::seam::atomic::{AtomicBool, Ordering};
use crate::sync::seam::{Mutex, Thread};

/// Something addressed to one worker and to no other: a broadcast's visit.
pub(crate) trait Visit: Send + Sync {
    /// Runs on the worker with `index`.
    fn run(&self, index: usize);
    /// The pool was shut down before the visit began.
    fn cancel(&self);
}

/// See the module's documentation.
pub(crate) struct Seat {
    pub(crate) pool: u64,
    pub(crate) index: usize,
    /// Written by the thread that sits here only.
    pub(crate) counters: Counters,
    mailbox: Mutex<Mailbox>,
    /// Whether the mailbox has mail; a hint that saves its lock.
    mail: AtomicBool,
    retiring: AtomicBool,
}

struct Mailbox {
    visits: VecDeque<Arc<dyn Visit>>,
    /// The thread that sits here, from its start.
    thread: Option<Thread>,
}

impl Seat {
    pub(crate) fn new(pool: u64, index: usize) -> Self {
        Self {
            pool,
            index,
            counters: Counters::default(),
            mailbox: Mutex::new(Mailbox { visits: VecDeque::new(), thread: None }),
            mail: AtomicBool::new(false),
            retiring: AtomicBool::new(false),
        }
    }

    /// `thread` sits here from now on.
    pub(crate) fn sit(&self, thread: Thread) {
        self.mailbox.lock().thread = Some(thread);
        // Relaxed: the threads that sit here do so one after the other, and joining orders them.
        self.retiring.store(false, Ordering::Relaxed);
    }

    /// Addresses a visit to this worker and wakes it, wherever it waits.
    pub(crate) fn deliver(&self, visit: Arc<dyn Visit>) {
        let thread = {
            let mut mailbox = self.mailbox.lock();
            mailbox.visits.push_back(visit);
            // Release: pairs with the Acquire in `has_mail`. A worker that misses it has not parked yet,
            // or is woken by the `unpark` below; one that has not sat down yet looks before it parks.
            self.mail.store(true, Ordering::Release);
            mailbox.thread.clone()
        };
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        // Acquire: pairs with the Release in `deliver`.
        self.mail.load(Ordering::Acquire)
    }

    fn next_visit(&self) -> Option<Arc<dyn Visit>> {
        let mut mailbox = self.mailbox.lock();
        let visit = mailbox.visits.pop_front();
        if mailbox.visits.is_empty() {
            // Relaxed: only ever changed under the lock, which orders it.
            self.mail.store(false, Ordering::Relaxed);
        }
        visit
    }

    /// Runs the oldest visit, if there is one; returns whether there was. To be called by the worker.
    #[inline]
    pub(crate) fn run_visit(&self) -> bool {
        self.has_mail() && self.run_visit_now()
    }

    #[cold]
    fn run_visit_now(&self) -> bool {
        let Some(visit) = self.next_visit() else { return false };
        visit.run(self.index);
        true
    }

    /// Cancels every visit that has not begun.
    pub(crate) fn cancel_visits(&self) {
        while let Some(visit) = self.next_visit() {
            visit.cancel();
        }
    }

    /// Asks for a fresh thread on this seat: the one that sits here ends before its next outermost task.
    pub(crate) fn retire(&self) {
        // Relaxed: a flag of the thread's own, or a request that may be seen later.
        self.retiring.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_retiring(&self) -> bool {
        // Relaxed: as in `retire`.
        self.retiring.load(Ordering::Relaxed)
    }
}

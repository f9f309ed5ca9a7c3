//! How work comes in: who may still bring some, and how it is put where workers find it.
//!
//! One word counts what was admitted, and holds the flags that end the admission. Invariants:
//!
//! 1. The flags are only ever set. They share the word with the count, so that each submission
//!    comes either before the closing or after it, in the one order of changes to the word.
//! 2. Everything that is counted here is counted as finished once, when it is over.
//! 3. After the closing only a running task of the pool is admitted, and that one is not finished.
//!    So once the count equals the sum of the finished ones *after* the closing, nothing is left
//!    for good. A submission that found the pool open but still comes too late is counted for a
//!    moment; it counts itself as finished and wakes everybody, so nobody is left asleep over it.

use std::sync::Arc;

use super::capacity::Place;
use super::{Activity, Core, Entry, Tally};
use crate::pool::error::Refused;
use crate::pool::scheduler::current::{self, Doing};
use crate::pool::scheduler::worker_slot::DirectedTask;
use crate::sync::seam::atomic::{AtomicU64, Ordering, fence};

const CLOSED: u64 = 1 << 63;
const CANCELLED: u64 = 1 << 62;
const COUNT: u64 = CANCELLED - 1;

/// The word. On cache lines of its own: every submitter writes to it.
#[repr(align(128))]
pub(crate) struct Admission {
    word: AtomicU64,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// From now on, admits nobody but running tasks.
    pub(crate) fn close(&self) {
        // AcqRel: as in `Core::admit`.
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Admits nobody any more.
    pub(crate) fn cancel(&self) {
        // AcqRel: as in `Core::admit`.
        self.word.fetch_or(CLOSED | CANCELLED, Ordering::AcqRel);
    }

    /// Returns how many were counted.
    pub(crate) fn count(&self) -> u64 {
        // Acquire: whoever has seen a task finished, or the closing, sees what was counted before.
        self.word.load(Ordering::Acquire) & COUNT
    }
}

impl Core {
    /// Lets something in: takes its place in a bounded queue, and counts it. Returns its number. If
    /// it is refused, its place is given back.
    ///
    /// Where there is no place, a thread that runs a task passes, and so does a worker that is
    /// ending. A thread that runs a task of this pool is let in until the pool is cancelled.
    #[inline]
    pub(crate) fn admit(&self, place: Place) -> Result<u64, Refused> {
        if let Some(capacity) = &self.capacity {
            self.take_place(capacity, place)?;
        }
        let word = &self.admission.word;
        // Relaxed: the change below decides.
        if !self.is_open(word.load(Ordering::Relaxed)) {
            return Err(self.refuse(place));
        }
        // AcqRel: the order with the closing is that of the changes to this one word; Acquire shows
        // what was done before the closing to one that is too late, and Release is for `count`.
        let before = word.fetch_add(1, Ordering::AcqRel);
        if self.is_open(before) { Ok(before & COUNT) } else { Err(self.refuse_late(place)) }
    }

    /// Returns whether the word lets the current thread in.
    #[inline]
    fn is_open(&self, word: u64) -> bool {
        word & CLOSED == 0 || word & CANCELLED == 0 && current::keeps_open(self.id)
    }

    /// Returns whether the pool is closed for the current thread.
    pub(crate) fn is_closed_here(&self) -> bool {
        // Acquire: as in `Admission::count`.
        !self.is_open(self.admission.word.load(Ordering::Acquire))
    }

    /// Refuses what was counted already, since the pool was closed at that moment.
    #[cold]
    fn refuse_late(&self, place: Place) -> Refused {
        // Not on the counters of a thread: this one may have left its loop, in which a worker would
        // check for itself whether it was the last.
        let tally = Tally { counters: &self.shared, alone: false };
        drop(Activity::begin(self, tally, Doing::OTHER));
        self.refuse(place)
    }

    #[cold]
    fn refuse(&self, place: Place) -> Refused {
        if place != Place::NotNeeded {
            self.give_place_back();
        }
        Refused::ShutDown
    }

    /// Gives back a place in a bounded queue: its task is off the queue, or never came.
    ///
    /// This may wake whoever waits for one: user code, which must not wait for that task.
    #[inline]
    pub(crate) fn give_place_back(&self) {
        if let Some(capacity) = &self.capacity {
            capacity.release();
        }
    }

    /// Returns how many tasks have come in. It is the number that the next one will get, which one
    /// that was refused goes by.
    pub(crate) fn admitted(&self) -> u64 {
        self.admission.count()
    }

    /// Puts an entry on the queue and wakes somebody for it, if need be. Returns whether the pool
    /// was cancelled meanwhile: then it may be that nobody comes for the entry, and the caller has
    /// to cancel it.
    ///
    /// That one and no other: whatever else is on the queue has nothing to do with what this thread
    /// runs, and its drop may wait for just that.
    #[inline]
    #[must_use]
    pub(crate) fn enqueue(&self, entry: Arc<dyn Entry>) -> bool {
        self.queue.push(entry);
        self.sleepers.notify();
        // Either the thread that cancels finds the entry, or this one finds the pool cancelled: a
        // SeqCst fence, that in `notify`, lies between the entry and this look, and another one in
        // `enter_phase` between the phase and the look for work.
        self.is_cancelled()
    }

    /// Puts entries on the queue, all of them before anybody is woken: a thread that is woken may
    /// take this one's processor at once, and for long. Returns the same as
    /// [`enqueue`](Self::enqueue).
    #[must_use]
    pub(crate) fn enqueue_all(&self, entries: impl Iterator<Item = Arc<dyn Entry>>) -> bool {
        let mut pushed = 0;
        for entry in entries {
            self.queue.push(entry);
            pushed += 1;
        }
        for _ in 0..pushed {
            self.sleepers.notify();
        }
        self.is_cancelled()
    }

    /// Puts back an entry that gave way to others. Returns the same as [`enqueue`](Self::enqueue).
    #[must_use]
    pub(crate) fn enqueue_second(&self, entry: Arc<dyn Entry>) -> bool {
        self.queue.push_second(entry);
        self.sleepers.notify();
        self.is_cancelled()
    }

    /// Addresses a task to every worker. Racing callers come one after the other, so that all
    /// workers see the same order, and tasks that wait for one another meet.
    pub(crate) fn deliver_to_all(&self, task: &Arc<impl DirectedTask + 'static>) {
        let Some(delivering) = self.delivering.lock() else { return };
        for slot in &self.slots {
            slot.deliver(Arc::clone(task) as Arc<dyn DirectedTask>);
        }
        drop(delivering);
        // SeqCst: the tasks before the look, as in `enqueue`.
        fence(Ordering::SeqCst);
        if self.is_cancelled() {
            self.cancel_directed();
        }
    }
}

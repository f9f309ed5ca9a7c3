//! The pool's queue, and the stale entries in it.
//!
//! A job can be claimed through its handle while its share of the `Arc` still lies in the queue:
//! that entry is then stale. In fork-join recursion on one worker, every job would leave one. Stale
//! entries are counted, and when they outnumber the live ones by far, whoever leaves one sweeps: it
//! goes once round the queue and drops the stale entries. Each sweep drops at least half of what it
//! looks at, so the cost of a stale entry is constant.
//!
//! There are two lines. The second holds the tickets of helpers that gave way: work that has had
//! its turn, and goes on when others have had theirs. A worker takes from both in turn. (At the end
//! of the first line a map would wait, after every chunk, for each job that came before.)
//!
//! In a forked child nothing is added, taken or swept. What lies there is the parent's, and may
//! borrow from stacks that are gone; and what a thread of the parent was adding at the fork never
//! comes: whoever wants to add something behind that, or to take it, would wait for ever.

use std::sync::Arc;

use crate::sync::process::Process;
use crate::sync::seam::atomic::{AtomicBool, AtomicIsize, Ordering, fence};
use crate::sync::seam::{Receiver, Sender, unbounded};

/// What the queue asks of an entry.
pub(crate) trait Stale: Send + Sync {
    /// Returns whether there is nothing left to run.
    fn is_stale(&self) -> bool;
}

/// Stale entries that are not worth a sweep; few in a model.
const TOLERATED: isize = if cfg!(loom) { 1 } else { 64 };

/// A channel: both ends are here, so neither ever finds the other gone.
struct Line<T> {
    back: Sender<T>,
    front: Receiver<T>,
}

impl<T> Line<T> {
    fn new() -> Self {
        let (back, front) = unbounded();
        Self { back, front }
    }
}

/// See the module's documentation. On cache lines of its own: the count of stale entries changes
/// often.
#[repr(align(128))]
pub(crate) struct Queue<T: Stale + ?Sized> {
    first: Line<Arc<T>>,
    second: Line<Arc<T>>,
    /// About how many entries are stale: a job can be popped before whoever claimed it has counted
    /// it.
    stale: AtomicIsize,
    sweeping: AtomicBool,
    process: Process,
}

impl<T: Stale + ?Sized> Queue<T> {
    pub(crate) fn new() -> Self {
        let stale = AtomicIsize::new(0);
        let (first, second) = (Line::new(), Line::new());
        let (sweeping, process) = (AtomicBool::new(false), Process::current());
        Self { first, second, stale, sweeping, process }
    }

    #[inline]
    pub(crate) fn push(&self, entry: Arc<T>) {
        if !self.process.is_parent() {
            let _sent = self.first.back.send(entry);
        }
    }

    /// Appends an entry to the second line.
    pub(crate) fn push_second(&self, entry: Arc<T>) {
        if !self.process.is_parent() {
            let _sent = self.second.back.send(entry);
        }
    }

    /// Takes the next entry, from whichever line has one.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Arc<T>> {
        if self.process.is_parent() {
            return None;
        }
        self.first.front.try_recv().or_else(|_empty| self.second.front.try_recv()).ok()
    }

    /// Pops for a worker, which serves nobody in a forked child: from the two lines in turn, where
    /// both have entries.
    #[inline]
    pub(crate) fn pop_by_turns(&self, second: &mut bool) -> Option<Arc<T>> {
        let (first, after) = (&self.first.front, &self.second.front);
        if after.is_empty() {
            return first.try_recv().ok();
        }
        *second = !*second;
        let (one, other) = if *second { (after, first) } else { (first, after) };
        one.try_recv().or_else(|_empty| other.try_recv()).ok()
    }

    /// Returns whether there is nothing to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.process.is_parent() || self.first.front.is_empty() && self.second.front.is_empty()
    }

    /// Returns whether entries are being moved now. If not, those that a `pop` before this has
    /// missed, since they were being moved, are back.
    pub(crate) fn is_being_swept(&self) -> bool {
        // SeqCst: the `pop` before the look; `sweep` has the other half. Whoever has missed what a
        // sweep took sees that the sweep has begun.
        fence(Ordering::SeqCst);
        // Acquire: pairs with the Release at the end of `sweep`.
        !self.process.is_parent() && self.sweeping.load(Ordering::Acquire)
    }

    fn len(&self) -> usize {
        self.first.front.len() + self.second.front.len()
    }

    /// Returns about how many entries are not stale.
    pub(crate) fn live(&self) -> u64 {
        // Relaxed: an estimate.
        let stale = self.stale.load(Ordering::Relaxed).max(0);
        self.len().saturating_sub(stale.unsigned_abs()) as u64
    }

    /// Notes that a popped entry was stale.
    pub(crate) fn removed_stale(&self) {
        // Relaxed: an estimate.
        self.stale.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that `n` entries in the queue have become stale. Returns whether it is time to sweep.
    #[must_use]
    pub(crate) fn mark_stale(&self, n: isize) -> bool {
        if self.process.is_parent() {
            return false;
        }
        // Relaxed: an estimate.
        let stale = self.stale.fetch_add(n, Ordering::Relaxed) + n;
        if stale <= TOLERATED {
            return false;
        }
        let len = isize::try_from(self.len()).unwrap_or(isize::MAX);
        stale - TOLERATED > 2 * (len - stale)
    }

    /// Goes once round the queue and drops the stale entries. `moved` is called after each live
    /// entry that was put back: for a moment nobody could see it, so a worker may have fallen
    /// asleep.
    pub(crate) fn sweep(&self, moved: impl Fn()) {
        // Acquire and Release: one sweeper at a time; and what it has moved is there when it is
        // over.
        if self.sweeping.swap(true, Ordering::Acquire) {
            return;
        }
        // SeqCst: that it has begun before what it takes; see `is_being_swept`.
        fence(Ordering::SeqCst);
        for line in [&self.first, &self.second] {
            for _ in 0..line.front.len() {
                let Ok(entry) = line.front.try_recv() else { break };
                if entry.is_stale() {
                    self.removed_stale();
                } else {
                    let _sent = line.back.send(entry);
                    moved();
                }
            }
        }
        self.sweeping.store(false, Ordering::Release);
    }
}

impl<T: Stale + ?Sized> Drop for Queue<T> {
    fn drop(&mut self) {
        // The workers left when all that was admitted was over. What is left are stale entries,
        // which borrow nothing. In a forked child they are the parent's, and may borrow from stacks
        // that are gone.
        if self.process.is_parent() {
            for line in [&mut self.first, &mut self.second] {
                #[expect(clippy::mem_forget, reason = "nothing of it may be dropped here")]
                std::mem::forget(std::mem::replace(line, Line::new()));
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::AtomicBool;

    struct Entry {
        stale: AtomicBool,
    }

    impl Stale for Entry {
        fn is_stale(&self) -> bool {
            self.stale.load(Ordering::SeqCst)
        }
    }

    fn entry(stale: bool) -> Arc<Entry> {
        Arc::new(Entry { stale: AtomicBool::new(stale) })
    }

    // Broke: a live entry that was put back while every worker had fallen asleep waited for ever.
    #[test]
    fn a_sweep_drops_the_stale_and_tells_of_each_live_entry_that_it_moved() {
        let queue = Queue::new();
        for n in 0..10 {
            queue.push(entry(n % 2 == 0));
            queue.push_second(entry(n % 2 == 0));
        }
        let told = Cell::new(0);
        let moved = || {
            told.set(told.get() + 1);
            // Another sweep leaves it to this one, which is not over.
            queue.sweep(|| unreachable!("one sweeps"));
            assert!(queue.is_being_swept());
        };
        queue.sweep(moved);
        assert_eq!((told.get(), queue.len(), queue.is_being_swept()), (10, 10, false));
        assert!(std::iter::from_fn(|| queue.pop()).all(|entry| !entry.is_stale()));
    }

    #[test]
    fn both_lines_get_their_turns() {
        let queue = Queue::new();
        queue.push_second(entry(true));
        assert!(!queue.is_empty() && queue.pop().is_some() && queue.is_empty());
        for n in 0..4 {
            queue.push(entry(false));
            queue.push_second(entry(n != 9));
        }
        let mut second = false;
        let order: Vec<_> =
            std::iter::from_fn(|| queue.pop_by_turns(&mut second).map(|e| e.is_stale())).collect();
        assert_eq!(order, [true, false, true, false, true, false, true, false]);
    }

    #[test]
    fn stale_entries_are_swept_when_they_outnumber_the_live_by_far() {
        let queue = Queue::new();
        for _ in 0..2 * TOLERATED {
            queue.push(entry(true));
        }
        assert!(!queue.mark_stale(TOLERATED), "so few are tolerated");
        assert!(queue.mark_stale(TOLERATED));
        for _ in 0..20 * TOLERATED {
            queue.push(entry(false));
        }
        assert!(!queue.mark_stale(0), "most are live");
    }

    #[test]
    fn a_forked_child_adds_nothing_and_takes_or_drops_nothing_of_the_parents() {
        let theirs = entry(true);
        let mut queue = Queue::new();
        queue.push(Arc::clone(&theirs));
        queue.push_second(Arc::clone(&theirs));
        queue.process = Process::parent();
        queue.push(entry(false));
        queue.push_second(entry(false));
        assert!(queue.pop().is_none());
        assert_eq!((queue.len(), queue.is_empty()), (2, true), "nothing to take");
        queue.sweeping.store(true, Ordering::SeqCst);
        assert!(!queue.is_being_swept(), "by nobody here");
        assert!(!queue.mark_stale(10 * TOLERATED), "a sweep takes and adds");
        drop(queue);
        assert_eq!(Arc::strong_count(&theirs), 3);
    }
}

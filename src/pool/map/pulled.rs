//! Items of any iterator: helpers take turns at pulling a chunk from it.
//!
//! `next` is code of others and may take its time, may wait for tasks, may even broadcast. A helper
//! that waits for its turn therefore waits like any worker: it runs the visits addressed to it.

use parking_lot::{Mutex, MutexGuard};

use super::feed::Feed;
use super::pace::Pace;
use super::{Chunk, Lane, Source};
use crate::pool::scheduler::current;
use crate::sync::seam::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::seam::{self, Thread};

/// The most bytes of items that a helper pulls at a time: a good part of the first-level cache.
const CHUNK_BYTES: usize = 16 << 10;
/// How often a helper tries to get its turn before it goes to sleep: about a microsecond.
const SPINS: usize = 64;

/// An iterator that helpers share.
pub(crate) struct Pulled<I> {
    state: Mutex<State<I>>,
    /// Helpers that sleep until it is their turn.
    waiting: Mutex<Vec<Thread>>,
    sleepers: AtomicUsize,
    stopped: AtomicBool,
}

struct State<I> {
    iter: I,
    /// How many items were pulled.
    position: usize,
    /// Whether the iterator is at its end, or has panicked: it is not called again.
    ended: bool,
}

/// The turn of one helper; ends, also while unwinding, with waking those that sleep for theirs.
struct Turn<'p, I: Iterator> {
    of: &'p Pulled<I>,
    state: Option<MutexGuard<'p, State<I>>>,
}

impl<I: Iterator> Drop for Turn<'_, I> {
    fn drop(&mut self) {
        drop(self.state.take());
        self.of.pass();
    }
}

impl<I: Iterator> Pulled<I> {
    pub(crate) fn new(iter: I) -> Self {
        Self {
            state: Mutex::new(State { iter, position: 0, ended: false }),
            waiting: Mutex::new(Vec::new()),
            sleepers: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    fn turn(&self) -> MutexGuard<'_, State<I>> {
        for _ in 0..SPINS {
            if let Some(turn) = self.state.try_lock() {
                return turn;
            }
            std::hint::spin_loop();
        }
        self.wait_for_turn()
    }

    #[cold]
    fn wait_for_turn(&self) -> MutexGuard<'_, State<I>> {
        // SeqCst: as below.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut turn = None;
        current::wait_until(|| {
            self.waiting.lock().push(seam::current());
            // SeqCst: the sleeper before its look at the lock; `pass` has the other half.
            fence(Ordering::SeqCst);
            turn = self.state.try_lock();
            turn.is_some()
        });
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        match turn {
            Some(turn) => turn,
            None => unreachable!("the wait ends with a turn"),
        }
    }

    /// Ends a turn and wakes those that sleep for theirs. Whoever does not get it puts itself on the list
    /// again.
    fn pass(&self) {
        // SeqCst: the free lock before the look at the sleepers.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            let threads = std::mem::take(&mut *self.waiting.lock());
            for thread in threads {
                thread.unpark();
            }
        }
    }
}

impl<I> Source for Pulled<I>
where
    I: Iterator + Send,
{
    type Item = I::Item;
    type Buffer = Feed<I::Item>;

    const RUNS_OTHERS: bool = true;

    fn claim(&self, pace: &Pace, buffer: &mut Feed<I::Item>) -> Option<Chunk> {
        let most = (CHUNK_BYTES / size_of::<I::Item>().max(1)).clamp(1, 1024);
        let mut turn = Turn { of: self, state: Some(self.turn()) };
        let state = turn.state.as_deref_mut()?;
        // Relaxed: a hint to stop early.
        if state.ended || self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        // Stays so if `size_hint` or `next` panics.
        state.ended = true;
        let size = pace.chunk(state.iter.size_hint().1).min(most);
        let base = state.position;
        let len = buffer.fill(&mut state.iter, size);
        state.ended = len < size;
        state.position = base + len;
        drop(turn);
        (len != 0).then_some(Chunk { base, len })
    }

    #[inline(always)]
    fn items<'a>(
        &'a self,
        buffer: &'a mut Feed<I::Item>,
        _from: usize,
        len: usize,
    ) -> impl Lane<Item = I::Item> + 'a {
        buffer.take(len)
    }

    fn unstarted(&self, buffer: &mut Feed<I::Item>) -> Option<I::Item> {
        buffer.take_one()
    }

    fn stop(&self) {
        // Relaxed: as in `claim`.
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn total(&self) -> usize {
        self.state.lock().position
    }
}

//! The bound of a pool's queue: the tasks that nobody has claimed yet, and the line of those that
//! wait for a place.
//!
//! Plain threads and futures wait, in order of arrival; threads that run a task pass over the limit
//! (they would wait for themselves), and so does what its own thread runs unless somebody else
//! comes first. A place that becomes free is handed to the first in the line, so none of those who
//! wait overtakes another. While there are too many by *n*, one place in *n* + 1 is handed on. So
//! the queue comes down to its limit, except for tasks that submit their successors for ever, and
//! even those keep nobody out.
//!
//! Invariants:
//!
//! 1. While somebody is in the line, no place is free: `used >= limit`.
//! 2. A place that was handed over is counted in `used`. Whoever it was handed to takes it, or
//!    gives it back when it is dropped.

#[cfg(all(loom, test))]
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use super::Core;
use crate::frame;
use crate::pool::error::Refused;
use crate::pool::scheduler::{current, wait};
use crate::sync::process::ProcessMutex;
use crate::sync::seam::{self, Thread};

/// See the module's documentation.
pub(crate) struct Capacity {
    limit: usize,
    state: ProcessMutex<CapacityState>,
}

struct CapacityState {
    used: usize,
    /// How many places were given back since one was handed on, while there were too many.
    skipped: usize,
    closed: bool,
    /// By number of arrival, so that one in the middle leaves as quickly as the first.
    line: BTreeMap<u64, Arc<ProcessMutex<InLine>>>,
    /// The number of the next who comes.
    next: u64,
}

/// The state of one that waits in the line.
enum InLine {
    Waiting(Waker),
    /// The place is its own.
    Granted,
    /// It has what it waited for, or has gone away, or the pool was closed.
    Over,
}

/// The place in a bounded queue of something that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It waits for one.
    Wait,
    /// It is refused if there is none.
    Refuse,
    /// It takes one over the limit, if need be: the thread that brings it runs it, unless somebody
    /// else comes first.
    Anyway,
    /// It has one already.
    Taken,
    /// It needs none, since it is not a task that waits in the queue.
    NotNeeded,
}

impl Capacity {
    pub(crate) fn new(limit: usize) -> Self {
        let line = BTreeMap::new();
        let state = CapacityState { used: 0, skipped: 0, closed: false, line, next: 0 };
        Self { limit, state: ProcessMutex::new(state) }
    }

    /// Takes a place if there is one and nobody waits for it.
    pub(crate) fn try_take(&self) -> Result<(), Refused> {
        self.state.lock().map_or(Err(Refused::Forked), |mut state| state.take(self.limit))
    }

    /// Takes a place over the limit, if need be.
    pub(crate) fn take_anyway(&self) {
        if let Some(mut state) = self.state.lock() {
            state.used += 1;
        }
    }

    /// Blocks until there is a place. `is_forked` is asked before the thread blocks.
    pub(crate) fn take(&self, is_forked: impl Fn() -> bool) -> Result<(), Refused> {
        let unpark = Waker::from(Arc::new(Unpark(seam::current())));
        let mut waiting = self.wait();
        let mut taken = waiting.poll(&unpark);
        if taken.is_pending() {
            if is_forked() {
                return Err(Refused::Forked);
            }
            wait::wait_until(|| {
                taken = waiting.poll(&unpark);
                taken.is_ready()
            });
        }
        match taken {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("the wait ends with an answer"),
        }
    }

    /// Begins to wait for a place, without blocking: see [`Waiting::poll`].
    pub(crate) fn wait(&self) -> Waiting<'_> {
        Waiting { capacity: self, turn: None }
    }

    /// Gives a place back: to the first in the line, if there is one.
    pub(crate) fn release(&self) {
        let Some(mut state) = self.state.lock() else { return };
        let excess = state.used.saturating_sub(self.limit);
        if state.skipped < excess {
            state.skipped += 1;
        } else {
            state.skipped = 0;
            while let Some((_, next)) = state.line.pop_first() {
                // In a forked child nobody waits who had locked it.
                let Some(mut turn) = next.lock() else { continue };
                if let InLine::Waiting(waker) = std::mem::replace(&mut *turn, InLine::Granted) {
                    drop(turn);
                    drop(state);
                    return wake(waker);
                }
                // It has gone away.
                *turn = InLine::Over;
            }
        }
        state.used -= 1;
    }

    /// Lets nobody wait any more.
    pub(crate) fn close(&self) {
        let line = {
            let mut state = self.state.lock_at_home();
            state.closed = true;
            std::mem::take(&mut state.line)
        };
        for waiting in line.into_values() {
            let before = std::mem::replace(&mut *waiting.lock_at_home(), InLine::Over);
            if let InLine::Waiting(waker) = before {
                wake(waker);
            }
        }
    }
}

impl CapacityState {
    fn take(&mut self, limit: usize) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::ShutDown);
        }
        // By invariant 1 nobody waits for one that is free.
        if self.used >= limit {
            return Err(Refused::Full);
        }
        self.used += 1;
        Ok(())
    }
}

impl Core {
    #[cold]
    pub(super) fn take_place(&self, capacity: &Capacity, place: Place) -> Result<(), Refused> {
        let taken = match place {
            Place::Taken | Place::NotNeeded => Ok(()),
            Place::Wait if !current::is_let_through() => capacity.take(|| self.is_forked()),
            Place::Refuse if !current::is_let_through() => capacity.try_take(),
            Place::Wait | Place::Refuse | Place::Anyway => {
                capacity.take_anyway();
                Ok(())
            }
        };
        taken.or_else(|why| self.pass_or_refuse(capacity, why))
    }

    /// Lets in what keeps a closed pool open, as it would be without a limit: a plain thread may be
    /// about to start a map. Otherwise returns why there is no place.
    #[cold]
    fn pass_or_refuse(&self, capacity: &Capacity, why: Refused) -> Result<(), Refused> {
        match why {
            Refused::Forked => Err(why),
            // A child that closes the pool leaves the queue as it finds it.
            Refused::Full if !self.is_closed_here() => Err(why),
            _ if self.is_forked() => Err(Refused::Forked),
            Refused::ShutDown if !self.is_closed_here() => {
                capacity.take_anyway();
                Ok(())
            }
            Refused::Full | Refused::ShutDown => Err(Refused::ShutDown),
        }
    }

    /// Takes a place in a bounded queue for a task that comes later, without waiting.
    pub(crate) fn try_reserve(&self) -> Result<(), Refused> {
        match &self.capacity {
            _ if self.is_closed_here() => Err(Refused::ShutDown),
            None => Ok(()),
            Some(capacity) => self.take_place(capacity, Place::Refuse),
        }
    }

    /// Takes a place in a bounded queue for a task that comes later, or goes into the line in which
    /// `line` stands from then on.
    pub(crate) fn poll_reserve<'c>(
        &'c self,
        line: &mut Option<Waiting<'c>>,
        waker: &Waker,
    ) -> Poll<Result<(), Refused>> {
        let capacity = match &self.capacity {
            Some(capacity) if !current::is_let_through() && !self.is_closed_here() => capacity,
            // Answered at once, even for one in the line: a task would wait there for itself.
            _ => {
                *line = None;
                return Poll::Ready(self.try_reserve());
            }
        };
        let taken = line.get_or_insert_with(|| capacity.wait()).poll(waker);
        if taken.is_pending() && self.is_forked() {
            return Poll::Ready(Err(Refused::Forked));
        }
        taken.map(|taken| taken.or_else(|why| self.pass_or_refuse(capacity, why)))
    }
}

/// A waker may be user code, which has nothing to do with what this thread runs: it is called in a
/// frame of its own.
fn wake(waker: Waker) {
    let _contained = frame::contained(|| waker.wake());
}

/// Wakes a thread that blocks.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// One that waits for a place, in the line from its first [`poll`](Self::poll) on. Dropping it
/// leaves the line, and passes on a place that it was handed.
pub(crate) struct Waiting<'c> {
    capacity: &'c Capacity,
    /// With its number in the line.
    turn: Option<(u64, Arc<ProcessMutex<InLine>>)>,
}

impl Waiting<'_> {
    /// Takes a place, or has `waker` woken when it is worth another look.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<(), Refused>> {
        let Some((_, turn)) = &self.turn else { return self.arrive(waker) };
        // A clone and a drop of the waker are user code: outside of the lock.
        let new = waker.clone();
        let Some(mut turn) = turn.lock() else {
            frame::discard(new);
            return Poll::Ready(Err(Refused::Forked));
        };
        let (unneeded, answer) = match std::mem::replace(&mut *turn, InLine::Over) {
            InLine::Granted => (new, Poll::Ready(Ok(()))),
            InLine::Over => (new, Poll::Ready(Err(Refused::ShutDown))),
            InLine::Waiting(before) => {
                *turn = InLine::Waiting(new);
                (before, Poll::Pending)
            }
        };
        drop(turn);
        frame::discard(unneeded);
        answer
    }

    /// Takes a place, or enters the line with the waker.
    fn arrive(&mut self, waker: &Waker) -> Poll<Result<(), Refused>> {
        // As in `poll`; and a panic of the drop would lose the place.
        let waker = waker.clone();
        let Capacity { limit, state } = self.capacity;
        let taken = match state.lock() {
            None => Err(Refused::Forked),
            Some(mut state) => match state.take(*limit) {
                Err(Refused::Full) => {
                    let turn = Arc::new(ProcessMutex::new(InLine::Waiting(waker)));
                    let number = state.next;
                    state.next += 1;
                    let _nobody = state.line.insert(number, Arc::clone(&turn));
                    self.turn = Some((number, turn));
                    return Poll::Pending;
                }
                taken => taken,
            },
        };
        frame::discard(waker);
        Poll::Ready(taken)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some((number, turn)) = self.turn.take() else { return };
        let Some(mut turn) = turn.lock() else { return };
        let before = std::mem::replace(&mut *turn, InLine::Over);
        drop(turn);
        match before {
            InLine::Granted => self.capacity.release(),
            InLine::Waiting(waker) => {
                if let Some(mut state) = self.capacity.state.lock() {
                    let _turn = state.line.remove(&number);
                }
                frame::discard(waker);
            }
            InLine::Over => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waker() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::SeqCst)
    }

    #[test]
    fn places_go_to_the_line_in_order_of_arrival_and_nobody_overtakes() {
        let capacity = Capacity::new(1);
        assert_eq!(capacity.try_take(), Ok(()));
        let (mut first, mut second) = (capacity.wait(), capacity.wait());
        let ((first_woken, first_waker), (second_woken, second_waker)) = (waker(), waker());
        assert!(first.poll(&first_waker).is_pending());
        assert!(second.poll(&second_waker).is_pending());
        capacity.release();
        assert_eq!((woken(&first_woken), woken(&second_woken)), (1, 0));
        assert_eq!(capacity.try_take(), Err(Refused::Full), "the place is the first one's");
        assert!(second.poll(&second_waker).is_pending());
        assert_eq!(first.poll(&first_waker), Poll::Ready(Ok(())));
        capacity.release();
        assert_eq!(second.poll(&second_waker), Poll::Ready(Ok(())));
        capacity.release();
        assert_eq!(capacity.try_take(), Ok(()));
    }

    #[test]
    fn whoever_leaves_the_line_passes_its_place_on() {
        let capacity = Capacity::new(1);
        assert_eq!(capacity.try_take(), Ok(()));
        let (mut first, mut second, mut third) =
            (capacity.wait(), capacity.wait(), capacity.wait());
        let (third_woken, third_waker) = waker();
        let (_, ignored) = waker();
        assert!(first.poll(&ignored).is_pending());
        assert!(second.poll(&ignored).is_pending());
        assert!(third.poll(&third_waker).is_pending());
        drop(second);
        assert_eq!(capacity.state.lock_at_home().line.len(), 2);
        capacity.release();
        drop(first);
        assert_eq!(woken(&third_woken), 1, "the first one's place was handed on");
        assert_eq!(third.poll(&third_waker), Poll::Ready(Ok(())));
    }

    #[test]
    fn those_that_pass_over_the_limit_are_waited_for_first() {
        let capacity = Capacity::new(1);
        assert_eq!(capacity.try_take(), Ok(()));
        capacity.take_anyway();
        let mut waiting = capacity.wait();
        let (count, waker) = waker();
        assert!(waiting.poll(&waker).is_pending());
        capacity.release();
        assert_eq!(woken(&count), 0, "one of two is over, and the limit is one");
        capacity.release();
        assert_eq!(waiting.poll(&waker), Poll::Ready(Ok(())));
    }

    // Broke: as many as passed kept the queue too full for ever, one for each that was over.
    #[test]
    fn those_that_wait_are_let_in_now_and_then_while_too_many_have_passed() {
        let capacity = Capacity::new(1);
        (0..5).for_each(|_| capacity.take_anyway());
        let mut waiting = [(); 3].map(|()| capacity.wait());
        let (_, ignored) = waker();
        waiting.iter_mut().for_each(|one| assert!(one.poll(&ignored).is_pending()));
        for one in &mut waiting {
            let mut places = 0;
            while one.poll(&ignored).is_pending() {
                capacity.release();
                capacity.take_anyway();
                places += 1;
            }
            assert!((2..10).contains(&places), "{places} places");
        }
    }

    // Broke: whoever was let in brought more along, and the queue grew for ever.
    #[test]
    fn those_that_are_let_in_do_not_add_to_those_that_are_too_many() {
        #[derive(Clone, Copy, PartialEq)]
        enum Entry {
            BringsTwo,
            Leaf,
        }
        let (capacity, (_, ignored)) = (Capacity::new(4), waker());
        let mut queue = std::collections::VecDeque::new();
        let mut waiting = capacity.wait();
        for _ in 0..10_000 {
            while waiting.poll(&ignored).is_ready() {
                queue.push_back(Entry::BringsTwo);
                waiting = capacity.wait();
            }
            let entry = queue.pop_front().expect("there are places");
            capacity.release();
            if entry == Entry::BringsTwo {
                (0..2).for_each(|_| capacity.take_anyway());
                queue.extend([Entry::Leaf; 2]);
            }
            assert!(queue.len() < 64, "{} entries", queue.len());
        }
    }

    #[test]
    fn closing_ends_every_wait() {
        let capacity = Arc::new(Capacity::new(1));
        assert_eq!(capacity.try_take(), Ok(()));
        let (tell, told) = std::sync::mpsc::channel();
        let theirs = Arc::clone(&capacity);
        let thread = std::thread::spawn(move || {
            theirs.take(|| {
                tell.send(()).unwrap();
                false
            })
        });
        told.recv().unwrap();
        capacity.close();
        assert_eq!(thread.join().unwrap(), Err(Refused::ShutDown));
        assert_eq!(capacity.try_take(), Err(Refused::ShutDown));
    }
}

//! [`Turns`]: a lock under which user code runs.
//!
//! An iterator's `next` may take its time, may wait for tasks, may even broadcast. A helper that
//! waits for its turn therefore waits like any worker: it runs the visits addressed to it.
//!
//! Invariants:
//!
//! 1. Who has set `TAKEN` has the turn, until it unsets it. The state is touched within a turn
//!    only.
//! 2. The other bits count the list of sleepers; both change under the list's lock.
//! 3. *A free turn is not left to sleepers alone.* Whoever ends a turn takes one helper off the
//!    list, if there is one, and wakes it; a helper that was taken off tries for the turn, and if
//!    somebody else has got in first, that one's end wakes the next. One that is to run a visit
//!    instead takes itself off, or passes the wake-up on if somebody else has done so. Since the
//!    turn and the count share a word, an end comes either after a sleeper's entry, and sees it, or
//!    before, and the sleeper's last try, which follows on its entry, finds the turn free.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::pool::scheduler::awake::Awake;
use crate::pool::scheduler::current;
use crate::sync::seam::atomic::{AtomicUsize, Ordering};
use crate::sync::seam::{self, Mutex, Thread, UnsafeCell};

const TAKEN: usize = 1;
const SLEEPER: usize = 2;

/// How often a helper looks for its turn before it yields: about a microsecond. In a model not at
/// all, for the reason in [`Awake::until`].
const LOOKS: usize = if cfg!(loom) { 0 } else { 64 };

/// For how long a helper yields before it goes to sleep. A turn at a quick iterator takes a
/// microsecond or two, to be woken fifty; one at a slow iterator teaches the helper not to wait.
const AWAKE: Duration = Duration::from_micros(20);

/// See the module's documentation.
pub(crate) struct Turns<T> {
    word: Word,
    state: UnsafeCell<T>,
    /// Helpers that sleep until it is their turn.
    sleepers: Mutex<Vec<Thread>>,
}

/// On lines of its own: those who wait read it again and again, while whoever has the turn writes
/// to the state.
#[repr(align(128))]
struct Word(AtomicUsize);

#[expect(unsafe_code, reason = "shares the state between those who have turns")]
// SAFETY: one thread at a time touches the state (invariant 1), and may take it over or drop it
// there, as `T` is `Send`. What it was before is visible: see `try_take`.
unsafe impl<T: Send> Sync for Turns<T> {}

/// The turn of one helper. Its end, also while unwinding, wakes one that sleeps for the next.
///
/// It is sent and shared as a unique reference to the state is.
pub(crate) struct Turn<'t, T>(&'t Turns<T>, PhantomData<&'t mut T>);

impl<T> Turns<T> {
    pub(crate) fn new(state: T) -> Self {
        Self {
            word: Word(AtomicUsize::new(0)),
            state: UnsafeCell::new(state),
            sleepers: Mutex::new(Vec::new()),
        }
    }

    /// Returns what the lock guards, when all turns are over.
    pub(crate) fn into_inner(self) -> T {
        self.state.into_inner()
    }

    /// Waits for a turn. `awake` is what the caller has learned about its waits for turns here.
    pub(crate) fn take(&self, awake: &mut Awake) -> Turn<'_, T> {
        for _ in 0..LOOKS {
            if let Some(turn) = self.try_take_if_free() {
                return turn;
            }
            seam::spin_loop();
        }
        self.wait(awake)
    }

    fn try_take_if_free(&self) -> Option<Turn<'_, T>> {
        // Relaxed: a look first, which leaves the cache line to whoever has the turn.
        if self.word.0.load(Ordering::Relaxed) & TAKEN == 0 { self.try_take() } else { None }
    }

    fn try_take(&self) -> Option<Turn<'_, T>> {
        // Acquire: pairs with the Release of the end of the turn before: what that did with the
        // state is visible.
        let before = self.word.0.fetch_or(TAKEN, Ordering::Acquire);
        (before & TAKEN == 0).then(|| Turn(self, PhantomData))
    }

    #[cold]
    fn wait(&self, awake: &mut Awake) -> Turn<'_, T> {
        let mut turn = None;
        let _in_time = awake.until(AWAKE, &mut || {
            turn = self.try_take_if_free();
            turn.is_some()
        });
        turn.unwrap_or_else(|| self.sleep_until_free())
    }

    fn sleep_until_free(&self) -> Turn<'_, T> {
        let slot = current::slot();
        let has_visit = || slot.as_ref().is_some_and(|slot| slot.has_directed());
        let run_visit = || slot.as_ref().is_some_and(|slot| slot.run_directed());
        self.sleep_or_visit(has_visit, run_visit)
    }

    fn sleep_or_visit(
        &self,
        has_visit: impl Fn() -> bool,
        run_visit: impl Fn() -> bool,
    ) -> Turn<'_, T> {
        let me = seam::current();
        loop {
            self.enlist(&me);
            if let Some(turn) = self.try_take() {
                let _woken = !self.strike_off(&me);
                return turn;
            }
            if !has_visit() {
                seam::park();
                // Woken for the turn, for a visit, or for no reason.
                let _woken = !self.strike_off(&me);
                continue;
            }
            if !self.strike_off(&me) {
                // A visit may take long.
                self.wake_one();
            }
            let _ran = run_visit();
        }
    }

    fn enlist(&self, thread: &Thread) {
        let mut sleepers = self.sleepers.lock();
        sleepers.push(thread.clone());
        // Relaxed: the order of the changes to the word is all that matters (invariant 3).
        self.word.0.fetch_add(SLEEPER, Ordering::Relaxed);
    }

    /// Takes a thread off the list; returns whether it was still on it.
    fn strike_off(&self, thread: &Thread) -> bool {
        let mut sleepers = self.sleepers.lock();
        let Some(place) = sleepers.iter().position(|sleeper| sleeper.id() == thread.id()) else {
            return false;
        };
        let _thread = sleepers.swap_remove(place);
        // Relaxed: as in `enlist`.
        self.word.0.fetch_sub(SLEEPER, Ordering::Relaxed);
        true
    }

    #[cold]
    fn wake_one(&self) {
        let mut sleepers = self.sleepers.lock();
        let Some(thread) = sleepers.pop() else { return };
        // Relaxed: as in `enlist`.
        self.word.0.fetch_sub(SLEEPER, Ordering::Relaxed);
        drop(sleepers);
        thread.unpark();
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    #[expect(unsafe_code, reason = "reaches the state that the turn is for")]
    fn deref(&self) -> &T {
        // SAFETY: invariant 1: nobody else touches the state, and this turn is borrowed.
        unsafe { &*self.0.state.get() }
    }
}

impl<T> DerefMut for Turn<'_, T> {
    #[expect(unsafe_code, reason = "reaches the state that the turn is for")]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this turn is borrowed mutably.
        unsafe { &mut *self.0.state.get() }
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next turn.
        let before = self.0.word.0.fetch_sub(TAKEN, Ordering::Release);
        if before != TAKEN {
            self.0.wake_one();
        }
    }
}

#[cfg(all(loom, test))]
mod models {
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::{Arc, Notify};
    use loom::thread;

    use super::{Awake, Turns};
    use crate::sync::model::explore;

    #[test]
    fn model_turns_everybody_gets_one() {
        explore(3, || {
            let turns = Arc::new(Turns::new(0));
            let helpers = [0, 1].map(|_| {
                let turns = Arc::clone(&turns);
                thread::spawn(move || *turns.take(&mut Awake::NEW) += 1)
            });
            *turns.take(&mut Awake::NEW) += 1;
            helpers.into_iter().for_each(|helper| helper.join().unwrap());
            assert_eq!(*turns.take(&mut Awake::NEW), 3);
        });
    }

    /// A visit that waits for another helper's turn, as those of a broadcast may: whoever is woken
    /// for a turn and has a visit to run first passes the wake-up on.
    #[test]
    fn model_turns_a_visit_keeps_nobody_from_their_turn() {
        explore(3, || {
            let turns = Arc::new(Turns::new(0));
            let (visit, other_is_through) =
                (Arc::new(AtomicBool::new(true)), Arc::new(Notify::new()));
            let turn = turns.take(&mut Awake::NEW);
            let visited = {
                let (turns, visit) = (Arc::clone(&turns), Arc::clone(&visit));
                let other_is_through = Arc::clone(&other_is_through);
                thread::spawn(move || {
                    let has_visit = || visit.load(Ordering::SeqCst);
                    let run_visit = || {
                        other_is_through.wait();
                        visit.swap(false, Ordering::SeqCst)
                    };
                    *turns.sleep_or_visit(has_visit, run_visit) += 1;
                })
            };
            let other = {
                let (turns, other_is_through) = (Arc::clone(&turns), Arc::clone(&other_is_through));
                thread::spawn(move || {
                    *turns.take(&mut Awake::NEW) += 1;
                    other_is_through.notify();
                })
            };
            drop(turn);
            visited.join().unwrap();
            other.join().unwrap();
            assert_eq!(*turns.take(&mut Awake::NEW), 2);
        });
    }
}

//! [`Turns`]: a lock under which user code runs.
//!
//! An iterator's `next` may take its time, may wait for tasks, may even broadcast. A helper that
//! waits for its turn therefore keeps its worker from nothing else: it leaves the map, and whoever
//! ends the turn calls another one in its place. One that has to stay ([`Stay`]) waits like any
//! worker: it runs the visits addressed to it.
//!
//! Invariants:
//!
//! 1. Whoever has set `TAKEN` has the turn, until it unsets it. The state is touched only within a
//!    turn.
//! 2. The other bits count those who wait, asleep or away; both change under one lock.
//! 3. *A free turn is not left to those who wait.* Whoever ends a turn takes one of them off the
//!    list, if there is one, and wakes it, or calls a helper in its place. One that was woken tries
//!    for the turn, and if somebody else has got in first, the end of that turn wakes the next. One
//!    that is to run a visit instead takes itself off the list, or passes the wake-up on if
//!    somebody else has taken it off. Since the turn and the count share a word, an end comes
//!    either after an entry, and sees it, or before, and the last try, which follows the entry,
//!    finds the turn free.
//! 4. *Sleepers come first.* A helper that was called comes when its worker has time, and until
//!    then nobody would wake them.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::pool::group::Shift;
use crate::pool::scheduler::awake::Awake;
use crate::pool::scheduler::current;
use crate::sync::seam::atomic::{AtomicUsize, Ordering};
use crate::sync::seam::{self, Mutex, Thread, UnsafeCell};

const TAKEN: usize = 1;
const WAITS: usize = 2;

/// How often a helper looks for its turn before it yields: about a microsecond. In a model not at
/// all, for the reason in [`Awake::until`].
const LOOKS: usize = if cfg!(loom) { 0 } else { 64 };

/// For how long a helper yields before it leaves or goes to sleep. A turn at a quick iterator takes
/// a microsecond or two, being called back takes fifty; one at a slow iterator teaches the helper
/// not to wait.
const AWAKE: Duration = Duration::from_micros(20);

/// The shortest pause after which a parked helper that nobody wakes looks again whether it is still
/// to stay.
const LOOKS_AGAIN: Duration = Duration::from_millis(10);

/// For how long a helper that has nothing to do stays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stay {
    ToTheEnd,
    /// In any case until then, and after that while nobody else needs its thread.
    Until(Instant),
    NotAtAll,
}

impl Stay {
    /// Returns whether the stay is over for a helper whose thread others need.
    pub(crate) fn has_passed(self) -> bool {
        match self {
            Self::ToTheEnd => false,
            Self::Until(end) => Instant::now() >= end,
            Self::NotAtAll => true,
        }
    }

    /// Returns whether the stay is over for a helper that waits for its turn.
    fn has_passed_in(self, shift: &dyn Shift) -> bool {
        self.has_passed() && (matches!(self, Self::NotAtAll) || shift.must_give_way())
    }

    /// Parks, at most until it is to be asked again whether the stay is over.
    fn park(self) {
        match self {
            Self::Until(end) => {
                let left = end.saturating_duration_since(Instant::now());
                seam::park_timeout(left.max(LOOKS_AGAIN));
            }
            Self::ToTheEnd | Self::NotAtAll => seam::park(),
        }
    }
}

/// See the module's documentation.
pub(crate) struct Turns<T> {
    word: Word,
    state: UnsafeCell<T>,
    waiting: Mutex<Waiting>,
}

/// Those who wait for a turn.
struct Waiting {
    /// They sleep until it is theirs.
    asleep: Vec<Thread>,
    /// How many have left.
    away: usize,
}

/// One of them.
enum Next {
    Asleep(Thread),
    Away,
}

/// On cache lines of its own: those who wait read it again and again, while whoever has the turn
/// writes to the state.
#[repr(align(128))]
struct Word(AtomicUsize);

#[expect(unsafe_code, reason = "shares the state between those who have turns")]
// SAFETY: one thread at a time touches the state (invariant 1), and may take it over or drop it
// there, as `T` is `Send`. What it was before is visible: see `try_take`.
unsafe impl<T: Send> Sync for Turns<T> {}

/// The turn of one helper. Its end, also while unwinding, wakes or calls a helper for the next.
pub(crate) struct Turn<'t, T> {
    turns: &'t Turns<T>,
    shift: &'t dyn Shift,
    _state: PhantomData<&'t mut T>,
}

impl<T> Turns<T> {
    pub(crate) fn new(state: T) -> Self {
        Self {
            word: Word(AtomicUsize::new(0)),
            state: UnsafeCell::new(state),
            waiting: Mutex::new(Waiting { asleep: Vec::new(), away: 0 }),
        }
    }

    /// Returns what the lock guards, when all turns are over. In a forked child, one of a thread of
    /// the parent's may never end: what it was changing is then leaked.
    pub(crate) fn into_inner(self) -> Option<T> {
        let is_whole = self.is_free();
        let state = ManuallyDrop::new(self.state);
        is_whole.then(|| ManuallyDrop::into_inner(state).into_inner())
    }

    /// Waits for a turn. `None` if the helper is to leave: another one will be called in its place,
    /// or, in a forked child, nobody. `awake` is what it has learned about its waits here.
    pub(crate) fn take<'t>(
        &'t self,
        awake: &mut Awake,
        shift: &'t dyn Shift,
        stay: Stay,
    ) -> Option<Turn<'t, T>> {
        for _ in 0..LOOKS {
            if self.is_free() {
                if let Some(turn) = self.try_take(shift) {
                    return Some(turn);
                }
            }
            seam::spin_loop();
        }
        self.wait(awake, shift, stay)
    }

    fn is_free(&self) -> bool {
        // Relaxed: a look first, which leaves the cache line to whoever has the turn.
        self.word.0.load(Ordering::Relaxed) & TAKEN == 0
    }

    fn try_take<'t>(&'t self, shift: &'t dyn Shift) -> Option<Turn<'t, T>> {
        // Acquire: pairs with the Release of the end of the turn before: what that did with the
        // state is visible.
        let before = self.word.0.fetch_or(TAKEN, Ordering::Acquire);
        (before & TAKEN == 0).then(|| Turn { turns: self, shift, _state: PhantomData })
    }

    #[cold]
    fn wait<'t>(
        &'t self,
        awake: &mut Awake,
        shift: &'t dyn Shift,
        stay: Stay,
    ) -> Option<Turn<'t, T>> {
        let mut turn = None;
        let _in_time = awake.until(AWAKE, &mut || {
            turn = if self.is_free() { self.try_take(shift) } else { None };
            turn.is_some()
        });
        turn.or_else(|| {
            let slot = current::slot();
            let has_visit = || slot.as_ref().is_some_and(|slot| slot.has_directed());
            let run_visit = || slot.as_ref().is_some_and(|slot| slot.run_directed());
            self.leave_or_sleep(shift, stay, has_visit, run_visit)
        })
    }

    fn leave_or_sleep<'t>(
        &'t self,
        shift: &'t dyn Shift,
        stay: Stay,
        has_visit: impl Fn() -> bool,
        run_visit: impl Fn() -> bool,
    ) -> Option<Turn<'t, T>> {
        let me = seam::current();
        while !stay.has_passed_in(shift) {
            if shift.is_forked() {
                // Whoever has the turn is the parent's, and so is the list, perhaps in the middle
                // of a change.
                return None;
            }
            self.enlist(|waiting| waiting.asleep.push(me.clone()));
            if let Some(turn) = self.try_take(shift) {
                let _woken = !self.strike_off(&me);
                return Some(turn);
            }
            if !has_visit() {
                stay.park();
                // Woken for the turn, for a visit, to look whether it is still to stay, or for no
                // reason.
                let _woken = !self.strike_off(&me);
                continue;
            }
            if !self.strike_off(&me) {
                // A visit may take long.
                self.call_next(shift);
            }
            let _ran = run_visit();
        }
        self.leave(shift)
    }

    /// Leaves, unless the turn is free after all.
    fn leave<'t>(&'t self, shift: &'t dyn Shift) -> Option<Turn<'t, T>> {
        if shift.is_forked() {
            return None;
        }
        self.enlist(|waiting| waiting.away += 1);
        let turn = self.try_take(shift)?;
        // If nobody is away any more, another one was called already: this one would be one too
        // many.
        self.strike(Waiting::next_away).map(|_one| turn)
    }

    fn enlist(&self, enter: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock();
        enter(&mut waiting);
        // Relaxed: the order of the changes to the word is all that matters (invariant 3).
        self.word.0.fetch_add(WAITS, Ordering::Relaxed);
    }

    /// Takes one off the list that `find` takes out of it, if it does.
    fn strike<W>(&self, find: impl FnOnce(&mut Waiting) -> Option<W>) -> Option<W> {
        let mut waiting = self.waiting.lock();
        let found = find(&mut waiting)?;
        // Relaxed: as in `enlist`.
        self.word.0.fetch_sub(WAITS, Ordering::Relaxed);
        Some(found)
    }

    /// Takes a thread off the list; returns whether it was still on it.
    fn strike_off(&self, thread: &Thread) -> bool {
        let found =
            |waiting: &mut Waiting| seam::take_out(&mut waiting.asleep, thread).then_some(());
        self.strike(found).is_some()
    }

    /// Wakes or calls a helper for the next turn.
    #[cold]
    fn call_next(&self, shift: &dyn Shift) {
        if shift.is_forked() {
            return;
        }
        match self.strike(Waiting::next) {
            Some(Next::Asleep(sleeper)) => sleeper.unpark(),
            Some(Next::Away) => shift.call_back(),
            None => {}
        }
    }
}

impl Waiting {
    /// Takes one off the list: sleepers first (invariant 4).
    fn next(&mut self) -> Option<Next> {
        self.asleep.pop().map(Next::Asleep).or_else(|| self.next_away())
    }

    fn next_away(&mut self) -> Option<Next> {
        self.away = self.away.checked_sub(1)?;
        Some(Next::Away)
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    #[expect(unsafe_code, reason = "reaches the state that the turn is for")]
    fn deref(&self) -> &T {
        // SAFETY: invariant 1: nobody else touches the state, and this turn is borrowed.
        unsafe { &*self.turns.state.get() }
    }
}

impl<T> DerefMut for Turn<'_, T> {
    #[expect(unsafe_code, reason = "reaches the state that the turn is for")]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this turn is borrowed mutably.
        unsafe { &mut *self.turns.state.get() }
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next turn.
        let before = self.turns.word.0.fetch_sub(TAKEN, Ordering::Release);
        if before != TAKEN {
            self.turns.call_next(self.shift);
        }
    }
}

#[cfg(all(loom, test))]
mod models {
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::sync::{Arc, Notify};
    use loom::thread;

    use super::{Awake, Shift, Stay, TAKEN, Turn, Turns};
    use crate::sync::model::explore;

    /// Counts the helpers that are called back. They never come.
    struct Called(AtomicUsize);

    impl Called {
        fn none() -> Arc<Self> {
            Arc::new(Self(AtomicUsize::new(0)))
        }

        fn times(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Shift for Called {
        fn call_back(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn stays<'t, T>(turns: &'t Turns<T>, shift: &'t Called) -> Turn<'t, T> {
        turns.take(&mut Awake::NEW, shift, Stay::ToTheEnd).expect("it stays")
    }

    /// Returns whether it had a turn; otherwise it has left.
    fn leaves(turns: &Turns<usize>, shift: &Called) -> bool {
        let turn = turns.take(&mut Awake::NEW, shift, Stay::NotAtAll);
        turn.map(|mut turn| *turn += 1).is_some()
    }

    #[test]
    fn model_turns_everybody_gets_one() {
        explore(3, || {
            let (turns, called) = (Arc::new(Turns::new(0)), Called::none());
            let helpers = [0, 1].map(|_| {
                let (turns, called) = (Arc::clone(&turns), Arc::clone(&called));
                thread::spawn(move || *stays(&turns, &called) += 1)
            });
            *stays(&turns, &called) += 1;
            helpers.into_iter().for_each(|helper| helper.join().unwrap());
            assert_eq!((*stays(&turns, &called), called.times()), (3, 0));
        });
    }

    #[test]
    fn model_turns_whoever_leaves_is_called_back_once() {
        explore(3, || {
            let (turns, called) = (Arc::new(Turns::new(0)), Called::none());
            let helpers = [0, 1].map(|_| {
                let (turns, called) = (Arc::clone(&turns), Arc::clone(&called));
                thread::spawn(move || leaves(&turns, &called))
            });
            *stays(&turns, &called) += 1;
            let helpers = helpers.map(|helper| helper.join().unwrap());
            // Each end calls one of those who are away, and two may wait for the end of one turn.
            let away = helpers.into_iter().filter(|had_turn| !had_turn).count();
            assert!(called.times() <= away && (called.times() == 0) == (away == 0));
            let before = called.times();
            let turn = stays(&turns, &called);
            assert_eq!(*turn, 3 - away);
            drop(turn);
            assert_eq!(called.times(), away.min(before + 1));
        });
    }

    /// A helper that is called back may come late, or never: it keeps no sleeper from the turn.
    #[test]
    fn model_turns_sleepers_come_before_those_who_are_away() {
        explore(3, || {
            let (turns, called) = (Arc::new(Turns::new(0)), Called::none());
            let turn = stays(&turns, &called);
            let sleeper = {
                let (turns, called) = (Arc::clone(&turns), Arc::clone(&called));
                thread::spawn(move || *stays(&turns, &called) += 1)
            };
            let leaver = {
                let (turns, called) = (Arc::clone(&turns), Arc::clone(&called));
                thread::spawn(move || leaves(&turns, &called))
            };
            drop(turn);
            sleeper.join().unwrap();
            let had_turn = leaver.join().unwrap();
            assert_eq!(called.times(), usize::from(!had_turn));
        });
    }

    /// A sleeper may wake though nobody has called it: it is not on the list twice then, where its
    /// other entry would use up somebody else's wake-up.
    #[test]
    fn model_turns_whoever_wakes_for_no_reason_waits_on() {
        explore(3, || {
            let (turns, called) = (Arc::new(Turns::new(0)), Called::none());
            let turn = stays(&turns, &called);
            let sleepers = [0, 1].map(|_| {
                let (turns, called) = (Arc::clone(&turns), Arc::clone(&called));
                thread::spawn(move || *stays(&turns, &called) += 1)
            });
            sleepers[0].thread().unpark();
            drop(turn);
            sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
            let turn = stays(&turns, &called);
            assert_eq!((*turn, turns.word.0.load(Ordering::SeqCst)), (2, TAKEN), "nobody waits");
        });
    }

    /// A visit that waits for another helper's turn, as those of a broadcast may: whoever is woken
    /// for a turn and has a visit to run first passes the wake-up on.
    #[test]
    fn model_turns_a_visit_keeps_nobody_from_their_turn() {
        explore(3, || {
            let (turns, called) = (Arc::new(Turns::new(0)), Called::none());
            let (visit, other_is_through) =
                (Arc::new(AtomicBool::new(true)), Arc::new(Notify::new()));
            let turn = stays(&turns, &called);
            let visited = {
                let (turns, called) = (Arc::clone(&turns), Arc::clone(&called));
                let (visit, other_is_through) = (Arc::clone(&visit), Arc::clone(&other_is_through));
                thread::spawn(move || {
                    let has_visit = || visit.load(Ordering::SeqCst);
                    let run_visit = || {
                        other_is_through.wait();
                        visit.swap(false, Ordering::SeqCst)
                    };
                    let turn = turns.leave_or_sleep(&*called, Stay::ToTheEnd, has_visit, run_visit);
                    *turn.expect("it stays") += 1;
                })
            };
            let other = {
                let (turns, called) = (Arc::clone(&turns), Arc::clone(&called));
                let other_is_through = Arc::clone(&other_is_through);
                thread::spawn(move || {
                    *stays(&turns, &called) += 1;
                    other_is_through.notify();
                })
            };
            drop(turn);
            visited.join().unwrap();
            other.join().unwrap();
            assert_eq!(*stays(&turns, &called), 2);
        });
    }
}

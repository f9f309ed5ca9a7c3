//! The cell of a job: its work, then its outcome, and who may touch which.
//!
//! One atomic word says how far the job is, and which task it is; the work and the outcome share
//! one place in memory.
//!
//! ```text
//! queued ──CLAIMED──▶ running (or being cancelled) ──DONE──▶ done ──TAKEN──▶ empty
//! ```
//!
//! `WAITER` (somebody left a waiter) and `DETACHED` (the handle is gone) are set beside these, and
//! `CANCELLED` before `DONE` if the work did not run; before `CLAIMED` if whoever claims it is to
//! cancel it.
//!
//! Invariants:
//!
//! 1. `CLAIMED`, `DONE` and `TAKEN` are only ever set, each by one thread, in this order.
//! 2. Before `DONE`, the body is touched only by the thread that set `CLAIMED`. It takes the work
//!    out at once and gets the one [`Promise`], in exchange for which it puts the outcome there and
//!    sets `DONE`. So the body holds the work until the claim, nothing while there is a `Promise`,
//!    and then the outcome.
//! 3. After `DONE`, the body is touched only by the thread that set `TAKEN`, once.
//! 4. Dropping the cell drops nothing: the work is moved out by the claim, the outcome by `TAKEN`.
//!    A scoped job may lie in the queue, claimed long ago, when the borrows of its types have
//!    ended; its cell must not run their drop glue then. A forgotten handle therefore leaks the
//!    outcome.
//! 5. `DONE` and `DETACHED` are each set once, by the promise and by the handle, so they are added:
//!    on x86 a `fetch_or` that is asked for more than one bit of what was there is a loop.
//!    Exactly one of [`complete`](Promise::complete) and [`detach`](State::detach) sees the
//!    other's bit already set, and that one owes the drop of the outcome.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use crate::panic::AbortOnUnwind;
use crate::pool::scheduler::completions::CompletionQueue;
use crate::pool::scheduler::waiter::Waiter;
use crate::sync::process::lock_unless;
use crate::sync::seam::atomic::{AtomicU64, Ordering};
use crate::sync::seam::{Mutex, MutexGuard, UnsafeCell, try_update};

const CLAIMED: u64 = 1;
const DONE: u64 = 1 << 1;
const TAKEN: u64 = 1 << 2;
const WAITER: u64 = 1 << 3;
const DETACHED: u64 = 1 << 4;
const CANCELLED: u64 = 1 << 5;
/// The task's number begins above the flags.
const NUMBER: u32 = 8;

/// What a job holds. Invariant 2 says which of the two it is, if any.
union Body<W, O> {
    work: ManuallyDrop<W>,
    outcome: ManuallyDrop<O>,
}

/// How far a job is, and who waits for it: what is the same for jobs of all types.
pub(crate) struct State {
    word: AtomicU64,
    waiter: Mutex<Option<Arc<Waiter>>>,
}

/// See the module's documentation.
pub(crate) struct JobCell<W, O> {
    pub(super) state: State,
    body: UnsafeCell<Body<W, O>>,
}

#[expect(unsafe_code, reason = "shares the body between the claimer and the taker")]
// SAFETY: by invariants 2 and 3 one thread at a time touches the body, and what it moves between
// threads is a `W` or an `O`; both are `Send`.
unsafe impl<W: Send, O: Send> Sync for JobCell<W, O> {}

/// The one right to publish the outcome of a claimed job. It must end in
/// [`complete`](Promise::complete).
#[must_use = "a claimed job must be completed, or its waiters wait for ever"]
pub(crate) struct Promise<'a, W, O> {
    cell: &'a JobCell<W, O>,
    /// Whether the job was to be [cancelled at its claim](State::cancel_at_claim).
    pub(crate) is_unwanted: bool,
}

/// What the thread that completed a job owes now.
#[must_use]
pub(crate) enum Completion {
    /// The handle owns the outcome; wake the waiter, if there is one.
    Attached(Option<Arc<Waiter>>),
    /// The handle is gone: take the outcome and drop it.
    Detached,
}

/// What became of a waiter that was to be left.
#[must_use]
pub(crate) enum Registration {
    /// It will be told. The waiter it replaced is handed out, to be dropped outside of the lock.
    Registered(Option<Arc<Waiter>>),
    /// The job is done, and nobody will be told: the waiter is handed back.
    Done(Arc<Waiter>),
}

/// Who owes the drop of the outcome after the handle is gone.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Detached {
    /// The job is not done: the thread that completes it.
    Runner,
    /// The job was done already: the caller.
    Caller,
}

impl State {
    /// Returns the task's number.
    pub(crate) fn number(&self) -> u64 {
        // Relaxed: it never changes.
        self.word.load(Ordering::Relaxed) >> NUMBER
    }

    /// Has the job cancelled by whoever claims it; returns whether nobody has claimed it yet, nor
    /// done this.
    pub(crate) fn cancel_at_claim(&self) -> bool {
        let unclaimed = |word| (word & (CLAIMED | CANCELLED) == 0).then_some(word | CANCELLED);
        // Only the order with the claim matters, which changes the same word.
        try_update(&self.word, unclaimed)
    }

    /// Returns whether somebody has claimed the job. A hint: `false` may be out of date at once.
    pub(crate) fn is_claimed(&self) -> bool {
        // Relaxed: nothing is read on the strength of it.
        self.word.load(Ordering::Relaxed) & CLAIMED != 0
    }

    /// Returns whether the job is done; what it did is visible to the caller then.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        // Acquire: pairs with the Release of `complete`, so that the outcome may be read.
        self.word.load(Ordering::Acquire) & DONE != 0
    }

    /// Returns whether the job is done and its work was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        // Acquire: as in `is_done`; the bit is set before that one.
        let word = self.word.load(Ordering::Acquire);
        word & DONE != 0 && word & CANCELLED != 0
    }

    /// `None` if a thread of the parent process held the lock when this one was forked: then nobody
    /// is told any more.
    fn lock(
        &self,
        is_forked: impl FnOnce() -> bool,
    ) -> Option<MutexGuard<'_, Option<Arc<Waiter>>>> {
        lock_unless(&self.waiter, is_forked)
    }

    /// Leaves `waiter` to be told of the completion, in place of any left before.
    pub(crate) fn register(
        &self,
        waiter: Arc<Waiter>,
        is_forked: impl FnOnce() -> bool,
    ) -> Registration {
        let Some(mut place) = self.lock(is_forked) else {
            let is_done = self.is_done();
            return if is_done {
                Registration::Done(waiter)
            } else {
                Registration::Registered(Some(waiter))
            };
        };
        // AcqRel: the Acquire half pairs with `complete`, as in `is_done`; the bit itself needs no
        // Release, since the waiter is read under the lock. If `DONE` is not set here, this section
        // of the lock comes before the completer's, which will find the waiter.
        let before = self.word.fetch_or(WAITER, Ordering::AcqRel);
        if before & DONE != 0 {
            return Registration::Done(waiter);
        }
        Registration::Registered(place.replace(waiter))
    }

    fn take_waiter(&self, is_forked: impl FnOnce() -> bool) -> Option<Arc<Waiter>> {
        self.lock(is_forked)?.take()
    }

    /// Leaves a consumer beside the waiters that are there: several may wait for jobs that they
    /// share. Returns whether the job is not done yet.
    pub(crate) fn register_beside(
        &self,
        queue: &Arc<CompletionQueue>,
        number: usize,
        is_forked: impl FnOnce() -> bool,
    ) -> bool {
        let Some(mut place) = self.lock(is_forked) else { return !self.is_done() };
        // AcqRel: as in `register`.
        if self.word.fetch_or(WAITER, Ordering::AcqRel) & DONE != 0 {
            return false;
        }
        let others = place.take();
        *place = Some(Arc::new(Waiter::Queue(Arc::clone(queue), number, others)));
        true
    }

    /// Takes out a consumer that was left beside others. Drops nothing of the user's.
    pub(crate) fn unregister(
        &self,
        queue: &Arc<CompletionQueue>,
        is_forked: impl FnOnce() -> bool,
    ) {
        let Some(mut place) = self.lock(is_forked) else { return };
        *place = place.take().and_then(|waiter| waiter.without(queue));
    }

    /// Gives up the handle's claim on the outcome, and takes back the waiter that it left, if
    /// nobody has told it yet.
    pub(crate) fn detach(
        &self,
        is_forked: impl FnOnce() -> bool,
    ) -> (Detached, Option<Arc<Waiter>>) {
        // AcqRel: Acquire pairs with `complete`, whose outcome the caller may have to drop. Release
        // orders what the handle did before the runner's drop of the outcome.
        let before = self.word.fetch_add(DETACHED, Ordering::AcqRel);
        debug_assert!(before & DETACHED == 0, "invariant 5");
        let is_left = before & WAITER != 0;
        let waiter = if is_left { self.take_waiter(is_forked) } else { None };
        (if before & DONE != 0 { Detached::Caller } else { Detached::Runner }, waiter)
    }
}

impl<W, O> JobCell<W, O> {
    /// Makes the cell of the task with this number.
    #[inline]
    pub(crate) fn new(number: u64, work: W) -> Self {
        Self {
            state: State { word: AtomicU64::new(number << NUMBER), waiter: Mutex::new(None) },
            body: UnsafeCell::new(Body { work: ManuallyDrop::new(work) }),
        }
    }

    /// Claims the job, to run it or to cancel it: moves its work out. Returns `None` if somebody
    /// else did so before.
    #[inline]
    #[expect(unsafe_code, reason = "moves the work out of the shared body")]
    pub(crate) fn claim(&self) -> Option<(W, Promise<'_, W, O>)> {
        // Relaxed: the winner reads only what was written before the job was shared, and sharing it
        // (the queue, the handle) orders that; a loser reads nothing.
        if self.state.word.fetch_or(CLAIMED, Ordering::Relaxed) & CLAIMED != 0 {
            return None;
        }
        // Relaxed: others set it before the claim or never, and it lies in the same word. (Asked
        // for this bit, too, the change above would be a loop on x86.)
        let is_unwanted = self.state.word.load(Ordering::Relaxed) & CANCELLED != 0;
        // SAFETY: invariant 2: this thread set `CLAIMED`; nobody else touches the body.
        let body = unsafe { &mut *self.body.get() };
        // SAFETY: invariant 2: it is there until the claim, which was now.
        let work = unsafe { ManuallyDrop::take(&mut body.work) };
        Some((work, Promise { cell: self, is_unwanted }))
    }

    /// Takes the outcome; `None` if the job is not done or the outcome was taken before.
    #[expect(unsafe_code, reason = "moves the outcome out of the shared body")]
    pub(crate) fn take(&self) -> Option<O> {
        if !self.state.is_done() {
            return None;
        }
        // Acquire: as in `is_done`, which has seen `DONE` already. Only one caller finds the bit
        // unset.
        if self.state.word.fetch_or(TAKEN, Ordering::Acquire) & TAKEN != 0 {
            return None;
        }
        // SAFETY: invariant 3: this thread set `TAKEN`, after `DONE`; nobody else touches the body.
        let body = unsafe { &mut *self.body.get() };
        // SAFETY: invariants 2 and 3: `DONE` says that it is an outcome, and it is taken once.
        Some(unsafe { ManuallyDrop::take(&mut body.outcome) })
    }
}

impl<W, O> Drop for Promise<'_, W, O> {
    /// The promise to complete was broken: waiters would wait for ever, or go on while the job
    /// still borrows from them.
    #[cold]
    fn drop(&mut self) {
        drop(AbortOnUnwind::new("a claimed job was not completed"));
    }
}

impl<W, O> Promise<'_, W, O> {
    /// Publishes the outcome, and whether the work was cancelled for good. Everything that the task
    /// made must be gone by now.
    #[inline]
    #[expect(unsafe_code, reason = "writes the outcome to the shared body")]
    pub(crate) fn complete(
        self,
        outcome: O,
        is_cancelled: bool,
        is_forked: impl FnOnce() -> bool,
    ) -> Completion {
        let JobCell { state, body } = ManuallyDrop::new(self).cell;
        if is_cancelled {
            // Relaxed: published below, by a change of the same word.
            state.word.fetch_or(CANCELLED, Ordering::Relaxed);
        }
        // SAFETY: invariant 2, as in `claim`; `DONE` is set below, after the last access.
        let body = unsafe { &mut *body.get() };
        body.outcome = ManuallyDrop::new(outcome);
        // AcqRel: Release publishes the outcome to whoever sees `DONE` (`is_done`, `take`,
        // `register`, `detach`). Acquire pairs with `detach`: its drop of the handle comes before
        // ours of the outcome.
        let before = state.word.fetch_add(DONE, Ordering::AcqRel);
        debug_assert!(before & DONE == 0, "invariant 1");
        if before & DETACHED != 0 {
            return Completion::Detached;
        }
        let is_waited_for = before & WAITER != 0;
        Completion::Attached(if is_waited_for { state.take_waiter(is_forked) } else { None })
    }
}

//! A submitted task: one allocation that the queue and the handle share.

#[cfg(all(loom, test))]
mod model;
pub(crate) mod state;

use std::panic::Location;
use std::sync::Arc;

use self::state::{Completion, Detached, JobState, Promise, Registration};
use super::core::{Activity, Core, Entry, Tally};
use super::error::{Cause, Label, Labelled, Name, TaskError};
use super::scheduler::completions::CompletionQueue;
use super::scheduler::current::{self, Doing};
use super::scheduler::queue::Stale;
use super::scheduler::waiter::Waiter;
use crate::context::Context;
use crate::foreign::not_in_carrier;
use crate::frame;

/// What a task came to.
pub(crate) type Outcome<R> = Result<R, Cause>;

/// Whom else the end of a job concerns: the scope it belongs to.
pub(crate) trait End: Send + Sync {
    /// Called when the job has failed, before anybody can see it.
    fn failing(&self, _cause: &Cause) {}
    /// Called when a handle has seen the failure.
    fn failure_seen(&self, _cause: &Cause) {}
    /// Called when the job is over: what it borrows is not touched any more.
    fn over(&self) {}
}

/// Nobody else is concerned.
impl End for () {}

/// What a task consists of: its closure, and the context that it runs in.
pub(crate) type Work<F> = (F, Context);

/// What a claim gives: the work, and the right to publish what it came to.
type Claim<'a, F, R> = (Work<F>, Promise<'a, Work<F>, Outcome<R>>);

/// See the module's documentation.
pub(crate) struct Job<F, R, E> {
    state: JobState<Work<F>, Outcome<R>>,
    name: Option<Name>,
    at: &'static Location<'static>,
    end: E,
}

/// A job as its handle sees it.
pub(crate) trait Joinable<R>: Send + Sync {
    fn is_done(&self) -> bool;
    /// Returns whether the job was cancelled.
    fn is_cancelled(&self) -> bool;
    /// Runs the job on this thread if it has not been claimed, unless that would be too deep.
    fn run_inline(&self, core: &Core) -> Result<(), TooDeep>;
    /// Cancels the job if it has not been claimed.
    fn cancel(&self, core: &Core) -> bool;
    fn register(&self, waiter: Arc<Waiter>) -> Registration;
    /// See [`JobState::register_beside`].
    fn register_beside(&self, queue: &Arc<CompletionQueue>, number: usize) -> bool;
    /// See [`JobState::unregister`].
    fn unregister(&self, queue: &Arc<CompletionQueue>);
    /// Takes the result, if the job is done and nobody took it before.
    fn take(&self) -> Option<Result<R, TaskError>>;
    /// Lets go of the job for a handle that has not taken the result.
    fn detach(&self, core: &Core);
    /// Returns the error of a wait that would never end.
    fn error(&self, cause: Cause) -> TaskError;
    /// Tells a waiter that the job is done, since nobody else will.
    fn wake(&self, core: &Core, waiter: Arc<Waiter>);
    /// Drops user code that came in through the handle, contained.
    fn drop_waiter(&self, core: &Core, waiter: Option<Arc<Waiter>>);
    fn number(&self) -> u64;
}

/// A job that nobody has claimed was left as it is, since too many tasks lie on top of one another
/// here.
#[derive(Debug)]
pub(crate) struct TooDeep;

/// A job as those see it who may run it while they wait for its group.
pub(crate) trait Claimable: Send + Sync {
    fn is_claimed(&self) -> bool;
    /// Claims the job if nobody has and runs it on this thread, or ends it where that is not
    /// possible; returns whether it did.
    fn claim_and_run(&self, core: &Core) -> bool;
}

impl<F, R, E> Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    #[inline]
    pub(crate) fn new(
        number: u64,
        name: Option<Name>,
        at: &'static Location<'static>,
        work: Work<F>,
        end: E,
    ) -> Self {
        Self { state: JobState::new(number, work), name, at, end }
    }

    /// Runs a claimed job. Everything that the task made, its closure and its context are gone
    /// before the completion can be observed.
    fn execute(&self, core: &Core, tally: Tally<'_>, ((task, context), promise): Claim<'_, F, R>) {
        tally.add(|c| &c.running, 1);
        let activity = Activity::begin(core, tally, Doing::TASK);
        let outcome = core.watched(self, None, || core.isolation.run(&context, task));
        if !context.is_empty() {
            core.drop_contained(context, self);
        }
        match &outcome {
            Ok(_) => tally.ended(1, None),
            Err(failure) => {
                tally.ended(0, Some(failure));
            }
        }
        let outcome = outcome.map_err(Cause::Failed);
        if let Err(cause) = &outcome {
            self.end.failing(cause);
        }
        self.publish(core, promise, outcome);
        drop(activity);
        self.end.over();
    }

    /// Ends a claimed job that never runs, for this cause unless its handle has cancelled it: its
    /// closure and its context are dropped here and now.
    #[cold]
    fn abandon(&self, core: &Core, (work, promise): Claim<'_, F, R>, cause: Cause) {
        let cause = if promise.is_unwanted { Cause::CancelledByHandle } else { cause };
        // The drops are user code, and so is what hears of the end.
        let tally = core.tally();
        let activity = Activity::begin(core, tally, Doing::DROP);
        core.drop_contained(work, self);
        tally.add(|c| &c.cancelled, 1);
        // Whoever cancels knows; for anybody else it is a failure.
        if !matches!(cause, Cause::CancelledByHandle) {
            self.end.failing(&cause);
        }
        self.publish(core, promise, Err(cause));
        drop(activity);
        self.end.over();
    }

    /// Ends a job that was not let in. Nothing counts it.
    #[cold]
    pub(crate) fn refuse(&self, core: &Core, cause: Cause) {
        if let Some((work, promise)) = self.state.claim() {
            let mut work = Some(work);
            if !current::drop_refused(|| core.drop_contained(work.take(), self)) {
                frame::leak(work);
            }
            self.end.failing(&cause);
            self.publish(core, promise, Err(cause));
            self.end.over();
        }
    }

    /// Ends the job where it lies on the queue, if it has not been claimed; returns whether it did.
    #[cold]
    fn cancel_for(&self, core: &Core, cause: Cause) -> bool {
        let Some(claimed) = self.state.claim() else { return false };
        core.mark_stale(1);
        self.abandon(core, claimed, cause);
        true
    }

    fn publish(&self, core: &Core, promise: Promise<'_, Work<F>, Outcome<R>>, outcome: Outcome<R>) {
        if matches!(outcome, Err(Cause::CancelledByHandle | Cause::ShutDown)) {
            promise.note_cancelled();
        }
        match promise.complete(outcome) {
            Completion::Attached(None) => {}
            Completion::Attached(Some(waiter)) => self.wake(core, waiter),
            Completion::Detached => self.discard(core),
        }
    }

    /// Drops the outcome that nobody will ask for.
    fn discard(&self, core: &Core) {
        match self.state.take() {
            None => {}
            Some(Ok(result)) => core.drop_contained(result, self),
            Some(Err(cause)) => core.report(self.label(), cause),
        }
    }
}

/// Tells a waiter and those behind it.
fn tell(waiter: &Waiter, core: &Core, label: &impl Labelled) {
    match waiter {
        Waiter::Thread(thread) => thread.unpark(),
        Waiter::Queue(queue, number, others) => {
            queue.push(*number);
            if let Some(others) = others {
                tell(others, core, label);
            }
        }
        // A waker is user code.
        Waiter::Waker(waker) => {
            if let Err(failure) = frame::contained(|| waker.wake_by_ref()) {
                core.report(label.label(), Cause::Failed(failure));
            }
        }
    }
}

impl<F, R, E> Labelled for Job<F, R, E> {
    fn label(&self) -> Label {
        Label { name: self.name.clone(), at: self.at, id: self.state.number() }
    }
}

impl<F, R, E> Stale for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn is_stale(&self) -> bool {
        self.state.is_claimed()
    }
}

impl<F, R, E> Entry for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn run(self: Arc<Self>, core: &Core, tally: Tally<'_>) {
        match self.state.claim() {
            Some(claimed) if claimed.1.is_unwanted || core.is_cancelled() => {
                self.abandon(core, claimed, Cause::ShutDown);
            }
            Some(claimed) => self.execute(core, tally, claimed),
            None => core.queue.removed_stale(),
        }
    }

    fn cancel_on_queue(&self, core: &Core) {
        let _cancelled = self.cancel_for(core, Cause::ShutDown);
    }
}

impl<F, R, E> Joinable<R> for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn is_done(&self) -> bool {
        self.state.is_done()
    }

    fn is_cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    fn run_inline(&self, core: &Core) -> Result<(), TooDeep> {
        // A closure that is dropped here may wait for the next task in its drop, and so on. Beyond
        // the depth one is ended, by `claim_and_run`; what its drop waits for stays in the queue.
        if !current::may_end() && !self.state.is_claimed() {
            return Err(TooDeep);
        }
        let _ran = self.claim_and_run(core);
        Ok(())
    }

    fn cancel(&self, core: &Core) -> bool {
        // A closure that is dropped here may cancel the next task in its drop, and so on. One that
        // lies too deep is left to a worker, which begins anew.
        if !current::may_end() {
            return self.state.cancel_at_claim();
        }
        self.cancel_for(core, Cause::CancelledByHandle)
    }

    fn register(&self, waiter: Arc<Waiter>) -> Registration {
        self.state.register(waiter)
    }

    fn register_beside(&self, queue: &Arc<CompletionQueue>, number: usize) -> bool {
        self.state.register_beside(queue, number)
    }

    fn unregister(&self, queue: &Arc<CompletionQueue>) {
        self.state.unregister(queue);
    }

    fn take(&self) -> Option<Result<R, TaskError>> {
        let outcome = self.state.take()?;
        Some(outcome.map_err(|cause| {
            if !matches!(cause, Cause::CancelledByHandle) {
                self.end.failure_seen(&cause);
            }
            self.error(cause)
        }))
    }

    fn detach(&self, core: &Core) {
        let (owner, waiter) = self.state.detach();
        self.drop_waiter(core, waiter);
        if owner == Detached::Caller {
            self.discard(core);
        }
    }

    fn error(&self, cause: Cause) -> TaskError {
        TaskError::new(self.label(), cause)
    }

    fn wake(&self, core: &Core, waiter: Arc<Waiter>) {
        tell(&waiter, core, self);
        self.drop_waiter(core, Some(waiter));
    }

    fn drop_waiter(&self, core: &Core, waiter: Option<Arc<Waiter>>) {
        match waiter {
            None => {}
            Some(waiter) if matches!(*waiter, Waiter::Thread(_)) => {}
            // It may hold a waker, which is user code.
            Some(waiter) => core.drop_contained(waiter, self),
        }
    }

    fn number(&self) -> u64 {
        self.state.number()
    }
}

impl<F, R, E> Claimable for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn is_claimed(&self) -> bool {
        self.state.is_claimed()
    }

    fn claim_and_run(&self, core: &Core) -> bool {
        let Some(claimed) = self.state.claim() else { return false };
        // Before it runs, so that a deep recursion cannot pile them up.
        core.mark_stale(1);
        if claimed.1.is_unwanted || core.is_cancelled() {
            self.abandon(core, claimed, Cause::ShutDown);
        } else if !current::may_nest() {
            self.abandon(core, claimed, Cause::TooDeep);
        } else {
            let tally = core.tally();
            tally.add(|c| &c.inline, 1);
            not_in_carrier(|| self.execute(core, tally, claimed));
        }
        true
    }
}

#[cfg(all(test, not(loom), target_pointer_width = "64"))]
mod tests {
    use super::Job;

    /// Returns the size of the job of a task like this one.
    fn size<F: FnOnce() -> R + Send, R: Send>(_task: &F) -> usize {
        size_of::<Job<F, R, ()>>()
    }

    // With the two counts of its `Arc`, the place in the queue and the handle it is 128 bytes. From
    // 128 bytes on a block of glibc's is given back under a lock, which a flood has to wait for.
    #[test]
    fn a_job_is_seven_words_beside_its_closure() {
        let word = 1_usize;
        assert_eq!(size(&move || assert_eq!(word, 1)), (7 + 1) * size_of::<usize>());
        assert_eq!(size(&move || word), (7 + 1) * size_of::<usize>());
    }
}

//! A submitted task: one allocation that the queue and the handle share.

use std::sync::Arc;

use super::cell::{Claimed, Completion, Detached, JobCell, Registration, Waiter};
use super::core::Core;
use super::current;
use super::error::{Cause, Label, TaskError};
use super::queue::Runnable;
use crate::context::Context;
use crate::frame;

/// What a task came to.
pub(crate) type Outcome<R> = Result<R, Cause>;

/// Whom else the end of a job concerns: the scope it belongs to.
pub(crate) trait End: Send + Sync {
    /// The job has failed, and this is not visible to anybody yet.
    fn failing(&self) {}
    /// A handle has seen the failure.
    fn failure_seen(&self) {}
    /// The job is over: what it borrows is not touched any more.
    fn over(&self) {}
}

/// Nobody else is concerned.
impl End for () {}

type Work<F> = (F, Context);

/// See the module's documentation.
pub(crate) struct Job<F, R, E> {
    cell: JobCell<Work<F>, Outcome<R>>,
    label: Label,
    end: E,
}

/// A job as its handle sees it.
pub(crate) trait Joinable<R>: Send + Sync {
    fn is_done(&self) -> bool;
    /// Runs the job on this thread if it has not been claimed.
    fn run_inline(&self, core: &Core);
    /// Cancels the job if it has not been claimed.
    fn cancel(&self, core: &Core) -> bool;
    fn register(&self, waiter: Waiter) -> Registration;
    /// The result, if the job is done and nobody took it before.
    fn take(&self) -> Option<Result<R, TaskError>>;
    /// The handle goes away without having taken the result.
    fn detach(&self, core: &Core);
}

/// A job as those see it who may run it while they wait for its group.
pub(crate) trait Claimable: Send + Sync {
    fn is_claimed(&self) -> bool;
    /// Runs the job on this thread if it has not been claimed; returns whether it did.
    fn claim_and_run(&self, core: &Core) -> bool;
}

impl<F, R, E> Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    pub(crate) fn new(task: F, context: Context, label: Label, end: E) -> Self {
        Self { cell: JobCell::new((task, context)), label, end }
    }

    /// Runs a claimed job. Everything that the task made, its closure and its context are gone before
    /// the completion can be observed.
    fn execute(&self, core: &Core, mut claimed: Claimed<'_, Work<F>, Outcome<R>>, inline: bool) {
        let tally = core.tally();
        core.claimed(tally);
        tally.add(|c| &c.running, 1);
        // To the end: the drops and wakes below are code of others too, and wait like a task's.
        let in_task = current::enter_task(core.id);
        let (task, context) = claimed.work();
        let outcome = core.sentry.watch(core, &self.label, || {
            let outcome = core.isolation.run(&context, task);
            if context.snapshot_raw().is_null() && !context.has_carriers() {
                // Nothing was inherited, so nothing can happen.
                drop(context);
            } else {
                core.drop_contained(context, &self.label);
            }
            outcome
        });
        match &outcome {
            Ok(_) => tally.add(|c| &c.completed, 1),
            Err(failure) => {
                match failure {
                    frame::Failure::Panic(_) => tally.add(|c| &c.panicked, 1),
                    _ => tally.add(|c| &c.failed, 1),
                }
                self.end.failing();
            }
        }
        if inline {
            tally.add(|c| &c.inline, 1);
        }
        tally.sub(|c| &c.running, 1);
        self.publish(core, claimed, outcome.map_err(Cause::Failed));
        drop(in_task);
        core.finished(tally);
        self.end.over();
    }

    /// Ends a claimed job that never runs: its closure and its context are dropped here and now.
    fn abandon(&self, core: &Core, mut claimed: Claimed<'_, Work<F>, Outcome<R>>, by_handle: bool) {
        let tally = core.tally();
        core.claimed(tally);
        core.drop_contained(claimed.work(), &self.label);
        tally.add(|c| &c.cancelled, 1);
        // Whoever cancels knows; for anybody else it is a failure.
        if !by_handle {
            self.end.failing();
        }
        self.publish(core, claimed, Err(Cause::Cancelled { by_handle }));
        core.finished(tally);
        self.end.over();
    }

    fn publish(&self, core: &Core, claimed: Claimed<'_, Work<F>, Outcome<R>>, outcome: Outcome<R>) {
        match claimed.complete(outcome) {
            Completion::Attached(None) => {}
            Completion::Attached(Some(waiter)) => wake(core, waiter, &self.label),
            Completion::Detached => self.discard(core),
        }
    }

    /// Drops the outcome that nobody will ask for.
    fn discard(&self, core: &Core) {
        match self.cell.take() {
            None => {}
            Some(Ok(result)) => core.drop_contained(result, &self.label),
            Some(Err(cause)) => core.report(self.label.clone(), cause),
        }
    }
}

fn wake(core: &Core, waiter: Waiter, label: &Label) {
    match waiter {
        Waiter::Thread(thread) => thread.unpark(),
        Waiter::List(list, number) => list.push(number),
        // A waker is code of others.
        Waiter::Waker(waker) => {
            if let Err(failure) = frame::contained(|| waker.wake()) {
                core.report(label.clone(), Cause::Failed(failure));
            }
        }
    }
}

impl<F, R, E> Runnable for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn run(self: Arc<Self>, core: &Core) {
        match self.cell.claim() {
            Some(claimed) => self.execute(core, claimed, false),
            None => core.queue.buried(),
        }
    }

    fn cancel(&self, core: &Core) {
        match self.cell.claim() {
            Some(claimed) => self.abandon(core, claimed, false),
            None => core.queue.buried(),
        }
    }

    fn is_dead(&self) -> bool {
        self.cell.is_claimed()
    }
}

impl<F, R, E> Joinable<R> for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn is_done(&self) -> bool {
        self.cell.is_done()
    }

    fn run_inline(&self, core: &Core) {
        let _ran = self.claim_and_run(core);
    }

    fn cancel(&self, core: &Core) -> bool {
        match self.cell.claim() {
            Some(claimed) => {
                self.abandon(core, claimed, true);
                core.died_in_queue(1);
                true
            }
            None => false,
        }
    }

    fn register(&self, waiter: Waiter) -> Registration {
        self.cell.register(waiter)
    }

    fn take(&self) -> Option<Result<R, TaskError>> {
        let outcome = self.cell.take()?;
        Some(outcome.map_err(|cause| {
            if !matches!(cause, Cause::Cancelled { by_handle: true }) {
                self.end.failure_seen();
            }
            TaskError::new(self.label.clone(), cause)
        }))
    }

    fn detach(&self, core: &Core) {
        let (owner, waiter) = self.cell.detach();
        if let Some(waiter) = waiter {
            core.drop_contained(waiter, &self.label);
        }
        if owner == Detached::Caller {
            self.discard(core);
        }
    }
}

impl<F, R, E> Claimable for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn is_claimed(&self) -> bool {
        self.cell.is_claimed()
    }

    fn claim_and_run(&self, core: &Core) -> bool {
        let Some(claimed) = self.cell.claim() else { return false };
        // Before it runs, so that a deep recursion cannot pile them up.
        core.died_in_queue(1);
        self.execute(core, claimed, true);
        true
    }
}

//! A submitted task: one allocation that the queue and the handle share.
//!
//! Little depends on the task's types: its closure becomes its result, and both are dropped
//! somewhere. Everything else is compiled once, not for each closure that is submitted.

#[cfg(all(loom, test))]
mod model;
pub(crate) mod state;

use std::panic::Location;
use std::sync::Arc;

use self::state::{Completion, Detached, JobCell, State};
use super::core::{Activity, Core, Entry, How};
use super::error::{Cause, Label, Labelled, Name, Refused, TaskError, Which};
use super::scheduler::current::{self, Doing};
use super::scheduler::queue::Stale;
use super::scheduler::waiter::Waiter;
use crate::context::{Call, Context, Once};
use crate::foreign::not_in_carrier;
use crate::frame;

/// Whom else the end of a job concerns: the scope it belongs to.
pub(crate) trait End: Send + Sync {
    /// Called when the job has failed, before anybody can see it.
    fn failing(&self) {}
    /// Called when a handle has seen the failure.
    fn failure_seen(&self) {}
    /// Called when it is certain that no handle will see the failure.
    fn unheard(&self, _label: &Label, _cause: &Cause, _core: &Core) {}
    /// Called when the job is over: what it borrows is not touched any more.
    fn over(&self) {}
}

/// Nobody else is concerned.
impl End for () {}

/// What a task consists of: its closure, and the context that it runs in.
pub(crate) type Work<F> = (F, Context);

/// See the module's documentation.
pub(crate) struct Job<F, R, E> {
    pub(super) cell: JobCell<Work<F>, Result<R, Cause>>,
    pub(super) name: Option<Name>,
    pub(super) at: &'static Location<'static>,
    pub(super) end: E,
}

/// A job without its types.
pub(crate) trait AnyJob: Labelled + Send {
    fn state(&self) -> &State;
    /// Returns itself: such a coercion came with Rust 1.86.
    fn labelled(&self) -> &dyn Labelled;
    /// Claims the job, unless somebody has, and brings it to its end; returns whether it did.
    fn claim(&self, core: &Core, how: How<'_>) -> bool;
    /// Drops the outcome that nobody will ask for.
    fn discard(&self, core: &Core);
}

/// A job as its handle sees it.
pub(crate) trait Joinable<R>: Send + Sync {
    fn any(&self) -> &dyn AnyJob;
    /// Takes the result. Panics unless the job is done and nobody has taken it before.
    fn take(&self) -> Result<R, TaskError>;
}

/// A job that nobody has claimed was left as it is, since too many tasks lie on top of one another
/// here.
#[derive(Debug)]
pub(crate) struct TooDeep;

/// A claimed job, or a task that never became a job, without its closure.
struct Claimed<'j, 'c> {
    label: &'j dyn Labelled,
    end: &'j dyn End,
    context: Context,
    /// Whether the job was to be cancelled by whoever claims it.
    is_unwanted: bool,
    /// Where the activity lies, which lasts until the end is published. (If it were returned, it
    /// would be moved several times, which took a tenth of the time of an empty task.)
    activity: &'j mut Option<Activity<'c>>,
}

impl<'c> Claimed<'_, 'c> {
    /// Brings it to its end. Everything that the task made, its closure and its context are gone
    /// afterwards; after an error, its result, too.
    fn end(self, core: &'c Core, how: How<'c>, task: &mut dyn Call) -> Result<(), Cause> {
        if let How::Inline | How::CancelByHandle | How::ShutDown = how {
            // Before it runs, so that a deep recursion cannot pile them up.
            core.mark_stale(1);
        }
        let tally = match how {
            How::Refuse(why) => return self.refuse(core, why, task),
            How::CancelByHandle => return self.abandon(core, how, Cause::CancelledByHandle, task),
            How::ShutDown => return self.abandon(core, how, Cause::ShutDown, task),
            _ if self.is_unwanted || core.is_cancelled() => {
                return self.abandon(core, how, Cause::ShutDown, task);
            }
            How::Run(tally) => tally,
            _ if !current::may_nest() => return self.abandon(core, how, Cause::TooDeep, task),
            How::Inline | How::Here => {
                let tally = core.tally();
                tally.add(|c| &c.inline, 1);
                tally
            }
        };
        tally.add(|c| &c.running, 1);
        *self.activity = Some(Activity::begin(core, tally, Doing::TASK));
        // After the mark, since what it wakes may be user code.
        core.give_place_back();
        let ended = core.watched(self.label, None, || core.isolation.call(&self.context, task));
        if ended.is_err() && !task.is_over() {
            // It has a result, and fails because of what it has leaked.
            core.call_contained(&mut || task.give_up(), self.label);
        }
        if !self.context.is_empty() {
            core.drop_contained(self.context, self.label);
        }
        tally.ended(u64::from(ended.is_ok()), ended.as_ref().err());
        let ended = ended.map_err(Cause::Failed);
        if ended.is_err() {
            self.end.failing();
        }
        ended
    }

    /// Ends it for this cause, unless its handle has cancelled it: its closure and its context are
    /// dropped here and now, or leaked where even that would lie too deep.
    #[cold]
    fn abandon(
        self,
        core: &'c Core,
        how: How<'c>,
        cause: Cause,
        task: &mut dyn Call,
    ) -> Result<(), Cause> {
        let cause = if self.is_unwanted { Cause::CancelledByHandle } else { cause };
        // The drop may open a scope, which ends its tasks in turn, and so on. (Whoever else ends
        // one has looked at the depth, or has a stack of its own.)
        let leaks = matches!(how, How::Inline | How::Here) && !current::may_end();
        // The drops are user code, and so is what is told of the end.
        let tally = core.tally();
        *self.activity = Some(Activity::begin(core, tally, Doing::DROP));
        core.give_place_back();
        if leaks {
            leak(task, self.context);
        } else {
            let mut drops = dropping(task, self.context);
            not_in_carrier(|| core.call_contained(&mut drops, self.label));
        }
        tally.add(|c| &c.cancelled, 1);
        // Whoever cancels knows; for anybody else it is a failure.
        if !matches!(cause, Cause::CancelledByHandle) {
            self.end.failing();
        }
        Err(cause)
    }

    /// Ends it without counting it.
    #[cold]
    fn refuse(self, core: &Core, why: Refused, task: &mut dyn Call) -> Result<(), Cause> {
        let mut context = Some(self.context);
        let drop = || {
            let context = context.take().unwrap_or_else(Context::empty);
            let mut drops = dropping(task, context);
            not_in_carrier(|| core.call_contained(&mut drops, self.label));
        };
        if !current::drop_refused(drop) {
            if let Some(context) = context {
                leak(task, context);
            }
        }
        let cause = match why {
            Refused::Forked => Cause::Forked,
            Refused::Full | Refused::ShutDown => Cause::ShutDown,
        };
        self.end.failing();
        Err(cause)
    }
}

/// Leaks a closure that does not run, and its context.
#[cold]
fn leak(task: &mut dyn Call, context: Context) {
    if !context.is_empty() {
        frame::leak(context);
    }
    task.leak();
}

/// Makes what drops a closure that does not run, and then its context.
fn dropping(task: &mut dyn Call, context: Context) -> impl FnMut() {
    let mut context = Some(context);
    move || {
        let _after = context.take();
        task.give_up();
    }
}

impl dyn AnyJob + '_ {
    /// Runs the job on this thread if it has not been claimed, unless that would be too deep.
    pub(crate) fn run_inline(&self, core: &Core) -> Result<(), TooDeep> {
        // A closure that is dropped here may wait for the next task in its drop, and so on. So one
        // task beyond the depth is still claimed and ended; what its drop waits for is not.
        if !current::may_end() && !self.state().is_claimed() {
            return Err(TooDeep);
        }
        let _ran = not_in_carrier(|| self.claim(core, How::Inline));
        Ok(())
    }

    /// Cancels the job if it has not been claimed.
    pub(crate) fn cancel(&self, core: &Core) -> bool {
        // A closure that is dropped here may cancel the next task in its drop, and so on. One that
        // lies too deep is left to a worker, which begins anew.
        if !current::may_end() {
            return self.state().cancel_at_claim();
        }
        self.claim(core, How::CancelByHandle)
    }

    /// Lets go of the job for a handle that has not taken the result.
    pub(crate) fn detach(&self, core: &Core) {
        let (owner, waiter) = self.state().detach(|| core.is_forked());
        self.drop_waiter(core, waiter);
        if owner == Detached::Caller {
            self.discard(core);
        }
    }

    /// Returns the error of a wait that would never end.
    pub(crate) fn error(&self, cause: Cause) -> TaskError {
        TaskError::new(self.label(), cause)
    }

    /// Drops user code that came in through the handle, contained.
    pub(crate) fn drop_waiter(&self, core: &Core, waiter: Option<Arc<Waiter>>) {
        if let Some(waiter) = waiter {
            drop_waiter(core, waiter, self.labelled());
        }
    }
}

/// Brings a task to its end without making it a job.
pub(crate) fn end_here<F, R>(
    core: &Core,
    label: &Label,
    work: Work<F>,
    how: How<'_>,
) -> Result<R, TaskError>
where
    F: FnOnce() -> R,
{
    let (closure, context) = work;
    let mut task = Once::Closure(closure);
    let mut activity = None;
    let claimed = Claimed { label, end: &(), context, is_unwanted: false, activity: &mut activity };
    let ended = not_in_carrier(|| claimed.end(core, how, &mut task));
    match ended {
        Ok(()) => Ok(task.into_result()),
        Err(cause) => Err(TaskError::new(label.clone(), cause)),
    }
}

/// Tells whoever waits that the job is done.
fn wake(core: &Core, waiter: Arc<Waiter>, label: &dyn Labelled) {
    tell(&waiter, core, label);
    drop_waiter(core, waiter, label);
}

fn drop_waiter(core: &Core, waiter: Arc<Waiter>, label: &dyn Labelled) {
    // It may hold a waker, which is user code.
    if !matches!(*waiter, Waiter::Thread(_)) {
        core.drop_contained(waiter, label);
    }
}

/// Tells a waiter and those behind it.
fn tell(waiter: &Waiter, core: &Core, label: &dyn Labelled) {
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

impl<F, R, E> Labelled for Job<F, R, E>
where
    F: Send,
    R: Send,
    E: Send + Sync,
{
    fn label(&self) -> Label {
        let which = Which::Task(self.cell.state.number());
        Label { name: self.name.clone(), at: self.at, which }
    }
}

impl<F, R, E> Stale for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn is_stale(&self) -> bool {
        self.cell.state.is_claimed()
    }
}

impl<F, R, E> Entry for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn run(self: Arc<Self>, core: &Core, how: How<'_>) -> bool {
        self.claim(core, how)
    }
}

impl<F, R, E> AnyJob for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn state(&self) -> &State {
        &self.cell.state
    }

    fn labelled(&self) -> &dyn Labelled {
        self
    }

    fn claim(&self, core: &Core, how: How<'_>) -> bool {
        let Some(((closure, context), promise)) = self.cell.claim() else { return false };
        let is_unwanted = promise.is_unwanted;
        // What has the task's types is gone before `over`, and so is the activity. (By a block,
        // since `drop(activity)` would move it first.)
        {
            let mut task = Once::Closure(closure);
            let mut activity = None;
            let claimed = Claimed {
                label: self,
                end: &self.end,
                context,
                is_unwanted,
                activity: &mut activity,
            };
            let is_forked = || core.is_forked();
            let completion = match claimed.end(core, how, &mut task) {
                Ok(()) => promise.complete(Ok(task.into_result()), false, is_forked),
                Err(cause) => {
                    let is_cancelled = matches!(cause, Cause::CancelledByHandle | Cause::ShutDown);
                    promise.complete(Err(cause), is_cancelled, is_forked)
                }
            };
            match completion {
                Completion::Attached(None) => {}
                Completion::Attached(Some(waiter)) => wake(core, waiter, self),
                Completion::Detached => self.discard(core),
            }
        }
        self.end.over();
        true
    }

    fn discard(&self, core: &Core) {
        match self.cell.take() {
            None => {}
            Some(Ok(result)) => core.drop_contained(result, self),
            Some(Err(cause)) => {
                let label = self.label();
                self.end.unheard(&label, &cause, core);
                core.report(label, cause);
            }
        }
    }
}

impl<F, R, E> Joinable<R> for Job<F, R, E>
where
    F: FnOnce() -> R + Send,
    R: Send,
    E: End,
{
    fn any(&self) -> &dyn AnyJob {
        self
    }

    fn take(&self) -> Result<R, TaskError> {
        match self.cell.take() {
            Some(Ok(result)) => Ok(result),
            Some(Err(cause)) => Err(seen(self, &self.end, cause)),
            None => unreachable!("the result of a job is taken once, by its handle"),
        }
    }
}

/// Returns what a handle is told of a job that has failed.
#[cold]
fn seen(label: &dyn Labelled, end: &dyn End, cause: Cause) -> TaskError {
    if !matches!(cause, Cause::CancelledByHandle) {
        end.failure_seen();
    }
    TaskError::new(label.label(), cause)
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

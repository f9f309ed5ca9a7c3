//! One whole task: carriers, frame, closure, reset.
//!
//! The order, from the outside in: a frame is opened for the carriers, which attach in order; the
//! task runs, in that frame if they have left nothing in it, else in one of its own; it ends while
//! the carriers are still attached, since a value's `Drop` may log; the carriers detach in reverse;
//! their frame closes, which resets what they touched. A task without carriers has the one frame.
//!
//! All of that handles a task without its types, so it is compiled once, and not for every closure
//! that an application submits.

use super::Context;
use crate::foreign::{AttachedCarriers, CarrierError, Carriers, attach_nothing_around};
use crate::frame::{self, CleanupError, Failure, Frame, thread};
use crate::panic::{Payload, catch};

const CALLED: &str = "the body is called unless a carrier is refused";

/// A closure, and then its result.
pub(crate) trait Call {
    /// Calls the closure, the first time, and keeps its result.
    fn call(&mut self);
    /// Returns whether neither is left: the closure has panicked, or was given up.
    fn is_over(&self) -> bool;
    /// Drops what there is: the closure if it was not called, or the result.
    fn give_up(&mut self);
    /// Leaks it, and counts that.
    fn leak(&mut self);
}

/// See [`Call`].
pub(crate) enum Once<F, R> {
    Closure(F),
    Result(R),
    Neither,
}

impl<F: FnOnce() -> R, R> Once<F, R> {
    /// Returns the result of a closure that was called and has returned.
    #[inline]
    pub(crate) fn into_result(self) -> R {
        match self {
            Self::Result(result) => result,
            _ => unreachable!("a task that has not failed has a result"),
        }
    }
}

impl<F: FnOnce() -> R, R> Call for Once<F, R> {
    #[inline]
    fn call(&mut self) {
        if let Self::Closure(f) = std::mem::replace(self, Self::Neither) {
            *self = Self::Result(f());
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Neither)
    }

    fn give_up(&mut self) {
        drop(std::mem::replace(self, Self::Neither));
    }

    #[cold]
    fn leak(&mut self) {
        frame::leak(std::mem::replace(self, Self::Neither));
    }
}

/// Runs one task, which keeps its result. Never unwinds.
///
/// If the clean-up fails, the result is dropped here, in a frame of its own.
pub(crate) fn call(context: &Context, task: &mut dyn Call) -> Result<(), Failure> {
    if context.has_carriers() {
        return call_attached(context, task);
    }
    match catch(|| frame::run(context.inherits(), || task.call())) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::Cleanup(frame::give_up(|| task.give_up(), error))),
        Err(payload) => Err(Failure::Panic(payload)),
    }
}

/// Does the same for a task with carriers, which have to be detached whatever happens.
pub(crate) fn call_attached(context: &Context, task: &mut dyn Call) -> Result<(), Failure> {
    let mut ran = None;
    let attached = attached(context, |frame| {
        let run = || frame.run_inside(context.inherits(), || task.call());
        let ended = catch(run);
        ran = Some(ended.map(|it| it.map_err(|error| frame::give_up(|| task.give_up(), error))));
    });
    let detached = match attached {
        Ok(detached) => detached.map(|error| frame::give_up(|| task.give_up(), error)),
        Err(refused) => {
            // What the closure owns may use slots. The caller is told of the refusal only.
            let _second = frame::contained(|| task.give_up());
            return Err(Failure::Carrier(refused));
        }
    };
    outcome(ran, detached)
}

/// Runs several tasks, one after the other, with the carriers attached. `tasks` returns how their
/// clean-up went, and goes on to another one only after [`ready_for_next`]. Never unwinds.
pub(crate) fn run_several(
    context: &Context,
    tasks: &mut dyn FnMut(AttachedCarriers<'_>) -> Result<(), CleanupError>,
) -> Result<(), Failure> {
    let mut ran = None;
    let frame = Frame::enter(context.inherits());
    let failed = Carriers::around_tasks(context.carriers.as_ref(), |carriers| {
        ran = Some(catch(|| tasks(carriers)));
    });
    outcome(ran, close(frame, failed).map_err(Failure::Carrier)?)
}

/// Returns how tasks went whose carriers are detached, and how the detaching went.
fn outcome(
    ran: Option<Result<Result<(), CleanupError>, Payload>>,
    detached: Option<CleanupError>,
) -> Result<(), Failure> {
    let mut error = match ran {
        Some(Ok(ended)) => ended.err(),
        // The task's own panic wins.
        Some(Err(payload)) => return Err(Failure::Panic(payload)),
        None => unreachable!("{CALLED}"),
    };
    CleanupError::add(&mut error, detached);
    error.map_or(Ok(()), |error| Err(Failure::Cleanup(error)))
}

/// Makes the thread ready for another task with the same carriers, or returns `false`. It does so
/// in a frame of its own, so that no task sees what carriers touch.
#[inline]
pub(crate) fn ready_for_next(
    context: &Context,
    carriers: AttachedCarriers<'_>,
) -> Result<bool, CleanupError> {
    frame::run(context.inherits(), || carriers.reattach())
}

/// Makes something that outlives the current task, as if for nobody: in an empty context, where
/// installed carriers and those that are attached here attach what they call nothing.
pub(crate) fn make_for_nobody<T>(init: impl FnOnce() -> T) -> Result<T, Failure> {
    let mut init = Some(init);
    let mut made = None;
    let attached = frame::run(None, || {
        attach_nothing_around(&mut || {
            made = init.take().map(|init| catch(|| frame::run(None, init)));
        })
    });
    let failure = match attached {
        Ok(None) => None,
        Ok(Some(refused)) => Some(Failure::Carrier(refused)),
        Err(error) => Some(Failure::Cleanup(error)),
    };
    match (made, failure) {
        (Some(Ok(Ok(value))), None) => Ok(value),
        (Some(Err(payload)), _) => Err(Failure::Panic(payload)),
        (Some(Ok(Err(error))), _) => Err(Failure::Cleanup(error)),
        (made, Some(Failure::Cleanup(error))) => {
            Err(Failure::Cleanup(frame::give_up(|| drop(made), error)))
        }
        (made, Some(failure)) => {
            frame::discard(made);
            Err(failure)
        }
        (None, None) => unreachable!("{CALLED}"),
    }
}

/// Attaches the context's carriers around `body`, which must not unwind, and notes on the thread if
/// one stayed attached. Returns an error if `body` was not called.
///
/// The carriers have a frame of their own: what they touch concerns neither the task that they are
/// attached for nor the one around it.
#[inline]
pub(crate) fn attached(
    context: &Context,
    mut body: impl FnMut(&mut Frame<'_>),
) -> Result<Option<CleanupError>, CarrierError> {
    let mut frame = Frame::enter(context.inherits());
    let failed = Carriers::around(context.carriers.as_ref(), || body(&mut frame));
    close(frame, failed)
}

/// Closes the carriers' frame, once they are detached.
fn close(
    frame: Frame<'_>,
    failed: Option<CarrierError>,
) -> Result<Option<CleanupError>, CarrierError> {
    let closed = frame.end().err();
    match failed {
        None => Ok(closed),
        Some(failed) => not_attached(failed, closed),
    }
}

/// Returns what to report if a carrier failed. `Err` means that it failed to attach, so that the
/// task was not called.
#[cold]
fn not_attached(
    failed: CarrierError,
    closed: Option<CleanupError>,
) -> Result<Option<CleanupError>, CarrierError> {
    if failed.is_detach() {
        if let Some(tell) = thread::current().on_stuck.get() {
            tell();
        }
    }
    if failed.is_attach() {
        // What the carriers left in slots while they failed is gone; the carrier is the cause.
        return Err(failed);
    }
    let mut error = Some(CleanupError::detach(failed));
    CleanupError::add(&mut error, closed);
    Ok(error)
}

//! One whole task: carriers, frame, closure, reset.
//!
//! The order, from the outside in: a frame is opened for the carriers, which attach in order; the
//! task runs, in that frame if they have left nothing in it, else in one of its own; it ends while
//! the carriers are still attached, since a value's `Drop` may log; the carriers detach in reverse;
//! their frame closes, which resets what they touched. A task without carriers has the one frame.

use super::Context;
use crate::foreign::{AttachedCarriers, CarrierError, Carriers, attach_nothing_around, reattach};
use crate::frame::{self, CleanupError, Failure, Frame, thread};
use crate::panic::catch;

/// Runs one task. Never unwinds.
///
/// If the clean-up fails, the result is dropped here, in a frame of its own.
pub(crate) fn run<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    if context.carriers.is_some() {
        return run_attached(context, f);
    }
    match catch(|| frame::run(context.snapshot.as_ref(), f)) {
        Ok(ended) => ended.map_err(Failure::Cleanup),
        Err(payload) => Err(Failure::Panic(payload)),
    }
}

/// Runs a task with carriers, which have to be detached whatever happens.
#[inline(never)]
pub(crate) fn run_attached<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    let mut ended = None;
    let attached = attached(context, |frame| {
        ended = Some(catch(|| frame.run_inside(context.inherits(), f)));
    });
    let detached = match attached {
        Ok(error) => error,
        Err(refused) => return Err(Failure::Carrier(refused)),
    };
    let ended = match ended {
        Some(ended) => ended,
        None => unreachable!("it is called unless a carrier is refused"),
    };
    match ended {
        Ok(Ok(result)) => match detached {
            None => Ok(result),
            Some(error) => Err(Failure::Cleanup(frame::give_up(result, error))),
        },
        Ok(Err(error)) => Err(Failure::Cleanup(match detached {
            None => error,
            Some(later) => error.merge(later),
        })),
        // The task's own panic wins.
        Err(payload) => Err(Failure::Panic(payload)),
    }
}

/// Runs several tasks, one after the other, with the carriers attached; `tasks` says how their
/// clean-up went, and goes on to another one only after [`ready_for_next`]. Never unwinds.
pub(crate) fn run_several(
    context: &Context,
    tasks: &mut dyn FnMut(AttachedCarriers<'_>) -> Result<(), CleanupError>,
) -> Result<(), Failure> {
    let mut ran = Ok(Ok(()));
    let body = |carriers: AttachedCarriers<'_>| ran = catch(|| tasks(carriers));
    let attached = in_carriers_frame(context, body, |body, _| {
        Carriers::around_tasks(context.carriers.as_ref(), |carriers| {
            if let Some(mut body) = body.take() {
                body(carriers);
            }
        })
    });
    match (ran, attached) {
        (_, Err(refused)) => Err(Failure::Carrier(refused)),
        // The task's own panic wins.
        (Err(payload), Ok(_)) => Err(Failure::Panic(payload)),
        (Ok(ended), Ok(detached)) => {
            let mut error = None;
            CleanupError::add(&mut error, ended.err());
            CleanupError::add(&mut error, detached);
            error.map_or(Ok(()), |error| Err(Failure::Cleanup(error)))
        }
    }
}

/// Makes the thread ready for another task with the same carriers, or returns `false`. In a frame
/// of its own: what carriers touch is seen by no task.
#[inline]
pub(crate) fn ready_for_next(
    context: &Context,
    carriers: AttachedCarriers<'_>,
) -> Result<bool, CleanupError> {
    frame::run(context.inherits(), || reattach(carriers))
}

/// Makes something that outlives the current task, as if for nobody: in an empty context, with each
/// carrier that is attached here saying what nothing is.
pub(crate) fn make_for_nobody<T>(init: impl FnOnce() -> T) -> Result<T, Failure> {
    let mut init = Some(init);
    let mut made = None;
    let attached = catch(|| {
        frame::run(None, || {
            attach_nothing_around(&mut || {
                made = init.take().map(|init| catch(|| frame::run(None, init)));
            })
        })
    });
    let failure = match attached {
        Ok(Ok(None)) => None,
        Ok(Ok(Some(refused))) => Some(Failure::Carrier(refused)),
        Ok(Err(error)) => Some(Failure::Cleanup(error)),
        Err(payload) => Some(Failure::Panic(payload)),
    };
    match (made, failure) {
        (Some(Ok(Ok(value))), None) => Ok(value),
        (Some(Err(payload)), _) => Err(Failure::Panic(payload)),
        (Some(Ok(Err(error))), _) => Err(Failure::Cleanup(error)),
        (made, Some(failure)) => {
            let _second = frame::contained(|| drop(made));
            Err(failure)
        }
        (None, None) => unreachable!("it is called unless a carrier is refused"),
    }
}

/// Attaches the context's carriers around `f`, which must not unwind, and notes on the thread if
/// one stayed attached. `Err`: `f` was not called.
#[inline]
pub(crate) fn attached(
    context: &Context,
    f: impl FnOnce(&mut Frame<'_>),
) -> Result<Option<CleanupError>, CarrierError> {
    in_carriers_frame(context, f, |f, frame| {
        Carriers::around(context.carriers.as_ref(), move || {
            if let Some(f) = f.take() {
                f(frame);
            }
        })
    })
}

/// Calls `around`, which attaches carriers and takes the body to call it.
///
/// In a frame of their own: what carriers touch concerns neither the task that they are attached
/// for nor the one around it.
#[inline]
fn in_carriers_frame<F>(
    context: &Context,
    body: F,
    around: impl FnOnce(&mut Option<F>, &mut Frame<'_>) -> Option<CarrierError>,
) -> Result<Option<CleanupError>, CarrierError> {
    let mut frame = Frame::enter(context.inherits());
    let mut body = Some(body);
    let failed = around(&mut body, &mut frame);
    let has_run = body.is_none();
    if !has_run {
        // What it owns may use slots, so it is dropped in the frame. The carrier's error is what
        // the caller hears of.
        let _discarded = catch(|| drop(body));
    }
    let closed = frame.end().err();
    match failed {
        None => Ok(closed),
        Some(failed) => not_attached(has_run, failed, closed),
    }
}

/// Returns what to say if a carrier failed.
#[cold]
fn not_attached(
    has_run: bool,
    failed: CarrierError,
    closed: Option<CleanupError>,
) -> Result<Option<CleanupError>, CarrierError> {
    if has_run || failed.is_detach() {
        if let Some(tell) = thread::current().on_stuck.get() {
            tell();
        }
    }
    if has_run {
        let mut error = Some(CleanupError::detach(failed));
        CleanupError::add(&mut error, closed);
        return Ok(error);
    }
    // What the carriers left in slots while they failed is gone; the carrier is the cause.
    Err(failed)
}

//! One whole task: frame, carriers, the closure, the reset.
//!
//! The order, from the outside in: a frame is opened for the carriers, which attach in order; a frame
//! is opened for the task, and the closure runs; the task's frame is closed while the carriers are
//! still attached, since a value's `Drop` may log; the carriers detach in reverse; their frame closes,
//! which resets what they touched. A task without carriers has the inner frame only.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure::{CleanupError, Failure, discard};
use super::stack::{Frame, Open};
use super::thread;
use crate::context::Context;
use crate::foreign::{Attachment, CarrierError};

/// Runs one task. Never unwinds.
///
/// If the clean-up fails, the result is dropped here, in a frame of its own.
pub(crate) fn run<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    if context.has_carriers() {
        return run_attached(context, f);
    }
    match catch_unwind(AssertUnwindSafe(|| run_open(context, f))) {
        Ok(ended) => ended.map_err(Failure::Cleanup),
        Err(payload) => Err(Failure::Panic(payload)),
    }
}

/// Runs one task without carriers, and lets its panic go on after the reset.
///
/// If the clean-up fails, the result is dropped here, in a frame of its own.
#[inline]
pub(crate) fn run_open<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, CleanupError> {
    let frame = Open::enter(context);
    let unwinding = Unwinding(&frame);
    let result = f();
    let _returned = ManuallyDrop::new(unwinding);
    match frame.close() {
        None => Ok(result),
        Some(error) => Err(give_up(result, error)),
    }
}

/// Closes the frame of a task that panics.
struct Unwinding<'f, 'c>(&'f Open<'c>);

impl Drop for Unwinding<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        if let Some(error) = self.0.close() {
            // The task's own panic is on its way.
            discard(error.into_payload());
        }
    }
}

/// The same with carriers, which have to be detached whatever happens.
#[cold]
fn run_attached<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    let attachment = attached(context, || {
        catch_unwind(AssertUnwindSafe(|| {
            let frame = Frame::enter(context);
            let result = f();
            (result, frame.end())
        }))
    });
    let (outcome, fault) = attachment.map_err(Failure::Carrier)?;
    let (result, ended) = outcome.map_err(Failure::Panic)?;
    let mut total = ended.err();
    if let Some(fault) = fault {
        CleanupError::add(&mut total, fault);
    }
    match total {
        None => Ok(result),
        Some(error) => Err(Failure::Cleanup(give_up(result, error))),
    }
}

/// Attaches the context's carriers around `f`, which must not unwind, and notes on the thread if one
/// stayed attached. `Err`: `f` was not called.
///
/// In a frame of their own: what carriers touch concerns neither the task that they are attached
/// for nor the one around it.
pub(crate) fn attached<R>(
    context: &Context,
    f: impl FnOnce() -> R,
) -> Result<(R, Option<CleanupError>), CarrierError> {
    let frame = Frame::enter(context);
    let attachment = context.attach_around(f);
    let closed = frame.end().err();
    let tainted = match &attachment {
        Attachment::Refused(error) => error.is_detach(),
        Attachment::Ran(_, fault) => fault.is_some(),
    };
    if tainted {
        thread::with(|thread| thread.tainted.set(true));
    }
    match attachment {
        Attachment::Refused(error) => {
            // What the carriers left in slots while they failed is gone; the carrier is the cause.
            if let Some(error) = closed {
                discard(error.into_payload());
            }
            Err(error)
        }
        Attachment::Ran(outcome, detach) => {
            let mut fault = detach.map(CleanupError::detach);
            if let Some(error) = closed {
                CleanupError::add(&mut fault, error);
            }
            Ok((outcome, fault))
        }
    }
}

/// Whether a carrier could not be detached on this thread since the last time of asking.
pub(crate) fn take_taint() -> bool {
    thread::with(thread::Thread::take_taint)
}

/// Drops the result of a task whose clean-up failed.
#[cold]
fn give_up<R>(result: R, error: CleanupError) -> CleanupError {
    match contained(|| drop(result)) {
        Ok(()) => error,
        Err(later) => error.merge(CleanupError::from_failure(later)),
    }
}

/// Runs code that only cleans up (drops a capture, a result, an input) in a frame of its own.
///
/// Never unwinds. It inherits nothing.
pub(crate) fn contained(f: impl FnOnce()) -> Result<(), Failure> {
    run(&Context::empty(), f)
}

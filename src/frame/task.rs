//! One whole task: frame, carriers, the closure, the reset.
//!
//! The order, from the outside in: a frame is opened; carriers attach in order; the closure runs;
//! the slots are reset, while the carriers are still attached, since a value's `Drop` may log; the
//! carriers detach in reverse; the frame closes, which resets what the carriers touched.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure::{CleanupError, Failure, discard};
use super::stack::Frame;
use super::thread;
use crate::context::Context;
use crate::foreign::Attachment;

/// Runs one task. Never unwinds.
///
/// If the clean-up fails, the result is dropped here, in a frame of its own.
pub(crate) fn run<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    if context.has_carriers() {
        return run_attached(context, f);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let frame = Frame::enter(context);
        let result = f();
        match frame.end() {
            Ok(()) => Ok(result),
            Err(error) => Err(Failure::Cleanup(give_up(result, error))),
        }
    }));
    outcome.unwrap_or_else(|payload| Err(Failure::Panic(payload)))
}

/// The same with carriers, which have to be detached whatever happens.
#[cold]
fn run_attached<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    let mut frame = Frame::enter(context);
    let attachment = attached(context, || {
        catch_unwind(AssertUnwindSafe(|| {
            let mut task = TaskIn { frame: &mut frame, ended: false };
            let result = f();
            (result, task.end())
        }))
    });
    let closed = frame.end().err();
    let (outcome, mut fault) = match attachment {
        Attachment::Refused(error) => {
            // What the carriers left in slots while they failed is gone; the carrier is the cause.
            if let Some(error) = closed {
                discard(error.into_payload());
            }
            return Err(Failure::Carrier(error));
        }
        Attachment::Ran(outcome, detach) => (outcome, detach.map(CleanupError::detach)),
    };
    if let Some(error) = closed {
        CleanupError::add(&mut fault, error);
    }
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

/// Attaches the context's carriers around `f`, and notes on the thread if one stayed attached.
pub(crate) fn attached<R>(context: &Context, f: impl FnOnce() -> R) -> Attachment<R> {
    let attachment = context.attach_around(f);
    let tainted = match &attachment {
        Attachment::Refused(error) => error.is_detach(),
        Attachment::Ran(_, fault) => fault.is_some(),
    };
    if tainted {
        thread::with(|thread| thread.tainted.set(true));
    }
    attachment
}

/// Whether a carrier could not be detached on this thread since the last time of asking.
pub(crate) fn take_taint() -> bool {
    thread::with(thread::Thread::take_taint)
}

/// A task inside a frame that stays open: ends it also when the closure unwinds.
struct TaskIn<'f, 'c> {
    frame: &'f mut Frame<'c>,
    ended: bool,
}

impl TaskIn<'_, '_> {
    fn end(&mut self) -> Result<(), CleanupError> {
        self.ended = true;
        self.frame.next_task()
    }
}

impl Drop for TaskIn<'_, '_> {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.frame.next_task()
        {
            discard(error.into_payload());
        }
    }
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

//! One whole task: frame, carriers, the closure, the reset.
//!
//! The order, from the outside in: a frame is opened for the carriers, which attach in order; the closure
//! runs, in that frame if they have touched no slot, else in one on top; the task ends while the carriers
//! are still attached, since a value's `Drop` may log; the carriers detach in reverse; their frame
//! closes, which resets what they touched. A task without carriers has the one frame.

use std::mem::ManuallyDrop;

use super::failure::{CleanupError, Failure};
use super::stack::Open;
use super::thread;
use crate::context::Context;
use crate::foreign::CarrierError;
use crate::panic::catch;

/// Runs one task. Never unwinds.
///
/// If the clean-up fails, the result is dropped here, in a frame of its own.
pub(crate) fn run<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    if context.has_carriers() {
        return run_attached(context, f);
    }
    match catch(|| run_open(context, f)) {
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
    let unwinding = CloseOnUnwind(&frame);
    let result = f();
    let _returned = ManuallyDrop::new(unwinding);
    match frame.close() {
        None => Ok(result),
        Some(error) => Err(give_up(result, error)),
    }
}

/// Closes the frame of a task that panics.
struct CloseOnUnwind<'f, 'c>(&'f Open<'c>);

impl Drop for CloseOnUnwind<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        if let Some(error) = self.0.close() {
            // The task's own panic is on its way.
            drop(error);
        }
    }
}

/// The same with carriers, which have to be detached whatever happens.
#[inline(never)]
pub(crate) fn run_attached<R>(context: &Context, f: impl FnOnce() -> R) -> Result<R, Failure> {
    // Results of different types in places of their own: moved as parts of a bigger one, a word is read
    // by a load wider than the store that has just left it, which has to wait for the cache.
    let mut result = None;
    let mut ended = Ok(None);
    let attached = attached_in(context, |carriers| {
        let task = || result = Some(f());
        ended = catch(|| run_inside(carriers, context, task));
    });
    match (result, ended, attached) {
        (Some(result), Ok(None), Ok(None)) => Ok(result),
        (result, ended, attached) => Err(failure_of(result, ended, attached)),
    }
}

/// What a task has come to that did not go well in every respect.
#[cold]
fn failure_of<R>(
    result: Option<R>,
    ended: Result<Option<CleanupError>, crate::panic::Payload>,
    attached: Result<Option<CleanupError>, CarrierError>,
) -> Failure {
    let detached = match attached {
        Ok(error) => error,
        Err(refused) => return Failure::Carrier(refused),
    };
    let mut total = match ended {
        Ok(error) => error,
        Err(payload) => {
            // The task's own panic wins.
            if let Some(error) = detached {
                drop(error);
            }
            return Failure::Panic(payload);
        }
    };
    if let Some(error) = detached {
        CleanupError::add(&mut total, error);
    }
    let error = total.expect("something went wrong, and the carriers and the task did not");
    Failure::Cleanup(give_up(result, error))
}

/// Runs a task inside the carriers' frame: in that very frame if they have left it as it was opened, else
/// in one on top of what they touched.
#[inline]
fn run_inside(carriers: &Open<'_>, context: &Context, f: impl FnOnce()) -> Option<CleanupError> {
    if !carriers.is_clean() {
        return run_on_top(context, f);
    }
    let clean = thread::current().flags.get();
    let unwinding = EndOnUnwind { carriers, clean };
    f();
    let _returned = ManuallyDrop::new(unwinding);
    carriers.next_task(clean)
}

#[cold]
#[inline(never)]
fn run_on_top(context: &Context, f: impl FnOnce()) -> Option<CleanupError> {
    run_open(context, f).err()
}

/// Ends a task that panics in the carriers' frame.
struct EndOnUnwind<'f, 'c> {
    carriers: &'f Open<'c>,
    /// The flags of a task that has touched nothing.
    clean: u32,
}

impl Drop for EndOnUnwind<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        if let Some(error) = self.carriers.next_task(self.clean) {
            // The task's own panic is on its way.
            drop(error);
        }
    }
}

/// Attaches the context's carriers around `f`, which must not unwind, and notes on the thread if one
/// stayed attached. `Err`: `f` was not called.
///
/// In a frame of their own: what carriers touch concerns neither the task that they are attached for nor
/// the one around it.
pub(crate) fn attached(
    context: &Context,
    f: impl FnOnce(),
) -> Result<Option<CleanupError>, CarrierError> {
    attached_in(context, |_| f())
}

/// The same for an `f` that makes use of the carriers' frame.
#[inline]
fn attached_in(
    context: &Context,
    f: impl FnOnce(&Open<'_>),
) -> Result<Option<CleanupError>, CarrierError> {
    let frame = Open::enter(context);
    let unwinding = CloseOnUnwind(&frame);
    let mut f = Some(f);
    let mut body = || {
        if let Some(f) = f.take() {
            f(&frame);
        }
    };
    let failed = context.attach_around(&mut body);
    let _returned = ManuallyDrop::new(unwinding);
    let has_run = f.is_none();
    if let Some(refused) = f {
        drop_refused(refused);
    }
    let closed = frame.close();
    if failed.is_none() && has_run {
        return Ok(closed);
    }
    not_attached(has_run, failed, closed)
}

/// Drops a closure that was not called, in the carriers' frame: what it owns may use slots.
#[cold]
fn drop_refused<F>(refused: F) {
    if let Err(payload) = catch(|| drop(refused)) {
        // The carrier's error is what the caller hears of.
        drop(payload);
    }
}

/// What to say if a carrier failed.
#[cold]
fn not_attached(
    has_run: bool,
    failed: Option<CarrierError>,
    closed: Option<CleanupError>,
) -> Result<Option<CleanupError>, CarrierError> {
    let failed = failed.expect("the innermost carrier calls the body, or one has failed");
    if has_run || failed.is_detach() {
        thread::with(|thread| thread.tainted.set(true));
    }
    if has_run {
        let detach = CleanupError::detach(failed);
        return Ok(Some(match closed {
            None => detach,
            Some(closed) => detach.merge(closed),
        }));
    }
    // What the carriers left in slots while they failed is gone; the carrier is the cause.
    if let Some(error) = closed {
        drop(error);
    }
    Err(failed)
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

//! Tasks that are calls, and how their failures leave through rayon.

use std::panic::{panic_any, resume_unwind};

use crate::context::{Context, RunError};
use crate::frame::{self, CleanupError, Failure, Frame};

/// Runs a closure as a task with the context's carriers, and panics as rayon's closures do.
///
/// A failed clean-up resumes with its payload; carriers that fail panic with a [`RunError`].
pub(super) fn run<R>(context: &Context, f: impl FnOnce() -> R) -> R {
    match frame::run(context, f) {
        Ok(result) => result,
        Err(Failure::Panic(payload)) => payload.resume(),
        Err(Failure::Cleanup(error)) => resume_unwind(error.into_payload()),
        Err(Failure::Carrier(error)) => panic_any(RunError::carrier(error)),
    }
}

/// Runs a piece of an isolated drive (a split, a reduction) as a task. It has no carriers.
#[inline]
pub(super) fn piece<R>(context: &Context, f: impl FnOnce() -> R) -> R {
    let task = Frame::enter(context);
    let result = f();
    raise(task.end());
    result
}

/// Runs a drive. Its closures are to run in items' frames above; one that does not is reported in
/// debug builds.
#[inline]
pub(super) fn drive<R>(context: &Context, f: impl FnOnce() -> R) -> R {
    let watch = Frame::watch(context);
    let result = f();
    raise(watch.end());
    result
}

/// Resumes what went wrong in a clean-up as the panic of the item.
#[inline]
pub(super) fn raise(ended: Result<(), CleanupError>) {
    if let Err(error) = ended {
        fail(error);
    }
}

#[cold]
#[inline(never)]
fn fail(error: CleanupError) -> ! {
    resume_unwind(error.into_payload())
}

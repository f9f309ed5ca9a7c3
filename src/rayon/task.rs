//! A task on rayon: one call of one closure.

use std::fmt;
use std::ops::Deref;
use std::panic::resume_unwind;

use super::outcome::Outcome;
use crate::context::{self, Call, Context, Once, RunError};
use crate::foreign::not_in_carrier;
use crate::frame::{self, CleanupError, Failure, Frame, discard};
use crate::panic::catch;

/// The context of a chain's closures. The chain drops it, not the user, so a panic of that drop is
/// contained.
#[derive(Clone)]
pub(super) struct ChainContext(pub(super) Context);

impl Deref for ChainContext {
    type Target = Context;

    #[inline]
    fn deref(&self) -> &Context {
        &self.0
    }
}

impl Drop for ChainContext {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            discard(std::mem::replace(&mut self.0, Context::empty()));
        }
    }
}

impl fmt::Debug for ChainContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Runs a closure as a task with the context's carriers, and panics as rayon's closures do.
///
/// A failed clean-up resumes with its payload; carriers that fail panic with a [`RunError`].
#[inline]
pub(super) fn run<R>(context: &Context, f: impl FnOnce() -> R) -> R {
    if context.has_carriers() { run_attached(context, f) } else { run_plain(context, f) }
}

/// Runs a closure as a task like [`run`], and catches its panic. It does not count as a carrier's
/// code, even if it was stolen and a carrier's code waits below it.
pub(super) fn attempt<R>(context: &Context, f: impl FnOnce() -> R) -> Outcome<R> {
    not_in_carrier(|| catch(|| run(context, f)))
}

#[inline]
fn run_plain<R>(context: &Context, f: impl FnOnce() -> R) -> R {
    // A panic passes through: the frame resets the slots behind it.
    match frame::run(context.inherits(), f) {
        Ok(result) => result,
        Err(error) => fail(error),
    }
}

#[cold]
#[inline(never)]
fn run_attached<R>(context: &Context, f: impl FnOnce() -> R) -> R {
    let mut task = Once::Closure(f);
    call_attached(context, &mut task);
    task.into_result()
}

fn call_attached(context: &Context, task: &mut dyn Call) {
    context::call_attached(context, task).unwrap_or_else(|failure| raise(failure));
}

/// Makes one task of each item: of its pull and the call of `f` with it. `then` puts the results
/// into `all`, outside of the tasks. Panics as [`run`] does.
// What changes from item to item is here by value, and nothing below borrows it: if borrowed, it
// would lie in memory.
#[inline]
pub(super) fn each<T, R, A>(
    context: &Context,
    mut items: impl Iterator<Item = T>,
    f: impl Fn(T) -> R,
    mut all: A,
    then: impl Fn(&mut A, R),
) -> A {
    if context.has_carriers() {
        return all_attached(context, items, f, all, then);
    }
    let mut frame = Frame::enter(context.inherits());
    // Not `for`, which would drop the iterator in the frame.
    while let Some(result) = items.next().map(&f) {
        if !frame.is_clean() {
            if let Err(error) = frame.next_task() {
                discard(result);
                fail(error);
            }
        }
        then(&mut all, result);
    }
    frame.end().unwrap_or_else(|error| fail(error));
    all
}

#[cold]
#[inline(never)]
fn all_attached<T, R, A>(
    context: &Context,
    mut items: impl Iterator<Item = T>,
    f: impl Fn(T) -> R,
    mut all: A,
    then: impl Fn(&mut A, R),
) -> A {
    while each_attached(context, &mut items, &f, &mut |result| then(&mut all, result)) {}
    all
}

/// Makes tasks of items as [`each`] does, with the carriers attached, until one has left something
/// that they have to take away. Returns `false` if that was all.
fn each_attached<T, R>(
    context: &Context,
    items: &mut impl Iterator<Item = T>,
    f: &impl Fn(T) -> R,
    then: &mut impl FnMut(R),
) -> bool {
    let mut is_over = false;
    let ran = context::run_several(context, &mut |carriers| {
        let mut frame = Frame::enter(context.inherits());
        loop {
            let Some(result) = items.next().map(f) else {
                is_over = true;
                break;
            };
            if let Err(error) = frame.next_task() {
                discard(result);
                return Err(error);
            }
            then(result);
            if !context::ready_for_next(context, carriers)? {
                break;
            }
        }
        frame.end()
    });
    match ran {
        Ok(()) => !is_over,
        Err(failure) => raise(failure),
    }
}

/// Panics as [`run`] does.
#[cold]
fn raise(failure: Failure) -> ! {
    match failure {
        Failure::Panic(payload) => payload.resume(),
        Failure::Cleanup(error) => fail(error),
        Failure::Carrier(error) => RunError::carrier(error).raise(None),
    }
}

/// Panics like the drop that made a clean-up fail.
#[cold]
#[inline(never)]
fn fail(error: CleanupError) -> ! {
    match error.try_into_panic() {
        Ok(payload) => resume_unwind(payload),
        // Nothing has panicked yet, so nothing has been reported yet.
        Err(error) => panic!("{error}"),
    }
}

/// Declares functions that make a task of every call of a closure, one for each shape of closure
/// that rayon's adaptors take.
macro_rules! shapes {
    ($($(#[$attr:meta])* $name:ident<$($generic:ident),*>($($arg:ident: $type:ty),*);)+) => {$(
        $(#[$attr])*
        pub(super) fn $name<$($generic,)* R>(
            context: ChainContext,
            f: impl Fn($($type),*) -> R + Sync + Send,
        ) -> impl Fn($($type),*) -> R + Sync + Send {
            // Asked once, not at every call, where it took one of four nanoseconds.
            let has_carriers = context.has_carriers();
            move |$($arg: $type),*| {
                let call = || f($($arg),*);
                if has_carriers {
                    run_attached(&context, call)
                } else {
                    run_plain(&context, call)
                }
            }
        }
    )+};
}

shapes! {
    /// An identity, or what `map_init` starts from.
    supplier<>();
    /// A step for one item.
    step<A>(item: A);
    /// A look at one item.
    look<A>(item: &A);
    /// A change of one item in place.
    change<A>(item: &mut A);
    /// A step of a fold, or a reduction.
    merge<A, B>(left: A, right: B);
    /// A comparison of two items.
    compare<A>(left: &A, right: &A);
    /// A step for one item, with what lasts from item to item.
    step_with<T, A>(kept: &mut T, item: A);
}

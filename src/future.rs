//! Futures that keep slots of their own, on any executor.
//!
//! # Invariants
//!
//! - **F1 (pinned).** `future` is pinned with the `Isolated` around it: it is only reached through
//!   `Pin`, never moved, and dropped in place. `Isolated` is `Unpin` only if `F` is. Whether it is
//!   over is asked through `&mut`, except by `Debug`: it may borrow from itself, and a shared
//!   reference to all of it would end such a borrow (by the rules that Miri checks).
//!
//! ```
//! use cleanslate::{future::FutureExt, task_local};
//!
//! task_local! { static SEEN: bool = false; }
//!
//! let task = || async { SEEN.replace(true) }.isolated();
//! assert!(!futures_lite::future::block_on(task()));
//! assert!(!futures_lite::future::block_on(task()));
//! ```

#![expect(unsafe_code, reason = "pin projection to one field")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use crate::context::{self, Context, Origin, RunError};
use crate::foreign::CarrierError;
use crate::frame::snapshot::Snapshot;
use crate::frame::{CleanupError, Parked, discard, give_up};
use crate::panic::{Payload, catch};

pub use crate::slot::ScopedFuture;

/// Makes a task of a future.
///
/// Implemented for every future.
///
/// # Examples
///
/// ```
/// use cleanslate::{future::FutureExt, task_local};
///
/// task_local! { static SEEN: bool = false; }
///
/// let task = async { SEEN.replace(true) };
/// SEEN.set(true);
/// assert!(!futures_lite::future::block_on(task.isolated()));
/// ```
pub trait FutureExt: Future + Sized {
    /// Gives the future slots of its own: fresh, except for what it inherits from the current task
    /// *now*, where it is wrapped.
    ///
    /// Its slots are put in place for each poll and taken away after it, so tasks that share a
    /// thread do not see each other's, and the future finds its own on whatever thread polls it
    /// next. (If that thread is ending and its slots have ended, they stay with the future.) They
    /// are dropped when the future completes or is dropped, after the future itself and before its
    /// output is returned, on the thread that does so.
    ///
    /// A poll costs O(slots that the future holds).
    ///
    /// # Panics
    ///
    /// Panics as [`Context::capture`] does. Polling panics with the future's panic, which ends the
    /// task, or, if a carrier or the clean-up fails, with a [`RunError`] as the payload. If it is a
    /// carrier that failed for one poll, the task is not over, and may be polled again, unless the
    /// future completed in that poll; then its output is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{future::FutureExt, task_local};
    /// use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
    ///
    /// task_local! { static USER: &'static str = "nobody"; }
    ///
    /// USER.set("alice");
    /// let mut bob = pin!(async { USER.replace("bob") }.isolated());
    /// let poll = bob.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    /// assert_eq!(poll, Poll::Ready("nobody"));
    /// assert_eq!(USER.get(), "alice");
    /// ```
    #[track_caller]
    fn isolated(self) -> Isolated<Self> {
        // In its place at once: without optimisation a future is copied at each step.
        let mut task = Isolated {
            future: Some(self),
            context: Context::empty(),
            parked: Parked::default(),
            made: Some(Location::caller()),
        };
        task.context = Context::capture();
        task
    }

    /// Makes a task of the future like [`isolated`](Self::isolated), in a context that you choose.
    ///
    /// # Panics
    ///
    /// Polling panics as with [`isolated`](Self::isolated).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::future::FutureExt;
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! { static SEEN: bool = false; }
    ///
    /// let task = async { SEEN.replace(true) };
    /// SEEN.set(true);
    /// assert!(!futures_lite::future::block_on(task.isolated_in(&Context::empty())));
    /// ```
    #[track_caller]
    fn isolated_in(self, context: &Context) -> Isolated<Self> {
        let context = context.clone().submitted();
        let made = Some(Location::caller());
        Isolated { future: Some(self), context, parked: Parked::default(), made }
    }
}

impl<F: Future> FutureExt for F {}

/// A future with slots of its own: see [`FutureExt::isolated`].
///
/// # Examples
///
/// ```
/// use cleanslate::future::{FutureExt, Isolated};
///
/// let task: Isolated<_> = async { 1 }.isolated();
/// assert_eq!(futures_lite::future::block_on(task), 1);
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Isolated<F: Future> {
    /// `None` once it is over (F1).
    future: Option<F>,
    context: Context,
    parked: Parked,
    /// `None`: somewhere in the crate.
    made: Option<&'static Location<'static>>,
}

// A poll that panics ends the future, except for a carrier that fails before or after it. So nobody
// finds the future in the middle of a change.
impl<F: Future> UnwindSafe for Isolated<F> {}
impl<F: Future> RefUnwindSafe for Isolated<F> {}

impl<F: Future> fmt::Debug for Isolated<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolated")
            .field("is_over", &self.future.is_none())
            .field("context", &self.context)
            .field("slots", &self.parked)
            .field("made", &self.made.map(ToString::to_string))
            .finish_non_exhaustive()
    }
}

/// Drops a future in place, in its frame, when its poll unwinds.
struct EndOnUnwind<'f, F>(Pin<&'f mut Option<F>>);

impl<F> Drop for EndOnUnwind<'_, F> {
    fn drop(&mut self) {
        // The poll's own panic is on its way.
        drop(catch(|| self.0.set(None)));
    }
}

/// Calls `f` with the contents. If that unwinds, they are dropped at once, contained.
#[inline]
pub(crate) fn within<T, R>(place: Pin<&mut Option<T>>, f: impl FnOnce(Pin<&mut T>) -> R) -> R {
    let mut unwinding = EndOnUnwind(place);
    let Some(inner) = unwinding.0.as_mut().as_pin_mut() else {
        panic!("an isolated future was polled after it had ended")
    };
    let result = f(inner);
    let _returned = ManuallyDrop::new(unwinding);
    result
}

/// The outcome of a poll.
struct Polled<R> {
    poll: Poll<R>,
    /// How the drop of the future went, if it is over.
    dropped: Result<(), Payload>,
}

#[inline]
fn poll_once<F: Future>(
    mut future: Pin<&mut Option<F>>,
    cx: &mut task::Context<'_>,
) -> Polled<F::Output> {
    let poll = within(future.as_mut(), |inner| inner.poll(cx));
    // Inside its frame, since what it owns may look at the slots.
    let dropped = if poll.is_ready() { catch(|| future.set(None)) } else { Ok(()) };
    Polled { poll, dropped }
}

impl<F: Future> Future for Isolated<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        // SAFETY: F1: nothing is moved out of it below.
        let this = unsafe { self.get_unchecked_mut() };
        if this.context.is_empty() { this.visit(cx, None, None) } else { this.poll_in_context(cx) }
    }
}

/// Where a poll leaves what went wrong with the whole task, while carriers are attached. Without
/// carriers there is no such place, and the poll panics with it.
type Errors<'e> = Option<&'e mut Option<CleanupError>>;

/// A task that is being polled, and its context, which lies on the stack meanwhile (S3): the future
/// may be dropped before the poll is over, if the process exits from within it.
struct Polling<'f, F: Future> {
    task: &'f mut Isolated<F>,
    context: Context,
}

impl<F: Future> Drop for Polling<'_, F> {
    /// Puts the context back, or gives it up if the task is over (R9). It is not given up earlier,
    /// even if a carrier has failed, since the future is dropped with the context.
    fn drop(&mut self) {
        if self.task.future.as_mut().is_some() {
            std::mem::swap(&mut self.task.context, &mut self.context);
            return;
        }
        let context = std::mem::replace(&mut self.context, Context::empty());
        discard(context);
    }
}

impl<F: Future> Isolated<F> {
    /// Returns whether the task is over: the future has completed or panicked.
    #[cfg(feature = "tower")]
    pub(crate) fn is_over(&self) -> bool {
        self.future.is_none()
    }

    /// Forgets where the task was made, for code of the crate.
    #[cfg(feature = "tower")]
    pub(crate) fn unplaced(mut self) -> Self {
        self.made = None;
        self
    }

    /// Polls once, with the values in their slots.
    // Not inlined, so that there is one copy of it: with two, the compiler inlines the future's own
    // poll into neither.
    #[inline(never)]
    fn visit(
        &mut self,
        cx: &mut task::Context<'_>,
        inherits: Option<&Arc<Snapshot>>,
        errors: Errors<'_>,
    ) -> Poll<F::Output> {
        let Self { future, parked, made, .. } = self;
        // SAFETY: F1: the field is pinned, as the callers' `self` is.
        let future = unsafe { Pin::new_unchecked(future) };
        let (Polled { poll, dropped }, ended) =
            parked.poll(inherits, || poll_once(future, cx), |p| p.poll.is_ready());
        match (poll, dropped, ended) {
            (Poll::Pending, Ok(()), None) => Poll::Pending,
            (poll, dropped, ended) => over(poll, dropped, ended, errors, *made),
        }
    }

    /// Polls once in the task's context.
    #[inline(never)]
    fn poll_in_context(&mut self, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let context = std::mem::replace(&mut self.context, Context::empty());
        let mut polling = Polling { task: self, context };
        let Polling { task, context } = &mut polling;
        match context.has_carriers() {
            true => task.poll_attached(cx, context),
            false => task.visit(cx, context.inherits(), None),
        }
    }

    /// Polls once, with the context's carriers attached.
    #[cold]
    #[inline(never)]
    fn poll_attached(&mut self, cx: &mut task::Context<'_>, context: &Context) -> Poll<F::Output> {
        let (mut visited, mut error) = (None, None);
        let inherits = context.inherits();
        let mut visit = || visited = Some(catch(|| self.visit(cx, inherits, Some(&mut error))));
        let later = attached(context, &mut visit);
        let later = later.unwrap_or_else(|error| {
            RunError::carrier(error).raise(self.made.map(Origin::Isolated))
        });
        let poll = match visited {
            None => unreachable!("it is called unless a carrier is refused"),
            // The poll's own panic wins.
            Some(Err(payload)) => payload.resume(),
            Some(Ok(poll)) => poll,
        };
        CleanupError::add(&mut error, later);
        match error {
            None => poll,
            Some(error) => fail(poll, error, self.made),
        }
    }

    /// Drops the future, and then its values, in their frame. `context` is the task's own, which
    /// the caller keeps on its stack (S3).
    fn end(&mut self, context: &Context) -> Result<(), Payload> {
        // SAFETY: F1: it is dropped in place.
        let mut future = unsafe { Pin::new_unchecked(&mut self.future) };
        let mut dropped = Ok(());
        let ended = self.parked.end(context.inherits(), || dropped = catch(|| future.set(None)));
        dropped.and(match ended.map(CleanupError::try_into_panic) {
            Some(Ok(payload)) => Err(Payload::new(payload)),
            // Nothing panicked: a value was leaked, which is counted.
            Some(Err(_)) | None => Ok(()),
        })
    }
}

// Through a pointer, so that it is compiled once and not for every future.
fn attached(
    context: &Context,
    body: &mut dyn FnMut(),
) -> Result<Option<CleanupError>, CarrierError> {
    context::attached(context, |_| body())
}

/// Returns the outcome of the last poll, or reports what went wrong.
#[inline(never)]
fn over<R>(
    poll: Poll<R>,
    dropped: Result<(), Payload>,
    ended: Option<CleanupError>,
    errors: Errors<'_>,
    made: Option<&'static Location<'static>>,
) -> Poll<R> {
    let mut error = dropped.err().map(CleanupError::other);
    CleanupError::add(&mut error, ended);
    match (errors, error) {
        (_, None) => poll,
        (None, Some(error)) => fail(poll, error, made),
        (Some(errors), error) => {
            *errors = error;
            poll
        }
    }
}

/// Drops the output of a task that could not be cleaned up, and panics.
#[cold]
fn fail<R>(result: R, error: CleanupError, made: Option<&'static Location<'static>>) -> ! {
    let error = give_up(|| drop(result), error);
    RunError::cleanup(error).raise(made.map(Origin::Isolated))
}

impl<F: Future> Drop for Isolated<F> {
    fn drop(&mut self) {
        // The values have ended with the future.
        if self.future.as_mut().is_none() {
            return;
        }
        let context = std::mem::replace(&mut self.context, Context::empty());
        let mut outcome = None;
        if context.has_carriers() {
            // Nobody is left to be told of a carrier that failed.
            drop(attached(&context, &mut || outcome = Some(self.end(&context))));
        }
        // The future has to be dropped even if a carrier was refused.
        let outcome = outcome.unwrap_or_else(|| self.end(&context));
        discard(context);
        if let Err(payload) = outcome {
            payload.resume_unless_panicking();
        }
    }
}

//! Futures that keep slots of their own, on any executor.
//!
//! # Invariants
//!
//! - **F1 (pinned).** `future` is pinned with the `Isolated` around it: it is only reached through
//!   `Pin`, never moved, and dropped in place. `Isolated` is `Unpin` only if `F` is.

#![expect(unsafe_code, reason = "pin projection to one field")]

use std::fmt;
use std::panic::panic_any;
use std::pin::Pin;
use std::task::{self, Poll};

use crate::context::{Context, RunError};
use crate::frame::{self, CleanupError, Parked};
use crate::panic::catch;

/// Makes a task of a future.
///
/// Implemented for every future.
pub trait FutureExt: Future + Sized {
    /// Gives the future slots of its own: fresh, but for what it inherits from the current task *now*,
    /// where it is wrapped.
    ///
    /// Its slots are put in place for each poll and taken away after it, so tasks that share a thread
    /// do not see each other's, and the future finds its own on whatever thread polls it next. They
    /// are dropped when it completes, or when it is dropped, after the future itself and before its
    /// output is returned, on the thread that does so.
    ///
    /// A poll costs O(slots that the future holds).
    ///
    /// # Panics
    ///
    /// As [`Context::capture`] does. Polling panics with the future's panic, which ends the task; or,
    /// if a carrier or the clean-up fails, with a [`RunError`] as the payload.
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
        self.isolated_in(&Context::capture())
    }

    /// Makes a task of the future like [`isolated`](Self::isolated), in a context that you choose.
    ///
    /// # Panics
    ///
    /// Polling panics as with [`isolated`](Self::isolated).
    fn isolated_in(self, context: &Context) -> Isolated<Self> {
        Isolated { future: Some(self), context: context.clone(), parked: Parked::default() }
    }
}

impl<F: Future> FutureExt for F {}

/// A future with slots of its own: see [`FutureExt::isolated`].
#[must_use = "futures do nothing unless polled"]
pub struct Isolated<F: Future> {
    /// `None` once it is over (F1).
    future: Option<F>,
    context: Context,
    parked: Parked,
}

impl<F: Future> fmt::Debug for Isolated<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolated")
            .field("is_over", &self.future.is_none())
            .field("context", &self.context)
            .field("slots", &self.parked)
            .finish_non_exhaustive()
    }
}

/// Drops a future in place, in its frame, when its poll unwinds.
struct EndOnUnwind<'f, F> {
    future: Pin<&'f mut Option<F>>,
    over: bool,
}

impl<F> Drop for EndOnUnwind<'_, F> {
    fn drop(&mut self) {
        if !self.over
            && let Err(payload) = catch(|| self.future.set(None))
        {
            // The poll's own panic is on its way.
            drop(payload);
        }
    }
}

#[inline]
fn poll_once<F: Future>(
    future: Pin<&mut Option<F>>,
    cx: &mut task::Context<'_>,
) -> Poll<F::Output> {
    let mut guard = EndOnUnwind { future, over: false };
    let Some(inner) = guard.future.as_mut().as_pin_mut() else {
        panic!("an isolated future was polled after it had ended");
    };
    let poll = inner.poll(cx);
    guard.over = true;
    if poll.is_ready() {
        // Inside its frame: what it owns may look at the slots.
        guard.future.set(None);
    }
    poll
}

impl<F: Future> Future for Isolated<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        // SAFETY: F1: nothing is moved out of it below.
        let this = unsafe { self.get_unchecked_mut() };
        if this.context.has_carriers() {
            return this.poll_attached(cx);
        }
        match this.visit(cx) {
            (poll, Ok(())) => poll,
            (poll, Err(error)) => fail(poll, error),
        }
    }
}

impl<F: Future> Isolated<F> {
    /// One poll, with the values in their slots.
    #[inline]
    fn visit(&mut self, cx: &mut task::Context<'_>) -> (Poll<F::Output>, Result<(), CleanupError>) {
        // SAFETY: F1: the field is pinned, as the callers' `self` is.
        let future = unsafe { Pin::new_unchecked(&mut self.future) };
        self.parked.swap_in(&self.context, || poll_once(future, cx), Poll::is_ready)
    }

    /// One poll with the context's carriers attached.
    #[cold]
    #[inline(never)]
    fn poll_attached(&mut self, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let context = self.context.clone();
        let mut visited = None;
        let attached = frame::attached(&context, || {
            visited = Some(catch(|| self.visit(cx)));
        });
        match (attached, visited) {
            (Err(error), _) => panic_any(RunError::carrier(error)),
            (Ok(_), None) => unreachable!("it is called unless a carrier is refused"),
            (Ok(fault), Some(Err(payload))) => {
                if let Some(error) = fault {
                    drop(error);
                }
                payload.resume()
            }
            (Ok(None), Some(Ok((poll, Ok(()))))) => poll,
            (Ok(None), Some(Ok((poll, Err(error))))) => fail(poll, error),
            (Ok(Some(later)), Some(Ok((poll, ended)))) => match ended {
                Ok(()) => fail(poll, later),
                Err(error) => fail(poll, error.merge(later)),
            },
        }
    }
}

/// The task could not be cleaned up: its output is dropped, and its poll panics.
#[cold]
fn fail<R>(result: R, error: CleanupError) -> ! {
    let _second = frame::contained(|| drop(result));
    panic_any(RunError::cleanup(error))
}

impl<F: Future> Drop for Isolated<F> {
    fn drop(&mut self) {
        if self.future.is_none() && self.parked.is_empty() {
            return;
        }
        // SAFETY: F1: it is dropped in place.
        let mut future = unsafe { Pin::new_unchecked(&mut self.future) };
        let (context, parked) = (&self.context, &mut self.parked);
        let mut end = || parked.end(context, || future.set(None));
        let mut outcome = Ok(Ok(()));
        let mut body = || outcome = catch(&mut end);
        if context.has_carriers() {
            match frame::attached(context, &mut body) {
                Ok(None) => {}
                Ok(Some(error)) => drop(error),
                // It has to be dropped all the same.
                Err(error) => {
                    drop(error);
                    body();
                }
            }
        } else {
            body();
        }
        let payload = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_panic(),
            Err(payload) => payload,
        };
        payload.resume_unless_panicking();
    }
}

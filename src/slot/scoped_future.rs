//! A value that is bound while a future runs.
//!
//! # Invariants
//!
//! - **Q1 (pinned).** `future` is pinned with the `ScopedFuture` around it: it is only reached
//!   through `Pin`, never moved, and dropped in place. `ScopedFuture` is `Unpin` only if `F` is.
//! - **Q2 (owned).** Between two polls the box belongs to the `ScopedFuture` (V4) and is not
//!   borrowed. During one it belongs to the cell, and `is_shown` says so: if the process exits from
//!   within the poll, the box is let be, whether the future is dropped then or polled once more. A
//!   box that is still in use when the poll returns, by a coroutine that is suspended there, is let
//!   be as well.

#![expect(
    unsafe_code,
    reason = "pin projection to one field, and a box that moves to a cell and back"
)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use super::declaration::Declaration;
use crate::frame::thread;
use crate::frame::thread_end::admit;
use crate::frame::value::{self, Boxed, Header};
use crate::panic::{Drops, catch};

/// A future that runs with a value bound to a slot: see
/// [`TaskLocal::scope_future`](crate::TaskLocal::scope_future).
///
/// # Examples
///
/// ```
/// use cleanslate::{future::ScopedFuture, task_local};
///
/// task_local! { static USER: u32 = 0; }
///
/// let bound: ScopedFuture<u32, _> = USER.scope_future(7, async { USER.get() });
/// assert_eq!(futures_lite::future::block_on(bound), 7);
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct ScopedFuture<T: Send + 'static, F> {
    /// `None` once the future has ended (Q1).
    future: Option<F>,
    declaration: &'static Declaration<T>,
    header: Held,
    /// See Q2.
    is_shown: bool,
}

/// The box of a `ScopedFuture`.
///
/// A type of its own, so that no implementation of `Send` needs the bound `T: 'static`: inside a
/// spawned future the compiler cannot prove that of a `&'static str`.
struct Held(NonNull<Header>);

// SAFETY: the box is owned (Q2), its value is `Send`, which `ScopedFuture` asks for, and it is used
// through `&mut ScopedFuture` only.
unsafe impl Send for Held {}
// SAFETY: `&ScopedFuture` gives access to the slot's name only.
unsafe impl Sync for Held {}

// A poll that panics ends the future, and what it left in the slot is whole.
impl<T: Send + 'static, F> UnwindSafe for ScopedFuture<T, F> {}
impl<T: Send + 'static, F> RefUnwindSafe for ScopedFuture<T, F> {}

impl<T: Send + 'static, F: Unpin> Unpin for ScopedFuture<T, F> {}

impl<T: Send + 'static, F> fmt::Debug for ScopedFuture<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedFuture")
            .field("slot", &self.declaration.path)
            .field("is_over", &self.future.is_none())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static, F> ScopedFuture<T, F> {
    pub(super) fn new(declaration: &'static Declaration<T>, value: T, future: F) -> Self {
        let header = value::alloc::<T>();
        // SAFETY: just made for this type.
        unsafe { Boxed::from_header(header) }.fill(value);
        Self { future: Some(future), declaration, header: Held(header), is_shown: false }
    }

    /// Takes the value out of the future, between two polls or after the last one.
    ///
    /// If the future runs on after that, it finds the slot as after
    /// [`take`](crate::TaskLocal::take).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{future::Future, pin::pin, task::{Context, Waker}};
    ///
    /// cleanslate::task_local! { static COUNT: u32 = 0; }
    ///
    /// let mut counted = pin!(COUNT.scope_future(5, async { COUNT.with_mut(|n| *n += 1) }));
    /// assert!(counted.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    /// assert_eq!((counted.as_mut().take_value(), counted.take_value()), (Some(6), None));
    /// ```
    pub fn take_value(self: Pin<&mut Self>) -> Option<T> {
        // SAFETY: Q2: ours, unless a poll is running, which is looked at first.
        let boxed = unsafe { Boxed::<T>::from_header(self.header.0) };
        (!self.is_shown && boxed.header.is_idle()).then(|| boxed.take())
    }

    /// Calls `f` with the value in its slot. `None`: the thread is ending, or the value is not the
    /// future's any more (Q2).
    fn bound<R>(self: Pin<&mut Self>, f: impl FnOnce(Pin<&mut Option<F>>) -> R) -> Option<R> {
        // SAFETY: Q1: nothing is moved out of it below.
        let this = unsafe { self.get_unchecked_mut() };
        let place = this.declaration.place();
        if this.is_shown || admit(thread::current(), &place.cell.raw).is_err() {
            return None;
        }
        // Set before it is shown: that may drop the task's last capture, which is user code.
        this.is_shown = true;
        place.show(this.header.0);
        // SAFETY: Q1.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        let called = catch(|| f(future));
        // If its task has ended meanwhile the box is not ours any more, nor if a coroutine is
        // suspended where it borrows the value.
        // SAFETY: taken back, so it is alive.
        let is_used = |header: NonNull<Header>| unsafe { header.as_ref() }.leak_if_used();
        this.is_shown = !place.take_away(this.header.0) || is_used(this.header.0);
        match called {
            Ok(result) => Some(result),
            Err(payload) => payload.resume(),
        }
    }
}

impl<T: Send + 'static, F: Future> Future for ScopedFuture<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let name = self.declaration.path;
        // Else the thread is ending.
        let is_lost = self.is_shown;
        let polled = self.bound(|mut future| {
            let Some(inner) = future.as_mut().as_pin_mut() else {
                panic!("a scoped future was polled after it had ended");
            };
            let poll = match catch(|| inner.poll(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(poll) => Ok(poll),
                Err(payload) => Err(payload),
            };
            // Inside the scope, since what the future owns may look at the slot.
            let dropped = catch(|| future.set(None));
            match (poll, dropped) {
                (Ok(poll), Ok(())) => poll,
                (Err(payload), _) => payload.resume(),
                (Ok(poll), Err(payload)) => {
                    let _second = catch(|| drop(poll));
                    payload.resume()
                }
            }
        });
        polled.unwrap_or_else(|| match is_lost {
            true => panic!("slot `{name}` has lost the value that was bound to it"),
            false => panic!("slot `{name}` cannot be used while its thread ends"),
        })
    }
}

impl<T: Send + 'static, F> Drop for ScopedFuture<T, F> {
    /// Drops the future inside its scope, and then the value, each contained.
    fn drop(&mut self) {
        let mut drops = Drops::default();
        if self.future.as_mut().is_some() {
            // SAFETY: Q1: it is dropped in place.
            let this = unsafe { Pin::new_unchecked(&mut *self) };
            drops.contain(|| {
                this.bound(|mut future| future.set(None));
            });
        }
        // Where it was not bound.
        // SAFETY: Q1: it is dropped in place.
        let mut future = unsafe { Pin::new_unchecked(&mut self.future) };
        drops.contain(|| future.set(None));
        if !self.is_shown {
            // SAFETY: Q2.
            drops.add(unsafe { value::end(self.header.0) });
        }
        drops.resume();
    }
}

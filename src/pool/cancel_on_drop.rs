//! [`CancelOnDrop`].

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::error::TaskError;
use super::handle::JoinHandle;

impl<R> JoinHandle<R> {
    /// Returns a handle whose drop [cancels](JoinHandle::cancel) the task if that has not begun:
    /// for work that is worth nothing once nobody waits for it, for example because a client has
    /// hung up.
    ///
    /// A task that runs goes on to its end. Where that takes long, have it check a flag, or whether
    /// a channel is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::sync::mpsc;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel::<()>();
    /// let busy = pool.submit(move || gate.recv());
    /// let answer = async { pool.submit(|| unreachable!()).cancel_on_drop().await };
    /// # let mut answer = Box::pin(answer);
    /// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// # assert!(answer.as_mut().poll(&mut cx).is_pending());
    /// drop(answer);
    /// assert_eq!(pool.stats().cancelled, 1);
    /// # drop(go);
    /// # busy.join().unwrap().unwrap_err();
    /// ```
    #[doc(alias = "AbortOnDropHandle")]
    pub fn cancel_on_drop(self) -> CancelOnDrop<R> {
        CancelOnDrop(self)
    }
}

/// A [`JoinHandle`] whose drop cancels its task if that has not begun. It is a future with the same
/// output.
///
/// Made by [`JoinHandle::cancel_on_drop`]. To join it, take the handle out:
/// `answer.into_handle().join()`.
///
/// # Examples
///
/// ```
/// use cleanslate::{CancelOnDrop, Pool};
///
/// let pool = Pool::new(1).unwrap();
/// let answer: CancelOnDrop<u32> = pool.submit(|| 42).cancel_on_drop();
/// assert_eq!(answer.into_handle().join().unwrap(), 42);
/// ```
#[must_use = "dropping it cancels the task; `await` it, or turn it into a `JoinHandle`"]
pub struct CancelOnDrop<R>(JoinHandle<R>);

impl<R> CancelOnDrop<R> {
    /// Returns the handle, which does not cancel.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let answer = pool.submit(|| 42).cancel_on_drop();
    /// assert_eq!(answer.into_handle().join().unwrap(), 42);
    /// ```
    pub fn into_handle(mut self) -> JoinHandle<R> {
        // Without its job there is nothing to cancel.
        JoinHandle { job: self.0.job.take(), core: Arc::clone(&self.0.core) }
    }

    /// Waits as the handle's [`join_timeout`](JoinHandle::join_timeout) does.
    ///
    /// # Errors
    ///
    /// Returns an error as [`join`](JoinHandle::join) does.
    ///
    /// # Panics
    ///
    /// Panics if the result was taken before.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::time::Duration;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let mut answer = pool.submit(|| 42).cancel_on_drop();
    /// assert_eq!(answer.join_timeout(Duration::MAX).unwrap().unwrap(), 42);
    /// ```
    #[must_use = "`Some` holds the task's result, which is taken"]
    #[track_caller]
    pub fn join_timeout(&mut self, limit: Duration) -> Option<Result<R, TaskError>> {
        self.0.join_timeout(limit)
    }
}

impl<R> Deref for CancelOnDrop<R> {
    type Target = JoinHandle<R>;

    fn deref(&self) -> &JoinHandle<R> {
        &self.0
    }
}

impl<R> Future for CancelOnDrop<R> {
    type Output = Result<R, TaskError>;

    /// Polls as the [handle](JoinHandle) does.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<R> Drop for CancelOnDrop<R> {
    fn drop(&mut self) {
        let _has_begun = !self.0.cancel();
    }
}

impl<R> fmt::Debug for CancelOnDrop<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelOnDrop").field(&**self).finish()
    }
}

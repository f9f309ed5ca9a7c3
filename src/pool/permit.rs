//! [`Permit`]: a place in a bounded queue that is taken before there is a task for it.

use std::error::Error;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::core::Place;
use super::core::capacity::Waiting;
use super::error::Refused;
use super::handle::JoinHandle;
use super::pool::Pool;
use crate::frame::Framed;

impl Pool {
    /// Waits until the bounded queue has room, without blocking the thread, and returns a
    /// [`Permit`] to submit one task.
    ///
    /// Works on any executor. Futures and blocked threads that wait for room get it in the order in
    /// which they came. A pool whose queue is not bounded has room at once; so has any pool for a
    /// thread that runs a task of a pool, which would otherwise wait for itself. (An isolated
    /// future is not such a task: it waits.) The waker is called where a task begins, before it
    /// runs, so a waker of your own must not wait for that task.
    ///
    /// A future that was handed a place keeps it until it is polled or dropped. So do not block for
    /// room (in [`submit`](Self::submit), a scope or an `imap`) on the thread that is to poll it.
    ///
    /// # Errors
    ///
    /// Returns an error if the pool is shut down, before the call or during the wait, or if its
    /// queue is full in a forked child, where it has no workers.
    ///
    /// # Cancel safety
    ///
    /// A dropped future gives up its turn in the line; one that was handed a place passes it on to
    /// the next in line. Nothing is lost but the turn. (A waker that drops its future at once, or
    /// polls it and drops the permit, hands the place on from within its own call: a line of some
    /// thousand of those overflows the stack.)
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// # futures_lite::future::block_on(async {
    /// let pool = Pool::builder().workers(1).queue_capacity(10).build()?;
    /// let answer = pool.reserve().await?.submit(|| 6 * 7).await?;
    /// assert_eq!(answer, 42);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn reserve(&self) -> Reserve<'_> {
        Reserve { pool: Some(self), line: None }
    }

    /// Returns a [`Permit`] to submit one task, if the queue has room for it and nobody waits for
    /// room. Here, too, the limit does not apply to a thread that runs a task.
    ///
    /// # Errors
    ///
    /// Returns an error if the queue is full, or the pool is shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    /// let permit = pool.try_reserve().unwrap();
    /// assert!(pool.try_reserve().unwrap_err().is_full());
    /// assert_eq!(permit.submit(|| 1).join().unwrap(), 1);
    /// ```
    pub fn try_reserve(&self) -> Result<Permit, ReserveError> {
        Permit::of(self, self.core().try_reserve())
    }
}

/// A place in a pool's queue, for one task.
///
/// Made by [`Pool::reserve`] and [`Pool::try_reserve`]. Dropping it gives the place to the next in
/// line. It keeps its pool open, as every handle does, and submits like the handle through which it
/// was reserved ([`Pool::named`], [`Pool::in_context`]).
///
/// # Examples
///
/// ```
/// use cleanslate::{Permit, Pool};
///
/// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
/// let permit: Permit = pool.try_reserve().unwrap();
/// assert!(pool.try_submit(|| 1).is_err(), "the place is taken");
/// assert_eq!(permit.submit(|| 2).join().unwrap(), 2);
/// ```
#[must_use = "a permit that is dropped gives its place back"]
pub struct Permit {
    pool: Pool,
    /// Whether it still has its place.
    is_unused: bool,
}

impl Permit {
    fn of(pool: &Pool, taken: Result<(), Refused>) -> Result<Self, ReserveError> {
        match taken {
            Ok(()) => Ok(Self { pool: pool.clone(), is_unused: true }),
            Err(refused) => Err(ReserveError { refused }),
        }
    }

    /// Submits a task, as [`Pool::submit`] does. Never waits for room. (But a permit is a handle:
    /// if it is the last one, its drop at the end of this call drains and joins the pool.)
    ///
    /// The task inherits what surrounds this call, not what surrounded the reservation. After a
    /// shutdown it does not run: the handle is that of a cancelled task.
    ///
    /// # Panics
    ///
    /// Panics as [`Pool::submit`] does. The place is given back. Also panics if the permit is the
    /// last to have a context, and the drop of that panics: the task is detached.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    /// let permit = pool.try_reserve().unwrap();
    /// assert_eq!(permit.submit(|| 6 * 7).join().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn submit<F, R>(self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let at = Location::caller();
        // If the capture panics, the place is given back first: the closure's drop may wait for it.
        let f = Framed::new(f);
        let mut permit = self;
        let context = permit.pool.context();
        // From here on the place is the task's.
        permit.is_unused = false;
        let admitted = permit.pool.core().admit(Place::Taken);
        let handle = permit.pool.submit_work((f.into_inner(), context), at, admitted);
        // Its context may end here, whose drop may panic. A handle that is in place to be returned
        // by then would be leaked.
        drop(permit);
        handle
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_unused {
            self.pool.core().give_place_back();
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// The future of [`Pool::reserve`].
///
/// Dropping it gives its turn back. If it is leaked while it waits (by `mem::forget`, for example),
/// it keeps its turn, and with it a place in the queue, for good, as a leaked [`Permit`] does.
///
/// # Panics
///
/// Polling it again after it has ended panics.
///
/// # Examples
///
/// ```
/// use cleanslate::{Pool, Reserve};
///
/// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
/// let reserve: Reserve<'_> = pool.reserve();
/// let permit = futures_lite::future::block_on(reserve).unwrap();
/// assert_eq!(permit.submit(|| 1).join().unwrap(), 1);
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Reserve<'p> {
    /// `None` once it is over.
    pool: Option<&'p Pool>,
    /// `Some` from the first poll that finds no room.
    line: Option<Waiting<'p>>,
}

// The locks of the line are held for bookkeeping only.
impl UnwindSafe for Reserve<'_> {}
impl RefUnwindSafe for Reserve<'_> {}

impl Future for Reserve<'_> {
    type Output = Result<Permit, ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pool: place, line } = self.get_mut();
        let Some(pool) = *place else { panic!("a reservation was polled after it had ended") };
        let taken = ready!(pool.core().poll_reserve(line, cx.waker()));
        *place = None;
        Poll::Ready(Permit::of(pool, taken))
    }
}

impl fmt::Debug for Reserve<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Why there is no place in a pool's queue.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
/// let _permit = pool.try_reserve().unwrap();
/// let error = pool.try_reserve().unwrap_err();
/// assert_eq!(error.to_string(), "the queue of the pool is full");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ReserveError {
    refused: Refused,
}

impl ReserveError {
    /// Returns whether the queue is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    /// let _permit = pool.try_reserve().unwrap();
    /// assert!(pool.try_reserve().unwrap_err().is_full());
    /// ```
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.refused == Refused::Full
    }

    /// Returns whether the pool was shut down or, after [`Pool::reserve`], which would wait,
    /// whether it has no workers in this process, a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    /// pool.shutdown().unwrap();
    /// assert!(pool.try_reserve().unwrap_err().is_shut_down());
    /// ```
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.refused != Refused::Full
    }
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.fmt(f)
    }
}

debug_as_text!(ReserveError);

impl Error for ReserveError {}

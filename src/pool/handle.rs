//! [`JoinHandle`].

use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::slice;
use std::sync::Arc;
use std::task::{Context as PollContext, Poll, ready};
use std::time::{Duration, Instant};

use super::core::Core;
use super::error::{Cause, FORKED, TOO_DEEP, TaskError};
use super::job::state::{Registration, State};
use super::job::{AnyJob, Joinable, TooDeep};
use super::scheduler::completions::CompletionQueue;
use super::scheduler::waiter::Waiter;
use super::scheduler::{current, wait};
use crate::sync::seam;

/// A handle to a submitted task, and the right to its result.
///
/// It is also a [`Future`] with the output of [`join`](JoinHandle::join), for any executor.
/// Dropping the handle detaches the task: it still runs, its result is dropped, and its panic goes
/// to the pool's [`panic_hook`](crate::PoolBuilder::panic_hook).
///
/// # Cancel safety
///
/// Dropping the handle in the middle of a `select!` detaches the task;
/// [`cancel`](JoinHandle::cancel) it to keep it from starting. Polling it again after a lost race
/// loses nothing.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(2).unwrap();
/// let answer = pool.submit(|| 6 * 7);
/// assert_eq!(answer.join().unwrap(), 42);
/// ```
#[must_use = "dropping a handle detaches its task; `join` or `.await` it, or drop it on purpose"]
pub struct JoinHandle<R> {
    /// `None` after the result was taken.
    pub(super) job: Option<Arc<dyn Joinable<R>>>,
    pub(super) core: Arc<Core>,
}

impl<R> JoinHandle<R> {
    /// Waits for the task and returns its result.
    ///
    /// On a thread that runs a task of a pool, a task that has not started runs right here, on top
    /// of the waiting one (with slots of its own). So nested joins cannot deadlock, not even with
    /// one worker.
    ///
    /// # Errors
    ///
    /// Returns the [`TaskError`] that says how the task failed: it panicked, was cancelled, or
    /// could not be cleaned up.
    ///
    /// # Panics
    ///
    /// Panics if the result was taken before, by [`join_timeout`](JoinHandle::join_timeout) or by
    /// polling.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.submit(|| panic!("oh no")).join().unwrap_err();
    /// assert_eq!(error.message(), Some("oh no"));
    /// ```
    #[track_caller]
    pub fn join(mut self) -> Result<R, TaskError> {
        let Some(job) = self.job.take() else { panic!("{TAKEN}") };
        join(&*job, &self.core)
    }

    /// Waits for the task for at most `limit`; returns `None` if it is not done by then. Never runs
    /// the task on this thread, so that the limit holds.
    ///
    /// `Some` takes the result. To wait without taking it, use
    /// [`wait_any_timeout`](JoinHandle::wait_any_timeout), which works for a single handle, too:
    /// `JoinHandle::wait_any_timeout(std::slice::from_ref(&handle), limit)`.
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
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel();
    /// let mut handle = pool.submit(move || gate.recv());
    /// let answer = loop {
    ///     match handle.join_timeout(Duration::from_millis(5)) {
    ///         Some(result) => break result.unwrap(),
    ///         None => _ = go.send("still waiting"),
    ///     }
    /// };
    /// assert_eq!(answer, Ok("still waiting"));
    /// ```
    #[must_use = "`Some` holds the task's result, which is taken"]
    #[track_caller]
    pub fn join_timeout(&mut self, limit: Duration) -> Option<Result<R, TaskError>> {
        let Some(job) = &self.job else { panic!("{TAKEN}") };
        if Self::first_within(slice::from_ref(self), limit).is_none() {
            return self.core.is_forked().then(|| Err(job.any().error(Cause::Forked)));
        }
        let job = self.job.take()?;
        Some(job.take())
    }

    /// Returns whether the task is done, so that [`join`](JoinHandle::join) would not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (first, second) = (pool.submit(|| 1), pool.submit(|| 2));
    /// second.join().unwrap();
    /// assert!(first.is_finished());
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.job.as_ref().is_none_or(|job| job.any().state().is_done())
    }

    /// Keeps the task from starting; returns whether that succeeded. Its closure is dropped at
    /// once, on this thread, and its result is an error that
    /// [`is_cancelled`](TaskError::is_cancelled). A task that runs or is done is not touched. (To
    /// cancel a task that is awaited elsewhere, await it as a
    /// [`cancel_on_drop`](JoinHandle::cancel_on_drop) there, and drop that future.)
    ///
    /// Where the drop of a closure cancels another task, whose closure cancels the next, and so on,
    /// the first that would lie too deep on this thread's stack is left to a worker to drop. It
    /// will not run either, but [`is_cancelled`](JoinHandle::is_cancelled) is false until then, and
    /// what its closure would cancel may have run by that time.
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
    /// let waiting = pool.submit(|| unreachable!());
    /// assert!(waiting.cancel());
    /// assert!(waiting.join().unwrap_err().is_cancelled());
    /// # go.send(()).unwrap();
    /// # busy.join().unwrap().unwrap();
    /// ```
    pub fn cancel(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.any().cancel(&self.core))
    }

    /// Returns whether the task was cancelled before it began, by [`cancel`](JoinHandle::cancel) or
    /// by a shutdown: it never runs, and its result is an error that
    /// [`is_cancelled`](TaskError::is_cancelled). `false` after the result was taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let ran = pool.submit(|| 1);
    /// pool.shutdown().unwrap();
    /// let refused = pool.submit(|| 2);
    /// assert!(refused.is_cancelled() && !ran.is_cancelled());
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.any().state().is_cancelled())
    }

    /// Waits until one of several tasks is done and returns the index of its handle, whose
    /// [`join`](JoinHandle::join) then does not wait. If several are done before the call, it
    /// returns the first of them in the slice. The handles may be of several pools. (A task whose
    /// result was taken, by a poll or by [`join_timeout`](JoinHandle::join_timeout), is done, too:
    /// leave its handle out.)
    ///
    /// On a thread that runs a task of a pool, the first task in the slice that nobody has begun
    /// runs right here, as in `join`. So put a new handle behind the others: in the place of one
    /// that was done, new tasks could run before the others again and again. To wait for handles of
    /// different types, use them as futures.
    ///
    /// # Panics
    ///
    /// Panics if there are no handles, if tasks are nested too deep, and in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{JoinHandle, Pool};
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let mut handles: Vec<_> = (1..=3).map(|n| pool.submit(move || n * n)).collect();
    /// let mut sum = 0;
    /// while !handles.is_empty() {
    ///     let first = JoinHandle::wait_any(&handles);
    ///     sum += handles.swap_remove(first).join().unwrap();
    /// }
    /// assert_eq!(sum, 14);
    /// ```
    #[doc(alias = "select")]
    #[doc(alias = "select_all")]
    #[doc(alias = "as_completed")]
    #[track_caller]
    pub fn wait_any(handles: &[Self]) -> usize {
        if let Some(done) = handles.iter().position(Self::is_finished) {
            return done;
        }
        for (index, handle) in handles.iter().enumerate() {
            if handle.core.claims_here() && handle.help().is_err() {
                panic!("{TOO_DEEP}");
            }
            if handle.is_finished() {
                return index;
            }
        }
        let done = Self::first_of(handles, |core, look| _ = core.wait_until(look));
        done.unwrap_or_else(|| panic!("{FORKED}"))
    }

    /// Waits like [`wait_any`](Self::wait_any), but for at most `limit`; returns `None` if no task
    /// is done by then. Runs none of the tasks on this thread, so that the limit holds.
    ///
    /// # Panics
    ///
    /// Panics if there are no handles, and in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{JoinHandle, Pool};
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel();
    /// let busy = [pool.submit(move || gate.recv().unwrap())];
    /// assert_eq!(JoinHandle::wait_any_timeout(&busy, Duration::from_millis(1)), None);
    /// go.send(7).unwrap();
    /// assert_eq!(JoinHandle::wait_any_timeout(&busy, Duration::MAX), Some(0));
    /// ```
    #[track_caller]
    pub fn wait_any_timeout(handles: &[Self], limit: Duration) -> Option<usize> {
        let done = Self::first_within(handles, limit);
        if done.is_none() && handles.iter().any(|handle| handle.core.is_forked()) {
            panic!("{FORKED}");
        }
        done
    }

    /// Returns the index of the first one that is done within `limit`, and `None` at once in a
    /// forked child if none is.
    #[track_caller]
    fn first_within(handles: &[Self], limit: Duration) -> Option<usize> {
        if let Some(done) = handles.iter().position(Self::is_finished) {
            return Some(done);
        }
        // A limit beyond the clock's range is no limit.
        let deadline = Instant::now().checked_add(limit);
        let told = Self::first_of(handles, |core, look| {
            _ = wait::wait_until_deadline(look, deadline, || core.is_forked());
        });
        // A task is done before it tells so.
        told.or_else(|| handles.iter().position(Self::is_finished))
    }

    /// Returns the index of the first handle that reports that it is done, if one does so before
    /// `wait` gives up, which waits until the function that it is given returns `true`.
    #[track_caller]
    fn first_of(
        handles: &[Self],
        wait: impl FnOnce(&Core, &mut dyn FnMut() -> bool),
    ) -> Option<usize> {
        let Some(any) = handles.first() else { panic!("there is no handle to wait for") };
        let ready = Arc::new(CompletionQueue::new());
        for (index, handle) in handles.iter().enumerate() {
            handle.notify(&ready, index);
        }
        let mut done = None;
        wait(&any.core, &mut || {
            done = ready.pop_or_register(seam::current);
            done.is_some()
        });
        for handle in handles {
            if let Some(job) = &handle.job {
                job.any().state().unregister(&ready, || handle.core.is_forked());
            }
        }
        done
    }

    /// Has `queue` told of the completion, beside other waiters, or tells it here if the task is
    /// done.
    pub(crate) fn notify(&self, queue: &Arc<CompletionQueue>, number: usize) {
        let is_forked = || self.core.is_forked();
        let waits = |state: &State| state.register_beside(queue, number, is_forked);
        if self.job.as_ref().is_none_or(|job| !waits(job.any().state())) {
            queue.push(number);
        }
    }

    /// Runs the task here if it has not started.
    pub(crate) fn help(&self) -> Result<(), TooDeep> {
        self.job.as_ref().map_or(Ok(()), |job| job.any().run_inline(&self.core))
    }
}

// A panic in the task is caught there.
impl<R> UnwindSafe for JoinHandle<R> {}
impl<R> RefUnwindSafe for JoinHandle<R> {}

const TAKEN: &str = "the result of this task was taken before";

/// Waits until `job` is done, running it here if this thread may, and takes its result.
#[track_caller]
pub(crate) fn join<R>(job: &(impl Joinable<R> + ?Sized), core: &Core) -> Result<R, TaskError> {
    wait(job.any(), core)?;
    job.take()
}

/// Waits until `job` is done, running it here if this thread may.
fn wait(job: &dyn AnyJob, core: &Core) -> Result<(), TaskError> {
    let state = job.state();
    if !state.is_done() && core.claims_here() && job.run_inline(core).is_err() {
        return Err(given_up(job, core, Cause::TooDeep));
    }
    if state.is_done() {
        return Ok(());
    }
    let is_forked = || core.is_forked();
    if let Registration::Registered(before) = state.register(Waiter::this_thread(), is_forked) {
        job.drop_waiter(core, before);
        if !core.wait_until(|| state.is_done()) {
            return Err(given_up(job, core, Cause::Forked));
        }
    }
    Ok(())
}

/// Polls whether `job` is done, running it here if this thread may. The error says why waiting for
/// it is impossible.
fn poll(job: &dyn AnyJob, core: &Core, cx: &PollContext<'_>) -> Poll<Result<(), Cause>> {
    let state = job.state();
    // Not as a wait would: a plain thread that polls has other futures to get on with, even in a
    // pool in which callers help.
    let claims = current::in_task() || core.is_cancelled();
    if !state.is_done() && claims && job.run_inline(core).is_err() {
        return Poll::Ready(Err(Cause::TooDeep));
    }
    if state.is_done() {
        return Poll::Ready(Ok(()));
    }
    let waiter = Arc::new(Waiter::Waker(cx.waker().clone()));
    let (unneeded, answer) = match state.register(waiter, || core.is_forked()) {
        Registration::Done(own) => (Some(own), Poll::Ready(Ok(()))),
        Registration::Registered(before) if core.is_forked() => {
            (before, Poll::Ready(Err(Cause::Forked)))
        }
        Registration::Registered(before) => (before, Poll::Pending),
    };
    job.drop_waiter(core, unneeded);
    answer
}

/// Returns the result of a task, or resumes its panic.
#[track_caller]
pub(super) fn result_of<R>(joined: Result<R, TaskError>) -> R {
    joined.unwrap_or_else(|error| error.resume())
}

/// Lets go of a job that cannot be waited for; returns the error that says why.
#[cold]
pub(super) fn given_up(job: &dyn AnyJob, core: &Core, cause: Cause) -> TaskError {
    let error = job.error(cause);
    job.detach(core);
    error
}

impl<R> Future for JoinHandle<R> {
    type Output = Result<R, TaskError>;

    /// Polls for the result. Inside a task of a pool, a task that has not started runs right here:
    /// otherwise `block_on` would wait for ever. Visits of a [`broadcast`](crate::Pool::broadcast)
    /// do not run here: unlike a `join`, a `block_on` lets them wait until it returns. So what
    /// `block_on` awaits inside a task should neither broadcast on the same pool nor wait for
    /// another future of the same `block_on`, which is not polled while the task runs in its place.
    ///
    /// The future takes no part in tokio's cooperative budget: a loop over handles that are all
    /// done never yields. Where such a loop could be long, await `tokio::task::consume_budget()` in
    /// it.
    ///
    /// A poll that returns `Ready` has taken the result, even if that is an error because tasks are
    /// nested too deep or because this is a forked child.
    ///
    /// # Panics
    ///
    /// Panics if the result was taken before.
    fn poll(mut self: Pin<&mut Self>, cx: &mut PollContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(job) = &this.job else { panic!("{TAKEN}") };
        let done = ready!(poll(job.any(), &this.core, cx));
        // Taken out before it is let go of: that may exit the process from within a drop, and so
        // drop this handle.
        let Some(job) = this.job.take() else { unreachable!("a poll leaves the job") };
        Poll::Ready(match done {
            Ok(()) => job.take(),
            Err(cause) => Err(given_up(job.any(), &this.core, cause)),
        })
    }
}

impl<R> Drop for JoinHandle<R> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            job.any().detach(&self.core);
        }
    }
}

impl<R> fmt::Debug for JoinHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

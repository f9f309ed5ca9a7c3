//! The one way for a task into the pool: its context is captured, it is let in, becomes a job, and
//! is put on the queue.

use std::panic::Location;
use std::sync::Arc;

use super::core::{How, Place};
use super::error::{Refused, SubmitError, TaskError};
use super::handle::JoinHandle;
use super::isolation::Isolation;
use super::job::state::JobCell;
use super::job::{self, AnyJob, End, Job, Work};
use super::pool::Pool;
use crate::context::Context;
use crate::frame::Framed;

impl Pool {
    /// Submits a task, with what surrounds this call as its context.
    ///
    /// Where the queue is bounded and full, a plain thread waits for room. After a shutdown the
    /// task does not run: its closure is dropped here and now, and the handle is that of a
    /// cancelled task. (If that drop submits another task, and so on, the 65th closure is
    /// [leaked](crate::leaked_values).)
    ///
    /// Allocates once per task, besides the queue's allocation for every 31 tasks and those of a
    /// capture, made where an inheritable slot has changed since the last capture or a carrier
    /// captures.
    ///
    /// # Panics
    ///
    /// Panics if a slot that the task would inherit is inside its own `with_mut`, if that slot's
    /// `Clone` or the function that makes its value (`with = f`) panics, or if a carrier of the
    /// pool cannot capture.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let sum = pool.submit(|| (1..=100).sum::<i32>());
    /// assert_eq!(sum.join().unwrap(), 5050);
    /// ```
    #[doc(alias = "spawn")]
    #[doc(alias = "execute")]
    #[track_caller]
    pub fn submit<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let work = self.work(f);
        self.submit_work(work, Location::caller(), self.core().admit(Place::Wait))
    }

    /// Submits a task unless the bounded queue is full or the pool is shut down. Never waits. Here,
    /// too, the limit does not apply to a thread that runs a task.
    ///
    /// # Errors
    ///
    /// Returns the closure in a [`SubmitError`] that says why.
    ///
    /// # Panics
    ///
    /// Panics as [`submit`](Pool::submit) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// assert_eq!(pool.try_submit(|| 1).unwrap().join().unwrap(), 1);
    /// pool.shutdown().unwrap();
    /// assert!(pool.try_submit(|| 2).unwrap_err().is_shut_down());
    /// ```
    #[track_caller]
    pub fn try_submit<F, R>(&self, f: F) -> Result<JoinHandle<R>, SubmitError<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let core = self.core();
        let at = Location::caller();
        let work = self.work(f);
        let admitted = core.admit(Place::Refuse);
        match admitted {
            Ok(_) => Ok(self.submit_work(work, at, admitted)),
            Err(why) => {
                let (f, context) = work;
                core.drop_contained(context, &self.label(core.admitted(), at));
                Err(SubmitError::new(f, why))
            }
        }
    }

    /// Gives a task the context captured here and now. If the capture panics, the closure is
    /// dropped while that unwinds.
    #[inline]
    #[track_caller]
    pub(crate) fn work<F>(&self, f: F) -> Work<F> {
        let f = Framed::new(f);
        let context = self.context();
        (f.into_inner(), context)
    }

    /// Captures the context of a task that is submitted here and now.
    #[inline]
    #[track_caller]
    pub(crate) fn context(&self) -> Context {
        let core = self.core();
        if matches!(core.isolation, Isolation::Leaky) {
            return Context::empty();
        }
        let context = match &self.inherits {
            None => Context::capture(),
            Some(context) => context.clone(),
        };
        let Some(carriers) = &core.carriers else { return context.submitted() };
        match context.in_pool(carriers, self.inherits.is_none()) {
            Ok((context, before)) => {
                if before.is_some() {
                    core.drop_contained(before, &self.unnumbered("capture", Location::caller()));
                }
                context
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Submits a task that has its context. If it was not let in, the handle is that of a cancelled
    /// task.
    #[inline]
    pub(crate) fn submit_work<F, R>(
        &self,
        work: Work<F>,
        at: &'static Location<'static>,
        admitted: Result<u64, Refused>,
    ) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let core = self.core();
        let job = self.job(work, at, admitted, (), |job| core.enqueue(job));
        JoinHandle { job: Some(job), core: Arc::clone(core) }
    }

    /// Makes a job of a task and puts it on the queue, or ends it, if it was not let in: the one
    /// way into the pool.
    #[inline]
    pub(crate) fn job<F, R, E>(
        &self,
        work: Work<F>,
        at: &'static Location<'static>,
        admitted: Result<u64, Refused>,
        end: E,
        enqueue: impl FnOnce(Arc<Job<F, R, E>>) -> bool,
    ) -> Arc<Job<F, R, E>>
    where
        F: FnOnce() -> R + Send,
        R: Send,
        E: End,
    {
        let core = self.core();
        let number = admitted.unwrap_or_else(|_| core.admitted());
        let job =
            Arc::new(Job { cell: JobCell::new(number, work), name: self.name.clone(), at, end });
        let ends = match admitted {
            Ok(_) if enqueue(Arc::clone(&job)) => How::ShutDown,
            Ok(_) => return job,
            Err(why) => How::Refuse(why),
        };
        let _ended = job.claim(core, ends);
        job
    }

    /// Runs a task here and now. It need not become a job for that, since nobody else ever sees it.
    /// Also returns its number.
    pub(crate) fn run_here<F, R>(
        &self,
        work: Work<F>,
        at: &'static Location<'static>,
    ) -> (u64, Result<R, TaskError>)
    where
        F: FnOnce() -> R,
    {
        let core = self.core();
        let admitted = core.admit(Place::Anyway);
        let number = admitted.unwrap_or_else(|_| core.admitted());
        let how = admitted.map_or_else(How::Refuse, |_| How::Here);
        (number, job::end_here(core, &self.label(number, at), work, how))
    }
}

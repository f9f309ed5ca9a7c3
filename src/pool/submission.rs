//! The one way of a task into the pool: its context is captured, it is let in, becomes a job, and
//! is put on the queue.

use std::panic::Location;
use std::sync::Arc;

use super::core::{Entry, Place, Refused};
use super::error::{Cause, SubmitError};
use super::handle::JoinHandle;
use super::isolation::Isolation;
use super::job::{End, Job};
use super::pool::{Inherits, Pool};
use crate::context::Context;
use crate::panic::Guarded;

/// A closure that was not let in, with its context, and why.
type Rejected<F> = (F, Context, Refused);

impl Pool {
    /// Submits a task, with what surrounds this call as its context.
    ///
    /// Where the queue is bounded and full, a plain thread waits for room. After a shutdown the
    /// task does not run: the handle is that of a cancelled one.
    ///
    /// One allocation, besides the queue's own, which makes one for every 31 tasks.
    ///
    /// # Panics
    ///
    /// Panics if a slot that the task would inherit is inside its own `with_mut`, or if a carrier
    /// of the pool cannot capture.
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
        // A capture may panic: then the closure is dropped while that unwinds.
        let f = Guarded::new(f);
        let context = self.context();
        self.submit_in(context, Location::caller(), Place::Wait, f.into_inner())
    }

    /// Submits a task unless the bounded queue is full or the pool is shut down. Never waits.
    ///
    /// # Errors
    ///
    /// Returns the closure in a [`SubmitError`] that says which of the two it was.
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
        let enqueue = |job: Arc<Job<F, R, ()>>| core.enqueue(job);
        let f = Guarded::new(f);
        let context = self.context();
        match self.admit_job(at, context, Place::Refuse, f.into_inner(), || (), enqueue) {
            Ok(job) => Ok(JoinHandle::new(job, Arc::clone(core))),
            Err((f, context, why)) => {
                core.drop_contained(context, &self.label(core.next_number(), at));
                Err(match why {
                    Refused::Full => SubmitError::full(f),
                    Refused::ShutDown | Refused::Forked => SubmitError::shut_down(f),
                })
            }
        }
    }

    /// Returns the context that a task submitted here and now gets.
    #[inline]
    #[track_caller]
    pub(crate) fn context(&self) -> Context {
        let core = self.core();
        if matches!(core.isolation, Isolation::Leaky) {
            return Context::empty();
        }
        let context = match &self.inherits {
            Inherits::Surroundings => Context::capture(),
            Inherits::Given(context) => context.clone(),
            Inherits::Nothing => Context::empty(),
        };
        let Some(carriers) = &core.carriers else { return context };
        match context.in_pool(carriers, matches!(self.inherits, Inherits::Surroundings)) {
            Ok(context) => context,
            Err(error) => panic!("{error}"),
        }
    }

    /// Submits a task in a context that was captured before. The handle of one that is not let in
    /// is that of a cancelled one.
    #[inline]
    pub(crate) fn submit_in<F, R>(
        &self,
        context: Context,
        at: &'static Location<'static>,
        place: Place,
        f: F,
    ) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let core = self.core();
        let enqueue = |job: Arc<Job<F, R, ()>>| core.enqueue(job);
        let job = self
            .admit_job(at, context, place, f, || (), enqueue)
            .unwrap_or_else(|refused| self.refused_job(at, refused, ()));
        JoinHandle::new(job, Arc::clone(core))
    }

    /// Lets a task in, makes a job of it and puts that on the queue: the one way into the pool.
    #[inline]
    pub(crate) fn admit_job<F, R, E>(
        &self,
        at: &'static Location<'static>,
        context: Context,
        place: Place,
        f: F,
        end: impl FnOnce() -> E,
        enqueue: impl FnOnce(Arc<Job<F, R, E>>) -> bool,
    ) -> Result<Arc<Job<F, R, E>>, Rejected<F>>
    where
        F: FnOnce() -> R + Send,
        R: Send,
        E: End,
    {
        match self.core().admit(place) {
            Ok(number) => {
                let job = Arc::new(Job::new(number, self.name.clone(), at, (f, context), end()));
                if enqueue(Arc::clone(&job)) {
                    job.cancel_on_queue(self.core());
                }
                Ok(job)
            }
            Err(why) => Err((f, context, why)),
        }
    }

    /// Returns the job of a task that was not let in, which is over.
    #[cold]
    pub(crate) fn refused_job<F, R, E>(
        &self,
        at: &'static Location<'static>,
        (f, context, why): Rejected<F>,
        end: E,
    ) -> Arc<Job<F, R, E>>
    where
        F: FnOnce() -> R + Send,
        R: Send,
        E: End,
    {
        let core = self.core();
        let number = core.next_number();
        let job = Arc::new(Job::new(number, self.name.clone(), at, (f, context), end));
        job.refuse(core, if why == Refused::Forked { Cause::Forked } else { Cause::ShutDown });
        job
    }
}

//! The methods of [`Pool`] that end it, and what they wait for.

use std::time::{Duration, Instant};

use super::error::{ShutdownError, ShutdownErrorKind};
use super::pool::Pool;
use super::scheduler::current;
use crate::sync::seam::atomic::Ordering;

impl Pool {
    /// Closes the pool, lets it drain (the tasks that it drains may still submit) and waits until
    /// every worker has ended, its thread-local destructors included. A second call, or a
    /// concurrent one, waits as well. Inside a task of another pool, the wait runs visits that are
    /// addressed to that task's worker.
    ///
    /// # Errors
    ///
    /// Returns a [`ShutdownError`] inside a task of the pool itself or on one of its threads; the
    /// pool then stays open. Also returns one in a forked child, and inside a task of another pool
    /// if the system refuses, for some two seconds, the thread that is to wait for the workers.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let last = pool.submit(|| "ran");
    /// pool.shutdown().unwrap();
    /// assert_eq!(last.join().unwrap(), "ran");
    /// assert!(pool.submit(|| ()).join().unwrap_err().is_cancelled());
    /// ```
    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        self.refuse_wait()?;
        self.core().close();
        self.wait_for_threads()
    }

    /// Shuts down like [`shutdown`](Pool::shutdown), but waits for at most `limit`. If that is not
    /// enough, the pool is detached: the workers go on draining, and the last handle does not wait
    /// for them either. A limit of zero is too short, unless an earlier call has seen the pool end:
    /// joining threads takes a moment, even if they have ended.
    ///
    /// # Errors
    ///
    /// Returns a [`ShutdownError`] if the workers have not ended by then, and where
    /// [`shutdown`](Pool::shutdown) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel::<()>();
    /// let _busy = pool.submit(move || gate.recv());
    /// assert!(pool.shutdown_timeout(Duration::from_millis(5)).unwrap_err().is_timed_out());
    /// go.send(()).unwrap();
    /// pool.shutdown().unwrap();
    /// ```
    pub fn shutdown_timeout(&self, limit: Duration) -> Result<(), ShutdownError> {
        self.refuse_wait()?;
        let core = self.core();
        core.close();
        if !limit.is_zero() {
            core.note_wait_for_end();
        }
        // A limit beyond the clock's range is no limit.
        let deadline = Instant::now().checked_add(limit);
        let joined = core.threads.join_until(deadline).map_err(ShutdownErrorKind::NoReaper)?;
        if joined {
            return Ok(());
        }
        self.detach_workers();
        Err(ShutdownErrorKind::TimedOut.into())
    }

    /// Closes the pool, cancels what has not started, and waits until every worker has ended. What
    /// is cancelled is dropped here and now, and none of it starts any more.
    ///
    /// A running [`map`](Pool::map) panics if one of its items has not started, once those that
    /// have started are over; if all have started, it returns. (Until an iterator has reported its
    /// end, there may be more items.) A [`scope`](Pool::scope) panics if one of its tasks is
    /// cancelled in this way and its handle was not joined. A [`broadcast`](Pool::broadcast) panics
    /// if none of its visits has begun: they may wait for one another, so either all of them run or
    /// none.
    ///
    /// # Errors
    ///
    /// Returns an error as [`shutdown`](Pool::shutdown) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::sync::mpsc;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let (go, gate) = mpsc::channel::<()>();
    /// let (tell, started) = mpsc::channel();
    /// let busy = pool.submit(move || (tell.send(()).unwrap(), gate.recv()).1);
    /// started.recv().unwrap();
    /// let waiting = pool.submit(move || drop(go));
    /// pool.shutdown_now().unwrap();
    /// assert!(waiting.join().unwrap_err().is_cancelled());
    /// assert!(busy.join().unwrap().is_err(), "the cancelled task's end was dropped");
    /// ```
    pub fn shutdown_now(&self) -> Result<(), ShutdownError> {
        self.refuse_wait()?;
        self.core().cancel();
        self.wait_for_threads()
    }

    /// Closes the pool and lets it drain, without waiting; the last handle does not wait either.
    /// Works anywhere, on the pool's own workers too.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let last = pool.submit(|| "ran");
    /// pool.shutdown_background();
    /// assert!(pool.submit(|| ()).join().unwrap_err().is_cancelled());
    /// drop(pool);
    /// assert_eq!(last.join().unwrap(), "ran");
    /// ```
    pub fn shutdown_background(&self) {
        self.detach_workers();
        self.core().close();
    }

    /// Closes the pool and cancels what has not started, without waiting; the last handle does not
    /// wait either. What is cancelled is dropped here and now. Works anywhere, on the pool's own
    /// workers too. (If the drop of each cancelled task calls this as well, those that lie too deep
    /// for one thread are dropped by the calls below on the stack, or by a worker.)
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let waiting = pool.submit(|| {
    ///     // Runs, or is cancelled, whichever comes first.
    /// });
    /// pool.shutdown_background_now();
    /// assert!(waiting.join().is_ok() || pool.stats().cancelled == 1);
    /// ```
    pub fn shutdown_background_now(&self) {
        self.detach_workers();
        let core = self.core();
        // In a forked child, what lies in the queue is the parent's.
        if core.is_forked() {
            core.close();
        } else {
            core.cancel();
        }
    }

    fn detach_workers(&self) {
        // Relaxed: read by the drop of the last handle, which comes after this one's.
        self.core().detaches.store(true, Ordering::Relaxed);
    }

    fn wait_for_threads(&self) -> Result<(), ShutdownError> {
        self.core().note_wait_for_end();
        let threads = &self.core().threads;
        if current::in_task() {
            let _joined = threads.join_until(None).map_err(ShutdownErrorKind::NoReaper)?;
        } else {
            threads.join();
        }
        Ok(())
    }

    /// Refuses a wait that would not end. What the pool waits for, such as a task, cannot wait for
    /// the pool's end, nor can one of its threads; nor can anybody in a process where the workers
    /// do not live.
    fn refuse_wait(&self) -> Result<(), ShutdownError> {
        let core = self.core();
        if current::keeps_open(core.id) || current::belongs_to(core.id) {
            return Err(ShutdownErrorKind::OnWorker.into());
        }
        if core.is_forked() {
            return Err(ShutdownErrorKind::Forked.into());
        }
        Ok(())
    }
}

//! [`Scope`]: tasks that borrow.
//!
//! Invariants:
//!
//! 1. `scope` neither returns nor unwinds before `unfinished` is 0, so no task outlives what it
//!    borrows: it catches what its closure throws, and waits for 0, or aborts. (In a forked child
//!    it does return: no thread that runs the tasks lives there, and nothing drops them.) A task
//!    counts from before it is shared until its [`End::over`], after which neither its closure nor
//!    its result exist any more (or they are leaked, see the job's cell).
//! 2. What remains of a job afterwards, a claimed shell in the queue, drops nothing that borrows.

#[cfg(all(loom, test))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::core::{Core, Entry, How, Place};
use super::error::{Cause, FORKED, Label, Labelled, SHUT_DOWN, TOO_DEEP, TaskError};
use super::handle;
use super::job::{End, Job, Joinable, Work};
use super::pool::Pool;
use crate::foreign::not_in_carrier;
use crate::frame::Failure;
use crate::panic::{self, AbortOnUnwind, Guarded};
use crate::sync::process::lock_unless;
use crate::sync::seam::atomic::{AtomicUsize, Ordering};
use crate::sync::seam::{self, Mutex, Thread};

/// A place from which to submit tasks that borrow from outside of it; made by
/// [`Pool::scope`](crate::Pool::scope).
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(2).unwrap();
/// let words = ["a", "borrowed", "list"];
/// let longest = pool.scope(|s| {
///     let lengths = words.map(|word| s.submit(|| word.len()));
///     lengths.into_iter().map(|handle| handle.join().unwrap()).max()
/// });
/// assert_eq!(longest, Some(8));
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    data: Arc<Data>,
    pool: Pool,
    /// Invariant in both lifetimes, as in `std::thread::scope`: were `'scope` to shrink, a task
    /// could borrow something that ends before the scope does.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

// A panic in a task is caught there, and every lock is held for bookkeeping only.
impl UnwindSafe for Scope<'_, '_> {}
impl RefUnwindSafe for Scope<'_, '_> {}
impl<R> UnwindSafe for ScopedJoinHandle<'_, R> {}
impl<R> RefUnwindSafe for ScopedJoinHandle<'_, R> {}

/// What a scope shares with its jobs; borrows nothing.
struct Data {
    unfinished: AtomicUsize,
    /// Failures that no handle has seen.
    unseen: AtomicUsize,
    /// What is said of the first failure whose handle was dropped.
    unheard: Mutex<Option<String>>,
    owner: Thread,
    /// The jobs that the owner may run while it waits; `None` if it is a plain thread, which runs
    /// none.
    unstarted: Option<Mutex<VecDeque<Arc<dyn Entry>>>>,
}

/// A job's share of its scope.
struct Member(Arc<Data>);

impl Member {
    /// Counts one more job, which owes a call of [`End::over`].
    fn new(data: &Arc<Data>) -> Self {
        // Relaxed: only the owner's thread, or a task that counts itself, adds; see invariant 1.
        data.unfinished.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(data))
    }
}

impl End for Member {
    fn failing(&self) {
        // Relaxed: read by the owner after the job is over, which orders it.
        self.0.unseen.fetch_add(1, Ordering::Relaxed);
    }

    fn failure_seen(&self) {
        // Relaxed: only a handle calls this, which lies within the scope's closure.
        self.0.unseen.fetch_sub(1, Ordering::Relaxed);
    }

    fn unheard(&self, label: &Label, cause: &Cause, core: &Core) {
        let Some(mut first) = lock_unless(&self.0.unheard, || core.is_forked()) else { return };
        if first.is_none() {
            *first = said_of(label, cause);
        }
    }

    fn over(&self) {
        // Release: pairs with the Acquire in `is_over`; everything the job did comes before.
        if self.0.unfinished.fetch_sub(1, Ordering::Release) == 1 {
            self.0.owner.unpark();
        }
    }
}

/// Returns what the scope's panic says of a failure. A panic's own words are left out: the panic
/// hook has printed them, and scopes that are nested would quote one another.
fn said_of(label: &Label, cause: &Cause) -> Option<String> {
    Some(match cause {
        // No failure.
        Cause::CancelledByHandle => return None,
        Cause::Failed(Failure::Panic(_)) => format!("a scoped task panicked: {label}"),
        Cause::Failed(failure) => format!("a scoped task failed: {label}: {failure}"),
        Cause::ShutDown => format!("a scoped task was cancelled: {label}: {SHUT_DOWN}"),
        Cause::TooDeep => format!("a scoped task did not run: {label}: {TOO_DEEP}"),
        Cause::Forked => format!("a scoped task did not run: {label}: {FORKED}"),
    })
}

impl Data {
    fn new(owner: Thread, helps: bool) -> Self {
        let [unfinished, unseen] = [0, 0].map(AtomicUsize::new);
        let (unheard, unstarted) = (Mutex::default(), helps.then(Mutex::default));
        Self { unfinished, unseen, unheard, owner, unstarted }
    }

    fn is_over(&self) -> bool {
        // Acquire: pairs with the Release in `over`.
        self.unfinished.load(Ordering::Acquire) == 0
    }

    /// Waits for all jobs, running those that have not started if the owner runs a task itself;
    /// returns false in a forked child, where nobody runs them.
    fn wait(&self, core: &Core) -> bool {
        let is_over = core.wait_until(|| {
            while let Some(job) = self.next_unstarted(|| core.is_forked()) {
                let _ran = not_in_carrier(|| job.run(core, How::Inline));
            }
            self.is_over()
        });
        if let (true, Some(unstarted)) = (is_over, &self.unstarted) {
            // One that came and went between the two looks is still listed. It is over, and refers
            // back to this.
            let _shells = std::mem::take(&mut *unstarted.lock());
        }
        is_over
    }

    fn is_over_well(&self) -> bool {
        // Relaxed: the jobs are over, and `is_over` has ordered what they counted.
        self.is_over() && self.unseen.load(Ordering::Relaxed) == 0
    }

    fn next_unstarted(&self, is_forked: impl FnOnce() -> bool) -> Option<Arc<dyn Entry>> {
        lock_unless(self.unstarted.as_ref()?, is_forked)?.pop_front()
    }

    /// Lists a job for the owner. When the list is full, it removes the jobs that others have
    /// claimed and makes room for as many as are left, so the cost per job is constant.
    ///
    /// In a forked child the list may be locked for ever: the scope then ends without its jobs.
    fn list(&self, job: Arc<dyn Entry>, is_forked: impl FnOnce() -> bool) {
        let Some(unstarted) = &self.unstarted else { return };
        let Some(mut list) = lock_unless(unstarted, is_forked) else { return };
        if list.len() == list.capacity() {
            list.retain(|job| !job.is_stale());
            let left = list.len();
            list.reserve(left);
        }
        list.push_back(job);
        drop(list);
        self.owner.unpark();
    }
}

impl Pool {
    /// Runs `f` with a scope from which to submit tasks that borrow, and returns when all of them
    /// are over. Has the shape and the panics of [`std::thread::scope`].
    ///
    /// # Panics
    ///
    /// Panics if `f` does (after all tasks are over), if the pool is shut down, and if a task whose
    /// handle was not joined has failed: it panicked, a carrier or its clean-up failed, it was
    /// cancelled by a shutdown, or it would have lain too deep. (One that its handle has
    /// [cancelled](crate::JoinHandle::cancel) has not failed.) The panic names the first such task
    /// and says what befell it, but leaves out a panic's own words. The failure of a task whose
    /// handle was dropped goes to the pool's [`panic_hook`](crate::PoolBuilder::panic_hook) as
    /// well.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let (mut left, mut right) = (vec![3, 1, 2], vec![9, 8]);
    /// pool.scope(|s| {
    ///     s.submit(|| left.sort());
    ///     s.submit(|| right.sort());
    /// });
    /// assert_eq!((left, right), (vec![1, 2, 3], vec![8, 9]));
    /// ```
    ///
    /// What a task borrows must outlive the scope:
    ///
    /// ```compile_fail,E0373
    /// # let pool = cleanslate::Pool::new(1).unwrap();
    /// pool.scope(|s| {
    ///     let local = 1;
    ///     s.submit(|| println!("{local}"));
    /// });
    /// ```
    ///
    /// ```
    /// # let pool = cleanslate::Pool::new(1).unwrap();
    /// let outside = 1;
    /// pool.scope(|s| {
    ///     s.submit(|| println!("{outside}"));
    /// });
    /// ```
    #[track_caller]
    pub fn scope<'env, F, T>(&self, f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        let f = Guarded::new(f);
        let core = self.core();
        if core.is_closed_here() {
            panic!("{SHUT_DOWN}");
        }
        let scope = Scope {
            data: Arc::new(Data::new(seam::current(), core.helps_here())),
            pool: self.clone(),
            scope: PhantomData,
            env: PhantomData,
        };
        let promise = AbortOnUnwind::new("a scope would have ended before its tasks");
        let result = panic::catch(|| f.into_inner()(&scope));
        let _in_this_process = scope.data.wait(core);
        promise.disarm();
        // From here on no task borrows anything.
        match result {
            Err(payload) => payload.resume(),
            Ok(result) if scope.data.is_over_well() => result,
            Ok(result) => {
                // Its drop may panic as well: that would be the second one.
                if let Err(second) = panic::catch(|| drop(result)) {
                    let dropped = self.unnumbered("result of a scope", Location::caller());
                    core.report(dropped.label(), Cause::Failed(Failure::Panic(second)));
                }
                if core.is_forked() {
                    panic!("{FORKED}");
                }
                let unheard = scope.data.unheard.lock().take();
                // The handle was leaked, and nobody knows.
                let unheard = unheard.unwrap_or_else(|| "a scoped task failed".to_owned());
                panic!("{unheard}")
            }
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Submits a task that may borrow whatever outlives the scope. After a shutdown the task does
    /// not run: the handle is that of a cancelled task, as with [`Pool::submit`].
    ///
    /// # Panics
    ///
    /// Panics as [`Pool::submit`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let mut numbers = vec![1, 2, 3];
    /// pool.scope(|s| {
    ///     for n in &mut numbers {
    ///         s.submit(move || *n *= 2);
    ///     }
    /// });
    /// assert_eq!(numbers, [2, 4, 6]);
    /// ```
    #[doc(alias = "spawn")]
    #[track_caller]
    pub fn submit<F, R>(&'scope self, f: F) -> ScopedJoinHandle<'scope, R>
    where
        F: FnOnce() -> R + Send + 'scope,
        R: Send + 'scope,
    {
        self.submit_at(Location::caller(), Place::Wait, self.pool.work(f))
    }

    /// Submits a task that is named after the location `at`; `place` says how it gets into the
    /// queue.
    pub(super) fn submit_at<F, R>(
        &'scope self,
        at: &'static Location<'static>,
        place: Place,
        work: Work<F>,
    ) -> ScopedJoinHandle<'scope, R>
    where
        F: FnOnce() -> R + Send + 'scope,
        R: Send + 'scope,
    {
        let core = self.pool.core();
        let enqueue = |job: Arc<Job<F, R, Member>>| {
            let entry = erase(job);
            self.data.list(Arc::clone(&entry), || core.is_forked());
            core.enqueue(entry)
        };
        let admitted = core.admit(place);
        let job = self.pool.job(work, at, admitted, Member::new(&self.data), enqueue);
        ScopedJoinHandle { job: Some(job), core }
    }
}

/// Forgets the lifetime of what the queue and the owner's list keep. By the module's invariants the
/// borrows hold until the scope ends, and afterwards the job is a shell that touches nothing of its
/// types.
#[expect(unsafe_code, reason = "a scope's jobs are kept where nothing may borrow")]
fn erase<'a>(job: Arc<dyn Entry + 'a>) -> Arc<dyn Entry> {
    // SAFETY: only the lifetime bound changes, which has no part in the layout; invariants 1 and 2
    // of the module keep every use of the borrows within it.
    unsafe { std::mem::transmute::<Arc<dyn Entry + 'a>, Arc<dyn Entry>>(job) }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            // Relaxed: only for display.
            .field("unfinished", &self.data.unfinished.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// A handle to a task of a [`Scope`], and the right to its result.
///
/// Dropping it leaves the task to the scope, which waits for it, and panics at its end if the task
/// did.
///
/// # Examples
///
/// ```
/// use cleanslate::{Pool, ScopedJoinHandle};
///
/// let pool = Pool::new(1).unwrap();
/// let words = ["a", "b"];
/// let count = pool.scope(|s| {
///     let handle: ScopedJoinHandle<'_, usize> = s.submit(|| words.len());
///     handle.join().unwrap()
/// });
/// assert_eq!(count, 2);
/// ```
pub struct ScopedJoinHandle<'scope, R> {
    job: Option<Arc<dyn Joinable<R> + 'scope>>,
    core: &'scope Core,
}

impl<R> ScopedJoinHandle<'_, R> {
    /// Waits for the task and returns its result. On a thread that runs a task of a pool, a task
    /// that has not started runs right here.
    ///
    /// # Errors
    ///
    /// Returns the [`TaskError`] that says how the task failed. The scope then does not panic
    /// because of it.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.scope(|s| s.submit(|| panic!("caught")).join().unwrap_err());
    /// assert_eq!(error.message(), Some("caught"));
    /// ```
    pub fn join(mut self) -> Result<R, TaskError> {
        let Some(job) = self.job.take() else { unreachable!("joining consumes the handle") };
        let any = job.any();
        if self.core.claims_here() && any.run_inline(self.core).is_err() {
            // It no longer runs: it ends with the scope, where there is room for its drop, and
            // which does not fail because of the error returned here.
            if any.state().cancel_at_claim() {
                return Err(handle::given_up(any, self.core, Cause::TooDeep));
            }
        }
        handle::join(&*job, self.core)
    }

    /// Returns the task's number; 0 after the result was taken.
    pub(super) fn number(&self) -> u64 {
        self.job.as_ref().map_or(0, |job| job.any().state().number())
    }

    /// Returns whether the task is done, so that [`join`](ScopedJoinHandle::join) would not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// pool.scope(|s| {
    ///     let (first, second) = (s.submit(|| 1), s.submit(|| 2));
    ///     second.join().unwrap();
    ///     assert!(first.is_finished());
    /// });
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.job.as_ref().is_none_or(|job| job.any().state().is_done())
    }

    /// Returns whether the task was cancelled before it began, by
    /// [`cancel`](ScopedJoinHandle::cancel) or by a shutdown.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// pool.scope(|s| {
    ///     let handle = s.submit(|| 1);
    ///     assert_eq!(handle.cancel(), handle.is_cancelled());
    /// });
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.any().state().is_cancelled())
    }

    /// Keeps the task from starting; returns whether that succeeded.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// pool.scope(|s| {
    ///     let handle = s.submit(|| 1);
    ///     let cancelled = handle.cancel();
    ///     assert_eq!(handle.join().is_err(), cancelled);
    /// });
    /// ```
    pub fn cancel(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.any().cancel(self.core))
    }
}

impl<R> Drop for ScopedJoinHandle<'_, R> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            job.any().detach(self.core);
        }
    }
}

impl<R> fmt::Debug for ScopedJoinHandle<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle")
            .field("task", &self.job.as_ref().map(|job| job.any().state().number()))
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

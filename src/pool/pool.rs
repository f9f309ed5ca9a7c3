//! [`Pool`]: a handle to the workers, and everything through which they are given work.

use std::fmt;
use std::ops::Range;
use std::panic::{Location, RefUnwindSafe, UnwindSafe, resume_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::builder::PoolBuilder;
use super::core::{Activity, Core, IfFull, Refused};
use super::error::{BuildError, Cause, Label, ShutdownError, SubmitError, TaskError};
use super::group::broadcast;
use super::handle::JoinHandle;
use super::imap::{Imap, ImapUnordered};
use super::isolation::Isolation;
use super::job::{End, Job};
use super::map::{self, Cursor, Ended, Pulled, RangeIndex};
use super::scheduler::current;
use super::scope::{self, Scope};
use super::stats::{self, Stats};
use crate::context::Context;
use crate::frame::Failure;
use crate::sync::seam::atomic::Ordering;

pub(crate) const SHUT_DOWN: &str = "the pool is shut down";
pub(crate) const FORKED: &str =
    "the pool has no workers in this process, a forked child of the one that built it";
pub(crate) const TOO_DEEP: &str = "too many tasks lie on top of one another on this thread";

/// A pool of worker threads, each task of which starts from a clean slate.
///
/// A task finds every slot (`task_local!`) fresh, whatever ran on its thread before it or runs below
/// it, and what it leaves there is dropped when it ends, before anybody can see that it has ended.
///
/// A `Pool` is a handle: its clones are the same pool, and [`named`](Pool::named),
/// [`in_context`](Pool::in_context) and [`detached`](Pool::detached) give handles to the same workers
/// that submit in another way. The last handle to go drains and joins the pool, as
/// [`shutdown`](Pool::shutdown) does; on a thread that runs a task of any pool it closes the pool and
/// detaches it instead: what was submitted runs, and the workers end by themselves. A task that keeps a
/// handle to its own pool keeps the pool open; [`downgrade`](Pool::downgrade) gives one that does not.
///
/// # Waiting
///
/// A thread that runs a task of any pool and waits for another (in `join`, in a map, at the end of a
/// scope) runs what it waits for itself, where that has not started; so nested waits cannot deadlock,
/// not even with one worker. It runs nothing else meanwhile, but for visits of a
/// [`broadcast`](Pool::broadcast) to it. Plain threads never run tasks. Tasks nest to a depth of 256 on
/// one thread; beyond that a `join` fails with an error that
/// [`is_too_deep`](TaskError::is_too_deep), and the other ways of waiting panic.
///
/// # Forks
///
/// A child process after a `fork` has none of the workers. There everything that would wait for one
/// fails with an error, or a panic, that names the fork, and the drop of the pool does not wait.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(4).unwrap();
/// let words = ["clean", "slate"];
/// assert_eq!(pool.map(words, str::len), [5, 5]);
/// assert_eq!(pool.submit(|| 6 * 7).join().unwrap(), 42);
/// ```
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
    name: Option<Arc<str>>,
    inherits: Inherits,
}

/// What the tasks inherit.
#[derive(Clone)]
enum Inherits {
    /// What surrounds the submission.
    Surroundings,
    Given(Context),
    Nothing,
}

/// What the handles share: the last one ends the pool.
struct Owner {
    core: Arc<Core>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let core = &self.core;
        core.close();
        // Relaxed: whoever set it did so through a handle, and the count of handles orders that.
        let detaches = core.detaches.load(Ordering::Relaxed);
        if !detaches && !current::in_task() && !current::belongs_to(core.id) && !core.is_forked() {
            core.threads.join();
        }
    }
}

/// A handle to a [`Pool`] that does not keep it open; made by [`Pool::downgrade`].
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(1).unwrap();
/// let weak = pool.downgrade();
/// assert_eq!(weak.upgrade().unwrap().workers(), 1);
/// drop(pool);
/// assert!(weak.upgrade().is_none());
/// ```
#[derive(Clone)]
pub struct WeakPool {
    owner: Weak<Owner>,
    name: Option<Arc<str>>,
    inherits: Inherits,
}

impl WeakPool {
    /// Returns a handle, unless the last one is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<Pool> {
        let owner = self.owner.upgrade()?;
        Some(Pool { owner, name: self.name.clone(), inherits: self.inherits.clone() })
    }
}

impl fmt::Debug for WeakPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakPool").finish_non_exhaustive()
    }
}

// A panic in a task is caught there, and every lock is held for bookkeeping only.
impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}
impl UnwindSafe for WeakPool {}
impl RefUnwindSafe for WeakPool {}

impl Pool {
    /// Starts a pool of `workers` threads.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] for no workers, or if the system refuses a thread.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = cleanslate::Pool::new(3).unwrap();
    /// assert_eq!(pool.workers(), 3);
    /// ```
    pub fn new(workers: usize) -> Result<Self, BuildError> {
        Self::builder().workers(workers).build()
    }

    /// Returns a builder with default settings.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(2).queue_capacity(100).build().unwrap();
    /// assert_eq!(pool.workers(), 2);
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    pub(crate) fn from_core(core: Arc<Core>) -> Self {
        let owner = Arc::new(Owner { core });
        Self { owner, name: None, inherits: Inherits::Surroundings }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.owner.core
    }

    /// Returns a handle to the same workers that does not keep the pool open: for hooks, worker-locals
    /// and tasks that live as long as the pool does.
    #[must_use]
    pub fn downgrade(&self) -> WeakPool {
        WeakPool {
            owner: Arc::downgrade(&self.owner),
            name: self.name.clone(),
            inherits: self.inherits.clone(),
        }
    }

    /// Returns the number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.core().slots.len()
    }

    /// Returns the index of the current thread among the pool's workers; `None` on any other thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(3).unwrap();
    /// assert_eq!(pool.worker_index(), None);
    /// assert_eq!(pool.broadcast(|| pool.worker_index()), [Some(0), Some(1), Some(2)]);
    /// ```
    #[must_use]
    pub fn worker_index(&self) -> Option<usize> {
        current::index_in(self.core().id)
    }

    /// Returns what the pool is doing and has done. Looking disturbs nobody.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// pool.submit(|| ()).join().unwrap();
    /// assert_eq!(pool.stats().completed, 1);
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        stats::read(self.core())
    }

    // --- How tasks are submitted ---

    /// Returns a handle that names the tasks submitted through it, for [`TaskError`]. Any text will do;
    /// control characters are escaped where it is displayed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!()).join().unwrap_err();
    /// assert_eq!(error.task_name(), Some("lookup"));
    /// ```
    #[must_use]
    pub fn named(&self, name: impl Into<Arc<str>>) -> Self {
        Self { name: Some(name.into()), ..self.clone() }
    }

    /// Returns a handle whose tasks get `context`, instead of what surrounds their submission.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, Pool, task_local};
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static TENANT: u32 = 0;
    /// }
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let for_seven = TENANT.scope(7, || pool.in_context(&Context::capture()));
    /// assert_eq!(for_seven.submit(|| TENANT.get()).join().unwrap(), 7);
    /// ```
    #[must_use]
    pub fn in_context(&self, context: &Context) -> Self {
        Self { inherits: Inherits::Given(context.clone()), ..self.clone() }
    }

    /// Returns a handle whose tasks inherit nothing: for long-lived work, which must not inherit from,
    /// nor pin, whatever happened to surround its start.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let housekeeping = pool.detached().named("housekeeping");
    /// assert_eq!(housekeeping.submit(|| 1).join().unwrap(), 1);
    /// ```
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { inherits: Inherits::Nothing, ..self.clone() }
    }

    /// Returns the context that a task submitted here and now gets.
    #[inline]
    #[track_caller]
    fn context(&self) -> Context {
        let core = self.core();
        if core.isolation == Isolation::Leaky {
            return Context::empty();
        }
        let context = match &self.inherits {
            Inherits::Surroundings => Context::capture(),
            Inherits::Given(context) => context.clone(),
            Inherits::Nothing => Context::empty(),
        };
        if core.carriers.is_empty() {
            return context;
        }
        match context.in_pool(&core.carriers, matches!(self.inherits, Inherits::Surroundings)) {
            Ok(context) => context,
            Err(error) => panic!("{error}"),
        }
    }

    #[inline]
    fn label(&self, id: u64, at: &'static Location<'static>) -> Label {
        Label { name: self.name.clone(), at, id }
    }

    // --- Single tasks ---

    /// Submits a task, with what surrounds this call as its context.
    ///
    /// Where the queue is bounded and full, a plain thread waits for room. After a shutdown the task
    /// does not run: the handle is that of a cancelled one.
    ///
    /// One allocation, besides the queue's own, which makes one for every 31 tasks.
    ///
    /// # Panics
    ///
    /// Panics if a slot that the task would inherit is inside its own `with_mut`, or if a carrier of
    /// the pool cannot capture.
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
        let core = self.core();
        let enqueue = |job: Arc<Job<F, R, ()>>| core.enqueue(job);
        let job = self.submit_job(Location::caller(), f, || (), enqueue);
        JoinHandle::new(job, Arc::clone(core))
    }

    /// Submits a task unless the bounded queue is full or the pool is shut down. Never waits.
    ///
    /// # Errors
    ///
    /// Hands the closure back in a [`SubmitError`] that says which of the two it was.
    ///
    /// # Panics
    ///
    /// As [`submit`](Pool::submit).
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
        match self.admit_job(at, self.context(), IfFull::Refuse, f, || (), enqueue) {
            Ok(job) => Ok(JoinHandle::new(job, Arc::clone(core))),
            Err((f, _context, Refused::Full)) => Err(SubmitError::full(f)),
            Err((f, _context, _)) => Err(SubmitError::shut_down(f)),
        }
    }

    /// Submits the task of one item, in a context that was captured before.
    pub(crate) fn submit_in<F, R>(
        &self,
        context: &Context,
        at: &'static Location<'static>,
        f: F,
    ) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let core = self.core();
        let enqueue = |job: Arc<Job<F, R, ()>>| core.enqueue(job);
        let job = self
            .admit_job(at, context.clone(), IfFull::Wait, f, || (), enqueue)
            .unwrap_or_else(|refused| self.refused_job(at, refused, ()));
        JoinHandle::new(job, Arc::clone(core))
    }

    /// Submits a task, waiting for room. The job of one that is not let in is cancelled already.
    #[inline]
    #[track_caller]
    pub(crate) fn submit_job<F, R, E>(
        &self,
        at: &'static Location<'static>,
        f: F,
        end: impl Fn() -> E,
        enqueue: impl FnOnce(Arc<Job<F, R, E>>),
    ) -> Arc<Job<F, R, E>>
    where
        F: FnOnce() -> R + Send,
        R: Send,
        E: End,
    {
        self.admit_job(at, self.context(), IfFull::Wait, f, &end, enqueue)
            .unwrap_or_else(|refused| self.refused_job(at, refused, end()))
    }

    /// The one way of a task into the pool: it is let in, becomes a job, and is put on the queue.
    #[inline]
    fn admit_job<F, R, E>(
        &self,
        at: &'static Location<'static>,
        context: Context,
        if_full: IfFull,
        f: F,
        end: impl FnOnce() -> E,
        enqueue: impl FnOnce(Arc<Job<F, R, E>>),
    ) -> Result<Arc<Job<F, R, E>>, (F, Context, Refused)>
    where
        F: FnOnce() -> R + Send,
        R: Send,
        E: End,
    {
        match self.core().admit(if_full) {
            Ok(number) => {
                let job = Arc::new(Job::new(f, context, self.label(number, at), end()));
                enqueue(Arc::clone(&job));
                Ok(job)
            }
            Err(why) => Err((f, context, why)),
        }
    }

    /// Returns the job of a task that was not let in, which is over.
    #[cold]
    fn refused_job<F, R, E>(
        &self,
        at: &'static Location<'static>,
        (f, context, why): (F, Context, Refused),
        end: E,
    ) -> Arc<Job<F, R, E>>
    where
        F: FnOnce() -> R + Send,
        R: Send,
        E: End,
    {
        let core = self.core();
        let job = Arc::new(Job::new(f, context, self.label(core.next_number(), at), end));
        job.refuse(core, if why == Refused::Forked { Cause::Forked } else { Cause::ShutDown });
        job
    }

    /// Runs `f` with a scope, from which tasks that borrow are submitted; returns when all of them are
    /// over. In shape and panics as [`std::thread::scope`].
    ///
    /// # Panics
    ///
    /// Panics if `f` does (after all tasks are over), if a task panicked or was cancelled and its handle
    /// was not joined, and if the pool is shut down.
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
        scope::scope(self, f)
    }

    // --- Maps ---

    /// Applies `f` to every item, each in a task of its own, and returns the results in input order.
    ///
    /// Items and `f` may borrow. The workers take turns at pulling items from the iterator, a chunk at a
    /// time and one by one where they are slow, and write the results in place: nothing is collected
    /// before or copied after. Each pull is a task of its own, too.
    ///
    /// # Panics
    ///
    /// The first panic, of an item or of the iterator, resumes here; no item starts after it, and what
    /// was made is dropped. Panics if the pool is shut down, if tasks are nested too deep, and as
    /// [`submit`](Pool::submit) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let text = String::from("to be or not to be");
    /// assert_eq!(pool.map(text.split(' '), str::len), [2, 2, 2, 3, 2, 2]);
    /// ```
    #[track_caller]
    pub fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        let items = items.into_iter();
        let hint = items.size_hint();
        self.plain(&Pulled::new(items), hint, &map::Plain(f))
    }

    /// Applies `f` to every element of a slice; otherwise as [`map`](Pool::map), and faster.
    ///
    /// # Panics
    ///
    /// As [`map`](Pool::map).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let words = ["one", "three"];
    /// assert_eq!(pool.map_slice(&words, |word| word.len()), [3, 5]);
    /// ```
    #[doc(alias = "par_iter")]
    #[track_caller]
    pub fn map_slice<'s, T, F, R>(&self, items: &'s [T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&'s T) -> R + Sync,
        R: Send,
    {
        let len = items.len();
        self.plain(&Cursor::new(map::Slice(items)), (len, Some(len)), &map::Plain(f))
    }

    /// Applies `f` to every number of a range; otherwise as [`map`](Pool::map), and faster.
    ///
    /// # Panics
    ///
    /// As [`map`](Pool::map); and if the length of the range overflows `usize`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// assert_eq!(pool.map_range(-1_i64..2, |n| n * n), [1, 0, 1]);
    /// ```
    #[track_caller]
    pub fn map_range<N, F, R>(&self, range: Range<N>, f: F) -> Vec<R>
    where
        N: RangeIndex,
        F: Fn(N) -> R + Sync,
        R: Send,
    {
        let Some(len) = N::count(&range) else {
            panic!("a range longer than memory: its length overflows `usize`")
        };
        let numbers = Cursor::new(map::Range { start: range.start, len });
        self.plain(&numbers, (len, Some(len)), &map::Plain(f))
    }

    /// Applies `f` to every item until one fails; otherwise as [`map`](Pool::map).
    ///
    /// # Errors
    ///
    /// Returns an item's error, of those that happened the one that comes first in input order. No item
    /// starts after it, and the results that were made are dropped.
    ///
    /// # Panics
    ///
    /// As [`map`](Pool::map). A panic takes precedence over an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let parsed = pool.try_map(["1", "2"], str::parse::<i32>);
    /// assert_eq!(parsed, Ok(vec![1, 2]));
    /// assert!(pool.try_map(["1", "x"], str::parse::<i32>).is_err());
    /// ```
    #[track_caller]
    pub fn try_map<I, F, R, E>(&self, items: I, f: F) -> Result<Vec<R>, E>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> Result<R, E> + Sync,
        R: Send,
        E: Send,
    {
        let items = items.into_iter();
        let hint = items.size_hint();
        self.run_map(&Pulled::new(items), hint, &map::Trying(f))
    }

    /// Applies `f` to every item, where a panic costs its item only; otherwise as [`map`](Pool::map).
    /// The number in a [`TaskError`] is the item's position.
    ///
    /// # Panics
    ///
    /// Panics if the iterator does, or if the pool is shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let results = pool.map_results([1, 0, 4], |n| 12 / n);
    /// assert_eq!(*results[0].as_ref().unwrap(), 12);
    /// assert!(results[1].as_ref().unwrap_err().is_panic());
    /// assert_eq!(*results[2].as_ref().unwrap(), 3);
    /// ```
    #[track_caller]
    pub fn map_results<I, F, R>(&self, items: I, f: F) -> Vec<Result<R, TaskError>>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        let items = items.into_iter();
        let hint = items.size_hint();
        let label = self.label(0, Location::caller());
        self.plain(&Pulled::new(items), hint, &map::Every { f, label })
    }

    #[track_caller]
    fn plain<S, P>(&self, source: &S, hint: (usize, Option<usize>), step: &P) -> Vec<P::Out>
    where
        S: map::Source,
        P: map::Step<S::Item, Stop = std::convert::Infallible>,
    {
        match self.run_map(source, hint, step) {
            Ok(results) => results,
            Err(never) => match never {},
        }
    }

    #[track_caller]
    fn run_map<S, P>(
        &self,
        source: &S,
        hint: (usize, Option<usize>),
        step: &P,
    ) -> Result<Vec<P::Out>, P::Stop>
    where
        S: map::Source,
        P: map::Step<S::Item>,
    {
        let core = self.core();
        let context = self.context();
        let (_activity, label) = self.activity(Location::caller());
        match map::run(core, &context, &label, source, step, hint) {
            Ended::Done(results) => Ok(results),
            Ended::Stopped(with) => Err(with),
            Ended::Failed(failure) => resume(label, failure),
            Ended::Cancelled => self.fail_cancelled(),
        }
    }

    /// Lets in what is not a job, a map or a broadcast, for as long as the activity lives.
    #[track_caller]
    fn activity(&self, at: &'static Location<'static>) -> (Activity<'_>, Label) {
        let Some(activity) = Activity::begin(self.core()) else { panic!("{SHUT_DOWN}") };
        if !current::may_nest() {
            drop(activity);
            panic!("{TOO_DEEP}");
        }
        let label = self.label(activity.number, at);
        (activity, label)
    }

    #[cold]
    #[track_caller]
    fn fail_cancelled(&self) -> ! {
        if self.core().is_forked() {
            panic!("{FORKED}");
        }
        panic!("{SHUT_DOWN}")
    }

    /// Applies `f` to the items lazily and yields the results in input order.
    ///
    /// Nothing is pulled before the first `next`; then, on the consumer's thread, at most
    /// [`buffer`](Imap::buffer) items that are not yet yielded. So endless input works. Since the
    /// iterator may outlive this call, `f`, the items and the results are `'static`. The iterator is a
    /// handle to the pool: it keeps it open.
    ///
    /// # Panics
    ///
    /// Panics if the pool is shut down, and as [`submit`](Pool::submit) does. The iterator's `next`
    /// panics where an item did, and if the pool is shut down meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// let mut halves = pool.imap((0..).step_by(2), |n| n / 2);
    /// assert_eq!(halves.nth(10), Some(10));
    /// ```
    #[track_caller]
    pub fn imap<I, F, R>(&self, items: I, f: F) -> Imap<I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        Imap::new(self.clone(), self.open_context(), Location::caller(), items.into_iter(), f)
    }

    /// As [`imap`](Pool::imap), but yields the results as they come.
    ///
    /// # Panics
    ///
    /// As [`imap`](Pool::imap).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(2).unwrap();
    /// assert_eq!(pool.imap_unordered(1..=4, |n| n * 10).sum::<i32>(), 100);
    /// ```
    #[track_caller]
    pub fn imap_unordered<I, F, R>(&self, items: I, f: F) -> ImapUnordered<I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let context = self.open_context();
        ImapUnordered::new(self.clone(), context, Location::caller(), items.into_iter(), f)
    }

    #[track_caller]
    fn open_context(&self) -> Context {
        if self.core().is_closed_here() {
            panic!("{SHUT_DOWN}");
        }
        self.context()
    }

    // --- Every worker ---

    /// Runs `f` once on every worker, each in a task of its own; the results are in the order of the
    /// workers.
    ///
    /// A worker comes to it when its outermost task is over, or while that one waits: so `f` must not
    /// wait for a task that may itself be waiting on a worker. Broadcasts that race are run in the same
    /// order by every worker, so visits of one broadcast may wait for one another. A shutdown cancels
    /// all visits of a broadcast or none.
    ///
    /// # Panics
    ///
    /// The first panic resumes here, after every worker was visited. Panics if the pool is shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(3).unwrap();
    /// assert_eq!(pool.broadcast(|| 1), [1, 1, 1]);
    /// ```
    #[track_caller]
    pub fn broadcast<F, R>(&self, f: F) -> Vec<R>
    where
        F: Fn() -> R + Sync,
        R: Send,
    {
        let context = self.context();
        let (_activity, label) = self.activity(Location::caller());
        match broadcast::run(self.core(), &context, &label, f) {
            Ok(results) => results,
            Err(Cause::Failed(failure)) => resume(label, failure),
            Err(_cancelled) => self.fail_cancelled(),
        }
    }

    // --- The end ---

    /// Closes the pool, lets it drain (tasks that drain may still submit) and waits until every worker
    /// has ended, its thread-local destructors included. Doing so again, or at the same time, waits as
    /// well. Inside a task of another pool the wait runs visits that are addressed to its worker.
    ///
    /// # Errors
    ///
    /// Returns a [`ShutdownError`] inside a task of the pool itself or on one of its threads; the pool
    /// stays open then. Returns one in a forked child.
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

    /// As [`shutdown`](Pool::shutdown), but waits for at most `limit`. If that was not enough, the pool
    /// is detached: the workers go on draining, and the last handle does not wait for them either.
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
        // A limit beyond the clock's range is no limit.
        let deadline = Instant::now().checked_add(limit);
        let joined = core.threads.join_until(deadline).map_err(ShutdownError::no_reaper)?;
        if joined {
            return Ok(());
        }
        self.detach_workers();
        Err(ShutdownError::timed_out())
    }

    /// Closes the pool, cancels what has not started, and waits until every worker has ended. What is
    /// cancelled is dropped here and now; nothing of it starts any more.
    ///
    /// Calls of [`map`](Pool::map), [`scope`](Pool::scope) and [`broadcast`](Pool::broadcast) that are
    /// not over panic, when what they have started is.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Pool::shutdown).
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
    /// assert!(busy.join().unwrap().is_err(), "the cancelled task's end of the channel was dropped");
    /// ```
    pub fn shutdown_now(&self) -> Result<(), ShutdownError> {
        self.refuse_wait()?;
        self.core().cancel();
        self.wait_for_threads()
    }

    /// Closes the pool and lets it drain, without waiting; the last handle does not wait either. Works
    /// anywhere, on the pool's own workers too.
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

    /// Closes the pool and cancels what has not started, without waiting; the last handle does not wait
    /// either. What is cancelled is dropped here and now. Works anywhere, on the pool's own workers too.
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
    /// assert!(waiting.join().is_ok_and(|()| true) || pool.stats().cancelled == 1);
    /// ```
    pub fn shutdown_background_now(&self) {
        self.detach_workers();
        let core = self.core();
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
        let threads = &self.core().threads;
        if current::in_task() {
            let _joined = threads.join_until(None).map_err(ShutdownError::no_reaper)?;
        } else {
            threads.join();
        }
        Ok(())
    }

    /// A task of the pool cannot wait for the pool's end, nor can one of its threads; nor can anybody in
    /// a process where the workers do not live.
    fn refuse_wait(&self) -> Result<(), ShutdownError> {
        let core = self.core();
        if current::runs_task_of(core.id) || current::belongs_to(core.id) {
            return Err(ShutdownError::on_worker());
        }
        if core.is_forked() {
            return Err(ShutdownError::forked());
        }
        Ok(())
    }
}

/// Unwinds with the failure of a task: with its own payload if it panicked, else with words that name
/// it.
#[track_caller]
pub(crate) fn resume(label: Label, failure: Failure) -> ! {
    match TaskError::new(label, Cause::Failed(failure)).try_into_panic() {
        Ok(payload) => resume_unwind(payload),
        Err(error) => panic!("{error}"),
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

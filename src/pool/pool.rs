//! [`Pool`]: a handle to the workers, and everything through which they are given work.

use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

use super::core::{Activity, Core, Place};
use super::error::{Cause, FORKED, Label, Labelled, Name, SHUT_DOWN, TOO_DEEP, TaskError, Which};
use super::group::broadcast;
use super::scheduler::current::{self, Doing};
use super::stats::{self, Stats};
use crate::context::Context;
use crate::frame::Framed;
use crate::sync::seam::atomic::Ordering;

/// A pool of worker threads that runs tasks, each of which starts from a clean slate.
///
/// A task finds every slot (`task_local!`) fresh, whatever ran on its thread before it or runs
/// below it, and what it leaves there is dropped when it ends, before anybody can see that it has
/// ended.
///
/// A `Pool` is a handle: its clones are the same pool, and [`named`](Pool::named),
/// [`in_context`](Pool::in_context) and [`detached`](Pool::detached) give handles to the same
/// workers that submit differently.
///
/// # The end
///
/// Dropping the last handle drains and joins the pool, as [`shutdown`](Pool::shutdown) does. On a
/// thread that runs a task of any pool (or drops what a pool has cancelled), it closes the pool and
/// detaches it instead: what was submitted still runs, and the workers end by themselves. So a task
/// that keeps a handle to its own pool keeps the pool open, and dropping a handle elsewhere then
/// waits for nothing. Where tasks have handles, for example to submit others, end with `shutdown`,
/// which waits for all of them:
///
/// ```
/// use cleanslate::Pool;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// static VISITED: AtomicU32 = AtomicU32::new(0);
///
/// fn visit(pool: &Pool, page: u32) {
///     let handle = pool.clone();
///     drop(pool.submit(move || {
///         VISITED.fetch_add(1, Ordering::Relaxed);
///         for link in [2 * page, 2 * page + 1] {
///             if link < 100 {
///                 visit(&handle, link);
///             }
///         }
///     }));
/// }
///
/// let pool = Pool::new(2).unwrap();
/// visit(&pool, 1);
/// pool.shutdown().unwrap();
/// assert_eq!(VISITED.load(Ordering::Relaxed), 99);
/// ```
///
/// Or let them borrow the pool in a [`scope`](Pool::scope). Hooks and worker-locals can use
/// [`downgrade`](Pool::downgrade).
///
/// # Waiting
///
/// A thread that runs a task of any pool and waits for another (in `join`, in a map, at the end of
/// a scope) itself runs what it waits for, if that has not started; so nested waits cannot
/// deadlock, not even with one worker. Meanwhile it runs nothing else, except visits of a
/// [`broadcast`](Pool::broadcast) to it. Plain threads run no tasks, unless
/// [`caller_helps`](crate::PoolBuilder::caller_helps) is set.
///
/// Tasks nest to a depth of 256 on one thread, or until three quarters of its stack are used (on a
/// plain thread, 1.5 MiB from where its outermost task begins). Beyond that a `join` fails with an
/// error that [`is_too_deep`](TaskError::is_too_deep), and the other ways of waiting panic.
///
/// # Forks
///
/// After a `fork`, the child process has none of the workers (but for the one whose task has
/// forked, if one did, and that one begins nothing more by itself). There, everything that would
/// wait for one fails with an error or a panic that names the fork, and dropping the pool does not
/// wait. Work for which the calling thread would not need a worker (that of a task, or with
/// [`caller_helps`](crate::PoolBuilder::caller_helps)) runs as before.
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
#[doc(alias = "ThreadPool")]
#[doc(alias = "ThreadPoolExecutor")]
#[derive(Clone)]
pub struct Pool {
    pub(super) name: Option<Name>,
    /// What the tasks inherit. `None`: what surrounds their submission.
    pub(super) inherits: Option<Context>,
    /// Dropped last: the last one waits for the pool's tasks, which may wait for the fields above.
    owner: Arc<Handles>,
}

/// What the handles share. The last handle ends the pool.
struct Handles {
    core: Arc<Core>,
}

impl Drop for Handles {
    fn drop(&mut self) {
        let core = &self.core;
        if core.is_forked() {
            // Another thread of the parent may have held a lock at the fork.
            return;
        }
        // Relaxed: whoever set it did so through a handle, and the count of handles orders that.
        let detaches = core.detaches.load(Ordering::Relaxed);
        let waits = !detaches && !current::is_awaited() && !current::belongs_to(core.id);
        if waits {
            core.note_wait_for_end();
        }
        core.close();
        if waits {
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
    owner: Weak<Handles>,
    name: Option<Name>,
    inherits: Option<Context>,
}

impl WeakPool {
    /// Returns a handle, or `None` once the last one is gone, even while its drop still waits for
    /// the remaining tasks. During a [`shutdown`](Pool::shutdown) it returns a handle.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let weak = pool.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(pool);
    /// assert!(weak.upgrade().is_none());
    /// ```
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
    pub(crate) fn from_core(core: Arc<Core>) -> Self {
        let owner = Arc::new(Handles { core });
        Self { owner, name: None, inherits: None }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.owner.core
    }

    /// Returns a handle to the same workers that does not keep the pool open: for hooks,
    /// worker-locals and tasks that live as long as the pool does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let weak = pool.downgrade();
    /// drop(pool);
    /// assert!(weak.upgrade().is_none(), "it did not keep the pool open");
    /// ```
    ///
    /// Hooks are set before the pool exists, so they get the handle later:
    ///
    /// ```
    /// use cleanslate::{Pool, WeakPool};
    /// use std::sync::{Arc, OnceLock};
    ///
    /// let slot = Arc::new(OnceLock::<WeakPool>::new());
    /// let theirs = Arc::clone(&slot);
    /// let again = move |error| match theirs.get().and_then(WeakPool::upgrade) {
    ///     Some(pool) => drop(pool.submit(move || println!("once more, after {error}"))),
    ///     None => println!("{error}: the pool is over, or is only just being built"),
    /// };
    /// let pool = Pool::builder().workers(1).panic_hook(again).build().unwrap();
    /// assert!(slot.set(pool.downgrade()).is_ok());
    /// drop(pool.submit(|| panic!("no broom")));
    /// pool.shutdown().unwrap();
    /// ```
    #[must_use]
    pub fn downgrade(&self) -> WeakPool {
        WeakPool {
            owner: Arc::downgrade(&self.owner),
            name: self.name.clone(),
            inherits: self.inherits.clone(),
        }
    }

    /// Returns the number of workers.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(cleanslate::Pool::new(3).unwrap().workers(), 3);
    /// ```
    #[must_use]
    pub fn workers(&self) -> usize {
        self.core().slots.len()
    }

    /// Returns the index of the current thread among the pool's workers, or `None` on any other
    /// thread. It is also `None` once a worker has stopped serving, in the drops of what is kept on
    /// it.
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

    /// Returns what the pool is doing and has done. This never blocks a worker.
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

    /// Returns a handle that names the tasks submitted through it, for [`TaskError`]. Any text will
    /// do; control characters, quotes and backslashes are escaped where it is displayed.
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
        Self { name: Some(Arc::new(name.into())), ..self.clone() }
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
        Self { inherits: Some(context.clone()), ..self.clone() }
    }

    /// Returns a handle whose tasks inherit nothing: for long-lived work, which must neither
    /// inherit nor pin whatever happened to surround its start. Carriers attach what they call
    /// [nothing](crate::foreign::Carrier::nothing).
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
        self.in_context(&Context::empty())
    }

    #[inline]
    pub(crate) fn label(&self, number: u64, at: &'static Location<'static>) -> Label {
        Label { name: self.name.clone(), at, which: Which::Task(number) }
    }

    /// Names something that is not a task and so has no number.
    #[inline]
    pub(crate) fn unnumbered(
        &self,
        what: &'static str,
        at: &'static Location<'static>,
    ) -> Unnumbered<'_> {
        Unnumbered { pool: self, what, at }
    }

    /// Runs `f` once on every worker, each time in a task of its own (a visit), and returns the
    /// results in the order of the workers.
    ///
    /// A worker is visited when its outermost task is over, or while that task waits (but not while
    /// an executor's `block_on` has the thread). So `f` must not wait for a task that may itself be
    /// waiting on a worker's thread. Every worker runs racing broadcasts in the same order, so
    /// visits of one broadcast may wait for one another. A shutdown cancels either all visits of a
    /// broadcast or none.
    ///
    /// # Panics
    ///
    /// Panics with the first panic of a visit, after every worker was visited. Panics if the pool
    /// is shut down, if too many tasks and visits lie on top of one another on a worker for one
    /// more, and as [`submit`](Pool::submit) does.
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
        let f = Framed::new(f);
        let context = self.context();
        let (_activity, label) = self.activity(Location::caller());
        match broadcast::run(self.core(), context, &label, f.into_inner()) {
            Ok(results) => results,
            Err(Cause::Failed(failure)) => TaskError::new(label, Cause::Failed(failure)).resume(),
            Err(Cause::TooDeep) => panic!("a worker was not visited: {TOO_DEEP}"),
            Err(_cancelled) => self.fail_cancelled(),
        }
    }

    /// Lets in what is no job: a map or a broadcast, for as long as the activity lives.
    #[track_caller]
    pub(crate) fn activity(&self, at: &'static Location<'static>) -> (Activity<'_>, Label) {
        let core = self.core();
        let Ok(number) = core.admit(Place::NotNeeded) else { panic!("{SHUT_DOWN}") };
        let activity = Activity::begin(core, core.tally(), Doing::OTHER);
        if !current::may_nest() {
            drop(activity);
            panic!("{TOO_DEEP}");
        }
        let label = self.label(number, at);
        (activity, label)
    }

    #[cold]
    #[track_caller]
    pub(crate) fn fail_cancelled(&self) -> ! {
        if self.core().is_forked() {
            panic!("{FORKED}");
        }
        panic!("{SHUT_DOWN}")
    }
}

/// The name, in errors, of something that is not a task, but runs the user's code or owns what is
/// the user's.
pub(crate) struct Unnumbered<'p> {
    pool: &'p Pool,
    what: &'static str,
    at: &'static Location<'static>,
}

impl Labelled for Unnumbered<'_> {
    #[cold]
    fn label(&self) -> Label {
        let name = match &self.pool.name {
            Some(name) => format!("{name}: {}", self.what).into(),
            None => self.what.into(),
        };
        Label { name: Some(Arc::new(name)), at: self.at, which: Which::Other }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("task_name", &self.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

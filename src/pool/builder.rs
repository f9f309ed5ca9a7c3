//! [`PoolBuilder`]: a pool's settings, and how it starts.

use std::fmt;
use std::num::{IntErrorKind, NonZeroUsize};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::core::hooks::{Hooks, Startup};
use super::core::{Core, Settings};
use super::error::{BuildError, BuildErrorKind, MOST_WORKERS, TaskError, WORKERS_VARIABLE};
use super::isolation::Isolation;
use super::leaks::LeakWatch;
use super::pool::Pool;
use super::scheduler::threads::Threads;
use super::scheduler::worker;
use crate::foreign::{self, CarrierSet, Carry, SharedCarrier};
use crate::panic::Contained;
#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinel;
use crate::sync::seam;

/// The settings of a [`Pool`] that is to be started; made by [`Pool::builder`].
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::builder().workers(2).name("resize").stack_size(1 << 20).build().unwrap();
/// let name = pool.submit(|| std::thread::current().name().map(str::to_owned)).join().unwrap();
/// assert!(name.unwrap().starts_with("resize-"));
/// ```
#[doc(alias = "ThreadPoolBuilder")]
#[must_use = "a builder does nothing until `build`"]
pub struct PoolBuilder {
    workers: Option<usize>,
    name: Option<String>,
    stack_size: Option<usize>,
    queue_capacity: Option<usize>,
    isolation: Isolation,
    carriers: Contained<Vec<SharedCarrier>>,
    hooks: Hooks,
    caller_helps: bool,
    #[cfg(feature = "sentinel")]
    sentinel: Option<Sentinel>,
}

// It only keeps the hooks, carriers and sentinel; the pool catches their panics.
impl UnwindSafe for PoolBuilder {}
impl RefUnwindSafe for PoolBuilder {}

impl Pool {
    /// Starts a pool of `workers` threads.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] if `workers` is 0 or more than a pool can have, or if the system
    /// refuses a thread.
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
        PoolBuilder {
            workers: None,
            name: None,
            stack_size: None,
            queue_capacity: None,
            isolation: Isolation::Reset,
            carriers: Contained::new(Vec::new()),
            hooks: Hooks::default(),
            caller_helps: false,
            #[cfg(feature = "sentinel")]
            sentinel: None,
        }
    }
}

impl PoolBuilder {
    /// Sets the number of worker threads, 1 to 65,535. The default is the environment variable
    /// `CLEANSLATE_NUM_THREADS` if that is a positive number, otherwise what
    /// [`available_parallelism`](std::thread::available_parallelism) returns, or else one.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// assert_eq!(Pool::builder().workers(3).build().unwrap().workers(), 3);
    /// ```
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets the name of the threads: worker 3 of `"resize"` is `resize-3`. The default is
    /// `cleanslate` and a number for the pool, as in `cleanslate-2-3`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(1).name("resize").build().unwrap();
    /// let name = pool.submit(|| std::thread::current().name().map(str::to_owned)).join().unwrap();
    /// assert_eq!(name.as_deref(), Some("resize-0"));
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the stack size of each worker, in bytes. The default is std's. Less than 128 KiB counts
    /// as 128 KiB; with 0, [`build`](Self::build) fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(1).stack_size(8 << 20).build().unwrap();
    /// let sum = pool.submit(|| [1_u8; 4 << 20].iter().map(|n| u64::from(*n)).sum::<u64>());
    /// assert_eq!(sum.join().unwrap(), 4 << 20);
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Limits how many submitted tasks may wait to start. A full queue blocks plain threads that
    /// submit; threads that run a task of a pool are let through, since they would wait for
    /// themselves, and so are workers that are ending. The default is no limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    /// let _place = pool.try_reserve().unwrap();
    /// assert!(pool.try_submit(|| ()).unwrap_err().is_full());
    /// ```
    pub fn queue_capacity(mut self, tasks: usize) -> Self {
        self.queue_capacity = Some(tasks);
        self
    }

    /// Sets whether tasks start from a clean slate. The default is that they do.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Isolation, Pool, task_local};
    ///
    /// task_local! { static SEEN: bool = false; }
    ///
    /// let pool = Pool::builder().workers(1).isolation(Isolation::Leaky).build().unwrap();
    /// assert_eq!(pool.map([(), ()], |()| SEEN.replace(true)), [false, true]);
    /// ```
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Attaches a carrier around every task (but not around the pulls of a map's iterator, except
    /// for those of an [`imap`](Pool::imap)). Carriers attach in the order in which they are added
    /// here.
    ///
    /// The carrier captures where a task is submitted. A task that does not inherit from its
    /// surroundings ([`Pool::in_context`], [`Pool::detached`]) gets what the carrier calls
    /// [nothing](crate::foreign::Carrier::nothing), if it has such a state: a given context decides
    /// what is inherited, and its own carriers attach after the pool's. A carrier that captures
    /// nothing (such as [`adopt`](crate::foreign::adopt)'s) keeps all tasks apart. If a carrier
    /// cannot capture, the submission panics with its error. A leaky pool attaches none. A pool has
    /// 256 carriers at most.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, foreign::adopt};
    /// use std::cell::Cell;
    ///
    /// // Of a library that knows nothing of tasks.
    /// thread_local! { static LOCALE: Cell<Option<&'static str>> = const { Cell::new(None) }; }
    ///
    /// let pool = Pool::builder().workers(1).carry(adopt(&LOCALE)).build().unwrap();
    /// let found = pool.map(["de", "fr"], |locale| LOCALE.replace(Some(locale)));
    /// assert_eq!(found, [None, None]);
    /// ```
    pub fn carry<C: Carry>(mut self, carrier: C) -> Self {
        self.carriers.0.get_or_insert_default().push(foreign::share(carrier));
        self
    }

    /// Sets a hook that runs on each worker before its first task, with the worker's index. Its
    /// panic is contained and reported to the [`panic_hook`](PoolBuilder::panic_hook).
    ///
    /// Tasks do not see what it leaves in a [`task_local!`](crate::task_local): each starts fresh.
    /// What it sets up for them belongs in a [`worker_local!`](crate::worker_local).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::sync::mpsc;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let hook = move |index| tell.send(index).unwrap();
    /// let builder = Pool::builder().workers(1).on_worker_start(hook);
    /// let _pool = builder.build().unwrap();
    /// assert_eq!(told.recv().unwrap(), 0);
    /// ```
    pub fn on_worker_start(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.hooks.worker_start = Some(Box::new(hook));
        self
    }

    /// Sets whether a worker serves only if its [`on_worker_start`](PoolBuilder::on_worker_start)
    /// hook succeeded: for a hook that sets up what the tasks cannot do without. If so,
    /// [`build`](Self::build) waits for the hooks of all workers and returns the first failure; a
    /// replacement worker whose hook fails is itself replaced, once a second, until one starts. The
    /// default is that a worker serves in any case, and that `build` does not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let builder = Pool::builder().workers(2).on_worker_start(|index| assert_ne!(index, 1));
    /// let error = builder.require_worker_start(true).build().unwrap_err();
    /// assert!(error.is_worker_start());
    /// ```
    pub fn require_worker_start(mut self, required: bool) -> Self {
        self.hooks.startup = required.then(Startup::default);
        self
    }

    /// Sets a hook that runs on each worker after its last task, with the worker's index: also on
    /// one whose [`on_worker_start`](PoolBuilder::on_worker_start) failed, but not on a replacement
    /// that has never served for that reason. Its panic is contained and reported to the
    /// [`panic_hook`](PoolBuilder::panic_hook).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::sync::mpsc;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let hook = move |index| tell.send(index).unwrap();
    /// let builder = Pool::builder().workers(1).on_worker_stop(hook);
    /// builder.build().unwrap().shutdown().unwrap();
    /// assert_eq!(told.recv().unwrap(), 0);
    /// ```
    pub fn on_worker_stop(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.hooks.worker_stop = Some(Box::new(hook));
        self
    }

    /// Sets a hook that is called with each failure that no handle observes: of detached tasks, of
    /// results that nobody asked for, of hooks, of a worker-local at the end of its worker. It runs
    /// on the thread where the failure shows, in a clean slate of its own, and its own panic is
    /// contained. Without a hook, such failures are only counted
    /// ([`Stats::unobserved`](crate::Stats::unobserved)).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use std::sync::mpsc;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let pool = Pool::builder()
    ///     .workers(1)
    ///     .panic_hook(move |error| tell.send(error.to_string()).unwrap())
    ///     .build()
    ///     .unwrap();
    /// drop(pool.named("cleaner").submit(|| panic!("no broom")));
    /// assert_eq!(told.recv().unwrap(), "task `cleaner` (#0) panicked: no broom");
    /// ```
    pub fn panic_hook(mut self, hook: impl Fn(TaskError) + Send + Sync + 'static) -> Self {
        self.hooks.panic = Some(Box::new(hook));
        self
    }

    /// Sets whether a plain thread that waits for tasks of this pool runs them itself, as a task's
    /// thread does: the items of its own map, the tasks of its own scope that have not started, the
    /// task that it joins (but not one that it polls). A map that is over at once then wakes no
    /// worker. The default is that plain threads run no tasks.
    ///
    /// Such tasks see the caller's thread-locals, except for slots, and run on the caller's stack,
    /// which is assumed to have 2 MiB left (so nest no tasks on a thread with less). In them,
    /// [`Pool::worker_index`] is `None`, and a worker-local's instance is one of the calling
    /// thread's. The first item of a map runs before any worker is woken, so a map of a few long
    /// items takes up to one item longer.
    ///
    /// The calling thread still waits for room in a bounded queue, except for the two tasks of a
    /// [`join`](Pool::join).
    ///
    /// Callers never help where tasks rely on their worker: in a pool that is leaky, or that has
    /// carriers, a sentinel or an [`on_worker_start`](PoolBuilder::on_worker_start) hook. Nor does
    /// a thread that is ending help, once its slots have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::builder().workers(2).caller_helps(true).build().unwrap();
    /// let here = std::thread::current().id();
    /// assert_eq!(pool.map([1], |_| std::thread::current().id()), [here]);
    /// ```
    pub fn caller_helps(mut self, helps: bool) -> Self {
        self.caller_helps = helps;
        self
    }

    /// Watches every task for thread-locals that it leaves changed, in any crate or C library. What
    /// happens when a task leaks is up to the sentinel: the pool counts it
    /// ([`Stats::leaks`](crate::Stats::leaks)), reports it, makes it fail, or replaces its worker.
    /// The default is no sentinel, which costs nothing.
    ///
    /// A watch lasts from before a task's carriers attach until its slots and what it inherited are
    /// dropped, and acts before the task's end can be seen. Each item of a map and each visit of a
    /// [`broadcast`](Pool::broadcast) is watched by itself; so is what the pool drops or pulls on a
    /// worker outside of a task: a result that nobody asked for, the next item of an iterator. A
    /// task that runs on top of another one, because that one waits for it, belongs to that one's
    /// watch: what it leaves is put down to the outermost task. On a worker of another pool, it
    /// belongs to that pool's watch, if there is one. Hooks and wakers are not watched.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, sentinel::Sentinel};
    /// use std::cell::Cell;
    ///
    /// // Of a library that knows nothing of tasks.
    /// thread_local! { static LOCALE: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// let pool = match Pool::builder().workers(1).sentinel(Sentinel::new().panic()).build() {
    ///     Ok(pool) => pool,
    ///     // Not everywhere can thread-locals be watched.
    ///     Err(error) => return assert!(error.is_unsupported()),
    /// };
    /// assert_eq!(pool.submit(|| LOCALE.get()).join().unwrap(), 0);
    /// let error = pool.submit(|| LOCALE.set(1)).join().unwrap_err();
    /// assert!(error.message().unwrap().contains("LOCALE"), "{error}");
    /// assert_eq!(pool.stats().leaks, 1);
    /// ```
    #[cfg(feature = "sentinel")]
    pub fn sentinel(mut self, sentinel: Sentinel) -> Self {
        self.sentinel = Some(sentinel);
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] if there are no workers or more than a pool can have, if no thread
    /// can have the stack size or the name, if the queue has no room, if there are more than 256
    /// carriers or one cannot capture or say what nothing is, if a sentinel has to watch where that
    /// does not work, if a start hook fails where it is
    /// [required](PoolBuilder::require_worker_start), or if the system refuses a thread. By then,
    /// workers that had started have ended. (Inside a task, the wait for that takes a thread. If
    /// the system refuses that one, too, for some two seconds, they end later.)
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// assert_eq!(Pool::builder().workers(2).build().unwrap().workers(), 2);
    /// assert!(Pool::builder().workers(0).build().is_err());
    /// ```
    pub fn build(self) -> Result<Pool, BuildError> {
        let asked = match self.workers {
            Some(workers) => workers,
            None => default_workers(),
        };
        let workers = NonZeroUsize::new(asked).ok_or(BuildErrorKind::NoWorkers)?;
        if asked > MOST_WORKERS {
            return Err(BuildErrorKind::TooManyWorkers(asked, self.workers.is_none()).into());
        }
        if self.queue_capacity == Some(0) {
            return Err(BuildErrorKind::NoCapacity.into());
        }
        // std asserts that rounding the size up to a page succeeds.
        let fits = |bytes: usize| bytes != 0 && isize::try_from(bytes).is_ok();
        if let Some(bytes) = self.stack_size.filter(|bytes| !fits(*bytes)) {
            return Err(BuildErrorKind::StackSize(bytes).into());
        }
        if let Some(name) = self.name.as_ref().filter(|name| name.contains('\0')) {
            return Err(BuildErrorKind::Name(name.clone()).into());
        }
        let id = seam::unique_number();
        let name = self.name.unwrap_or_else(|| format!("cleanslate-{id}"));
        let threads = Threads::new(name, self.stack_size, asked);
        let carriers = self.carriers.into_inner();
        let carriers = CarrierSet::of(carriers).map_err(BuildErrorKind::Carrier)?;
        #[cfg(feature = "sentinel")]
        let leak_watch = LeakWatch::new(self.sentinel).map_err(BuildErrorKind::Unsupported)?;
        #[cfg(not(feature = "sentinel"))]
        let leak_watch = LeakWatch;
        let settings = Settings {
            workers,
            isolation: self.isolation,
            carriers,
            capacity: self.queue_capacity,
            hooks: self.hooks,
            leak_watch,
            caller_helps: self.caller_helps,
        };
        let pool = Pool::from_core(Arc::new(Core::new(settings, id, threads)));
        if let Err(error) = start(pool.core(), asked) {
            // The last handle would not wait inside a task.
            let _ended = pool.shutdown();
            return Err(error.into());
        }
        Ok(pool)
    }
}

/// Starts the workers. If their start hooks must not fail, returns when those have ended.
fn start(core: &Arc<Core>, workers: usize) -> Result<(), BuildErrorKind> {
    for index in 0..workers {
        worker::start(core, index).map_err(|error| BuildErrorKind::Thread { index, error })?;
    }
    match core.hooks.startup.as_ref().and_then(|startup| startup.wait(workers)) {
        Some((index, message)) => Err(BuildErrorKind::WorkerStart { index, message }),
        None => Ok(()),
    }
}

/// Returns how many workers a pool has if the user does not set a number.
fn default_workers() -> usize {
    let said = std::env::var(WORKERS_VARIABLE).ok();
    let asked = said.and_then(|said| match said.trim().parse::<NonZeroUsize>() {
        Ok(workers) => Some(workers),
        // More than any pool can have, so that `build` says so.
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(NonZeroUsize::MAX),
        Err(_) => None,
    });
    asked.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("PoolBuilder");
        s.field("workers", &self.workers)
            .field("name", &self.name)
            .field("stack_size", &self.stack_size)
            .field("queue_capacity", &self.queue_capacity)
            .field("isolation", &self.isolation)
            .field("carriers", &self.carriers.0.as_ref().map_or(0, Vec::len))
            .field("hooks", &self.hooks)
            .field("caller_helps", &self.caller_helps);
        #[cfg(feature = "sentinel")]
        s.field("sentinel", &self.sentinel);
        s.finish()
    }
}

//! [`PoolBuilder`].

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::Pool;
use super::core::Core;
use super::error::{BuildError, Refused, TaskError};
use super::hooks::Hooks;
use super::isolation::Isolation;
use super::threads::Threads;
use crate::foreign::{self, Carrier, CarrierSet, SharedCarrier};

/// More cannot be numbered: the sleep protocol counts workers in half a word, of 32 bits at least.
const MOST_WORKERS: usize = u16::MAX as usize;

/// How a [`Pool`] is to be; made by [`Pool::builder`].
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
#[must_use = "a builder does nothing until `build`"]
pub struct PoolBuilder {
    workers: Option<usize>,
    name: String,
    stack_size: Option<usize>,
    queue_capacity: Option<usize>,
    isolation: Isolation,
    carriers: Vec<SharedCarrier>,
    hooks: Hooks,
}

impl PoolBuilder {
    pub(crate) fn new() -> Self {
        Self {
            workers: None,
            name: "cleanslate".to_owned(),
            stack_size: None,
            queue_capacity: None,
            isolation: Isolation::Reset,
            carriers: Vec::new(),
            hooks: Hooks::default(),
        }
    }

    /// The number of worker threads. The default is what
    /// [`available_parallelism`](std::thread::available_parallelism) says, or one.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The name of the threads: worker 3 of `"resize"` is `resize-3`. The default is `cleanslate`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The stack size of each worker, in bytes. The default is std's.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How many submitted tasks may wait to start. A full queue blocks plain threads that submit;
    /// threads that run a task of a pool are let through, since they would wait for themselves. The
    /// default is no limit.
    pub fn queue_capacity(mut self, tasks: usize) -> Self {
        self.queue_capacity = Some(tasks);
        self
    }

    /// Whether tasks start from a clean slate. The default is that they do.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Attaches a carrier around every task, in the order in which they are added here.
    ///
    /// It captures where a task is submitted. A carrier that captures nothing (such as
    /// [`adopt`](crate::foreign::adopt)'s) keeps all tasks apart; one that does is left out where the
    /// task does not take what surrounds its submission
    /// ([`Pool::in_context`], [`Pool::detached`]): the given context says what is inherited then, and
    /// its carriers are attached after the pool's. If a carrier cannot capture, the submission panics
    /// with its error. A leaky pool attaches none.
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
    pub fn carry<C: Carrier>(mut self, carrier: C) -> Self {
        self.carriers.push(foreign::shared(carrier));
        self
    }

    /// Runs on each worker before its first task, with the worker's index. A panic of it is contained
    /// and reported to the [`panic_hook`](PoolBuilder::panic_hook).
    pub fn on_worker_start(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.hooks.worker_start = Some(Box::new(hook));
        self
    }

    /// Runs on each worker after its last task, with the worker's index. A panic of it is contained and
    /// reported to the [`panic_hook`](PoolBuilder::panic_hook).
    pub fn on_worker_stop(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.hooks.worker_stop = Some(Box::new(hook));
        self
    }

    /// Is given the failures that nobody else hears of: of detached tasks, of results that nobody asked
    /// for, of hooks. It runs on the thread where the failure shows, in a clean slate of its own; a panic
    /// of it is contained. Without one they are counted only
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

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] for no workers, a stack size or a name that no thread can have, a queue
    /// without room, and when the system refuses a thread; those that had started have ended then.
    pub fn build(self) -> Result<Pool, BuildError> {
        let asked = match self.workers {
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        };
        let workers = NonZeroUsize::new(asked).ok_or(Refused::NoWorkers)?;
        if asked > MOST_WORKERS {
            return Err(Refused::TooManyWorkers(asked).into());
        }
        if self.queue_capacity == Some(0) {
            return Err(Refused::NoCapacity.into());
        }
        // std asserts that rounding the size up to a page succeeds.
        if let Some(bytes) = self.stack_size
            && (bytes == 0 || bytes > isize::MAX as usize)
        {
            return Err(Refused::StackSize(bytes).into());
        }
        if self.name.contains('\0') {
            return Err(Refused::Name(self.name).into());
        }
        let threads = Threads::new(self.name, self.stack_size, asked);
        let mut carriers = CarrierSet::default();
        for carrier in self.carriers {
            carriers.add(carrier).map_err(Refused::Carrier)?;
        }
        let core =
            Core::new(workers, self.isolation, carriers, self.queue_capacity, self.hooks, threads);
        let pool = Pool { core: Arc::new(core) };
        for index in 0..asked {
            // A refusal drops the pool, which joins those that have started.
            Threads::start(&pool.core, index).map_err(|error| Refused::Thread { index, error })?;
        }
        Ok(pool)
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("workers", &self.workers)
            .field("name", &self.name)
            .field("stack_size", &self.stack_size)
            .field("queue_capacity", &self.queue_capacity)
            .field("isolation", &self.isolation)
            .field("carriers", &self.carriers.len())
            .field("hooks", &self.hooks)
            .finish()
    }
}

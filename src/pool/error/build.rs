//! [`BuildError`].

use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::foreign::CarrierError;
#[cfg(feature = "sentinel")]
use crate::sentinel::Unsupported;

/// The environment variable that says how many workers a pool has if nobody else does.
pub(crate) const WORKERS_VARIABLE: &str = "CLEANSLATE_NUM_THREADS";

/// More cannot be numbered: the sleep protocol counts workers in half a word (of at least 32 bits).
pub(crate) const MOST_WORKERS: usize = u16::MAX as usize;

/// Why a pool could not be built.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let error = Pool::new(0).unwrap_err();
/// assert!(error.is_no_workers());
/// assert_eq!(error.to_string(), "a pool needs at least one worker");
/// ```
pub struct BuildError(BuildErrorKind);

pub(crate) enum BuildErrorKind {
    NoWorkers,
    /// The number, and whether it came from the environment alone.
    TooManyWorkers(usize, bool),
    NoCapacity,
    Global,
    StackSize(usize),
    Name(String),
    Carrier(CarrierError),
    Thread {
        index: usize,
        error: io::Error,
    },
    WorkerStart {
        index: usize,
        message: String,
    },
    #[cfg(feature = "sentinel")]
    Unsupported(Unsupported),
}

impl From<BuildErrorKind> for BuildError {
    fn from(refused: BuildErrorKind) -> Self {
        Self(refused)
    }
}

// Nobody changes what it holds.
impl UnwindSafe for BuildError {}
impl RefUnwindSafe for BuildError {}

impl BuildError {
    /// Returns whether no workers were asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let error = Pool::new(0).unwrap_err();
    /// assert!(error.is_no_workers());
    /// ```
    #[must_use]
    pub fn is_no_workers(&self) -> bool {
        matches!(self.0, BuildErrorKind::NoWorkers)
    }

    /// Returns whether more workers were asked for than a pool can number (65,535).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let error = Pool::new(1 << 20).unwrap_err();
    /// assert!(error.is_too_many_workers());
    /// ```
    #[must_use]
    pub fn is_too_many_workers(&self) -> bool {
        matches!(self.0, BuildErrorKind::TooManyWorkers(..))
    }

    /// Returns whether a queue without room was asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let error = Pool::builder().queue_capacity(0).build().unwrap_err();
    /// assert!(error.is_queue_capacity());
    /// ```
    #[must_use]
    pub fn is_queue_capacity(&self) -> bool {
        matches!(self.0, BuildErrorKind::NoCapacity)
    }

    /// Returns whether the [global pool](crate::Pool::global) was built before.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let _built = Pool::global();
    /// assert!(Pool::builder().build_global().unwrap_err().is_global());
    /// ```
    #[must_use]
    pub fn is_global(&self) -> bool {
        matches!(self.0, BuildErrorKind::Global)
    }

    /// Returns whether the stack size is one that no thread can have.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let error = Pool::builder().stack_size(0).build().unwrap_err();
    /// assert!(error.is_stack_size());
    /// ```
    #[must_use]
    pub fn is_stack_size(&self) -> bool {
        matches!(self.0, BuildErrorKind::StackSize(_))
    }

    /// Returns whether the name contains a NUL byte, which no thread's name can.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let error = Pool::builder().name("a\0b").build().unwrap_err();
    /// assert!(error.is_name());
    /// ```
    #[must_use]
    pub fn is_name(&self) -> bool {
        matches!(self.0, BuildErrorKind::Name(_))
    }

    /// Returns whether a carrier that captures once, for all tasks, could not do so, could not say
    /// what [nothing](crate::foreign::Carrier::nothing) is, or was one too many.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    /// use cleanslate::foreign::{BoxError, Carrier};
    ///
    /// struct Broken;
    ///
    /// impl Carrier for Broken {
    ///     type Captured = ();
    ///     type Attached = ();
    ///     fn name(&self) -> &str { "broken" }
    ///     fn capture(&self) -> Result<(), BoxError> { Err("out of order".into()) }
    ///     fn attach(&self, (): &()) -> Result<(), BoxError> { Ok(()) }
    ///     fn detach(&self, (): ()) -> Result<(), BoxError> { Ok(()) }
    /// }
    ///
    /// let error = Pool::builder().carry(Broken).build().unwrap_err();
    /// assert!(error.is_carrier());
    /// ```
    #[must_use]
    pub fn is_carrier(&self) -> bool {
        matches!(self.0, BuildErrorKind::Carrier(_))
    }

    /// Returns whether the system refused to start a thread. Those that had started have ended, or
    /// are about to: see [`PoolBuilder::build`](crate::PoolBuilder::build).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// // Of a stack that no system has.
    /// if let Err(error) = Pool::builder().workers(1).stack_size(isize::MAX as usize / 2).build() {
    ///     assert!(error.is_thread());
    /// }
    /// ```
    #[must_use]
    pub fn is_thread(&self) -> bool {
        matches!(self.0, BuildErrorKind::Thread { .. })
    }

    /// Returns whether a worker's start hook failed, although it
    /// [was required](crate::PoolBuilder::require_worker_start) to succeed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let builder = Pool::builder().workers(1).on_worker_start(|_| panic!("no broom"));
    /// assert!(builder.require_worker_start(true).build().unwrap_err().is_worker_start());
    /// ```
    #[must_use]
    pub fn is_worker_start(&self) -> bool {
        matches!(self.0, BuildErrorKind::WorkerStart { .. })
    }

    /// Returns whether a sentinel that watches was asked for on a system where it does not work.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, sentinel::{Sentinel, supported}};
    ///
    /// let built = Pool::builder().workers(1).sentinel(Sentinel::new()).build();
    /// assert_eq!(built.is_err_and(|error| error.is_unsupported()), supported().is_err());
    /// ```
    #[cfg(feature = "sentinel")]
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0, BuildErrorKind::Unsupported(_))
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BuildErrorKind::NoWorkers => f.write_str("a pool needs at least one worker"),
            BuildErrorKind::TooManyWorkers(n, false) => {
                write!(f, "a pool cannot have {n} workers, only {MOST_WORKERS} or fewer")
            }
            BuildErrorKind::TooManyWorkers(_, true) => {
                write!(f, "a pool cannot have as many workers as {WORKERS_VARIABLE} says")
            }
            BuildErrorKind::NoCapacity => f.write_str("a queue needs room for at least one task"),
            BuildErrorKind::Global => f.write_str("the global pool has been built already"),
            BuildErrorKind::StackSize(bytes) => write!(f, "a stack of {bytes} bytes is impossible"),
            BuildErrorKind::Name(name) => write!(f, "the name {name:?} contains a NUL byte"),
            BuildErrorKind::Carrier(error) => error.fmt(f),
            BuildErrorKind::Thread { index, error } => {
                write!(f, "the thread of worker {index} could not be started: {error}")
            }
            BuildErrorKind::WorkerStart { index, message } => {
                write!(f, "the start hook of worker {index} failed: {message}")
            }
            #[cfg(feature = "sentinel")]
            BuildErrorKind::Unsupported(error) => error.fmt(f),
        }
    }
}

debug_as_text!(BuildError);

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            BuildErrorKind::Thread { error, .. } => Some(error),
            BuildErrorKind::Carrier(error) => Some(error),
            #[cfg(feature = "sentinel")]
            BuildErrorKind::Unsupported(error) => Some(error),
            _ => None,
        }
    }
}

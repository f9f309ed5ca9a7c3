//! [`TaskError`].

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe, resume_unwind};

use super::{Cause, Label, SHUT_DOWN, TOO_DEEP, Which};
use crate::foreign::CarrierError;
use crate::frame::{CleanupError, Failure};
use crate::panic::Payload;
use crate::sync::seam::Mutex;

/// Why a task has no result: it panicked, it was cancelled, or what it left behind could not be
/// cleaned up.
///
/// Its `Display` names the task: by the name it was given
/// ([`Pool::named`](crate::Pool::named)) or by the place where it was submitted, and by its number.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(1).unwrap();
/// let error = pool.named("thumbnail").submit(|| panic!("no such file")).join().unwrap_err();
/// assert!(error.is_panic());
/// assert_eq!(error.to_string(), "task `thumbnail` (#0) panicked: no such file");
/// ```
pub struct TaskError(Box<TaskFailure>);

struct TaskFailure {
    label: Label,
    kind: TaskErrorKind,
    message: Option<String>,
}

enum TaskErrorKind {
    /// A payload is only `Send`; the mutex, which is never contended, makes the error `Sync`.
    Panic(Mutex<Payload>),
    Cancelled,
    ShutDown,
    TooDeep,
    Forked,
    Cleanup(CleanupError),
    Carrier(CarrierError),
}

// Nobody changes what it holds.
impl UnwindSafe for TaskError {}
impl RefUnwindSafe for TaskError {}

impl TaskError {
    pub(crate) fn new(label: Label, cause: Cause) -> Self {
        let (kind, message) = match cause {
            Cause::CancelledByHandle => (TaskErrorKind::Cancelled, None),
            Cause::ShutDown => (TaskErrorKind::ShutDown, None),
            Cause::TooDeep => (TaskErrorKind::TooDeep, None),
            Cause::Forked => (TaskErrorKind::Forked, None),
            Cause::Failed(Failure::Panic(payload)) => {
                let message = payload.message();
                (TaskErrorKind::Panic(Mutex::new(payload)), message.map(Cow::into_owned))
            }
            Cause::Failed(Failure::Cleanup(error)) => {
                let message = Some(error.to_string());
                (TaskErrorKind::Cleanup(error), message)
            }
            Cause::Failed(Failure::Carrier(error)) => {
                let message = Some(error.to_string());
                (TaskErrorKind::Carrier(error), message)
            }
        };
        Self(Box::new(TaskFailure { label, kind, message }))
    }

    /// Unwinds with the panic of the task, or with a message that says why it has no result. Where
    /// a value's drop panicked, the message names its slot, which says more than that panic's
    /// payload.
    #[track_caller]
    pub(crate) fn resume(self) -> ! {
        match self.try_into_panic() {
            Ok(payload) => resume_unwind(payload),
            Err(error) if error.is_cancelled() => panic!("{SHUT_DOWN}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns whether the task panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!("oh no")).join().unwrap_err();
    /// assert!(error.is_panic());
    /// ```
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Panic(_))
    }

    /// Returns whether the task was cancelled before it began.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// pool.shutdown().unwrap();
    /// assert!(pool.submit(|| ()).join().unwrap_err().is_cancelled());
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Cancelled | TaskErrorKind::ShutDown)
    }

    /// Returns whether the task would have had to run on top of too many others: 256 of them, or
    /// fewer where they use much of the stack. Each of those waits for the one above it. The task
    /// did not begin there.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, TaskError};
    ///
    /// fn chain(pool: &Pool, links: u32) -> Result<u32, TaskError> {
    ///     let next = pool.clone();
    ///     pool.submit(move || if links == 0 { Ok(0) } else { chain(&next, links - 1) }).join()?
    /// }
    ///
    /// let pool = Pool::new(1).unwrap();
    /// assert!(chain(&pool, 100).is_ok());
    /// assert!(chain(&pool, 1000).unwrap_err().is_too_deep());
    /// ```
    #[must_use]
    pub fn is_too_deep(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::TooDeep)
    }

    /// Returns whether this process is a child after a `fork`, in which the pool has no workers:
    /// the wait would never end.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!("oh no")).join().unwrap_err();
    /// assert!(!error.is_forked(), "this is no child");
    /// ```
    #[must_use]
    pub fn is_forked(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Forked)
    }

    /// Returns whether the task returned, but its clean-up failed: a value's `Drop` panicked, a
    /// slot kept coming back, or a carrier failed to detach. Its result was dropped. The source is
    /// a [`CleanupError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, task_local};
    ///
    /// struct Explodes;
    /// impl Drop for Explodes {
    ///     fn drop(&mut self) {
    ///         panic!("oh no");
    ///     }
    /// }
    ///
    /// task_local! { static SLOT: Option<Explodes> = None; }
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.submit(|| SLOT.set(Some(Explodes))).join().unwrap_err();
    /// assert!(error.is_cleanup());
    /// ```
    #[must_use]
    pub fn is_cleanup(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Cleanup(_))
    }

    /// Returns whether a carrier of foreign thread state failed to attach, so that the task did not
    /// run. If one failed to detach, the task [was not cleaned up](Self::is_cleanup).
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
    ///     fn capture(&self) -> Result<(), BoxError> { Ok(()) }
    ///     fn attach(&self, (): &()) -> Result<(), BoxError> { Err("out of order".into()) }
    ///     fn detach(&self, (): ()) -> Result<(), BoxError> { Ok(()) }
    /// }
    ///
    /// let pool = Pool::builder().workers(1).carry(Broken).build().unwrap();
    /// assert!(pool.submit(|| ()).join().unwrap_err().is_carrier());
    /// ```
    #[must_use]
    pub fn is_carrier(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Carrier(_))
    }

    /// Returns the payload of the panic, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// Panics with a message that contains the error's text if the task did not panic.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.submit(|| std::panic::panic_any(7_u8)).join().unwrap_err();
    /// assert_eq!(*error.into_panic().downcast::<u8>().unwrap(), 7);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("not a panic: {error}"),
        }
    }

    /// Returns the payload of the panic.
    ///
    /// # Errors
    ///
    /// Returns the error itself if the task did not panic.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!("oh no")).join().unwrap_err();
    /// assert_eq!(error.try_into_panic().unwrap().downcast_ref(), Some(&"oh no"));
    /// ```
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        if !self.is_panic() {
            return Err(self);
        }
        match self.0.kind {
            TaskErrorKind::Panic(payload) => Ok(payload.into_inner().into_inner()),
            _ => unreachable!("checked above"),
        }
    }

    /// Returns the payload of the panic that made the task fail: its own, or the first of its
    /// clean-up.
    ///
    /// # Errors
    ///
    /// Returns the error itself if nothing panicked, or only a carrier did: of that panic, only the
    /// message is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Pool, task_local};
    ///
    /// struct Lock;
    /// impl Drop for Lock {
    ///     fn drop(&mut self) {
    ///         std::panic::panic_any("still locked");
    ///     }
    /// }
    /// task_local! { static LOCK: Option<Lock> = None; }
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.submit(|| LOCK.set(Some(Lock))).join().unwrap_err();
    /// assert!(error.is_cleanup() && !error.is_panic());
    /// assert_eq!(error.try_into_payload().unwrap().downcast_ref(), Some(&"still locked"));
    /// ```
    pub fn try_into_payload(self) -> Result<Box<dyn Any + Send>, Self> {
        let TaskFailure { label, kind, message } = *self.0;
        let kind = match kind {
            TaskErrorKind::Panic(payload) => return Ok(payload.into_inner().into_inner()),
            TaskErrorKind::Cleanup(error) => match error.try_into_panic() {
                Ok(payload) => return Ok(payload),
                Err(error) => TaskErrorKind::Cleanup(error),
            },
            kind => kind,
        };
        Err(Self(Box::new(TaskFailure { label, kind, message })))
    }

    /// The former name of [`try_into_payload`](Self::try_into_payload).
    #[doc(hidden)]
    #[deprecated = "it is called `try_into_payload`"]
    pub fn into_payload(self) -> Result<Box<dyn Any + Send>, Self> {
        self.try_into_payload()
    }

    /// Returns the message of the failure: that of a panic (if it is a string), of a failed
    /// clean-up or of a carrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!("oh no")).join().unwrap_err();
    /// assert_eq!(error.message(), Some("oh no"));
    /// ```
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// Returns the name that the task was given.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!("oh no")).join().unwrap_err();
    /// assert_eq!(error.task_name(), Some("lookup"));
    /// ```
    #[must_use]
    pub fn task_name(&self) -> Option<&str> {
        self.0.label.name.as_ref().map(|name| &***name)
    }

    /// Returns the number of the task in its pool. For an item of
    /// [`map_results`](crate::Pool::map_results), this is the item's position; for what is not a
    /// task but has a [name](TaskError::task_name), such as a hook or the pull of an `imap`, it is
    /// 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!("oh no")).join().unwrap_err();
    /// assert_eq!(error.task_id(), 0);
    /// ```
    #[must_use]
    pub fn task_id(&self) -> u64 {
        match self.0.label.which {
            Which::Task(number) => number,
            Which::Item(position) => position as u64,
            Which::Other => 0,
        }
    }

    /// Returns where the task was submitted.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Pool;
    ///
    /// let pool = Pool::new(1).unwrap();
    /// let error = pool.named("lookup").submit(|| panic!("oh no")).join().unwrap_err();
    /// assert!(error.submitted_at().line() > 0);
    /// ```
    #[must_use]
    pub fn submitted_at(&self) -> &'static Location<'static> {
        self.0.label.at
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.label.fmt(f)?;
        f.write_str(match self.0.kind {
            TaskErrorKind::Panic(_) => " panicked",
            TaskErrorKind::Cancelled => " was cancelled",
            TaskErrorKind::ShutDown => return write!(f, " was cancelled: {SHUT_DOWN}"),
            TaskErrorKind::TooDeep => return write!(f, " did not run here: {TOO_DEEP}"),
            TaskErrorKind::Forked => {
                " cannot be waited for in a forked child: the workers are the parent's"
            }
            TaskErrorKind::Cleanup(_) => " could not be cleaned up",
            TaskErrorKind::Carrier(_) => " could not be given its foreign state",
        })?;
        match self.message() {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

debug_as_text!(TaskError);

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.kind {
            TaskErrorKind::Cleanup(error) => Some(error),
            TaskErrorKind::Carrier(error) => Some(error),
            TaskErrorKind::Panic(_)
            | TaskErrorKind::Cancelled
            | TaskErrorKind::ShutDown
            | TaskErrorKind::TooDeep
            | TaskErrorKind::Forked => None,
        }
    }
}

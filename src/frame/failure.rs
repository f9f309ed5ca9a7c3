//! How a task can fail besides returning an error of its own.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use parking_lot::Mutex;

use crate::foreign::CarrierError;
use crate::panic::Payload;

/// One thing that went wrong while a task was cleaned up.
#[derive(Debug)]
enum Fault {
    /// The `Drop` of a slot's value panicked.
    Panicked { slot: String, message: Cow<'static, str> },
    /// The `Drop` of a slot's value kept filling slots.
    Recurring { slot: String },
    /// A carrier could not be detached.
    Detach(CarrierError),
    /// Something without a name of its own panicked: a captured value, a result.
    Other { message: Cow<'static, str> },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { slot, message } => {
                write!(f, "the value of slot `{slot}` panicked in its drop: {message}")
            }
            Self::Recurring { slot } => write!(
                f,
                "slot `{slot}` is read or set again whenever its value is dropped, so it was leaked"
            ),
            Self::Detach(error) => error.fmt(f),
            Self::Other { message } => write!(f, "a clean-up panicked: {message}"),
        }
    }
}

/// The error of a task that returned, but could not be cleaned up without a fault.
///
/// Everything else was cleaned up all the same: one fault skips nothing. The error names the slot
/// or the carrier, whose error is its [source](Error::source), and holds the first panic's payload,
/// unless that is a carrier's.
///
/// # Examples
///
/// ```
/// use cleanslate::{CleanupError, Context, task_local};
/// use std::error::Error;
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
/// let error = Context::empty().try_run(|| SLOT.set(Some(Explodes))).unwrap_err();
/// let cause = error.source().unwrap().downcast_ref::<CleanupError>().unwrap();
/// assert!(cause.to_string().contains("panicked in its drop: oh no"));
/// ```
pub struct CleanupError {
    inner: Box<CleanupFaults>,
}

struct CleanupFaults {
    faults: Vec<Fault>,
    /// In a mutex because a payload is not `Sync`, but errors are expected to be. Nobody waits for
    /// it.
    payload: Mutex<Option<Payload>>,
}

impl CleanupError {
    fn new(fault: Fault, payload: Option<Payload>) -> Self {
        Self {
            inner: Box::new(CleanupFaults { faults: vec![fault], payload: Mutex::new(payload) }),
        }
    }

    pub(super) fn panicked(slot: String, payload: Payload) -> Self {
        let message = payload.words();
        Self::new(Fault::Panicked { slot, message }, Some(payload))
    }

    pub(super) fn recurring(slot: String) -> Self {
        Self::new(Fault::Recurring { slot }, None)
    }

    pub(crate) fn detach(error: CarrierError) -> Self {
        Self::new(Fault::Detach(error), None)
    }

    pub(crate) fn other(payload: Payload) -> Self {
        let message = payload.words();
        Self::new(Fault::Other { message }, Some(payload))
    }

    /// Returns what went wrong while user code ran to clean up.
    pub(crate) fn from_failure(failure: Failure) -> Self {
        match failure {
            Failure::Panic(payload) => Self::other(payload),
            Failure::Cleanup(error) => error,
            Failure::Carrier(error) => Self::detach(error),
        }
    }

    /// Adds what went wrong later. The first payload is kept.
    pub(crate) fn merge(mut self, later: Self) -> Self {
        let CleanupFaults { faults, payload } = *later.inner;
        self.inner.faults.extend(faults);
        if let Some(payload) = payload.into_inner() {
            let slot = self.inner.payload.get_mut();
            slot.get_or_insert(payload);
        }
        self
    }

    /// Merges what went wrong later, if anything did, into an accumulator.
    pub(crate) fn add(total: &mut Option<Self>, later: Option<Self>) {
        *total = match (total.take(), later) {
            (Some(first), Some(later)) => Some(first.merge(later)),
            (first, later) => first.or(later),
        };
    }

    /// Returns whether a carrier could not be detached, so that the thread's foreign state is in
    /// doubt. A pool replaces such a worker.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{CleanupError, Context, task_local};
    /// use std::error::Error;
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
    /// let error = Context::empty().try_run(|| SLOT.set(Some(Explodes))).unwrap_err();
    /// let cause = error.source().unwrap().downcast_ref::<CleanupError>().unwrap();
    /// assert!(!cause.is_detach());
    /// ```
    pub fn is_detach(&self) -> bool {
        self.inner.faults.iter().any(|fault| matches!(fault, Fault::Detach(_)))
    }

    /// Returns how many values were leaked because their slot kept coming back.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{CleanupError, Context, task_local};
    /// use std::error::Error;
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
    /// let error = Context::empty().try_run(|| SLOT.set(Some(Explodes))).unwrap_err();
    /// let cause = error.source().unwrap().downcast_ref::<CleanupError>().unwrap();
    /// assert!(cause.leaked() == 0);
    /// ```
    pub fn leaked(&self) -> usize {
        self.inner.faults.iter().filter(|fault| matches!(fault, Fault::Recurring { .. })).count()
    }

    /// Returns the payload of the first panic, or the error itself if nothing panicked.
    pub(crate) fn try_into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        let taken = self.inner.payload.lock().take();
        taken.map(Payload::into_inner).ok_or(self)
    }

    /// The former name of [`try_into_panic`](Self::try_into_panic).
    #[doc(hidden)]
    #[deprecated = "it is called `try_into_panic`"]
    pub fn try_into_payload(self) -> Result<Box<dyn Any + Send>, Self> {
        self.try_into_panic()
    }

    /// Returns the payload of the first panic, or this error's text if nothing panicked.
    #[doc(hidden)]
    #[deprecated = "use `try_into_panic`"]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.to_panic().into_inner()
    }

    /// Returns the payload of the first panic, or this error's text if nothing panicked.
    pub(crate) fn to_panic(&self) -> Payload {
        self.inner.payload.lock().take().unwrap_or_else(|| Payload::text(self.to_string()))
    }
}

// Panics inside are contained, so nobody sees a value in the middle of a change.
impl UnwindSafe for CleanupError {}
impl RefUnwindSafe for CleanupError {}

impl fmt::Display for CleanupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.inner.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

debug_as_text!(CleanupError);

impl Error for CleanupError {
    /// Returns the first carrier that could not be detached; a panic's payload is no error.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.faults.iter().find_map(|fault| match fault {
            Fault::Detach(error) => Some(error as _),
            _ => None,
        })
    }
}

/// Why a task has no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The task itself panicked.
    Panic(Payload),
    /// It returned, but its clean-up failed; the result was dropped.
    Cleanup(CleanupError),
    /// It never ran, because a carrier could not be attached.
    Carrier(CarrierError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(payload) => f.write_str(&payload.words()),
            Self::Cleanup(error) => error.fmt(f),
            Self::Carrier(error) => error.fmt(f),
        }
    }
}

impl Failure {
    /// Returns the payload to panic with because of it.
    pub(crate) fn into_payload(self) -> Payload {
        match self {
            Self::Panic(payload) => payload,
            Self::Cleanup(error) => error.to_panic(),
            Self::Carrier(error) => Payload::text(error.to_string()),
        }
    }
}

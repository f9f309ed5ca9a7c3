//! Errors of contexts.

use std::error::Error;
use std::fmt;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;

use crate::foreign::CarrierError;
use crate::frame::CleanupError;
use crate::frame::snapshot::Borrowed;
use crate::panic::catch;

/// A context could not be captured, because the `with_mut` of an inheritable slot is running, or
/// because an [installed](crate::foreign::install) carrier failed.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, task_local};
///
/// task_local! {
///     #[inherit]
///     static USER: u32 = 0;
/// }
///
/// let error = USER.with_mut(|_| Context::try_capture().unwrap_err());
/// assert!(error.to_string().contains("USER"));
/// ```
#[derive(Clone)]
pub struct CaptureError {
    refused: CaptureErrorKind,
}

#[derive(Clone)]
enum CaptureErrorKind {
    Slot(&'static str),
    Carrier(Arc<CarrierError>),
}

impl From<CarrierError> for CaptureError {
    fn from(error: CarrierError) -> Self {
        Self { refused: CaptureErrorKind::Carrier(Arc::new(error)) }
    }
}

impl From<Borrowed> for CaptureError {
    fn from(Borrowed(slot): Borrowed) -> Self {
        Self { refused: CaptureErrorKind::Slot(slot) }
    }
}

impl CaptureError {
    /// Panics with this error, off the hot path of the methods that do.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(crate) fn raise(self) -> ! {
        panic!("{self}")
    }

    /// Returns the path of the slot, or the name of the carrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static USER: u32 = 0;
    /// }
    ///
    /// let error = USER.with_mut(|_| Context::try_capture().unwrap_err());
    /// assert!(error.slot().ends_with("USER"));
    /// ```
    pub fn slot(&self) -> &str {
        match &self.refused {
            CaptureErrorKind::Slot(slot) => slot,
            CaptureErrorKind::Carrier(error) => error.carrier(),
        }
    }

    /// Returns whether it was an installed carrier that failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static USER: u32 = 0;
    /// }
    ///
    /// let error = USER.with_mut(|_| Context::try_capture().unwrap_err());
    /// assert!(!error.is_carrier());
    /// ```
    pub fn is_carrier(&self) -> bool {
        matches!(self.refused, CaptureErrorKind::Carrier(_))
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refused {
            CaptureErrorKind::Slot(slot) => {
                write!(f, "cannot capture slot `{slot}` inside its own with_mut")
            }
            CaptureErrorKind::Carrier(error) => error.fmt(f),
        }
    }
}

debug_as_text!(CaptureError);

impl Error for CaptureError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.refused {
            CaptureErrorKind::Slot(_) => None,
            CaptureErrorKind::Carrier(error) => error.source(),
        }
    }
}

/// A closure that was run in a context has no result, though it did not panic.
///
/// If it is the payload of a panic, the panic hook gets its text, and the line where the closure
/// was run, or where the closure or future was isolated.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, task_local};
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
/// assert!(error.to_string().contains("oh no"));
/// ```
pub struct RunError {
    cause: RunErrorKind,
}

enum RunErrorKind {
    Carrier(CarrierError),
    Cleanup(CleanupError),
}

/// The user's line that a task comes from.
pub(crate) enum Origin<'a> {
    /// It is run there.
    Run(&'a Location<'a>),
    /// It was made there, and is run elsewhere.
    Isolated(&'a Location<'a>),
}

impl RunError {
    pub(crate) fn carrier(error: CarrierError) -> Self {
        Self { cause: RunErrorKind::Carrier(error) }
    }

    pub(crate) fn cleanup(error: CleanupError) -> Self {
        Self { cause: RunErrorKind::Cleanup(error) }
    }

    /// Panics with this error as the payload. The panic hook gets its text, and the user's line
    /// that it comes from: about a payload that is no string it could say nothing.
    #[cold]
    #[inline(never)]
    pub(crate) fn raise(self, from: Option<Origin<'_>>) -> ! {
        let _said = catch(|| match from {
            Some(Origin::Run(at)) => panic!("{self} (run at {at})"),
            Some(Origin::Isolated(at)) => panic!("{self} (isolated at {at})"),
            None => panic!("{self}"),
        });
        resume_unwind(Box::new(self))
    }

    /// Returns whether a carrier could not be attached. The closure was not called.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
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
    /// assert!(!error.is_carrier());
    /// ```
    pub fn is_carrier(&self) -> bool {
        matches!(self.cause, RunErrorKind::Carrier(_))
    }

    /// Returns the payload of the first panic of the clean-up.
    ///
    /// # Errors
    ///
    /// Returns the error itself if nothing panicked, or only a carrier: of that panic only the text
    /// is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
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
    /// assert_eq!(error.try_into_panic().unwrap().downcast_ref(), Some(&"oh no"));
    /// ```
    pub fn try_into_panic(self) -> Result<Box<dyn std::any::Any + Send>, Self> {
        match self.cause {
            RunErrorKind::Cleanup(error) => error.try_into_panic().map_err(Self::cleanup),
            cause @ RunErrorKind::Carrier(_) => Err(Self { cause }),
        }
    }

    /// The former name of [`try_into_panic`](Self::try_into_panic).
    #[doc(hidden)]
    #[deprecated = "it is called `try_into_panic`"]
    pub fn into_payload(self) -> Result<Box<dyn std::any::Any + Send>, Self> {
        self.try_into_panic()
    }

    /// Returns whether the closure returned, but the clean-up failed. Its result was dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
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
    /// assert!(error.is_cleanup());
    /// ```
    pub fn is_cleanup(&self) -> bool {
        matches!(self.cause, RunErrorKind::Cleanup(_))
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            RunErrorKind::Carrier(error) => error.fmt(f),
            RunErrorKind::Cleanup(error) => error.fmt(f),
        }
    }
}

debug_as_text!(RunError);

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            RunErrorKind::Carrier(error) => Some(error),
            RunErrorKind::Cleanup(error) => Some(error),
        }
    }
}

//! What can go wrong with a carrier.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::code::in_carrier;
use crate::panic::{Contained, Payload, catch};

/// The error that a carrier's methods may return.
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::BoxError;
///
/// let error: BoxError = "no such locale".into();
/// assert_eq!(error.to_string(), "no such locale");
/// ```
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// The step at which a carrier failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CarrierStep {
    Capture,
    Nothing,
    Attach,
    Detach,
}

/// An error of the user's. It is user code, of which nothing may unwind through the crate.
pub(crate) struct RenderedCause {
    /// Rendered once, while that could be contained.
    text: String,
    error: Contained<BoxError>,
}

// Nobody changes what it holds, nor do the errors that have it.
impl UnwindSafe for RenderedCause {}
impl RefUnwindSafe for RenderedCause {}

impl RenderedCause {
    pub(crate) fn new(error: BoxError) -> Self {
        let text = match catch(|| {
            let mut text = String::new();
            fmt::write(&mut text, format_args!("{error}")).map(|()| text)
        }) {
            Ok(Ok(text)) => text,
            Ok(Err(fmt::Error)) => "an error that cannot be displayed".to_owned(),
            Err(payload) => format!("an error whose display panics: {}", payload.words()),
        };
        Self { text, error: Contained::new(error) }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the error itself, for those who ask for the source.
    pub(crate) fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.0.as_deref().map(|error| error as _)
    }
}

/// A carrier failed. The error names the carrier, the step and the cause.
///
/// # Examples
///
/// ```
/// use cleanslate::Context;
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
/// let error = Context::empty().try_carry(Broken).unwrap_err();
/// assert_eq!(error.to_string(), "carrier `broken` failed to capture: out of order");
/// ```
pub struct CarrierError {
    inner: Box<CarrierFault>,
}

struct CarrierFault {
    carrier: String,
    step: CarrierStep,
    cause: RenderedCause,
    panicked: bool,
    /// Another carrier could not be detached while this failure was cleaned up.
    stuck: Option<CarrierError>,
}

impl Drop for CarrierFault {
    /// The drop of a carrier's error is its code, too.
    fn drop(&mut self) {
        let error = Contained(self.cause.error.0.take());
        in_carrier(|| drop(error));
    }
}

impl CarrierError {
    pub(super) fn new(carrier: String, step: CarrierStep, cause: BoxError) -> Self {
        let cause = RenderedCause::new(cause);
        Self {
            inner: Box::new(CarrierFault { carrier, step, cause, panicked: false, stuck: None }),
        }
    }

    pub(super) fn panicked(carrier: String, step: CarrierStep, payload: &Payload) -> Self {
        let mut error = Self::new(carrier, step, payload.words().into());
        error.inner.panicked = true;
        error
    }

    /// Adds the error of another carrier that could not be detached.
    #[cold]
    fn with_stuck(mut self, other: Self) -> Self {
        self.inner.stuck = Some(match self.inner.stuck.take() {
            Some(first) => first.with_stuck(other),
            None => other,
        });
        self
    }

    /// Joins an error from inside, if there is one, with that of a carrier that could not be
    /// detached.
    #[inline]
    pub(super) fn both(inner: Option<Self>, stuck: Option<Self>) -> Option<Self> {
        match (inner, stuck) {
            (Some(inner), Some(stuck)) => Some(inner.with_stuck(stuck)),
            (inner, stuck) => inner.or(stuck),
        }
    }

    /// Turns the error into a failure to detach.
    pub(super) fn into_detach(mut self) -> Self {
        self.inner.step = CarrierStep::Detach;
        self
    }

    /// Returns the name of the carrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Context;
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
    /// let error = Context::empty().try_carry(Broken).unwrap_err();
    /// assert_eq!(error.carrier(), "broken");
    /// ```
    pub fn carrier(&self) -> &str {
        &self.inner.carrier
    }

    /// Returns whether the carrier failed to capture.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Context;
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
    /// let error = Context::empty().try_carry(Broken).unwrap_err();
    /// assert!(error.is_capture() && !error.is_attach());
    /// ```
    pub fn is_capture(&self) -> bool {
        matches!(self.inner.step, CarrierStep::Capture | CarrierStep::Nothing)
    }

    /// Returns whether the carrier failed to attach. The task did not run.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Context;
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
    /// let error = Context::empty().carry(Broken).try_run(|| ()).unwrap_err();
    /// assert!(error.is_carrier() && error.to_string().contains("failed to attach"));
    /// ```
    pub fn is_attach(&self) -> bool {
        self.inner.step == CarrierStep::Attach
    }

    /// Returns whether this carrier, or one that was attached before it, failed to detach. The
    /// thread may still hold its state; a pool replaces such a worker.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Context;
    /// use cleanslate::foreign::{BoxError, Carrier};
    ///
    /// struct Broken;
    ///
    /// impl Carrier for Broken {
    ///     type Captured = ();
    ///     type Attached = ();
    ///     fn name(&self) -> &str { "broken" }
    ///     fn capture(&self) -> Result<(), BoxError> { Ok(()) }
    ///     fn attach(&self, (): &()) -> Result<(), BoxError> { Ok(()) }
    ///     fn detach(&self, (): ()) -> Result<(), BoxError> { Err("out of order".into()) }
    /// }
    ///
    /// let error = Context::empty().carry(Broken).try_run(|| ()).unwrap_err();
    /// assert!(error.is_cleanup() && error.to_string().contains("failed to detach"));
    /// ```
    pub fn is_detach(&self) -> bool {
        self.inner.step == CarrierStep::Detach || self.inner.stuck.is_some()
    }

    /// Returns whether the carrier panicked rather than returning an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::Context;
    /// use cleanslate::foreign::{BoxError, Carrier};
    ///
    /// struct Broken;
    ///
    /// impl Carrier for Broken {
    ///     type Captured = ();
    ///     type Attached = ();
    ///     fn name(&self) -> &str { "broken" }
    ///     fn capture(&self) -> Result<(), BoxError> { panic!("oh no") }
    ///     fn attach(&self, (): &()) -> Result<(), BoxError> { Ok(()) }
    ///     fn detach(&self, (): ()) -> Result<(), BoxError> { Ok(()) }
    /// }
    ///
    /// let error = Context::empty().try_carry(Broken).unwrap_err();
    /// assert!(error.is_panic());
    /// ```
    pub fn is_panic(&self) -> bool {
        self.inner.panicked
    }
}

impl fmt::Display for CarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CarrierFault { carrier, step, cause, panicked, stuck } = &*self.inner;
        let verb = if *panicked { "panicked" } else { "failed" };
        let step = match step {
            CarrierStep::Capture => "capture",
            CarrierStep::Nothing => "say what nothing is",
            CarrierStep::Attach => "attach",
            CarrierStep::Detach => "detach",
        };
        write!(f, "carrier `{carrier}` {verb} to {step}: {}", cause.text())?;
        if let Some(stuck) = stuck {
            write!(f, "; {stuck}")?;
        }
        Ok(())
    }
}

debug_as_text!(CarrierError);

impl Error for CarrierError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.cause.source()
    }
}

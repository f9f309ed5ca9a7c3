//! Errors of capturing and restoring.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cleanslate::RunError;

use crate::baggage::TooMuch;

/// A context could not be captured for a job.
#[derive(Debug)]
pub struct CaptureError {
    cause: CaptureCause,
}

#[derive(Debug)]
enum CaptureCause {
    Context(cleanslate::CaptureError),
    Run(RunError),
    Encode { slot: &'static str, error: serde_json::Error },
    TooLarge(TooLarge),
    Baggage(TooMuch),
}

/// More than the limit, and what takes most of it.
#[derive(Debug)]
pub(crate) struct TooLarge {
    pub(crate) slot: Box<str>,
    pub(crate) bytes: usize,
    pub(crate) total: usize,
    pub(crate) limit: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, bytes, total, limit } = self;
        write!(
            f,
            "the context takes {total} bytes of {limit}, most of them ({bytes}) for slot `{slot}`"
        )
    }
}

impl CaptureError {
    pub(crate) fn encode(slot: &'static str, error: serde_json::Error) -> Self {
        Self { cause: CaptureCause::Encode { slot, error } }
    }

    /// Returns the name of the slot that does not encode, or that takes most of too many bytes.
    #[must_use]
    pub fn slot(&self) -> Option<&str> {
        match &self.cause {
            CaptureCause::Encode { slot, .. } => Some(slot),
            CaptureCause::TooLarge(TooLarge { slot, .. }) => Some(slot),
            CaptureCause::Context(_) | CaptureCause::Run(_) | CaptureCause::Baggage(_) => None,
        }
    }

    /// Returns whether the encoded values exceed the wire's limit, or those of a header.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.cause, CaptureCause::TooLarge(_) | CaptureCause::Baggage(_))
    }

    /// Returns whether a value could not be written as JSON.
    #[must_use]
    pub fn is_encode(&self) -> bool {
        matches!(self.cause, CaptureCause::Encode { .. })
    }

    /// Returns whether there was no context to encode: an inheritable slot is inside its own
    /// `with_mut`, or an installed carrier failed, or the drop of a copy panicked.
    #[must_use]
    pub fn is_context(&self) -> bool {
        matches!(self.cause, CaptureCause::Context(_) | CaptureCause::Run(_))
    }
}

impl From<cleanslate::CaptureError> for CaptureError {
    fn from(error: cleanslate::CaptureError) -> Self {
        Self { cause: CaptureCause::Context(error) }
    }
}

impl From<RunError> for CaptureError {
    fn from(error: RunError) -> Self {
        Self { cause: CaptureCause::Run(error) }
    }
}

impl From<TooMuch> for CaptureError {
    fn from(error: TooMuch) -> Self {
        Self { cause: CaptureCause::Baggage(error) }
    }
}

impl From<TooLarge> for CaptureError {
    fn from(error: TooLarge) -> Self {
        Self { cause: CaptureCause::TooLarge(error) }
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            CaptureCause::Context(error) => error.fmt(f),
            CaptureCause::Run(error) => error.fmt(f),
            CaptureCause::Encode { slot, error } => {
                write!(f, "cannot encode slot `{slot}`: {error}")
            }
            CaptureCause::TooLarge(error) => error.fmt(f),
            CaptureCause::Baggage(error) => error.fmt(f),
        }
    }
}

impl Error for CaptureError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            CaptureCause::Context(error) => error.source(),
            CaptureCause::Run(error) => error.source(),
            CaptureCause::Encode { error, .. } => Some(error),
            CaptureCause::TooLarge(_) | CaptureCause::Baggage(_) => None,
        }
    }
}

/// What a job brought along is no context of its wire.
#[derive(Debug)]
pub struct RestoreError {
    cause: RestoreCause,
}

#[derive(Debug)]
enum RestoreCause {
    Decode { slot: &'static str, error: serde_json::Error },
    TooLarge(TooLarge),
    Baggage(TooMuch),
    Run(RunError),
    Panicked { slot: &'static str, message: Cow<'static, str> },
}

impl RestoreError {
    pub(crate) fn panicked(slot: &'static str, payload: Box<dyn Any + Send>) -> Self {
        Self { cause: RestoreCause::Panicked { slot, message: message(payload) } }
    }

    pub(crate) fn decode(slot: &'static str, error: serde_json::Error) -> Self {
        Self { cause: RestoreCause::Decode { slot, error } }
    }

    /// Returns the name of the slot whose value does not decode, or takes most of too many bytes.
    #[must_use]
    pub fn slot(&self) -> Option<&str> {
        match &self.cause {
            RestoreCause::Decode { slot, .. } | RestoreCause::Panicked { slot, .. } => Some(slot),
            RestoreCause::TooLarge(TooLarge { slot, .. }) => Some(slot),
            RestoreCause::Baggage(_) | RestoreCause::Run(_) => None,
        }
    }

    /// Returns whether the values exceed the wire's limit, or a header those of W3C. None of them
    /// was decoded.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.cause, RestoreCause::TooLarge(_) | RestoreCause::Baggage(_))
    }

    /// Returns whether a value is not the JSON of its slot's type.
    #[must_use]
    pub fn is_decode(&self) -> bool {
        matches!(self.cause, RestoreCause::Decode { .. })
    }
}

impl From<TooMuch> for RestoreError {
    fn from(error: TooMuch) -> Self {
        Self { cause: RestoreCause::Baggage(error) }
    }
}

impl From<TooLarge> for RestoreError {
    fn from(error: TooLarge) -> Self {
        Self { cause: RestoreCause::TooLarge(error) }
    }
}

impl From<RunError> for RestoreError {
    fn from(error: RunError) -> Self {
        Self { cause: RestoreCause::Run(error) }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            RestoreCause::Decode { slot, error } => {
                write!(f, "cannot decode slot `{slot}`: {error}")
            }
            RestoreCause::TooLarge(error) => error.fmt(f),
            RestoreCause::Baggage(error) => error.fmt(f),
            RestoreCause::Run(error) => error.fmt(f),
            RestoreCause::Panicked { slot, message } => {
                write!(f, "to decode slot `{slot}` panicked: {message}")
            }
        }
    }
}

impl Error for RestoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            RestoreCause::Decode { error, .. } => Some(error),
            RestoreCause::Run(error) => error.source(),
            RestoreCause::TooLarge(_)
            | RestoreCause::Baggage(_)
            | RestoreCause::Panicked { .. } => None,
        }
    }
}

/// Returns what a panic said.
fn message(payload: Box<dyn Any + Send>) -> Cow<'static, str> {
    let payload = match payload.downcast::<&'static str>() {
        Ok(message) => return Cow::Borrowed(*message),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(message) => Cow::Owned(*message),
        Err(payload) => {
            // A value like any other, which may panic in its drop.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            let _leaked = ManuallyDrop::new(dropped);
            Cow::Borrowed("a payload that is no string")
        }
    }
}

//! [`BuildError`].

use std::error::Error;
use std::fmt;
use std::io;

use crate::foreign::CarrierError;

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
#[derive(Debug)]
pub struct BuildError(Refused);

#[derive(Debug)]
pub(crate) enum Refused {
    NoWorkers,
    TooManyWorkers(usize),
    NoCapacity,
    StackSize(usize),
    Name(String),
    Carrier(CarrierError),
    Thread { index: usize, error: io::Error },
}

impl From<Refused> for BuildError {
    fn from(refused: Refused) -> Self {
        Self(refused)
    }
}

impl BuildError {
    /// Whether no workers were asked for.
    #[must_use]
    pub fn is_no_workers(&self) -> bool {
        matches!(self.0, Refused::NoWorkers)
    }

    /// Whether more workers were asked for than a pool can number (65,535).
    #[must_use]
    pub fn is_too_many_workers(&self) -> bool {
        matches!(self.0, Refused::TooManyWorkers(_))
    }

    /// Whether the queue was to hold nothing.
    #[must_use]
    pub fn is_queue_capacity(&self) -> bool {
        matches!(self.0, Refused::NoCapacity)
    }

    /// Whether the stack size is one that no thread can have.
    #[must_use]
    pub fn is_stack_size(&self) -> bool {
        matches!(self.0, Refused::StackSize(_))
    }

    /// Whether the name contains a NUL byte, which no thread's name can.
    #[must_use]
    pub fn is_name(&self) -> bool {
        matches!(self.0, Refused::Name(_))
    }

    /// Whether a carrier that captures once, for all tasks, could not do so.
    #[must_use]
    pub fn is_carrier(&self) -> bool {
        matches!(self.0, Refused::Carrier(_))
    }

    /// Whether the system refused to start a thread. Those that had started have ended.
    #[must_use]
    pub fn is_thread(&self) -> bool {
        matches!(self.0, Refused::Thread { .. })
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Refused::NoWorkers => f.write_str("a pool needs at least one worker"),
            Refused::TooManyWorkers(n) => write!(f, "a pool cannot have {n} workers"),
            Refused::NoCapacity => f.write_str("a queue needs room for at least one task"),
            Refused::StackSize(bytes) => write!(f, "a stack of {bytes} bytes is impossible"),
            Refused::Name(name) => write!(f, "the name {name:?} contains a NUL byte"),
            Refused::Carrier(error) => error.fmt(f),
            Refused::Thread { index, error } => {
                write!(f, "the thread of worker {index} could not be started: {error}")
            }
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Refused::Thread { error, .. } => Some(error),
            Refused::Carrier(error) => Some(error),
            _ => None,
        }
    }
}

//! How a task can fail besides returning an error of its own.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::foreign::CarrierError;

/// What `catch_unwind` gives.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Values leaked on purpose since the process started.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// Counts the values that clean-up gave up on since the process started.
///
/// A slot whose `Drop` sets it again at every round would keep a worker for ever, so the value of
/// the last round is leaked and the task fails with an error that names the slot. `0` in a healthy
/// program.
pub fn leaked_values() -> u64 {
    // Relaxed: a statistic; nothing is read because of its value.
    LEAKED.load(Ordering::Relaxed)
}

pub(super) fn count_leak() {
    // Relaxed: a statistic, see `leaked_values`.
    LEAKED.fetch_add(1, Ordering::Relaxed);
}

/// Drops a panic's payload, whose own `Drop` may panic in turn.
pub(crate) fn discard(payload: Payload) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        #[expect(clippy::mem_forget, reason = "a payload whose Drop panics with another one")]
        std::mem::forget(again);
    }
}

/// Drops several things one by one: the second panic of two that unwind together would abort the
/// process.
#[derive(Default)]
pub(crate) struct Drops {
    first: Option<Payload>,
}

impl Drops {
    /// Calls what drops one of them. The first panic is kept, later ones are discarded.
    pub(crate) fn contain(&mut self, drop: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(drop)) {
            if self.first.is_none() && !std::thread::panicking() {
                self.first = Some(payload);
            } else {
                discard(payload);
            }
        }
    }

    /// Lets the first panic go on.
    pub(crate) fn resume(self) {
        if let Some(payload) = self.first {
            resume_unwind(payload);
        }
    }
}

/// The text of a panic's payload, as far as it has one.
pub(crate) fn message(payload: &(dyn Any + Send)) -> Cow<'static, str> {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        Cow::Borrowed(text)
    } else if let Some(text) = payload.downcast_ref::<String>() {
        Cow::Owned(text.clone())
    } else {
        Cow::Borrowed("a payload that is no string")
    }
}

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
                "slot `{slot}` is filled again whenever its value is dropped, so it was leaked"
            ),
            Self::Detach(error) => error.fmt(f),
            Self::Other { message } => write!(f, "a clean-up panicked: {message}"),
        }
    }
}

/// The error of a task that returned, but that could not be cleaned up without a fault.
///
/// Everything else was cleaned up all the same: one fault skips nothing. It names the slot or the
/// carrier, and holds the first panic's payload.
#[derive(Debug)]
pub struct CleanupError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    faults: Vec<Fault>,
    /// In a mutex because a payload is not `Sync`, and errors are expected to be.
    payload: Mutex<Option<Payload>>,
}

impl CleanupError {
    fn new(fault: Fault, payload: Option<Payload>) -> Self {
        Self { inner: Box::new(Inner { faults: vec![fault], payload: Mutex::new(payload) }) }
    }

    pub(super) fn panicked(slot: String, payload: Payload) -> Self {
        let message = message(&*payload);
        Self::new(Fault::Panicked { slot, message }, Some(payload))
    }

    pub(super) fn recurring(slot: String) -> Self {
        Self::new(Fault::Recurring { slot }, None)
    }

    pub(crate) fn detach(error: CarrierError) -> Self {
        Self::new(Fault::Detach(error), None)
    }

    pub(super) fn other(payload: Payload) -> Self {
        let message = message(&*payload);
        Self::new(Fault::Other { message }, Some(payload))
    }

    /// What went wrong while code of others was run to clean up.
    pub(crate) fn from_failure(failure: Failure) -> Self {
        match failure {
            Failure::Panic(payload) => Self::other(payload),
            Failure::Cleanup(error) => error,
            Failure::Carrier(error) => Self::detach(error),
        }
    }

    /// Adds what happened later. The first payload is kept.
    pub(crate) fn merge(mut self, later: Self) -> Self {
        let Inner { faults, payload } = *later.inner;
        self.inner.faults.extend(faults);
        if let Some(payload) = payload.into_inner() {
            let slot = self.inner.payload.get_mut();
            if slot.is_none() {
                *slot = Some(payload);
            } else {
                discard(payload);
            }
        }
        self
    }

    /// Merges into an accumulator.
    pub(crate) fn add(total: &mut Option<Self>, later: Self) {
        *total = Some(match total.take() {
            Some(first) => first.merge(later),
            None => later,
        });
    }

    /// Says whether a carrier could not be detached, so that the thread's foreign state is in
    /// doubt. A pool replaces such a worker.
    pub fn is_detach(&self) -> bool {
        self.inner.faults.iter().any(|fault| matches!(fault, Fault::Detach(_)))
    }

    /// Counts the values that were leaked because their slot kept coming back.
    pub fn leaked(&self) -> usize {
        self.inner.faults.iter().filter(|fault| matches!(fault, Fault::Recurring { .. })).count()
    }

    /// Returns the payload of the first panic.
    ///
    /// # Errors
    ///
    /// Hands the error back if nothing panicked.
    pub fn try_into_payload(self) -> Result<Box<dyn Any + Send>, Self> {
        let taken = self.inner.payload.lock().take();
        taken.ok_or(self)
    }

    /// Returns the payload of the first panic, or this error's text where nothing panicked.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        let text = self.to_string();
        self.inner.payload.into_inner().unwrap_or_else(|| Box::new(text))
    }
}

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

impl Error for CleanupError {}

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

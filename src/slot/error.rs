//! Why a slot could not be used.

use std::error::Error;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Gone,
    Borrowed,
    BorrowedMut,
    Recursive,
    InFuture,
}

/// A slot could not be used: it says which one, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessError {
    slot: String,
    reason: Reason,
}

impl AccessError {
    #[cold]
    pub(super) fn new(slot: String, reason: Reason) -> Self {
        Self { slot, reason }
    }

    /// The path of the slot, or the type and place of birth of an [`OwnedLocal`](crate::OwnedLocal).
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// Says whether the thread is ending and its slots have been torn down.
    pub fn is_destroyed(&self) -> bool {
        self.reason == Reason::Gone
    }

    /// Says whether the value is borrowed by an enclosing `with` or `with_mut`.
    pub fn is_borrowed(&self) -> bool {
        matches!(self.reason, Reason::Borrowed | Reason::BorrowedMut)
    }

    /// Says whether the slot's initialiser needs the slot itself.
    pub fn is_recursive(&self) -> bool {
        self.reason == Reason::Recursive
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = &self.slot;
        match self.reason {
            Reason::Gone => write!(f, "slot `{slot}` cannot be used while its thread ends"),
            Reason::Borrowed => write!(f, "slot `{slot}` is borrowed by an enclosing with"),
            Reason::BorrowedMut => write!(f, "slot `{slot}` is borrowed by an enclosing with_mut"),
            Reason::Recursive => write!(f, "slot `{slot}` is needed by its own initialiser"),
            Reason::InFuture => write!(
                f,
                "slot `{slot}` is bound to its thread, so an isolated future cannot use it"
            ),
        }
    }
}

impl Error for AccessError {}

/// A value could not be put into a slot. It is handed back.
#[derive(Clone, PartialEq, Eq)]
pub struct SetError<T> {
    error: AccessError,
    value: T,
}

impl<T> SetError<T> {
    pub(super) fn new(error: AccessError, value: T) -> Self {
        Self { error, value }
    }

    /// Why the slot could not be used.
    pub fn error(&self) -> &AccessError {
        &self.error
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> fmt::Debug for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SetError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> Error for SetError<T> {}

impl<T> From<SetError<T>> for AccessError {
    fn from(refused: SetError<T>) -> Self {
        refused.error
    }
}

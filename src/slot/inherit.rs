//! How a slot's value gets from the submitter to the task: the policy that `task_local!` declares.
//!
//! A snapshot keeps one shared clone per slot, made at capture on the submitting thread. A task
//! that touches the slot makes its own value from that, on its own thread: another clone, or what
//! the function of `#[inherit(with = f)]` returns for it.

use std::sync::Arc;

use crate::frame::Alone;
use crate::frame::snapshot::Copied;

/// The policy of one slot.
#[doc(hidden)]
#[derive(Debug)]
pub struct Inherit<T> {
    clone: fn(&T) -> T,
    share: fn(T) -> Copied,
    /// What makes a task's value, if not `clone`.
    derive: Option<fn(&T) -> T>,
}

/// What several tasks can be made from at once: everything that is `Sync`. The trait exists for an
/// error message that says what to do with a `Cell`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be inherited: several tasks are made from it at once, so it has to \
               be `Sync`",
    label = "a slot of this type cannot be marked `#[inherit]`",
    note = "a slot needs no `Cell` or `RefCell`: declare it with the value itself, and change that \
            with `set`, `replace` or `with_mut`"
)]
pub trait SharedValue: Sync {}

#[diagnostic::do_not_recommend]
impl<T: Sync> SharedValue for T {}

// The bounds are on the functions so that the compiler names the one that a slot's type lacks.
impl<T: 'static> Inherit<T> {
    /// Returns the policy of `#[inherit]`.
    pub const fn by_clone() -> Self
    where
        T: Clone + Send + SharedValue,
    {
        Self { clone: T::clone, share: |value| Arc::new(Alone::new(value)), derive: None }
    }

    /// Returns the policy of `#[inherit(with = f)]`.
    pub const fn with(f: fn(&T) -> T) -> Self
    where
        T: Clone + Send + SharedValue,
    {
        Self { clone: T::clone, share: |value| Arc::new(Alone::new(value)), derive: Some(f) }
    }
}

impl<T> Inherit<T> {
    pub(super) fn derives(&self) -> bool {
        self.derive.is_some()
    }

    /// Returns the copy that a snapshot keeps.
    pub(super) fn copy(&self, value: &T) -> Copied {
        self.share((self.clone)(value))
    }

    /// Puts a value into the form in which a snapshot keeps it.
    pub(super) fn share(&self, value: T) -> Copied {
        (self.share)(value)
    }

    /// Returns a task's own value. A value that was given rather than captured is not derived
    /// again.
    pub(super) fn make(&self, copied: &T, is_given: bool) -> T {
        match self.derive {
            Some(derive) if !is_given => derive(copied),
            _ => (self.clone)(copied),
        }
    }
}

//! What a `task_local!` declares besides its initialiser: a name, a cell, and what is inherited.

use std::ptr::NonNull;

use super::error::Reason;
use super::inherit::Inherit;
use super::place::{Place, SlotCell, ValueSource};
use crate::frame::Alone;
use crate::frame::capture::{inherits, with_inherited};
use crate::frame::cell::{InFutures, RawCell, Slot};
use crate::frame::permanent::{self, Key};
use crate::frame::snapshot::{Borrowed, Copied, Inheritance};
use crate::frame::thread::{self, Thread};

/// A `task_local!` declaration, in a `static` whose address is the slot's identity.
#[doc(hidden)]
#[derive(Debug)]
pub struct Declaration<T: 'static> {
    pub(super) path: &'static str,
    key: &'static Key<SlotCell<T>>,
    pub(super) inherit: Option<Inherit<T>>,
}

impl<T: 'static> Declaration<T> {
    /// Makes a declaration, for the macro.
    pub const fn new(
        path: &'static str,
        key: &'static Key<SlotCell<T>>,
        inherit: Option<Inherit<T>>,
    ) -> Self {
        Self { path, key, inherit }
    }

    /// Makes the cell of one thread, for the macro.
    pub const fn cell(&'static self) -> SlotCell<T> {
        SlotCell::from_raw(RawCell::declared(self, InFutures::Travels, self.inherit.is_some()))
    }

    /// Returns the slot's place on this thread.
    pub(super) fn place(&self) -> Place<'_, T, &Self> {
        Place { cell: permanent::get(self.key), source: self }
    }
}

impl<T: 'static> Slot for Declaration<T> {
    fn name(&self) -> &'static str {
        self.path
    }

    fn cell(&self) -> NonNull<RawCell> {
        NonNull::from(&permanent::get(self.key).raw)
    }

    fn inheritance(&self) -> Option<&dyn Inheritance> {
        if self.inherit.is_some() { Some(self) } else { None }
    }
}

impl<T: 'static> Inheritance for Declaration<T> {
    fn derives(&self) -> bool {
        self.inherit.as_ref().is_some_and(Inherit::derives)
    }

    fn copy_current(&self) -> Result<Option<Copied>, Borrowed> {
        let Some(inherit) = &self.inherit else { return Ok(None) };
        self.place().copy_shown(|value| inherit.copy(value)).map_err(|_| Borrowed(self.path))
    }

    fn is_touched(&self) -> bool {
        self.place().is_touched()
    }

    fn materialise(&self) {
        self.place().fill_now();
    }

    fn name(&self) -> &'static str {
        self.path
    }
}

/// The source of a value that is known to be inherited.
impl<T: 'static> ValueSource<T> for &Declaration<T> {
    fn init(&self) -> Result<T, Reason> {
        unreachable!("only slots that the context holds are materialised")
    }

    fn is_inheritable(&self) -> bool {
        self.inherit.is_some()
    }

    fn inherits(&self, thread: &Thread) -> bool {
        inherits(thread, *self)
    }

    fn inherit(&self) -> Option<T> {
        let inherit = self.inherit.as_ref()?;
        with_inherited(thread::current(), *self, |item| {
            let copied = item.copied.downcast_ref::<Alone<T>>()?;
            Some(inherit.make(copied, item.is_given))
        })?
    }
}

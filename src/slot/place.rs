//! What one can do with a slot, written once for declared and for owned ones.
//!
//! # Invariants
//!
//! - **L1 (type).** All boxes of a `SlotCell<T>` are `Boxed<T>`: only this module fills them.
//! - **L2 (alive).** The box that a cell shows stays alive until the frame ends or the slot is
//!   unlinked. No code of others runs between looking it up and borrowing it, so it is alive then;
//!   and a borrowed box outlives its frame (V4).

#![expect(unsafe_code, reason = "turns a cell's erased boxes into typed ones")]

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::error::{AccessError, Reason, SetError};
use crate::frame::Pin;
use crate::frame::cell::RawCell;
use crate::frame::thread::{self, Gone, Thread};
use crate::frame::value::{
    Boxed, Exclusive, Header, Released, Shared, Status, drop_released, release,
};
use crate::panic::catch;

/// A slot's cell with its type.
#[doc(hidden)]
#[repr(transparent)]
#[expect(missing_debug_implementations, reason = "hidden, and it has nothing to show")]
pub struct SlotCell<T> {
    pub(super) raw: RawCell,
    value: PhantomData<fn() -> T>,
}

impl<T> SlotCell<T> {
    pub(super) const fn from_raw(raw: RawCell) -> Self {
        Self { raw, value: PhantomData }
    }
}

/// Where a fresh value comes from.
pub(super) trait Source<T>: Copy {
    /// Tasks may inherit the slot, so changes matter to captures.
    fn is_heir(&self) -> bool;
    /// Whether an untouched slot counts as set, since the task inherits a value.
    fn inherits(&self, thread: &Thread) -> bool;
    /// The value that the task inherits, or else none.
    fn inherit(&self) -> Option<T>;
    /// The value of the declared initialiser.
    fn init(&self) -> T;
}

/// A slot on this thread. Two words, passed by value so that they stay in registers.
pub(super) struct Place<'c, T, S> {
    pub(super) cell: &'c SlotCell<T>,
    pub(super) source: S,
}

impl<T, S: Copy> Clone for Place<'_, T, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, S: Copy> Copy for Place<'_, T, S> {}

impl<'c, T, S: Source<T>> Place<'c, T, S> {
    fn boxed(self, header: NonNull<Header>) -> &'c Boxed<T> {
        // SAFETY: the type is right by L1; the callers borrow, fill or read at once (L2).
        unsafe { Boxed::from_header(header) }
    }

    #[cold]
    fn error(self, reason: Reason) -> AccessError {
        AccessError::new(self.cell.raw.name(), reason)
    }

    #[cold]
    fn gone(self, _: Gone) -> AccessError {
        self.error(Reason::Gone)
    }

    #[cold]
    fn refused(self, status: Status) -> AccessError {
        self.error(match status {
            Status::Initialising => Reason::Recursive,
            Status::Exclusive => Reason::BorrowedMut,
            Status::Idle | Status::Shared | Status::Empty | Status::Unmade => Reason::Borrowed,
        })
    }

    /// The box that the current task holds, if it has touched the slot.
    #[inline]
    fn shown(self, thread: &Thread) -> Option<&'c Boxed<T>> {
        self.cell.raw.shown(thread).map(|header| self.boxed(header))
    }

    #[inline]
    fn changed(self, thread: &Thread) {
        if self.source.is_heir() {
            thread.diverge();
        }
    }

    /// A box with a value in it: what the task holds, inherits, or what the initialiser makes.
    ///
    /// If an initialiser ended the very frame that it ran in (a loose one), its value is gone and
    /// another one is made in the next task.
    #[cold]
    fn filled(self) -> Result<&'c Boxed<T>, AccessError> {
        loop {
            let boxed = thread::with(|thread| match self.shown(thread) {
                Some(boxed) => Ok((boxed, false)),
                None => thread.touch::<T>(&self.cell.raw).map(|header| (self.boxed(header), true)),
            });
            let (boxed, is_fresh) = boxed.map_err(|gone| self.gone(gone))?;
            let inherits = match boxed.header.status() {
                Status::Empty => is_fresh,
                Status::Unmade => true,
                _ => return Ok(boxed),
            };
            if self.initialise(boxed, inherits) {
                return Ok(boxed);
            }
        }
    }

    /// Runs the initialiser for an empty box. False if the box was orphaned meanwhile.
    fn initialise(self, boxed: &'c Boxed<T>, inherits: bool) -> bool {
        struct Abandon<'b, T> {
            boxed: &'b Boxed<T>,
            inheriting: bool,
        }
        impl<T> Drop for Abandon<'_, T> {
            fn drop(&mut self) {
                self.boxed.abandon_init(self.inheriting);
            }
        }
        boxed.header.begin_init();
        let mut abandon = Abandon { boxed, inheriting: true };
        let inherited = if inherits { self.source.inherit() } else { None };
        abandon.inheriting = false;
        let value = match inherited {
            Some(value) => value,
            None => {
                let value = self.source.init();
                thread::with(|thread| self.changed(thread));
                value
            }
        };
        let _returned = std::mem::ManuallyDrop::new(abandon);
        boxed.fill(value)
    }

    fn shared_slow(self) -> Result<Shared<'c, T>, AccessError> {
        let boxed = self.filled()?;
        boxed.borrow().ok_or_else(|| self.refused(boxed.header.status()))
    }

    fn exclusive_slow(self) -> Result<Exclusive<'c, T>, AccessError> {
        let boxed = self.filled()?;
        boxed.borrow_mut().ok_or_else(|| self.refused(boxed.header.status()))
    }

    // The hot ways call `f` themselves: where they met the slow ones before the call, the compiler
    // would lose track of the borrow word, and store it twice.

    #[inline]
    pub(super) fn try_with<R>(self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        if let Some(boxed) = self.shown(thread::current())
            && let Some(shared) = boxed.borrow()
        {
            return Ok(f(shared.get()));
        }
        self.with_slow(f)
    }

    #[inline(never)]
    fn with_slow<R>(self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let shared = self.shared_slow()?;
        Ok(f(shared.get()))
    }

    #[inline]
    pub(super) fn try_with_mut<R>(self, f: impl FnOnce(&mut T) -> R) -> Result<R, AccessError> {
        let thread = thread::current();
        if let Some(boxed) = self.shown(thread)
            && let Some(mut exclusive) = boxed.borrow_mut()
        {
            // Before, and that is enough: while the value is lent out nothing can capture it.
            self.changed(thread);
            return Ok(f(exclusive.get()));
        }
        self.with_mut_slow(f)
    }

    #[inline(never)]
    fn with_mut_slow<R>(self, f: impl FnOnce(&mut T) -> R) -> Result<R, AccessError> {
        let mut exclusive = self.exclusive_slow()?;
        thread::with(|thread| self.changed(thread));
        Ok(f(exclusive.get()))
    }

    /// Puts a value in without running the initialiser; the old one is dropped afterwards.
    #[inline]
    pub(super) fn try_set(self, value: T) -> Result<(), SetError<T>> {
        let thread = thread::current();
        if let Some(boxed) = self.shown(thread)
            && boxed.header.is_idle()
        {
            let old = boxed.swap(value);
            self.changed(thread);
            drop(old);
            return Ok(());
        }
        // The first touch in a task that a worker runs, of a plain value.
        if self.shown(thread).is_none()
            && let Some(header) = thread.touch_idle::<T>(&self.cell.raw)
        {
            self.boxed(header).overwrite(value);
            self.changed(thread);
            return Ok(());
        }
        self.set_slow(value)
    }

    #[inline(never)]
    fn set_slow(self, value: T) -> Result<(), SetError<T>> {
        let thread = thread::current();
        let boxed = match self.shown(thread) {
            Some(boxed) => boxed,
            None => match thread.touch::<T>(&self.cell.raw) {
                Ok(header) => self.boxed(header),
                Err(gone) => return Err(SetError::new(self.gone(gone), value)),
            },
        };
        if !matches!(boxed.header.status(), Status::Empty | Status::Unmade) {
            return Err(SetError::new(self.refused(boxed.header.status()), value));
        }
        boxed.fill_fresh(value);
        self.changed(thread);
        Ok(())
    }

    pub(super) fn try_replace(self, value: T) -> Result<T, SetError<T>> {
        let boxed = match self.filled() {
            Ok(boxed) => boxed,
            Err(error) => return Err(SetError::new(error, value)),
        };
        if !boxed.header.is_idle() {
            return Err(SetError::new(self.refused(boxed.header.status()), value));
        }
        let old = boxed.swap(value);
        thread::with(|thread| self.changed(thread));
        Ok(old)
    }

    pub(super) fn try_take(self) -> Result<Option<T>, AccessError> {
        let shown = thread::with(|thread| match self.shown(thread) {
            Some(boxed) => Some(Some(boxed)),
            // Nothing to take, so nothing is touched.
            None => self.source.inherits(thread).then_some(None),
        });
        let boxed = match shown {
            None => return self.check_alive().map(|()| None),
            Some(Some(boxed)) if boxed.header.status() == Status::Empty => return Ok(None),
            Some(Some(boxed)) if boxed.header.status() == Status::Unmade => self.filled()?,
            Some(Some(boxed)) => boxed,
            Some(None) => self.filled()?,
        };
        if !boxed.header.is_idle() {
            return Err(self.refused(boxed.header.status()));
        }
        let value = boxed.take();
        thread::with(|thread| self.changed(thread));
        Ok(Some(value))
    }

    fn check_alive(self) -> Result<(), AccessError> {
        thread::with(Thread::register).map_err(|gone| self.gone(gone))
    }

    pub(super) fn try_is_set(self) -> Result<bool, AccessError> {
        self.check_alive()?;
        Ok(thread::with(|thread| match self.shown(thread) {
            Some(boxed) => match boxed.header.status() {
                Status::Idle | Status::Shared | Status::Exclusive => true,
                Status::Empty | Status::Initialising => false,
                Status::Unmade => self.source.inherits(thread),
            },
            None => self.source.inherits(thread),
        }))
    }

    /// Shows a value of its own while `f` runs. What was there before keeps its box and its borrows.
    pub(super) fn try_scope<R>(self, value: T, f: impl FnOnce() -> R) -> Result<R, SetError<T>> {
        let raw = &self.cell.raw;
        if thread::with(|thread| !thread.admit(raw)) {
            return Err(SetError::new(self.gone(Gone), value));
        }
        let header = raw.vacant::<T>();
        self.boxed(header).fill_fresh(value);
        let binding = thread::with(|thread| {
            raw.link(header, thread.epoch());
            thread.mark_dirty();
            self.changed(thread);
            // The undo lies on the Rust stack, so no loose frame may end underneath.
            Binding { place: self, header, pin: Pin::new(thread) }
        });
        let result = f();
        drop(binding);
        Ok(result)
    }

    /// Copies the current task's value for a snapshot.
    pub(super) fn copy_shown<R>(self, f: impl FnOnce(&T) -> R) -> Result<Option<R>, Status> {
        let Some(boxed) = thread::with(|thread| self.shown(thread)) else { return Ok(None) };
        match boxed.borrow() {
            Some(shared) => Ok(Some(f(shared.get()))),
            None => match boxed.header.status() {
                Status::Empty | Status::Unmade | Status::Initialising => Ok(None),
                status => Err(status),
            },
        }
    }

    /// Whether the current task has touched the slot.
    pub(super) fn is_touched(self) -> bool {
        thread::with(|thread| self.shown(thread))
            .is_some_and(|boxed| boxed.header.status() != Status::Unmade)
    }

    /// Makes the current task hold the value that it inherits, unless it has touched the slot.
    pub(super) fn fill_now(self) {
        if !self.is_touched() {
            // An error means that the thread is ending.
            drop(self.filled());
        }
    }
}

/// Undoes a `scope`.
struct Binding<'c, T, S: Source<T>> {
    place: Place<'c, T, S>,
    header: NonNull<Header>,
    /// Dropped after the undo: a marked frame below may close then, and looks at this cell.
    pin: Pin,
}

impl<T, S: Source<T>> Drop for Binding<'_, T, S> {
    fn drop(&mut self) {
        // First: what loose frames have put on top.
        self.pin.close_above();
        let raw = &self.place.cell.raw;
        let unlinked = raw.unlink();
        debug_assert_eq!(unlinked, Some(self.header), "scopes end in reverse order");
        thread::with(|thread| self.place.changed(thread));
        let mut dropped = Ok(());
        // SAFETY: just unlinked, so it is ours (V4).
        match unsafe { release(self.header) } {
            Released::Value => {
                dropped = catch(|| {
                    // SAFETY: `release` has just said that there is a value.
                    unsafe { drop_released(self.header) };
                });
            }
            Released::Box => {}
            Released::Orphaned => return,
        }
        // SAFETY: ours, made for this cell, and empty.
        unsafe { raw.recycle(self.header) };
        if let Err(payload) = dropped {
            payload.resume_unless_panicking();
        }
    }
}

//! What can be done with a slot, written once for declared and owned slots.
//!
//! # Invariants
//!
//! - **L1 (type).** All boxes of a `SlotCell<T>` are `Boxed<T>`: only this module fills them.
//! - **L2 (alive).** The box that a cell shows stays alive until its task ends or its owner is
//!   dropped. No user code runs between looking it up and borrowing it or marking it as being
//!   initialised, so it is alive then; and a box that is in use is not freed (V4).

#![expect(unsafe_code, reason = "turns a cell's erased boxes into typed ones")]

use std::marker::PhantomData;
use std::mem::needs_drop;
use std::ptr::NonNull;

use super::error::{AccessError, Reason, SetError};
use super::{fail_with, fail_without};
use crate::frame;
use crate::frame::capture::diverge;
use crate::frame::cell::RawCell;
use crate::frame::permanent::Gone;
use crate::frame::thread::{self, Thread};
use crate::frame::thread_end::{admit, register};
use crate::frame::touch::{is_direct, touch};
use crate::frame::value::{self, Boxed, Exclusive, Header, Shared, Status};
use crate::panic::{Guarded, Payload, catch};

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

/// Where a fresh value comes from: a key, or what declares it. One that tasks do not inherit only
/// says how a value is made.
pub(super) trait ValueSource<T>: Copy {
    /// Returns the value of the declared initialiser.
    fn init(&self) -> Result<T, Reason>;

    /// Returns whether tasks may inherit the slot, so that changes matter to captures.
    #[inline]
    fn is_inheritable(&self) -> bool {
        false
    }

    /// Returns whether an untouched slot counts as set, since the task inherits a value.
    fn inherits(&self, _: &Thread) -> bool {
        false
    }

    /// Returns the value that the task inherits, or else none.
    fn inherit(&self) -> Option<T> {
        None
    }
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

impl<'c, T, S: ValueSource<T>> Place<'c, T, S> {
    fn boxed(self, header: NonNull<Header>) -> &'c Boxed<T> {
        // SAFETY: the type is right by L1; the callers borrow, fill or read at once (L2).
        unsafe { Boxed::from_header(header) }
    }

    #[cold]
    fn error(self, reason: Reason) -> AccessError {
        AccessError::new(self.cell.raw.name(), reason)
    }

    #[cold]
    fn refused(self, status: Status) -> AccessError {
        self.error(match status {
            Status::Initialising => Reason::Recursive,
            Status::Exclusive if self.cell.raw.is_lease() => Reason::Leased,
            Status::Exclusive => Reason::BorrowedMut,
            Status::Idle | Status::Shared | Status::Empty | Status::Unmade => Reason::Borrowed,
        })
    }

    /// Returns the box that the current task holds, if it has touched the slot.
    #[inline]
    fn shown(self, thread: &Thread) -> Option<&'c Boxed<T>> {
        self.cell.raw.shown(thread.epoch.get()).map(|header| self.boxed(header))
    }

    #[inline]
    fn changed(self, thread: &Thread) {
        if self.source.is_inheritable() {
            diverge(thread);
        }
    }

    /// Touches the slot, which the current task has not touched yet, and returns an empty box.
    #[inline]
    fn touched(self, thread: &Thread) -> Result<&'c Boxed<T>, AccessError> {
        match touch::<T>(thread, &self.cell.raw) {
            Ok(header) => Ok(self.boxed(header)),
            Err(Gone) => Err(self.error(Reason::Gone)),
        }
    }

    /// Returns a box with a value in it: one that the task holds or inherits, or that the
    /// initialiser makes.
    #[cold]
    fn filled(self) -> Result<&'c Boxed<T>, AccessError> {
        let thread = thread::current();
        let (boxed, is_fresh) = match self.shown(thread) {
            Some(boxed) => (boxed, false),
            None => (self.touched(thread)?, true),
        };
        match boxed.header.status() {
            Status::Empty => self.initialise(boxed, is_fresh)?,
            Status::Unmade => self.initialise(boxed, true)?,
            _ => {}
        }
        Ok(boxed)
    }

    /// Makes a value for an empty box.
    fn initialise(self, boxed: &'c Boxed<T>, inherits: bool) -> Result<(), AccessError> {
        struct Abandon<'b>(&'b Header);
        impl Drop for Abandon<'_> {
            fn drop(&mut self) {
                self.0.abandon_init();
            }
        }
        boxed.header.begin_init(inherits);
        let abandon = Abandon(&boxed.header);
        let inherited = if inherits { self.source.inherit() } else { None };
        let value = match inherited {
            Some(value) => value,
            None => {
                boxed.header.begin_init(false);
                let value = self.source.init().map_err(|reason| self.error(reason))?;
                self.changed(thread::current());
                value
            }
        };
        let _returned = std::mem::ManuallyDrop::new(abandon);
        boxed.fill(value);
        Ok(())
    }

    fn shared_slow(self) -> Result<Shared<'c, T>, AccessError> {
        let boxed = self.filled()?;
        boxed.borrow().ok_or_else(|| self.refused(boxed.header.status()))
    }

    fn exclusive_slow(self) -> Result<Exclusive<'c, T>, AccessError> {
        let boxed = self.filled()?;
        let lent = boxed.borrow_mut().ok_or_else(|| self.refused(boxed.header.status()))?;
        self.changed(thread::current());
        Ok(lent)
    }

    // The fast paths call `f` themselves: if they joined the slow ones before the call, the
    // compiler would lose track of the borrow word, and store it twice.

    /// Lends out the value that the task holds, if nothing prevents it.
    #[inline]
    fn lent(self) -> Option<Shared<'c, T>> {
        self.shown(thread::current())?.borrow()
    }

    #[inline]
    #[track_caller]
    pub(super) fn with<R>(self, f: impl FnOnce(&T) -> R) -> R {
        match self.lent() {
            Some(shared) => f(shared.get()),
            None => self.with_or_fail(f),
        }
    }

    #[inline(never)]
    #[track_caller]
    fn with_or_fail<R>(self, f: impl FnOnce(&T) -> R) -> R {
        // The initialiser may panic.
        let f = Guarded::new(f);
        match self.shared_slow() {
            Ok(shared) => f.into_inner()(shared.get()),
            Err(error) => fail_without(error, f),
        }
    }

    #[inline]
    pub(super) fn try_with<R>(self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        match self.lent() {
            Some(shared) => Ok(f(shared.get())),
            None => self.with_slow(f),
        }
    }

    #[inline(never)]
    fn with_slow<R>(self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let f = Guarded::new(f);
        let shared = self.shared_slow()?;
        Ok(f.into_inner()(shared.get()))
    }

    #[inline]
    fn lent_mut(self) -> Option<Exclusive<'c, T>> {
        let thread = thread::current();
        let exclusive = self.shown(thread)?.borrow_mut()?;
        // Noting it before the change is enough: while the value is lent out nothing can capture
        // it.
        self.changed(thread);
        Some(exclusive)
    }

    #[inline]
    #[track_caller]
    pub(super) fn with_mut<R>(self, f: impl FnOnce(&mut T) -> R) -> R {
        match self.lent_mut() {
            Some(mut exclusive) => f(exclusive.get()),
            None => self.with_mut_or_fail(f),
        }
    }

    #[inline(never)]
    #[track_caller]
    fn with_mut_or_fail<R>(self, f: impl FnOnce(&mut T) -> R) -> R {
        let f = Guarded::new(f);
        match self.exclusive_slow() {
            Ok(mut exclusive) => f.into_inner()(exclusive.get()),
            Err(error) => fail_without(error, f),
        }
    }

    #[inline]
    pub(super) fn try_with_mut<R>(self, f: impl FnOnce(&mut T) -> R) -> Result<R, AccessError> {
        match self.lent_mut() {
            Some(mut exclusive) => Ok(f(exclusive.get())),
            None => self.with_mut_slow(f),
        }
    }

    #[inline(never)]
    fn with_mut_slow<R>(self, f: impl FnOnce(&mut T) -> R) -> Result<R, AccessError> {
        let f = Guarded::new(f);
        let mut exclusive = self.exclusive_slow()?;
        Ok(f.into_inner()(exclusive.get()))
    }

    /// Puts a value in without running the initialiser; the old one is dropped afterwards.
    #[inline]
    #[track_caller]
    pub(super) fn set(self, value: T) {
        let thread = thread::current();
        match self.settable(thread) {
            Some(boxed) => self.put(thread, boxed, value),
            // Not passed on: such a value is mostly several words, and each move of them costs.
            // Plain values are passed on, so that the paths above are short enough to be inlined.
            None if needs_drop::<T>() => match self.fillable(thread) {
                Ok(boxed) => self.fill(thread, boxed, value),
                Err(error) => fail_with(SetError::new(error, value)),
            },
            None => {
                if let Err(error) = self.set_slow(value) {
                    fail_with(error);
                }
            }
        }
    }

    #[inline]
    pub(super) fn try_set(self, value: T) -> Result<(), SetError<T>> {
        let thread = thread::current();
        match self.settable(thread) {
            Some(boxed) => self.put(thread, boxed, value),
            None => return self.set_slow(value),
        }
        Ok(())
    }

    #[inline(never)]
    fn set_slow(self, value: T) -> Result<(), SetError<T>> {
        let thread = thread::current();
        match self.fillable(thread) {
            Ok(boxed) => self.fill(thread, boxed, value),
            Err(error) => return Err(SetError::new(error, value)),
        }
        Ok(())
    }

    /// Returns a box with a value for [`put`](Self::put), if one is at hand: the box that the task
    /// holds or, for a plain value of a task that a worker runs, one that an earlier task has left.
    #[inline]
    fn settable(self, thread: &Thread) -> Option<&'c Boxed<T>> {
        match self.shown(thread) {
            Some(boxed) => boxed.header.is_idle().then_some(boxed),
            None if is_direct::<T>(thread) => {
                self.cell.raw.reuse(thread.own_epoch()).map(|header| self.boxed(header))
            }
            None => None,
        }
    }

    #[inline]
    fn put(self, thread: &Thread, boxed: &Boxed<T>, value: T) {
        let _old = boxed.swap(value);
        self.changed(thread);
    }

    /// Returns an empty box for [`fill`](Self::fill).
    #[inline(never)]
    fn fillable(self, thread: &Thread) -> Result<&'c Boxed<T>, AccessError> {
        match self.shown(thread) {
            None => self.touched(thread),
            Some(boxed) => match boxed.header.status() {
                Status::Empty | Status::Unmade => Ok(boxed),
                status => Err(self.refused(status)),
            },
        }
    }

    #[inline]
    fn fill(self, thread: &Thread, boxed: &Boxed<T>, value: T) {
        boxed.fill(value);
        self.changed(thread);
    }

    pub(super) fn try_replace(self, value: T) -> Result<T, SetError<T>> {
        // The initialiser may panic.
        let value = Guarded::new(value);
        let filled = self.filled();
        let value = value.into_inner();
        let boxed = match filled {
            Ok(boxed) => boxed,
            Err(error) => return Err(SetError::new(error, value)),
        };
        if !boxed.header.is_idle() {
            return Err(SetError::new(self.refused(boxed.header.status()), value));
        }
        let old = boxed.swap(value);
        self.changed(thread::current());
        Ok(old)
    }

    pub(super) fn try_take(self) -> Result<Option<T>, AccessError> {
        let thread = thread::current();
        let boxed = match self.shown(thread) {
            Some(boxed) if boxed.header.status() == Status::Empty => return Ok(None),
            Some(boxed) if boxed.header.status() == Status::Unmade => self.filled()?,
            Some(boxed) => boxed,
            None if self.source.inherits(thread) => self.filled()?,
            // Nothing to take, so nothing is touched.
            None => return register(thread).map(|()| None).map_err(|_| self.error(Reason::Gone)),
        };
        if !boxed.header.is_idle() {
            return Err(self.refused(boxed.header.status()));
        }
        let value = boxed.take();
        self.changed(thread::current());
        Ok(Some(value))
    }

    pub(super) fn is_set(self) -> bool {
        let thread = thread::current();
        if register(thread).is_err() {
            return false;
        }
        match self.shown(thread).map(|boxed| boxed.header.status()) {
            Some(Status::Idle | Status::Shared | Status::Exclusive) => true,
            Some(Status::Empty | Status::Initialising) => false,
            Some(Status::Unmade) | None => self.source.inherits(thread),
        }
    }

    /// Shows a value of the scope's own while `f` runs. What was there before keeps its box and its
    /// borrows.
    pub(super) fn try_scope<R>(self, value: T, f: impl FnOnce() -> R) -> Result<R, SetError<T>> {
        let raw = &self.cell.raw;
        if admit(thread::current(), raw).is_err() {
            // The value is handed back, whatever this drop does.
            let _contained = catch(|| drop(f));
            return Err(SetError::new(self.error(Reason::Gone), value));
        }
        let header = raw.vacant::<T>();
        self.boxed(header).fill(value);
        self.show(header);
        let unwinding = HideOnUnwind { place: self, header };
        let result = f();
        let hidden = self.hide(header);
        let _returned = std::mem::ManuallyDrop::new(unwinding);
        match hidden {
            Ok(()) => Ok(result),
            Err(payload) => {
                frame::discard(result);
                payload.resume()
            }
        }
    }

    /// Shows a box that the caller owns on top of what there is, in a cell that is admitted.
    pub(super) fn show(self, header: NonNull<Header>) {
        let thread = thread::current();
        self.boxed(header).header.is_scoped.set(true);
        // With an epoch of the task's own, so that other tasks in the same frame do not see the
        // value.
        self.cell.raw.link(header, thread.own_epoch());
        self.changed(thread);
    }

    /// Drops the value in a box that is [shown](Self::show), and shows what was there before.
    fn hide(self, header: NonNull<Header>) -> Result<(), Payload> {
        let raw = &self.cell.raw;
        if !self.take_away(header) {
            return Ok(());
        }
        // SAFETY: just taken out of the cell.
        let Some(dropped) = (unsafe { value::empty(header) }) else { return Ok(()) };
        // SAFETY: the same; made for this cell, and empty.
        unsafe { raw.recycle(header) };
        dropped
    }

    /// Shows what was there before a box was [shown](Self::show). Returns `false` if the box's task
    /// has ended before, or a poll of it has returned: the box was leaked then.
    pub(super) fn take_away(self, header: NonNull<Header>) -> bool {
        let is_there = self.cell.raw.unlink_scoped(header);
        if is_there {
            self.boxed(header).header.is_scoped.set(false);
            self.changed(thread::current());
        }
        is_there
    }

    /// Copies the current task's value for a snapshot.
    pub(super) fn copy_shown<R>(self, f: impl FnOnce(&T) -> R) -> Result<Option<R>, Status> {
        let Some(boxed) = self.shown(thread::current()) else { return Ok(None) };
        match boxed.borrow() {
            Some(shared) => Ok(Some(f(shared.get()))),
            None => match boxed.header.status() {
                Status::Empty | Status::Unmade | Status::Initialising => Ok(None),
                status => Err(status),
            },
        }
    }

    /// Returns whether the current task has touched the slot. A slot whose inherited value is still
    /// to be made does not count.
    pub(super) fn is_touched(self) -> bool {
        self.shown(thread::current()).is_some_and(|boxed| !boxed.header.is_unmade())
    }

    /// Makes the current task hold the value that it inherits, unless it has touched the slot or is
    /// just making the value.
    pub(super) fn fill_now(self) {
        if !self.is_touched() {
            // An error means that the thread is ending.
            drop(self.filled());
        }
    }
}

/// Ends a scope whose closure unwinds.
struct HideOnUnwind<'c, T, S: ValueSource<T>> {
    place: Place<'c, T, S>,
    header: NonNull<Header>,
}

impl<T, S: ValueSource<T>> Drop for HideOnUnwind<'_, T, S> {
    #[cold]
    fn drop(&mut self) {
        // The closure's own panic is on its way.
        drop(self.place.hide(self.header));
    }
}

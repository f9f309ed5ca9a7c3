//! A slot's value on the heap, with its borrow state beside it.
//!
//! A value is boxed so that its address is stable while tasks nest, move between threads (futures)
//! or end out of order (parallel iterators). The borrow state lives in the box and not in the
//! thread's cell: whatever moves the value moves its borrows along.
//!
//! # Invariants
//!
//! - **V1 (layout).** A `*mut Header` that the engine holds was made by [`alloc`] for some `T` and
//!   points to the first field of a `Boxed<T>`; its `kind` is that `T`'s.
//! - **V2 (initialised).** `value` is initialised exactly when the borrow word is idle, shared or
//!   exclusive. `EMPTY`, `UNMADE` and `INIT` mean that it is not.
//! - **V3 (borrows).** A `&T` into a box exists only while its word counts it, a `&mut T` only while
//!   it says `EXCLUSIVE`. Every change of the word that adds a borrow is undone by a guard, so also
//!   when the borrower's closure unwinds.
//! - **V4 (freed once).** A box belongs to exactly one of: a cell (as `top`, as `spare`, or below
//!   `top` in the chain), a parked frame, or, once `ORPHAN` is set, to its last borrower. Only the
//!   owner frees it.
//! - **V5 (one thread at a time).** A box is used by the thread that owns its cell. It moves to
//!   another thread only inside a parked frame or when its `OwnedLocal` is dropped; both need
//!   `T: Send`, and neither happens while it is borrowed.

#![expect(unsafe_code, reason = "type-erased boxes whose drop is run by the engine")]

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::panic::catch;

/// No borrow, a value is there.
const IDLE: u32 = 0;
/// More shared borrows than this are refused rather than counted.
const SHARED_MAX: u32 = 0x0fff_ffff;
/// Inside `with_mut`.
const EXCLUSIVE: u32 = 0x1000_0000;
/// Touched in this frame, but without a value: taken, or its initialiser panicked.
const EMPTY: u32 = 0x2000_0000;
/// Touched in this frame, but making the value that the task inherits has panicked. It counts as
/// untouched, or whoever catches that panic would find the declared default in its place.
const UNMADE: u32 = 0x3000_0000;
/// The initialiser is running.
const INIT: u32 = 0x4000_0000;
/// Flag: the frame has ended while the value was in use; the last user frees the box.
const ORPHAN: u32 = 0x8000_0000;

/// What a box's borrow word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// A value, not borrowed.
    Idle,
    /// A value, lent out by `with`.
    Shared,
    /// A value, lent out by `with_mut`.
    Exclusive,
    /// No value.
    Empty,
    /// No value, because making the inherited one has panicked.
    Unmade,
    /// The initialiser is running.
    Initialising,
}

/// How to drop and free a box whose type is not known any more.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Drops the value and leaves the memory.
    drop_value: unsafe fn(NonNull<Header>),
    /// Frees the memory and leaves the value.
    free: unsafe fn(NonNull<Header>),
}

/// What a cell shows: the value of the frame with this epoch.
///
/// A pair, since linking a value and unlinking it copies both at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) epoch: u64,
    pub(super) top: Option<NonNull<Header>>,
}

impl Shown {
    pub(super) const NOTHING: Self = Self { epoch: super::cell::NEVER, top: None };
}

/// The part of a box that does not depend on the type of its value.
#[derive(Debug)]
pub(crate) struct Header {
    word: Cell<u32>,
    /// What the cell showed before this value. Only while the cell shows it.
    pub(super) below: Cell<Shown>,
    // A `Cell`, though it never changes: then every byte of a box is interior mutable, and the last
    // borrower may free it through the `&Boxed` that it came by.
    kind: Cell<&'static Kind>,
}

/// A value and its header. `repr(C)`: a pointer to the box is a pointer to its header.
#[repr(C)]
pub(crate) struct Boxed<T> {
    pub(crate) header: Header,
    value: UnsafeCell<MaybeUninit<T>>,
}

struct KindOf<T>(std::marker::PhantomData<T>);

impl<T> KindOf<T> {
    const KIND: Kind = Kind { drop_value: drop_value::<T>, free: free::<T> };
}

/// # Safety
///
/// - `header` points to a `Boxed<T>` whose value is initialised and not borrowed.
/// - The caller treats the value as uninitialised from here on, also when its `Drop` unwinds.
unsafe fn drop_value<T>(header: NonNull<Header>) {
    let boxed = header.cast::<Boxed<T>>();
    // SAFETY: the caller vouches for the type, so the field is in bounds of a live box.
    let value = unsafe { &raw mut (*boxed.as_ptr()).value };
    // SAFETY: the caller vouches that it is initialised and not borrowed; it is dropped once.
    unsafe { value.cast::<T>().drop_in_place() };
}

/// # Safety
///
/// - `header` points to a `Boxed<T>` made by [`alloc`], which nothing uses any more.
unsafe fn free<T>(header: NonNull<Header>) {
    // SAFETY: it came from `Box::into_raw` in `alloc` with this very type, and is freed once (V4).
    // The value is a `MaybeUninit` and is not dropped here.
    drop(unsafe { Box::from_raw(header.cast::<Boxed<T>>().as_ptr()) });
}

/// Makes an empty box: the only allocation that the engine makes for a slot.
pub(crate) fn alloc<T>() -> NonNull<Header> {
    let boxed = Box::new(Boxed::<T> {
        header: Header {
            word: Cell::new(EMPTY),
            below: Cell::new(Shown::NOTHING),
            kind: Cell::new(&KindOf::<T>::KIND),
        },
        value: UnsafeCell::new(MaybeUninit::uninit()),
    });
    NonNull::from(Box::leak(boxed)).cast()
}

impl Header {
    pub(crate) fn status(&self) -> Status {
        match self.word.get() & !ORPHAN {
            IDLE => Status::Idle,
            EXCLUSIVE => Status::Exclusive,
            EMPTY => Status::Empty,
            UNMADE => Status::Unmade,
            INIT => Status::Initialising,
            _ => Status::Shared,
        }
    }

    /// Marks the initialiser as running. The box is empty before.
    pub(crate) fn begin_init(&self) {
        debug_assert!(matches!(self.status(), Status::Empty | Status::Unmade));
        self.word.set(INIT);
    }

    /// Forgets the value of a stale box, unless somebody still uses it.
    #[inline]
    pub(super) fn empty_if_unused(&self) -> bool {
        let unused = matches!(self.word.get(), IDLE | EMPTY | UNMADE);
        if unused {
            self.word.set(EMPTY);
        }
        unused
    }

    /// Whether the word allows to take the value away: there is one, and nobody uses it.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.word.get() == IDLE
    }
}

/// What a box became when its frame let go of it.
#[derive(Debug)]
#[must_use]
pub(crate) enum Released {
    /// It holds a value that has to be dropped, then the box can be used again.
    Value,
    /// It is empty and can be used again.
    Box,
    /// Somebody still uses it. It is theirs now (V4): do not touch it again.
    Orphaned,
}

/// Takes a box away from its cell at the end of a frame.
///
/// # Safety
///
/// - `header` is a box of the engine (V1) that the caller has just unlinked from its owner (V4).
pub(crate) unsafe fn release(header: NonNull<Header>) -> Released {
    // SAFETY: by V4 the box is alive: the caller was its owner until now.
    let word = unsafe { &header.as_ref().word };
    match word.get() {
        IDLE => Released::Value,
        EMPTY => Released::Box,
        UNMADE => {
            word.set(EMPTY);
            Released::Box
        }
        used => {
            word.set(used | ORPHAN);
            Released::Orphaned
        }
    }
}

/// What a box that was left in its cell can be used for.
#[derive(Debug)]
#[must_use]
pub(crate) enum Kept {
    /// Another value.
    Box,
    /// Nothing: somebody still uses it, and it is theirs now (V4).
    Orphaned,
}

/// Takes over a box whose frame ended without looking at it. A value in it is forgotten.
///
/// # Safety
///
/// - The caller owns the box (V4); its value, if any, needs no drop.
pub(crate) unsafe fn revive(header: NonNull<Header>) -> Kept {
    // SAFETY: alive, since the caller owns it.
    let word = unsafe { &header.as_ref().word };
    match word.get() {
        IDLE | EMPTY | UNMADE => {
            word.set(EMPTY);
            Kept::Box
        }
        used => {
            word.set(used | ORPHAN);
            Kept::Orphaned
        }
    }
}

/// Drops the value of a released box and leaves the box empty, also when the drop unwinds.
///
/// # Safety
///
/// - [`release`] has said [`Released::Value`] for this box, and nothing has happened to it since.
pub(crate) unsafe fn drop_released(header: NonNull<Header>) {
    // SAFETY: alive, since the caller owns it.
    let head = unsafe { header.as_ref() };
    head.word.set(EMPTY);
    // SAFETY: `kind` fits by V1; the word said idle, so the value is initialised and not borrowed,
    // and it says `EMPTY` already, so nobody takes it for a value again.
    unsafe { (head.kind.get().drop_value)(header) };
}

/// Frees a box whose value has been dropped, or is meant to leak.
///
/// # Safety
///
/// - The caller owns the box (V4), and no reference to it is left.
pub(crate) unsafe fn free_box(header: NonNull<Header>) {
    // SAFETY: alive, since the caller owns it.
    let kind = unsafe { header.as_ref().kind.get() };
    // SAFETY: `kind` fits by V1, and the caller vouches that nobody uses the box any more.
    unsafe { (kind.free)(header) };
}

impl<T> Boxed<T> {
    /// The box behind a header.
    ///
    /// # Safety
    ///
    /// - `header` was made by `alloc::<T>()` and stays alive for `'a`, that is until the caller's
    ///   borrow or its initialiser is over.
    #[inline]
    pub(crate) unsafe fn from_header<'a>(header: NonNull<Header>) -> &'a Self {
        // SAFETY: type and lifetime are the caller's promise; all fields allow shared mutation.
        unsafe { header.cast::<Self>().as_ref() }
    }

    /// Where the value is, or is to be.
    #[inline]
    fn place(&self) -> *mut T {
        self.value.get().cast()
    }

    fn header_ptr(&self) -> NonNull<Header> {
        NonNull::from(self).cast()
    }

    /// Lends the value out, if the word allows it.
    #[inline]
    pub(crate) fn borrow(&self) -> Option<Shared<'_, T>> {
        let before = self.header.word.get();
        // One comparison: exclusive, empty, initialising and orphaned all lie above.
        if before >= SHARED_MAX {
            return None;
        }
        self.header.word.set(before + 1);
        Some(Shared { boxed: self, before })
    }

    /// Lends the value out exclusively, if nobody else has it.
    #[inline]
    pub(crate) fn borrow_mut(&self) -> Option<Exclusive<'_, T>> {
        if self.header.word.get() != IDLE {
            return None;
        }
        self.header.word.set(EXCLUSIVE);
        Some(Exclusive { boxed: self })
    }

    /// Puts a value into a box that is empty, as the caller has just seen or made sure.
    #[inline]
    pub(crate) fn fill_fresh(&self, value: T) {
        debug_assert_eq!(self.header.word.get(), EMPTY);
        // SAFETY: by V2 there is no value to overwrite and by V3 no reference to it.
        unsafe { self.place().write(value) };
        self.header.word.set(IDLE);
    }

    /// Puts a value in the place of one without drop glue.
    #[inline]
    pub(crate) fn overwrite(&self, value: T) {
        debug_assert!(self.header.is_idle() && !std::mem::needs_drop::<T>());
        // SAFETY: idle, so by V3 there is no reference to the value.
        unsafe { self.place().write(value) };
    }

    /// Puts a value into an empty box, or into one whose initialiser has just returned.
    ///
    /// A box that was orphaned while its initialiser ran is freed here with its value; then it
    /// returns false, and the box must not be used again.
    #[inline]
    #[must_use = "the box may be gone"]
    pub(crate) fn fill(&self, value: T) -> bool {
        debug_assert!(matches!(
            self.header.status(),
            Status::Empty | Status::Unmade | Status::Initialising
        ));
        // SAFETY: by V2 there is no value to overwrite and by V3 no reference to it.
        unsafe { self.place().write(value) };
        if self.header.word.replace(IDLE) & ORPHAN != 0 {
            // SAFETY: orphaned, so the initialiser was the last user and owns the box (V4), and
            // the word has just become idle.
            unsafe { finish_orphan(self.header_ptr()) };
            return false;
        }
        true
    }

    /// Notes that no value was made, and whether it was to be the inherited one.
    pub(crate) fn abandon_init(&self, inheriting: bool) {
        let left = if inheriting { UNMADE } else { EMPTY };
        if self.header.word.replace(left) & ORPHAN != 0 {
            // SAFETY: orphaned, so the initialiser was the last user and owns the box (V4); its
            // caller does not touch the box afterwards.
            unsafe { free_box(self.header_ptr()) };
        }
    }

    /// Exchanges the value of an idle box.
    #[inline]
    pub(crate) fn swap(&self, value: T) -> T {
        debug_assert!(self.header.is_idle());
        // SAFETY: idle, so by V2 there is a value and by V3 no reference to it.
        unsafe { self.place().replace(value) }
    }

    /// Moves the value out of an idle box and leaves it empty.
    pub(crate) fn take(&self) -> T {
        debug_assert!(self.header.is_idle());
        self.header.word.set(EMPTY);
        // SAFETY: it was idle, so by V2 there is a value and by V3 no reference to it; the word
        // says empty now, so it is moved out once.
        unsafe { self.place().read() }
    }
}

/// The value of an orphaned box has come home: drop it and free the box.
///
/// # Safety
///
/// - The caller was the last user of an orphaned box whose value is initialised.
#[cold]
unsafe fn finish_orphan(header: NonNull<Header>) {
    // SAFETY: alive, since the caller owns it.
    let head = unsafe { header.as_ref() };
    head.word.set(EMPTY);
    let kind = head.kind.get();
    let dropped = catch(|| {
        // SAFETY: `kind` fits by V1; the caller vouches for the value, which nobody borrows now.
        unsafe { (kind.drop_value)(header) };
    });
    // SAFETY: the caller owns the box, and nobody uses it any more.
    unsafe { (kind.free)(header) };
    if let Err(payload) = dropped {
        payload.resume_unless_panicking();
    }
}

/// A counted `&T` (V3).
pub(crate) struct Shared<'a, T> {
    boxed: &'a Boxed<T>,
    /// The word to go back to. Borrows end in reverse order, so it is what is there now, less one,
    /// unless the box was orphaned. Storing it does not wait for a load, which the hot path shows.
    before: u32,
}

impl<T> Shared<'_, T> {
    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: counted in the word, so by V2 and V3 the value is there and nobody has `&mut` to
        // it; the box is not freed before `self` is dropped (V4).
        unsafe { &*self.boxed.place() }
    }
}

impl<T> Drop for Shared<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let word = &self.boxed.header.word;
        if word.get() == self.before + 1 {
            word.set(self.before);
        } else {
            give_up(word, word.get() - 1, self.boxed.header_ptr());
        }
    }
}

/// The one `&mut T` (V3).
pub(crate) struct Exclusive<'a, T> {
    boxed: &'a Boxed<T>,
}

impl<T> Exclusive<'_, T> {
    #[inline]
    pub(crate) fn get(&mut self) -> &mut T {
        // SAFETY: the word says exclusive, so by V2 and V3 the value is there and nobody else has
        // a reference to it; the box is not freed before `self` is dropped (V4).
        unsafe { &mut *self.boxed.place() }
    }
}

impl<T> Drop for Exclusive<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let word = &self.boxed.header.word;
        if word.get() == EXCLUSIVE {
            word.set(IDLE);
        } else {
            give_up(word, word.get() & !EXCLUSIVE, self.boxed.header_ptr());
        }
    }
}

/// Ends a borrow of a box that was orphaned meanwhile. The last one frees it.
#[cold]
fn give_up(word: &Cell<u32>, left: u32, header: NonNull<Header>) {
    word.set(left);
    if left == ORPHAN {
        // SAFETY: orphaned and this was the last borrow: the box is ours (V4), and the caller, whose
        // borrow it was, does not touch it again.
        unsafe { finish_orphan(header) };
    }
}

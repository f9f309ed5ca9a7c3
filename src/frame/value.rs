//! A slot's value on the heap, with its borrow state beside it.
//!
//! A value is boxed so that its address is stable while tasks nest and while futures move between
//! threads. The borrow state lies in the box and not in the thread's cell, so that whatever moves
//! the value moves its borrows along.
//!
//! # Invariants
//!
//! - **V1 (layout).** A `NonNull<Header>` of the engine was made by [`alloc`] for some `T` and
//!   points to the first field of a `Boxed<T>`; its `kind` is that `T`'s.
//! - **V2 (initialised).** `value` is initialised exactly while the borrow word is idle, shared or
//!   exclusive.
//! - **V3 (borrows).** A `&T` into a box exists only while its word counts it, a `&mut T` only
//!   while it says `EXCLUSIVE`. A guard takes each borrow back, also when the borrower's closure
//!   unwinds.
//! - **V4 (owner).** A box belongs to exactly one of: a cell (as its top, below the top, or as its
//!   spare), a suspended future, a scoped future. Only the owner empties or frees it, and not while
//!   it is in use: a box in use (because the process exits from within `with`, or a stackful
//!   coroutine is suspended there) is leaked, so whoever uses it may go on.
//! - **V5 (one thread).** A box is used by the thread of its cell. It moves to another one only
//!   inside a future or when its `OwnedLocal` is dropped; both need `T: Send`, and neither happens
//!   while it is borrowed.

#![expect(unsafe_code, reason = "type-erased boxes whose drop is run by the engine")]

use std::cell::{Cell, UnsafeCell};
use std::mem::{MaybeUninit, needs_drop};
use std::ptr::NonNull;

use super::epoch::NEVER;
use super::leak::count_leak;
use crate::panic::{Payload, catch};

/// There is a value, and nobody borrows it.
const IDLE: u32 = 0;
/// More shared borrows than this are refused rather than counted.
const SHARED_MAX: u32 = 0x0fff_ffff;
/// Inside `with_mut`.
const EXCLUSIVE: u32 = 0x1000_0000;
/// Touched in this task, but without a value: taken, or its initialiser panicked.
const EMPTY: u32 = 0x2000_0000;
/// Touched in this task, but making the value that it inherits has panicked. It counts as
/// untouched, or whoever catches that panic would find the declared default.
const UNMADE: u32 = 0x4000_0000;
/// Added to one of these two while the value is being made.
const INIT: u32 = 0x8000_0000;
/// The bits of a word that say that somebody uses the box.
const IN_USE: u32 = SHARED_MAX | EXCLUSIVE | INIT;

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
    /// No value, since it is being made.
    Initialising,
}

/// How to drop and free a box whose type is not known any more.
#[derive(Debug)]
struct BoxKind {
    needs_drop: bool,
    /// Drops the value and leaves the memory.
    drop_value: unsafe fn(NonNull<Header>),
    /// Frees the memory and leaves the value.
    free: unsafe fn(NonNull<Header>),
}

/// What a cell shows: the value of the task with this epoch.
///
/// In memory its two words never lie side by side. Written one by one and then read as one wide
/// word, as the compiler likes to do, they would make the load, and with it all that comes before
/// them, wait until both stores have reached the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) epoch: u64,
    /// Dangling if the epoch is `NEVER`.
    pub(super) header: NonNull<Header>,
}

impl Shown {
    pub(super) const NOTHING: Self = Self { epoch: NEVER, header: NonNull::dangling() };

    #[inline]
    pub(super) fn top(self) -> Option<NonNull<Header>> {
        if self.epoch == NEVER { None } else { Some(self.header) }
    }
}

/// The part of a box that does not depend on the type of its value.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    /// What the cell showed before this value: see [`below`](Self::below).
    below_epoch: Cell<u64>,
    kind: &'static BoxKind,
    below_header: Cell<NonNull<Header>>,
    word: Cell<u32>,
    /// Whether a `scope` that is open on the Rust stack takes the box out of its cell itself;
    /// nobody else does then.
    pub(crate) is_scoped: Cell<bool>,
}

/// A value and its header. `repr(C)`: a pointer to the box is a pointer to its header.
#[repr(C)]
pub(crate) struct Boxed<T> {
    pub(crate) header: Header,
    value: UnsafeCell<MaybeUninit<T>>,
}

struct KindOf<T>(std::marker::PhantomData<T>);

impl<T> KindOf<T> {
    const KIND: BoxKind =
        BoxKind { needs_drop: needs_drop::<T>(), drop_value: drop_value::<T>, free: free::<T> };
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
    // SAFETY: it came from a `Box` of this very type in `alloc`, and is freed once (V4). The value
    // is a `MaybeUninit` and is not dropped here.
    drop(unsafe { Box::from_raw(header.cast::<Boxed<T>>().as_ptr()) });
}

/// Makes an empty box: the only allocation that the engine makes for a slot.
///
/// In place, so that a large box takes no room on the stack.
pub(crate) fn alloc<T>() -> NonNull<Header> {
    let place: &mut MaybeUninit<Boxed<T>> = Box::leak(Box::new_uninit());
    let header = NonNull::from(place).cast::<Header>();
    let empty = Header {
        below_epoch: Cell::new(Shown::NOTHING.epoch),
        kind: &KindOf::<T>::KIND,
        below_header: Cell::new(Shown::NOTHING.header),
        word: Cell::new(EMPTY),
        is_scoped: Cell::new(false),
    };
    // SAFETY: freshly allocated for a `Boxed<T>`, whose first field this is (`repr(C)`); the other
    // field may stay uninitialised.
    unsafe { header.write(empty) };
    header
}

impl Header {
    /// Returns what the cell showed before this value. Valid only while the cell shows the value.
    #[inline]
    pub(super) fn below(&self) -> Shown {
        Shown { epoch: self.below_epoch.get(), header: self.below_header.get() }
    }

    #[inline]
    pub(super) fn set_below(&self, below: Shown) {
        self.below_epoch.set(below.epoch);
        self.below_header.set(below.header);
    }

    pub(crate) fn status(&self) -> Status {
        match self.word.get() {
            IDLE => Status::Idle,
            EXCLUSIVE => Status::Exclusive,
            EMPTY => Status::Empty,
            UNMADE => Status::Unmade,
            INIT.. => Status::Initialising,
            _ => Status::Shared,
        }
    }

    /// Returns whether the value that the task inherits is not made, or is being made.
    pub(crate) fn is_unmade(&self) -> bool {
        self.word.get() & UNMADE != 0
    }

    /// Notes that the value is being made, and whether it is the inherited one.
    pub(crate) fn begin_init(&self, inheriting: bool) {
        debug_assert!(!matches!(self.status(), Status::Idle | Status::Shared | Status::Exclusive));
        self.word.set(INIT | if inheriting { UNMADE } else { EMPTY });
    }

    /// Notes that the value was not made.
    pub(crate) fn abandon_init(&self) {
        self.word.set(self.word.get() & !INIT);
    }

    /// Returns whether nobody uses the box.
    #[inline]
    pub(super) fn is_unused(&self) -> bool {
        self.word.get() & IN_USE == 0
    }

    /// Returns whether somebody uses the box. If so it counts as leaked, and its owner lets it be.
    pub(crate) fn leak_if_used(&self) -> bool {
        if !self.is_unused() {
            count_leak();
        }
        !self.is_unused()
    }

    /// Forgets the value of a box that nobody uses, if there is one. It needs no drop.
    #[inline]
    pub(super) fn forget_plain(&self) {
        debug_assert!(self.is_unused() && !self.kind.needs_drop);
        self.word.set(EMPTY);
    }

    /// Returns whether there is a value that nobody uses and that needs a drop.
    #[inline]
    pub(super) fn owes_drop(&self) -> bool {
        self.is_idle() && self.kind.needs_drop
    }

    /// Returns whether there is a value that nobody uses.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.word.get() == IDLE
    }
}

/// Empties a box whose task is over: drops the value, if there is one, and returns how that went.
/// Returns `None` if the box is in use: it was leaked and counted, and must not be touched.
///
/// # Safety
///
/// - The caller owns the box (V4).
pub(crate) unsafe fn empty(header: NonNull<Header>) -> Option<Result<(), Payload>> {
    // SAFETY: alive, since the caller owns it.
    let head = unsafe { header.as_ref() };
    if !head.is_unused() || head.is_scoped.get() {
        count_leak();
        return None;
    }
    if head.owes_drop() {
        // SAFETY: the caller's; it owes a drop.
        return Some(unsafe { drop_owed(header) });
    }
    head.word.set(EMPTY);
    Some(Ok(()))
}

/// Drops the value of a box that [owes the drop](Header::owes_drop), and returns how the drop went.
/// The box is empty afterwards in any case.
///
/// # Safety
///
/// - The caller owns the box (V4), which owes a drop.
#[inline]
pub(super) unsafe fn drop_owed(header: NonNull<Header>) -> Result<(), Payload> {
    // SAFETY: alive, since the caller owns it.
    let head = unsafe { header.as_ref() };
    debug_assert!(head.owes_drop());
    head.word.set(EMPTY);
    catch(|| {
        // SAFETY: `kind` fits (V1). The word said idle, so there is a value (V2) that nobody
        // borrows (V3); it says empty now, so nobody takes it for a value again.
        unsafe { (head.kind.drop_value)(header) };
    })
}

/// Frees a box whose value was dropped or needs no drop.
///
/// # Safety
///
/// - The caller owns the box (V4), and nobody uses it.
pub(crate) unsafe fn free_box(header: NonNull<Header>) {
    // SAFETY: alive, since the caller owns it.
    let kind = unsafe { header.as_ref() }.kind;
    // SAFETY: `kind` fits (V1), and the caller vouches that nobody uses the box any more.
    unsafe { (kind.free)(header) };
}

/// Empties a box and frees it, or leaks it if it is in use.
///
/// # Safety
///
/// - The caller owns the box (V4) and does not use it again.
pub(crate) unsafe fn end(header: NonNull<Header>) -> Result<(), Payload> {
    // SAFETY: the caller's.
    let Some(dropped) = (unsafe { empty(header) }) else { return Ok(()) };
    // SAFETY: the caller's, and `empty` has said that nobody uses it.
    unsafe { free_box(header) };
    dropped
}

/// Frees a box that a thread leaves behind after all of its tasks have ended. A value that is still
/// there needs no drop, or is in a poll from within which the process exits: that one is leaked.
///
/// # Safety
///
/// - The caller owns the box (V4) and does not use it again.
pub(super) unsafe fn free_left(header: NonNull<Header>) {
    // SAFETY: alive, since the caller owns it.
    let head = unsafe { header.as_ref() };
    if !head.is_unused() || head.is_scoped.get() || head.owes_drop() {
        count_leak();
    } else {
        // SAFETY: the caller's, and nobody uses it.
        unsafe { free_box(header) };
    }
}

impl<T> Boxed<T> {
    /// Returns the box behind a header.
    ///
    /// # Safety
    ///
    /// - `header` was made by `alloc::<T>()` and stays alive for `'a`, that is until the caller's
    ///   borrow or its initialiser is over.
    #[inline]
    pub(crate) unsafe fn from_header<'a>(header: NonNull<Header>) -> &'a Self {
        // SAFETY: type and lifetime are the caller's promise; all fields that change are cells.
        unsafe { header.cast::<Self>().as_ref() }
    }

    /// Returns where the value is, or is to be.
    #[inline]
    fn place(&self) -> *mut T {
        self.value.get().cast()
    }

    /// Lends the value out, if the word allows it.
    #[inline]
    pub(crate) fn borrow(&self) -> Option<Shared<'_, T>> {
        let before = self.header.word.get();
        // One comparison: all words without a value that can be shared lie above.
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

    /// Puts a value into a box that is empty, whose initialiser has just returned, or whose value
    /// needs no drop.
    #[inline]
    pub(crate) fn fill(&self, value: T) {
        debug_assert!(match self.header.status() {
            Status::Empty | Status::Unmade | Status::Initialising => true,
            Status::Idle => !needs_drop::<T>(),
            Status::Shared | Status::Exclusive => false,
        });
        // SAFETY: there is no value to drop (V2), nor a reference to it (V3).
        unsafe { self.place().write(value) };
        self.header.word.set(IDLE);
    }

    /// Exchanges the value of an idle box.
    #[inline]
    pub(crate) fn swap(&self, value: T) -> T {
        debug_assert!(self.header.is_idle());
        // SAFETY: idle, so there is a value (V2) and no reference to it (V3).
        unsafe { self.place().replace(value) }
    }

    /// Moves the value out of an idle box and leaves it empty.
    pub(crate) fn take(&self) -> T {
        debug_assert!(self.header.is_idle());
        self.header.word.set(EMPTY);
        // SAFETY: it was idle, so there is a value (V2) and no reference to it (V3); the word says
        // empty now, so it is moved out once.
        unsafe { self.place().read() }
    }
}

/// A counted `&T` (V3).
pub(crate) struct Shared<'a, T> {
    boxed: &'a Boxed<T>,
    /// The word to go back to. Borrows end in reverse order, so it is the current word less one.
    /// Storing it does not wait for a load, which shows on the hot path.
    before: u32,
}

impl<T> Shared<'_, T> {
    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: counted in the word, so the value is there (V2) and nobody has `&mut` to it (V3);
        // the box is not freed while it is in use (V4).
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
            // Out of order, which takes stackful coroutines.
            end_out_of_order(word);
        }
    }
}

#[cold]
fn end_out_of_order(word: &Cell<u32>) {
    word.set(word.get() - 1);
}

/// The one `&mut T` (V3).
pub(crate) struct Exclusive<'a, T> {
    boxed: &'a Boxed<T>,
}

impl<T> Exclusive<'_, T> {
    #[inline]
    pub(crate) fn get(&mut self) -> &mut T {
        // SAFETY: the word says exclusive, so the value is there (V2) and nobody else has a
        // reference to it (V3); the box is not freed while it is in use (V4).
        unsafe { &mut *self.boxed.place() }
    }
}

impl<T> Drop for Exclusive<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.boxed.header.word.set(IDLE);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::frame::leak::leaked_values;

    struct Drops<'a>(&'a Cell<u32>);

    impl Drop for Drops<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    // This is how a task ends if the process exits from within its `with`, or a coroutine is
    // suspended there.
    #[test]
    fn a_value_that_is_in_use_when_its_task_ends_is_leaked_and_counted() {
        let drops = Cell::new(0);
        let header = alloc::<Drops<'_>>();
        // SAFETY: made above for this type.
        let boxed = unsafe { Boxed::<Drops<'_>>::from_header(header) };
        boxed.fill(Drops(&drops));
        let leaked = leaked_values();
        let used = boxed.borrow().unwrap();
        // SAFETY: ours.
        assert!(unsafe { empty(header) }.is_none());
        assert!(leaked_values() > leaked);
        assert_eq!((used.get().0.get(), drops.get()), (0, 0), "whoever uses it may go on");
        drop(used);
        // SAFETY: ours, and not in use any more.
        assert!(unsafe { end(header) }.is_ok());
        assert_eq!(drops.get(), 1);
    }

    #[test]
    fn borrows_may_end_in_any_order() {
        let header = alloc::<u8>();
        // SAFETY: made above for this type.
        let boxed = unsafe { Boxed::<u8>::from_header(header) };
        boxed.fill(1);
        let (first, second) = (boxed.borrow().unwrap(), boxed.borrow().unwrap());
        drop(first);
        assert!(boxed.borrow_mut().is_none(), "one is left");
        drop(second);
        assert!(boxed.borrow_mut().is_some());
        // SAFETY: ours, and not in use any more.
        assert!(unsafe { end(header) }.is_ok());
    }
}

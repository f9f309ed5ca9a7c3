//! Frames: how a task begins, how it ends, and how what it touched is undone.
//!
//! A frame is what one running task holds on one thread. It is lexical: one call opens and closes
//! it, on one Rust stack. Several tasks may follow each other in one frame.
//!
//! Ending a task undoes its trail, the youngest entry first: the value is taken out of its cell,
//! the cell shows what it showed before, and *then* the value is dropped. Whatever that `Drop`
//! touches is pushed on the trail and undone by the same loop. Every entry knows its generation,
//! that is, how many drops of the same clean-up led to it. One of generation [`ROUNDS`] is leaked
//! instead, so the loop ends (R11).
//!
//! # Invariants
//!
//! - **S1 (order).** Frames are closed in reverse order, each once, by whoever opened it: the code
//!   between is one call. If that is not so, because stackful coroutines switch in between, the
//!   flags show another depth and the process is aborted.
//! - **S2 (saved).** An open frame keeps what the one below had: epoch, flags and what it inherits;
//!   or nothing, if all that is as T6 says. It is put back exactly when that frame becomes the
//!   innermost one again.
//! - **S3 (snapshot).** A frame borrows its snapshot for as long as it is open. So the thread's
//!   `inherits` points to a live `Arc`. That lies on a stack, or in what a stack keeps, and never
//!   where a thread-local may own it: when the process exits from within a task, what thread-locals
//!   own is dropped while the frames are open.
//! - **S4 (capture).** A task's capture is given up before its frame goes on with another task or
//!   closes.

#![expect(unsafe_code, reason = "entries reach cells by pointer and drop erased values")]

use std::hint::black_box;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::cell::RawCell;
use super::epoch::{CLEAN, GONE, ROOT};
use super::failure::{CleanupError, Failure};
use super::leak;
use super::snapshot::Snapshot;
use super::thread::{
    self, CAPTURED, DEPTH, GENERATION, INDIRECT, Inherits, NESTED, ONE_DEEPER, Thread, UNOPENED,
    seldom,
};
use super::trail::TrailEntry;
use super::value::{self, Header};
use crate::panic::{catch, say};

/// How many generations of values a clean-up drops. POSIX does four rounds for its keys.
const ROUNDS: u32 = 8 * GENERATION;

/// How many values of later generations a clean-up drops in all. Slots that fill each other could
/// otherwise branch at every generation.
pub(super) const EXTRA: usize = 4096;

/// A frame without its guard: whoever opens it must close it, also when user code unwinds. Its
/// tasks start with the flags `OWN`.
///
/// Most frames are the only one of their thread, and know what to put back (T6): they keep nothing.
/// Opening one takes three comparisons and a store, closing it two and one.
#[derive(Debug)]
pub(super) struct Open<const OWN: u32>(Option<Below>);

/// What a frame keeps that may lie on another one.
#[derive(Debug)]
struct Below {
    /// What the frame below had (S2).
    epoch: u64,
    flags: u32,
    inherits: Inherits,
    /// See [`Open::clean`].
    clean: u32,
}

impl<const OWN: u32> Open<OWN> {
    /// Makes a frame that is to be opened. It had better stay where it is: moving it costs as much
    /// as the rest of an empty task.
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Opens the frame: every slot is fresh.
    #[inline]
    pub(super) fn enter(&mut self, inherits: Option<&Arc<Snapshot>>) {
        let thread = thread::current();
        // Without the reset, for tests that must fail then, tasks share their thread's slots.
        if !thread.is_on_root() || cfg!(cleanslate_no_reset) {
            seldom();
            return self.enter_with(inherits, 0);
        }
        debug_assert!(thread.inherits.get().is_null(), "T6");
        thread.epoch.set(CLEAN);
        if OWN != 0 {
            thread.flags.set(OWN);
        }
        thread.hand_down(pointer(inherits));
    }

    /// Opens the frame, whose tasks start with these flags, too.
    #[inline]
    pub(super) fn enter_with(&mut self, inherits: Option<&Arc<Snapshot>>, flags: u32) {
        self.0 = Some(Below::enter(pointer(inherits), OWN | flags));
        // Into memory, not into registers that frames without it would have to save as well.
        black_box(self);
    }

    /// Returns the flags that the thread has while a task of this frame has left nothing that is
    /// undone one by one (T5). Returns `UNOPENED` on a thread in its teardown: tasks run without
    /// slots there, and every access fails (R12).
    #[inline]
    pub(super) fn clean(&self) -> u32 {
        self.0.as_ref().map_or(OWN, |below| below.clean)
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.clean() != UNOPENED
    }

    /// Returns the thread's flags if the frame is the innermost, and its task has left nothing that
    /// is undone one by one (T5).
    #[inline]
    pub(super) fn plain(&self) -> Option<u32> {
        let flags = thread::current().flags.get();
        let is_plain = flags == OWN || flags == self.clean();
        (is_plain && !cfg!(cleanslate_no_reset)).then_some(flags)
    }

    #[cold]
    #[inline(never)]
    fn next_task_slow(&self) -> Option<CleanupError> {
        let error = self.end_task();
        if self.is_open() {
            thread::current().epoch.set(CLEAN);
        }
        error
    }

    /// Ends the last task and closes the frame: the one below is the innermost again (S2).
    #[inline]
    pub(super) fn close(&self) -> Option<CleanupError> {
        let Some(flags) = self.plain() else { return self.close_slow() };
        self.close_plain(flags);
        None
    }

    #[cold]
    #[inline(never)]
    fn close_slow(&self) -> Option<CleanupError> {
        let error = self.end_task();
        self.close_plain(thread::current().flags.get());
        error
    }

    /// Undoes what the task has left, and puts the thread's flags back as the task found them.
    #[inline(always)]
    fn end_task(&self) -> Option<CleanupError> {
        let thread = thread::current();
        let error = end_task(thread, self.clean());
        if self.is_open() {
            thread.flags.set(self.clean());
        }
        error
    }

    /// Closes the frame when nothing is left that is undone one by one, and the thread has these
    /// flags.
    #[inline]
    pub(super) fn close_plain(&self, flags: u32) {
        let thread = thread::current();
        if flags != OWN {
            seldom();
            debug_assert!(self.0.is_some(), "T6");
            return self.0.as_ref().map_or((), Below::put_back);
        }
        thread.epoch.set(ROOT);
        if OWN != 0 {
            thread.flags.set(0);
        }
        thread.hand_down(ptr::null());
    }
}

#[inline]
fn pointer(inherits: Option<&Arc<Snapshot>>) -> Inherits {
    inherits.map_or(ptr::null(), ptr::from_ref)
}

impl Below {
    #[inline(always)]
    fn enter(inherits: Inherits, own: u32) -> Self {
        let thread = thread::current();
        let (epoch, flags) = (thread.epoch.get(), thread.flags_below());
        let below = thread.inherits.get();
        if epoch == GONE || cfg!(cleanslate_no_reset) {
            return Self { epoch, flags, inherits: below, clean: UNOPENED };
        }
        // Not direct where a task below has touched anything.
        let kept = if epoch <= CLEAN { flags } else { flags | INDIRECT };
        let clean = (kept & (DEPTH | INDIRECT)).wrapping_add(ONE_DEEPER) | own | NESTED;
        thread.epoch.set(CLEAN);
        thread.flags.set(clean);
        thread.inherits.set(inherits);
        Self { epoch, flags, inherits: below, clean }
    }

    #[inline]
    fn put_back(&self) {
        let thread = thread::current();
        thread.epoch.set(self.epoch);
        thread.flags.set(self.flags);
        thread.hand_down(self.inherits);
    }
}

/// A frame. Dropping it ends its task and closes it; this is how the slots are reset while a panic
/// unwinds. What fails then is discarded, since the caller is told of the panic.
pub(crate) struct Frame<'c> {
    open: Open<0>,
    /// Kept, so that looking at it is one load.
    thread: &'static Thread,
    /// What its tasks inherit is borrowed (S3).
    inherits: PhantomData<&'c Arc<Snapshot>>,
}

impl<'c> Frame<'c> {
    /// Opens a frame in which every slot is fresh.
    #[inline]
    pub(crate) fn enter(inherits: Option<&'c Arc<Snapshot>>) -> Self {
        let mut open = Open::new();
        open.enter(inherits);
        Self { open, thread: thread::current(), inherits: PhantomData }
    }

    /// Returns whether the current task is known to have left nothing to undo, so that
    /// [`next_task`](Self::next_task) would do nothing.
    #[inline]
    pub(crate) fn is_clean(&self) -> bool {
        self.thread.epoch.get() == CLEAN
    }

    /// Ends the current task and begins the next, which begins even if this returns that the
    /// clean-up failed.
    #[inline]
    pub(crate) fn next_task(&mut self) -> Result<(), CleanupError> {
        // It has touched nothing, or only values that need no drop (T5): without its epoch, nobody
        // finds them any more.
        if self.open.plain().is_some() {
            thread::current().epoch.set(CLEAN);
            return Ok(());
        }
        self.open.next_task_slow().map_or(Ok(()), Err)
    }

    /// Runs another task in this frame, or in one of its own if the current task has left something
    /// or runs something in a frame on top. `inherits` is what the frame was entered with.
    ///
    /// If the clean-up fails, the result is dropped here, in a frame of its own.
    #[inline]
    pub(crate) fn run_inside<R>(
        &mut self,
        inherits: Option<&Arc<Snapshot>>,
        f: impl FnOnce() -> R,
    ) -> Result<R, CleanupError> {
        if !self.is_clean() || self.open.plain().is_none() {
            return run(inherits, f);
        }
        let unwinding = NextOnUnwind(self);
        let result = f();
        match ManuallyDrop::new(unwinding).0.next_task() {
            Ok(()) => Ok(result),
            Err(error) => Err(give_up(|| drop(result), error)),
        }
    }

    /// Ends the last task and closes the frame.
    #[inline]
    pub(crate) fn end(self) -> Result<(), CleanupError> {
        ManuallyDrop::new(self).open.close().map_or(Ok(()), Err)
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        close_discarding(&self.open);
    }
}

/// The same for the frame of [`run`], which stays where it is.
struct CloseOnUnwind<'o>(&'o Open<0>);

impl Drop for CloseOnUnwind<'_> {
    #[inline]
    fn drop(&mut self) {
        close_discarding(self.0);
    }
}

/// Ends a task that unwinds, in a frame that goes on. What fails then is discarded.
struct NextOnUnwind<'f, 'c>(&'f mut Frame<'c>);

impl Drop for NextOnUnwind<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        drop(self.0.next_task());
    }
}

#[cold]
#[inline(never)]
fn close_discarding(open: &Open<0>) {
    drop(open.close_slow());
}

/// Aborts the process if the thread's depth is not that of `flags`: something that was opened on
/// top is suspended there (S1).
#[inline]
pub(super) fn check_order(thread: &Thread, flags: u32) {
    if (thread.flags.get() ^ flags) & DEPTH != 0 {
        abort_out_of_order();
    }
}

#[cold]
fn abort_out_of_order() -> ! {
    say(format_args!("a task ended while a coroutine was suspended on top of it"));
    std::process::abort();
}

/// Runs one task. A panic of the task goes on after the reset.
///
/// If the clean-up fails, the result is dropped here, in a frame of its own.
#[inline]
pub(crate) fn run<R>(
    inherits: Option<&Arc<Snapshot>>,
    f: impl FnOnce() -> R,
) -> Result<R, CleanupError> {
    let mut open = Open::new();
    open.enter(inherits);
    let unwinding = CloseOnUnwind(&open);
    let result = f();
    let _returned = ManuallyDrop::new(unwinding);
    match open.close() {
        None => Ok(result),
        Some(error) => Err(give_up(|| drop(result), error)),
    }
}

/// Calls `drop`, which drops the result of a task whose clean-up failed.
#[cold]
pub(crate) fn give_up(drop: impl FnOnce(), error: CleanupError) -> CleanupError {
    match contained(drop) {
        Ok(()) => error,
        Err(later) => error.merge(CleanupError::from_failure(later)),
    }
}

/// Runs code that only cleans up (drops a capture, a result, an input) in a frame of its own.
///
/// Never unwinds. It inherits nothing.
#[inline]
pub(crate) fn contained(f: impl FnOnce()) -> Result<(), Failure> {
    let mut f = Some(f);
    call_contained(&mut || f.take().map_or((), |f| f()))
}

// Through a pointer, so that it is compiled once and not for everything that is dropped somewhere.
fn call_contained(f: &mut dyn FnMut()) -> Result<(), Failure> {
    match catch(|| run(None, f)) {
        Ok(ended) => ended.map_err(Failure::Cleanup),
        Err(payload) => Err(Failure::Panic(payload)),
    }
}

/// Drops a value in a frame of its own. Never unwinds; nobody hears of a panic.
#[inline]
pub(crate) fn discard<T>(value: T) {
    let _unreportable = contained(|| drop(value));
}

/// Gives up the innermost task's capture: it must not pin a value that has changed or gone (R8).
#[inline]
pub(super) fn forget_capture(thread: &Thread) {
    if let Some(snapshot) = thread.take_capture() {
        give_up_capture(snapshot);
    }
}

/// Drops a capture. If it was the last reference to its snapshot, the copies are dropped: that is
/// user code, which must neither see the current task's slots nor unwind through the engine.
#[cold]
pub(super) fn give_up_capture(snapshot: Arc<Snapshot>) {
    if let Some(last) = Arc::into_inner(snapshot) {
        discard(last);
    }
}

/// Undoes what the task of the frame with these flags has left.
pub(super) fn end_task(thread: &Thread, clean: u32) -> Option<CleanupError> {
    if clean == UNOPENED {
        return None;
    }
    check_order(thread, clean);
    let error = unwind(thread);
    // The task may have captured, and so may each drop; or a drop has suspended its coroutine.
    if (thread.flags.get() ^ clean) & (DEPTH | CAPTURED) != 0 {
        forget_or_abort(thread, clean);
    }
    error
}

#[cold]
fn forget_or_abort(thread: &Thread, clean: u32) {
    check_order(thread, clean);
    forget_capture(thread);
    // Forgetting the capture drops copies.
    check_order(thread, clean);
}

/// Undoes what the innermost task has on the trail, the youngest first. Returns what went wrong.
pub(super) fn unwind(thread: &Thread) -> Option<CleanupError> {
    let mut error = None;
    let mut extra = EXTRA;
    let epoch = thread.epoch.get();
    while let Some(entry) = thread.trail.pop(epoch) {
        if let Some(fault) = undo(thread, entry, &mut extra) {
            CleanupError::add(&mut error, Some(fault));
        }
    }
    error
}

/// Undoes one entry, which was taken off the trail. `extra` counts the drops of later generations.
///
/// Leaves the thread with the generation of what the drop has touched: whoever ends the task puts
/// the flags back, once for all that is undone.
#[inline(always)]
pub(super) fn undo(thread: &Thread, entry: TrailEntry, extra: &mut usize) -> Option<CleanupError> {
    // SAFETY: C1: a cell stays in place while it has an entry, and `remove_entry` is the last use.
    let cell = unsafe { entry.cell.as_ref() };
    let mut error = None;
    if let Some(header) = cell.unlink(entry.epoch) {
        if cell.is_inheritable() {
            // The task, or an earlier drop, may have captured it (R8).
            forget_capture(thread);
        }
        // SAFETY: just taken out of the cell.
        error = unsafe { end_value(thread, cell, header, entry.generation, extra) };
    }
    cell.remove_entry();
    error
}

/// Drops the value in a box, and gives the box back to its cell.
///
/// # Safety
///
/// - The caller owns the box (V4), which was made for this cell's type.
#[inline]
unsafe fn end_value(
    thread: &Thread,
    cell: &RawCell,
    header: NonNull<Header>,
    generation: u32,
    extra: &mut usize,
) -> Option<CleanupError> {
    // SAFETY: alive, since the caller owns it.
    let runs_user_code = unsafe { header.as_ref() }.owes_drop();
    let dropped = if runs_user_code {
        if generation > 0 && is_recurring(generation, extra) {
            leak::count_leak();
            return Some(CleanupError::recurring(cell.name()));
        }
        thread.begin_drop(generation);
        // SAFETY: the caller's; it owes a drop.
        unsafe { value::drop_owed(header) }
    } else {
        // SAFETY: the caller's.
        unsafe { value::empty(header) }?
    };
    // SAFETY: the caller's; and it is empty and not in use.
    unsafe { cell.recycle(header) };
    dropped.err().map(|payload| CleanupError::panicked(cell.name(), payload))
}

/// Returns whether a value that a drop has left must not be dropped any more (R11). Otherwise
/// counts its drop.
#[cold]
fn is_recurring(generation: u32, extra: &mut usize) -> bool {
    if generation >= ROUNDS || *extra == 0 {
        return true;
    }
    *extra -= 1;
    false
}

//! The frames of a thread: opening, ending a task, closing.
//!
//! A **pinned** frame is lexical: a guard on the Rust stack opens and closes it, and keeps what it
//! has to put back. A **loose** frame belongs to a value that can be moved, dropped late or forgotten
//! (an iterator, a folder), and ends out of order. It is known by a [`Token`], its position among the
//! thread's records and its unique id.
//!
//! # Invariants
//!
//! - **S1 (tokens).** A record's id is an epoch of its own, which is never used again on this thread. A
//!   token whose position holds another id, or nothing, is dead, and ending it does nothing.
//! - **S2 (order).** Closing a frame first closes those above it: guards are dropped in reverse
//!   order, so these can only be loose ones, which lie above the topmost pin (S3). So a saved state is
//!   put back exactly when the frame below becomes the innermost one again.
//! - **S3 (pins).** A loose frame below a pinned one is not closed, only marked: code of that pinned
//!   frame still runs. So a frame that is pinned while `LOOSE` is set leaves a record, a pin; where
//!   it is not set no loose frame lies between the new frame and the next pin, and the guard is
//!   enough. Either way the loose frames above the topmost pin are those of the innermost pinned frame,
//!   and the guard need not know its position. Closing the pinned frame then closes the marked ones
//!   directly below its pin.
//! - **S4 (capture).** The captures that frames have kept lie on a stack of the thread, that of the
//!   innermost frame on top if its flags say `CAPTURED`. A frame's own is gone before the one below is
//!   the innermost again.
//! - **S5 (context).** A pinned frame borrows its context, which outlives the guard. A loose frame can
//!   be forgotten, so it owns a count of its own, which closing it gives up.
//! - **S6 (pins, closed).** What is lexical closes everything that was opened above it before it
//!   looks at a cell: what it finds on top there is its own.
//! - **S7 (ended once).** A loose frame whose values are being dropped is `Ending`, and its record has an
//!   id that no token knows. This clean-up runs on top of the frames below, which are therefore only marked
//!   meanwhile, as below a pin. So only the one who began to end it goes on with it. If the frame itself
//!   goes on after that, with another task, those that were marked wait for its end.
//! - **S8 (entries).** The trail's entries of the innermost frame's task are its last ones, and the only
//!   ones with its epoch (T4). So no frame keeps a mark: a clean-up that goes on below a frame which
//!   it has left behind would make it a wrong one.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use super::cell::{NEVER, ROOT};
use super::failure::CleanupError;
use super::thread::{
    self, GENERATIONS, GROUNDED, LOOSE, PINNED, SHORTCUT, Saved, TASK, TOUCHED, TRAILED, Thread,
    UNNOTICED, WATCHED,
};
use super::trail;
use crate::context::{Context, Raw, Snapshot};

/// What a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lexical code, which keeps loose frames below from being closed. The record of no frame of its
    /// own: what is to be put back is on the Rust stack.
    Pin,
    /// A frame that is ended by token.
    Loose,
    /// The same, already asked to end.
    Marked,
    /// The same, while its values are being dropped (S7).
    Ending,
}

/// An open loose frame, or a pin.
pub(super) struct Record {
    id: u64,
    pub(super) kind: Kind,
    /// The count that a loose frame owns (S5). Null in a pin.
    context: Raw,
    /// How to go back to the frame below. Unused in a pin.
    below: Saved,
}

impl Record {
    /// See S7.
    fn begin_to_end(&mut self, id: u64) -> Kind {
        self.id = id;
        if self.kind != Kind::Pin {
            self.kind = Kind::Ending;
        }
        self.kind
    }
}

/// A frame that can be ended from anywhere on its thread, once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    index: usize,
    id: u64,
    /// Positions and ids mean something on one thread only.
    not_send: PhantomData<*const ()>,
}

/// Makes a new frame the innermost one, in which every slot is fresh. Gives its first epoch.
#[inline]
fn begin(thread: &Thread, flags: u32, context: Raw) -> u64 {
    let id = thread.fresh_epoch();
    thread.epoch.set(id);
    thread.flags.set(flags);
    thread.context.set(context);
    id
}

/// Whether a new frame lies on the root, or on frames that have touched nothing so far.
#[inline]
fn is_grounded(below: &Saved) -> bool {
    let untouched = below.flags & (GROUNDED | TOUCHED | TRAILED) == GROUNDED;
    below.epoch == ROOT || untouched
}

/// Ends the innermost frame's task.
fn end_task(thread: &Thread, error: &mut Option<CleanupError>) {
    thread.forget_capture();
    if let Some(fault) = trail::unwind(thread, thread.mark_of_task()) {
        CleanupError::add(error, fault);
    }
    // A drop may have captured in turn.
    thread.forget_capture();
}

/// Closes what has a record, from `index` up.
fn close(thread: &Thread, index: usize) -> Option<CleanupError> {
    let mut error = None;
    // Code of others runs below and may leave loose frames behind, so the depth is read anew.
    while thread.depth() > index {
        let top = thread.depth() - 1;
        let id = thread.fresh_epoch();
        let Some(kind) = thread.with_frame(top, |record| record.begin_to_end(id)) else {
            break;
        };
        if kind != Kind::Pin {
            end_task(thread, &mut error);
            if thread.depth() > top + 1 {
                continue;
            }
            debug_assert_eq!(thread.with_frame(top, |record| record.id), Some(id), "S7");
        }
        let Some(record) = thread.pop_frame() else { break };
        if kind != Kind::Pin {
            thread.restore(&record.below);
            // Last: if nobody else keeps it, its values are dropped here. Not the thread's context: if the
            // process exits from within a pinned frame, that is the pinned one's.
            Snapshot::release(record.context);
        }
    }
    error
}

/// Closes a loose frame or a pin, those above it, and marked ones that only waited for that (S3).
fn close_pinned(thread: &Thread, index: usize) -> Option<CleanupError> {
    let mut error = close(thread, index);
    while let Some(below) = thread.depth().checked_sub(1)
        && thread.with_frame(below, |record| record.kind) == Some(Kind::Marked)
    {
        if let Some(fault) = close(thread, below) {
            CleanupError::add(&mut error, fault);
        }
    }
    error
}

/// Ends a task, after closing the loose frames from `above` up, and those that its clean-up leaves.
#[inline(never)]
fn end_tasks(thread: &Thread, above: usize) -> Option<CleanupError> {
    let mut error = None;
    loop {
        if thread.depth() > above
            && let Some(fault) = close(thread, above)
        {
            CleanupError::add(&mut error, fault);
        }
        end_task(thread, &mut error);
        if thread.depth() <= above {
            return error;
        }
    }
}

/// Closes whatever is open, at the end of the thread.
pub(super) fn end_all(thread: &Thread) {
    if let Some(error) = close(thread, 0) {
        drop(error);
    }
}

/// Whether the token's frame is open (S1).
fn is_alive(thread: &Thread, token: Token) -> bool {
    thread.with_frame(token.index, |record| record.id) == Some(token.id)
}

/// A pinned frame without its guard: whoever opens it sees to it that it is closed once, also when
/// code of others unwinds, and before the frames below are (S2).
///
/// For code that keeps it in one place of the Rust stack. Moving a guard into its end costs more than
/// the end does.
#[derive(Debug)]
pub(super) struct Open<'c> {
    /// How to go back to the frame below. `UNNOTICED` in here: nothing was opened.
    below: Saved,
    context: PhantomData<&'c Context>,
}

impl<'c> Open<'c> {
    /// Opens a frame in which every slot is fresh. Carriers of the context are not attached.
    #[inline]
    pub(super) fn enter(context: &'c Context) -> Self {
        Self::with_flags(context, GROUNDED | SHORTCUT, 0)
    }

    /// The same for a frame whose values are to be taken out again, with its flags: each value has a
    /// trail entry, but for those that the caller is about to link. It is not grounded, so those of
    /// tasks on top have entries too.
    #[inline]
    pub(super) fn enter_keeping(context: &'c Context, flags: u32) -> Self {
        Self::with_flags(context, 0, flags)
    }

    /// Opens a frame with the flags `always`, and `grounded` if it is so.
    #[inline]
    fn with_flags(context: &'c Context, grounded: u32, always: u32) -> Self {
        let thread = thread::current();
        let below = thread.save();
        if below.flags & (LOOSE | UNNOTICED) != 0 || cfg!(cleanslate_no_reset) {
            return Self::with_flags_slow(context, grounded, always);
        }
        Self::begin(thread, below, context, grounded, always)
    }

    #[cold]
    #[inline(never)]
    fn with_flags_slow(context: &'c Context, grounded: u32, always: u32) -> Self {
        let thread = thread::current();
        // A thread in its teardown runs the task without slots: every access fails (R12). Without
        // reset, tasks share their thread's slots.
        if cfg!(cleanslate_no_reset) || thread.register().is_err() {
            let below = Saved { flags: UNNOTICED, ..thread.save() };
            return Self { below, context: PhantomData };
        }
        let below = thread.save();
        let mut always = always;
        if below.flags & LOOSE != 0 {
            // Keeps the loose frames below from being closed (S3).
            Pin::push(thread);
            always |= PINNED;
        }
        Self::begin(thread, below, context, grounded, always)
    }

    #[inline]
    fn begin(
        thread: &Thread,
        below: Saved,
        context: &'c Context,
        grounded: u32,
        always: u32,
    ) -> Self {
        let flags = always | if is_grounded(&below) { grounded } else { 0 };
        begin(thread, flags, context.snapshot_raw());
        Self { below, context: PhantomData }
    }

    /// Whether the current task has left nothing to undo: see [`Frame::is_clean`].
    #[inline]
    pub(super) fn is_clean(&self) -> bool {
        cfg!(cleanslate_no_reset) || thread::current().flags.get() & TASK == 0
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.below.flags & UNNOTICED == 0
    }

    /// Ends the current task and begins the next, which starts with the flags `clean`: those that the
    /// frame's tasks have while they have touched nothing. See [`Frame::next_task`].
    #[inline]
    pub(super) fn next_task(&self, clean: u32) -> Option<CleanupError> {
        if cfg!(cleanslate_no_reset) {
            return None;
        }
        let thread = thread::current();
        match thread.flags.get() & TASK {
            0 => None,
            TOUCHED => {
                thread.epoch.set(thread.fresh_epoch());
                // Not the flags without the bit: a task would have to wait for the last one's store.
                debug_assert_eq!(thread.flags.get() & !TOUCHED, clean);
                thread.flags.set(clean);
                None
            }
            _ => self.next_task_slow(thread, clean),
        }
    }

    #[cold]
    fn next_task_slow(&self, thread: &Thread, clean: u32) -> Option<CleanupError> {
        if !self.is_open() {
            return None;
        }
        let error = end_tasks(thread, thread.top_pin_end());
        thread.epoch.set(thread.fresh_epoch());
        thread.flags.set(clean);
        error
    }

    /// Ends the last task and closes the frame.
    #[inline]
    pub(super) fn close(&self) -> Option<CleanupError> {
        let thread = thread::current();
        if cfg!(cleanslate_no_reset) {
            return None;
        }
        if self.is_plain(thread) {
            self.close_plain(thread);
            return None;
        }
        self.close_slow(thread)
    }

    /// Whether going back to the frame below is all that there is to closing this one: the task left
    /// nothing to undo, no loose frame lies above, or it would show in the flags, and there is no pin.
    /// A frame that was not opened shows too (T5).
    #[inline]
    pub(super) fn is_plain(&self, thread: &Thread) -> bool {
        !cfg!(cleanslate_no_reset)
            && thread.flags.get() & (TRAILED | LOOSE | PINNED | UNNOTICED) == 0
    }

    /// Closes a frame that [is plain](Self::is_plain).
    #[inline]
    pub(super) fn close_plain(&self, thread: &Thread) {
        thread.restore(&self.below);
    }

    #[inline(never)]
    fn close_slow(&self, thread: &Thread) -> Option<CleanupError> {
        if !self.is_open() {
            return None;
        }
        let mut error = end_tasks(thread, thread.top_pin_end());
        thread.restore(&self.below);
        if self.below.flags & LOOSE != 0
            && let Some(fault) = close_pinned(thread, thread.top_pin_end() - 1)
        {
            CleanupError::add(&mut error, fault);
        }
        error
    }

    /// Ends the task if it left something to undo. The frame stays as it is.
    #[inline]
    pub(super) fn end_task(&self, thread: &Thread) -> Option<CleanupError> {
        if thread.flags.get() & (TRAILED | LOOSE) == 0 || !self.is_open() {
            return None;
        }
        end_tasks(thread, thread.top_pin_end())
    }

    /// Where the entries of the frame's task begin on the trail, after closing what lies above. `None`:
    /// it is not open.
    pub(super) fn mark_alone(&self, thread: &Thread) -> Option<usize> {
        if !self.is_open() {
            return None;
        }
        Self::close_above(thread);
        Some(thread.mark_of_task())
    }

    /// Closes what was left open above the innermost lexical frame.
    pub(super) fn close_above(thread: &Thread) {
        let above = thread.top_pin_end();
        if thread.depth() > above
            && let Some(error) = close(thread, above)
        {
            drop(error);
        }
    }
}

/// A pinned frame: what its tasks touch is undone when they end.
///
/// Dropping it ends the task too; that is how a panic finds the slots reset on its way up. What
/// fails then is discarded, since the panic is what the caller hears of.
#[derive(Debug)]
pub(crate) struct Frame<'c> {
    open: Open<'c>,
    /// The flags of a task that has touched nothing.
    clean: u32,
}

impl<'c> Frame<'c> {
    /// Opens a frame in which every slot is fresh. Carriers of the context are not attached.
    #[inline]
    pub(crate) fn enter(context: &'c Context) -> Self {
        let open = Open::enter(context);
        Self { open, clean: thread::current().flags.get() }
    }

    /// Opens a frame that surrounds tasks and is none itself: in debug builds, touching a slot
    /// directly in it panics. In release builds what is touched is undone with the frame.
    #[cfg_attr(test, expect(dead_code, reason = "as `loose`"))]
    pub(crate) fn watch(context: &'c Context) -> Self {
        let mut frame = Self::enter(context);
        if frame.open.is_open() {
            frame.clean |= WATCHED;
            thread::current().raise(WATCHED);
        }
        frame
    }

    /// Ends the current task and begins the next. Costs a load and a branch if the task touched
    /// nothing, and is O(slots touched) otherwise.
    #[inline]
    pub(crate) fn next_task(&mut self) -> Result<(), CleanupError> {
        self.open.next_task(self.clean).map_or(Ok(()), Err)
    }

    /// Whether the current task has left nothing to undo, so that [`next_task`](Frame::next_task) would
    /// do nothing.
    #[inline]
    pub(crate) fn is_clean(&self) -> bool {
        self.open.is_clean()
    }

    /// Ends the last task and closes the frame.
    #[inline]
    pub(crate) fn end(self) -> Result<(), CleanupError> {
        let this = ManuallyDrop::new(self);
        this.open.close().map_or(Ok(()), Err)
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(error) = self.open.close() {
            drop(error);
        }
    }
}

/// Keeps loose frames below from being closed while lexical code depends on them, and closes those
/// that were left open above it (S6).
///
/// Puts no frame on the stack where no loose one is open.
#[derive(Debug)]
pub(crate) struct Pin {
    /// Its own position, or where it would lie.
    index: usize,
    pushed: bool,
    not_send: PhantomData<*const ()>,
}

impl Pin {
    #[inline]
    pub(crate) fn new(thread: &Thread) -> Self {
        let index = thread.depth();
        let pushed = thread.flags.get() & LOOSE != 0;
        if pushed {
            Self::push(thread);
        }
        Self { index, pushed, not_send: PhantomData }
    }

    #[cold]
    fn push(thread: &Thread) {
        thread.push_frame(Record {
            id: thread.fresh_epoch(),
            kind: Kind::Pin,
            context: std::ptr::null(),
            below: thread.save(),
        });
    }
}

impl Pin {
    /// Closes what was left open above, also by another one's job and though none was open before.
    ///
    /// Those below stay as they are until the pin is dropped: what the caller has put on top of
    /// their values has to go first.
    #[inline]
    pub(crate) fn close_above(&self) {
        let above = self.index + usize::from(self.pushed);
        thread::with(|thread| {
            if thread.depth() > above
                && let Some(error) = close(thread, above)
            {
                drop(error);
            }
        });
    }
}

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        let error = thread::with(|thread| {
            if thread.depth() > self.index { close_pinned(thread, self.index) } else { None }
        });
        if let Some(error) = error {
            drop(error);
        }
    }
}

impl Token {
    /// The token of no frame.
    pub(super) const fn dead() -> Self {
        Self { index: usize::MAX, id: NEVER, not_send: PhantomData }
    }

    /// Opens a loose frame, which keeps the context's snapshot alive (S5).
    pub(super) fn open_loose(thread: &Thread, context: &Context) -> Self {
        if cfg!(cleanslate_no_reset) {
            return Self::dead();
        }
        if thread.register().is_err() {
            // As for a pinned one.
            return Self::dead();
        }
        let below = thread.save();
        let grounded = if is_grounded(&below) { GROUNDED | SHORTCUT } else { 0 };
        // It may be left behind by a drop, and is then a link in a chain of drops (R11).
        let generation = below.flags & GENERATIONS;
        let index = thread.depth();
        let context = Snapshot::retain(context.snapshot_raw());
        let id = begin(thread, LOOSE | grounded | generation, context);
        thread.push_frame(Record { id, kind: Kind::Loose, context, below });
        Self { index, id, not_send: PhantomData }
    }

    /// Ends the frame's task and begins the next. `None` if there is no task to begin: the frame is
    /// closed, or is so once what holds it above is over (S3, S7).
    pub(super) fn next_task(self, thread: &Thread) -> Option<Result<(), CleanupError>> {
        if !is_alive(thread, self) {
            return None;
        }
        if is_held_above(thread, self.index) {
            thread.with_frame(self.index, |record| record.kind = Kind::Marked);
            return None;
        }
        let ending = thread.fresh_epoch();
        thread.with_frame(self.index, |record| record.begin_to_end(ending));
        let error = end_tasks(thread, self.index + 1);
        // As it was opened: a drop may have left a frame behind that was a link in its chain.
        let generation = thread.with_frame(self.index, |record| {
            debug_assert_eq!(record.id, ending, "S7");
            (record.id, record.kind) = (self.id, Kind::Loose);
            record.below.flags & GENERATIONS
        })?;
        thread.epoch.set(thread.fresh_epoch());
        thread.flags.set(
            thread.flags.get() & (SHORTCUT | GROUNDED | WATCHED | PINNED) | LOOSE | generation,
        );
        Some(error.map_or(Ok(()), Err))
    }

    /// Ends the frame, and those above it; only marks it while it is held above (S3, S7).
    pub(super) fn close(self, thread: &Thread) -> Result<(), CleanupError> {
        if !is_alive(thread, self) {
            return Ok(());
        }
        if is_held_above(thread, self.index) {
            thread.with_frame(self.index, |record| record.kind = Kind::Marked);
            return Ok(());
        }
        close_pinned(thread, self.index).map_or(Ok(()), Err)
    }
}

/// Whether code still runs that has begun above a frame: that of a pinned one (S3), or the clean-up of a
/// loose one (S7).
fn is_held_above(thread: &Thread, index: usize) -> bool {
    (index + 1..thread.depth()).any(|above| {
        let kind = thread.with_frame(above, |record| record.kind);
        matches!(kind, Some(Kind::Pin | Kind::Ending))
    })
}

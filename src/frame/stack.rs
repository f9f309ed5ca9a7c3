//! The frames of a thread: opening, ending a task, closing.
//!
//! A **pinned** frame is lexical: a guard on the Rust stack opens and closes it. A **loose** frame
//! belongs to a value that can be moved, dropped late or forgotten (an iterator, a folder), and ends
//! out of order. It is known by a [`Token`], its position and its unique id.
//!
//! # Invariants
//!
//! - **S1 (tokens).** A record's id is its first epoch, which is never used again on this thread. A
//!   token whose position holds another id, or nothing, is dead, and ending it does nothing.
//! - **S2 (order).** Closing a frame first closes those above it. So a record's saved state is put
//!   back exactly when the frame below becomes the innermost one again.
//! - **S3 (pins).** A loose frame below a pinned one is not closed, only marked: code of that pinned
//!   frame still runs. Closing the pinned frame then closes the marked ones directly below it.
//! - **S4 (capture).** `captured` in the state belongs to the innermost frame; a record keeps the
//!   one of the frame below.
//! - **S5 (context).** A pinned frame borrows its context, which outlives the guard. A loose frame can
//!   be forgotten, so it owns a count of its own, which closing it gives up.
//! - **S6 (pins, closed).** What is lexical closes everything that was opened above it before it
//!   looks at a cell: what it finds on top there is its own.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use super::cell::ROOT;
use super::failure::CleanupError;
use super::thread::{self, LOOSE, TOUCHED, TRAILED, Thread};
use super::trail;
use crate::context::{Context, Snapshot};

/// How a frame ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// With a guard on the Rust stack.
    Pinned,
    /// Opens no epoch of its own: it only keeps loose frames below from being closed.
    Pin,
    /// By token.
    Loose,
    /// By token, and already asked to.
    Marked,
}

/// An open frame: how to go back to the one below.
pub(super) struct Record {
    id: u64,
    pub(super) kind: Kind,
    /// The trail's length when it was opened.
    mark: usize,
    epoch: u64,
    flags: u8,
    shortcut: bool,
    grounded: bool,
    diverged: bool,
    generation: u32,
    watched: bool,
    context: *const Snapshot,
    captured: *const Snapshot,
}

/// A frame that can be ended from anywhere on its thread, once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    index: usize,
    id: u64,
    /// Positions and ids mean something on one thread only.
    not_send: PhantomData<*const ()>,
}

#[inline]
fn open(thread: &Thread, kind: Kind, context: *const Snapshot, keeps_all: bool) -> Token {
    let index = thread.depth();
    let id = thread.fresh_epoch();
    if thread.register().is_err() {
        // A thread in its teardown runs the task without slots: every access fails (R12).
        return Token::dead();
    }
    // A root that lies under nothing else, or under frames that have touched nothing so far.
    let is_grounded = if index == 0 {
        thread.epoch.get() == ROOT
    } else {
        thread.grounded.get() && thread.flags.get() & (TOUCHED | TRAILED) == 0
    };
    thread.push_frame(Record {
        id,
        kind,
        mark: thread.mark(),
        epoch: thread.epoch.get(),
        flags: thread.flags.get(),
        shortcut: thread.shortcut.get(),
        grounded: thread.grounded.get(),
        diverged: thread.diverged.get(),
        generation: thread.generation.get(),
        watched: thread.watched.replace(false),
        context: thread.context.get(),
        captured: thread.captured.replace(std::ptr::null()),
    });
    thread.grounded.set(is_grounded);
    thread.shortcut.set(is_grounded && !keeps_all);
    thread.epoch.set(id);
    thread.flags.set(if kind == Kind::Loose { LOOSE } else { 0 });
    thread.diverged.set(false);
    if kind != Kind::Loose {
        thread.generation.set(0);
    } // A loose one may be left behind by a drop, which is then a link in a chain of drops (R11).
    thread.context.set(context);
    Token { index, id, not_send: PhantomData }
}

/// Ends the innermost frame's task.
fn end_task(thread: &Thread, mark: usize, error: &mut Option<CleanupError>) {
    thread.forget_capture();
    if let Some(fault) = trail::unwind(thread, mark) {
        CleanupError::add(error, fault);
    }
    // A drop may have captured in turn.
    thread.forget_capture();
}

/// Makes the frame below the innermost one again. Gives back what the closed one's tasks inherited.
#[inline]
fn restore(thread: &Thread, record: &Record) -> *const Snapshot {
    thread.epoch.set(record.epoch);
    thread.flags.set(record.flags);
    thread.shortcut.set(record.shortcut);
    thread.grounded.set(record.grounded);
    thread.diverged.set(record.diverged);
    thread.generation.set(record.generation);
    thread.watched.set(record.watched);
    thread.captured.set(record.captured);
    thread.context.replace(record.context)
}

/// Closes the frames from `index` up.
fn close(thread: &Thread, index: usize) -> Option<CleanupError> {
    let mut error = None;
    // Code of others runs below and may leave loose frames behind, so the depth is read anew.
    while thread.depth() > index {
        let top = thread.depth() - 1;
        let Some((kind, mark)) = thread.with_frame(top, |record| (record.kind, record.mark)) else {
            break;
        };
        if kind != Kind::Pin {
            end_task(thread, mark, &mut error);
            if thread.depth() > top + 1 {
                continue;
            }
        }
        let Some(record) = thread.pop_frame() else { break };
        if kind != Kind::Pin {
            let context = restore(thread, &record);
            if kind != Kind::Pinned {
                // Last: if nobody else keeps it, its values are dropped here.
                Snapshot::release(context);
            }
        }
    }
    error
}

/// Closes a frame, those above it, and marked ones that only waited for that (S3).
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

/// Closes whatever is open, at the end of the thread.
pub(super) fn end_all(thread: &Thread) {
    if let Some(error) = close(thread, 0) {
        super::failure::discard(error.into_payload());
    }
}

/// Where the innermost frame's entries begin.
pub(super) fn innermost_mark(thread: &Thread) -> usize {
    let innermost = thread.depth().checked_sub(1);
    innermost.and_then(|index| thread.with_frame(index, |record| record.mark)).unwrap_or(0)
}

/// Whether the token's frame is open (S1).
fn is_alive(thread: &Thread, token: Token) -> bool {
    thread.with_frame(token.index, |record| record.id) == Some(token.id)
}

/// Ends the task of a frame and begins the next one in it. Does nothing for a dead token.
#[cold]
fn next_task(thread: &Thread, token: Token) -> Option<CleanupError> {
    if !is_alive(thread, token) {
        return None;
    }
    let mut error = close(thread, token.index + 1);
    let (mark, kind) = thread.with_frame(token.index, |record| (record.mark, record.kind))?;
    end_task(thread, mark, &mut error);
    if thread.depth() > token.index + 1
        && let Some(fault) = close(thread, token.index + 1)
    {
        CleanupError::add(&mut error, fault);
    }
    thread.epoch.set(thread.fresh_epoch());
    thread.flags.set(if kind == Kind::Pinned { 0 } else { LOOSE });
    thread.diverged.set(false);
    error
}

/// A pinned frame: what its tasks touch is undone when they end.
///
/// Dropping it ends the task too; that is how a panic finds the slots reset on its way up. What
/// fails then is discarded, since the panic is what the caller hears of.
#[derive(Debug)]
pub(crate) struct Frame<'c> {
    token: Token,
    context: PhantomData<&'c Context>,
}

impl<'c> Frame<'c> {
    /// Opens a frame in which every slot is fresh. Carriers of the context are not attached.
    #[inline]
    pub(crate) fn enter(context: &'c Context) -> Self {
        Self::with_kind(context.snapshot_ptr(), false)
    }

    /// The same for a frame whose values are to be taken out again, so each has a trail entry.
    #[inline]
    pub(super) fn enter_keeping(context: &'c Context) -> Self {
        Self::with_kind(context.snapshot_ptr(), true)
    }

    /// Opens a frame that surrounds tasks and is none itself: in debug builds, touching a slot
    /// directly in it panics. In release builds what is touched is undone with the frame.
    pub(crate) fn watch(context: &'c Context) -> Self {
        let frame = Self::enter(context);
        thread::with(|thread| thread.watched.set(is_alive(thread, frame.token)));
        frame
    }

    #[inline]
    fn with_kind(context: *const Snapshot, keeps_all: bool) -> Self {
        let token = thread::with(|thread| {
            if cfg!(cleanslate_no_reset) {
                // Nothing is opened, and the token is dead: tasks share their thread's slots.
                return Token::dead();
            }
            open(thread, Kind::Pinned, context, keeps_all)
        });
        Self { token, context: PhantomData }
    }

    /// Ends the current task and begins the next. Costs a load and a branch if the task touched
    /// nothing, and is O(slots touched) otherwise.
    #[inline]
    pub(crate) fn next_task(&mut self) -> Result<(), CleanupError> {
        if cfg!(cleanslate_no_reset) {
            return Ok(());
        }
        thread::with(|thread| match thread.flags.get() {
            0 => Ok(()),
            TOUCHED => {
                thread.epoch.set(thread.fresh_epoch());
                thread.flags.set(0);
                Ok(())
            }
            _ => next_task(thread, self.token).map_or(Ok(()), Err),
        })
    }

    /// Whether the current task has left nothing to undo, so that [`next_task`](Frame::next_task) would
    /// do nothing.
    #[inline]
    pub(crate) fn is_clean(&self) -> bool {
        cfg!(cleanslate_no_reset) || thread::with(|thread| thread.flags.get() == 0)
    }

    /// Ends the last task and closes the frame.
    #[inline]
    pub(crate) fn end(self) -> Result<(), CleanupError> {
        let this = ManuallyDrop::new(self);
        this.close().map_or(Ok(()), Err)
    }

    #[inline]
    fn close(&self) -> Option<CleanupError> {
        let thread = thread::current();
        // The way of a task that left nothing to undo: the frame is the innermost one, or a loose one
        // above would show in the flags, and no marked one lies below, or that would show.
        if thread.flags.get() & !TOUCHED == 0
            && let Some(record) = thread
                .pop_frame_if(|record| record.id == self.token.id && record.flags & LOOSE == 0)
        {
            restore(thread, &record);
            return None;
        }
        self.close_slow(thread)
    }

    #[inline(never)]
    fn close_slow(&self, thread: &Thread) -> Option<CleanupError> {
        if is_alive(thread, self.token) { close_pinned(thread, self.token.index) } else { None }
    }

    /// Closes the frame after `take` has taken its values off the trail, above the given mark.
    #[inline]
    pub(super) fn suspend(self, take: impl FnOnce(&Thread, usize)) {
        let thread = thread::current();
        if thread.flags.get() != 0
            && let Some(mark) = self.mark_alone(thread)
        {
            thread.forget_capture();
            take(thread, mark);
            thread.flags.set(0);
        }
        // Nothing is left on the trail, so nothing can fail; the drop closes the frame.
        drop(self);
    }

    /// The frame's mark, if it is open, after closing what lies above it.
    #[inline]
    fn mark_alone(&self, thread: &Thread) -> Option<usize> {
        let Token { index, id, .. } = self.token;
        // A dead token's index is the largest one, to which nothing can be added.
        if index < thread.depth().saturating_sub(1) {
            // Loose frames that the task left behind end with the poll.
            self.close_above(thread);
        }
        thread.with_frame(index, |record| (record.id == id).then_some(record.mark))?
    }

    #[cold]
    fn close_above(&self, thread: &Thread) {
        if is_alive(thread, self.token)
            && let Some(error) = close(thread, self.token.index + 1)
        {
            super::failure::discard(error.into_payload());
        }
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(error) = self.close() {
            super::failure::discard(error.into_payload());
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
            mark: thread.mark(),
            epoch: thread.epoch.get(),
            flags: thread.flags.get(),
            shortcut: thread.shortcut.get(),
            grounded: thread.grounded.get(),
            diverged: thread.diverged.get(),
            generation: thread.generation.get(),
            watched: thread.watched.get(),
            context: thread.context.get(),
            captured: std::ptr::null(),
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
                super::failure::discard(error.into_payload());
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
            super::failure::discard(error.into_payload());
        }
    }
}

impl Token {
    /// The token of no frame.
    pub(super) const fn dead() -> Self {
        Self { index: usize::MAX, id: super::cell::NEVER, not_send: PhantomData }
    }

    /// Opens a loose frame, which keeps the context's snapshot alive (S5).
    pub(super) fn open_loose(thread: &Thread, context: &Context) -> Self {
        if cfg!(cleanslate_no_reset) {
            return Self::dead();
        }
        let snapshot = Snapshot::retain(context.snapshot_ptr());
        let token = open(thread, Kind::Loose, snapshot, false);
        if !is_alive(thread, token) {
            Snapshot::release(snapshot);
        }
        token
    }

    /// Ends the frame's task and begins the next. `None` if there is no task to begin: the frame is
    /// closed, or is so as soon as the pinned frames above it are (S3).
    pub(super) fn next_task(self, thread: &Thread) -> Option<Result<(), CleanupError>> {
        if !is_alive(thread, self) {
            return None;
        }
        if is_pinned_above(thread, self.index) {
            thread.with_frame(self.index, |record| record.kind = Kind::Marked);
            return None;
        }
        Some(next_task(thread, self).map_or(Ok(()), Err))
    }

    /// Ends the frame, and those above it; only marks it while a pinned one lies above (S3).
    pub(super) fn close(self, thread: &Thread) -> Result<(), CleanupError> {
        if !is_alive(thread, self) {
            return Ok(());
        }
        if is_pinned_above(thread, self.index) {
            thread.with_frame(self.index, |record| record.kind = Kind::Marked);
            return Ok(());
        }
        close_pinned(thread, self.index).map_or(Ok(()), Err)
    }
}

fn is_pinned_above(thread: &Thread, index: usize) -> bool {
    (index + 1..thread.depth()).any(|above| {
        matches!(thread.with_frame(above, |record| record.kind), Some(Kind::Pinned | Kind::Pin))
    })
}

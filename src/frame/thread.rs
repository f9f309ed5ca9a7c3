//! What the engine keeps per thread.
//!
//! # Invariants
//!
//! - **T1 (place).** The state is [`permanent`]: it is there, at one address, as long as code of
//!   the engine can run on the thread.
//! - **T2 (end).** What it owns on the heap is freed by the [`teardown`](super::thread_end), which
//!   is registered before anything is allocated. After it the epoch is `GONE`, and no cell is
//!   registered.
//! - **T3 (short).** The vectors are borrowed only inside the methods here and of [`Trail`], and
//!   for a look at the last capture. Nothing in there is user code (the global allocator aside,
//!   which must not use slots), so none is borrowed while another method runs.
//! - **T4 (epochs).** `next_epoch` only grows, so an epoch names one task of this thread for good.
//! - **T5 (flags).** The flags are those that the innermost frame was opened with, except for what
//!   its task leaves that has to be undone one by one; then the task has an epoch of its own too.
//!   So a task whose epoch is `CLEAN` has left nothing, and one that changed no flag has left only
//!   values without drop glue.
//! - **T6 (root).** Outside of any frame the epoch is `ROOT`, nothing is inherited, and the flags
//!   are 0, unless the thread itself has touched or captured something or its slots are ending. No
//!   other state looks like that, so a frame that is opened there knows what to put back. Every
//!   other frame has `NESTED`, at whatever depth, so none has the same flags as that one.

#![cfg_attr(
    feature = "sentinel",
    expect(unsafe_code, reason = "the sentinel is told where the cells are")
)]

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use super::cell::RawCell;
use super::epoch::{CLEAN, FIRST, GONE, ROOT};
use super::permanent;
use super::snapshot::{Inheritance, Snapshot};
use super::trail::Trail;

/// Values without drop glue need a trail entry, too. If it is not set, whatever a cell hides is the
/// root's value or stale, since no task between the root and the innermost one has touched
/// anything.
pub(super) const INDIRECT: u32 = 1;
/// The innermost task left something to undo: entries on the trail, a capture, a divergence.
pub(super) const TRAILED: u32 = 1 << 1;
/// An inheritable slot may differ from what the frame's snapshot says.
pub(super) const DIVERGED: u32 = 1 << 2;
/// The innermost task keeps its last capture.
pub(super) const CAPTURED: u32 = 1 << 3;
/// Never set here: marks a frame that was not opened.
pub(super) const UNOPENED: u32 = 1 << 4;
/// The innermost frame keeps what it puts back; or the slots are ending.
pub(super) const NESTED: u32 = 1 << 5;
/// A value that the innermost task has touched owes a drop: what is touched after it needs an
/// entry, too, or that drop would find it.
pub(super) const DROPS: u32 = 1 << 6;
/// The generation of the drop that is running: see [`task`](super::task). This is one.
pub(super) const GENERATION: u32 = 1 << 8;
const GENERATIONS: u32 = 0xf * GENERATION;
/// How many others the innermost frame lies on, and one more while a value is made of what it
/// inherits. So if a frame is closed before what is above it, that is noticed.
pub(super) const DEPTH: u32 = !0 << 12;
pub(super) const ONE_DEEPER: u32 = 1 << 12;

/// The id of a thread whose end is not noticed.
pub(super) const NOBODY: u64 = 0;
/// Ids are multiples of this, so that others can add something to them.
pub(super) const ID_STEP: u64 = 4;

/// What the innermost frame's tasks inherit, or null. Whoever opened the frame keeps it alive.
pub(super) type Inherits = *const Arc<Snapshot>;

/// The state of one thread.
///
/// What each frame uses lies in one cache line. What a frame saves does not lie side by side, or it
/// would be read as one wide word, which has to wait for the narrow stores before it.
// The alignment is for speed only, and not every system aligns thread-locals beyond a word.
#[repr(C)]
#[cfg_attr(target_os = "linux", repr(align(64)))]
pub(crate) struct Thread {
    /// The innermost task's epoch, or `CLEAN` while it has none.
    pub(crate) epoch: Cell<u64>,
    /// Tells this thread from all others of the process, also from those that have ended.
    pub(super) id: Cell<u64>,
    pub(super) inherits: Cell<Inherits>,
    next_epoch: Cell<u64>,
    /// See T5 and the constants above. It is one word, since a load that gathers what several
    /// narrower stores have just left waits for them to reach the cache.
    pub(super) flags: Cell<u32>,
    pub(super) trail: Trail,
    /// The declared slots' cells that were touched on this thread.
    cells: RefCell<ManuallyDrop<Vec<NonNull<RawCell>>>>,
    /// Those of them that are inheritable.
    inheritable: RefCell<ManuallyDrop<Vec<&'static dyn Inheritance>>>,
    /// The last capture of each open task, if it is still what a new one would give. The innermost
    /// task's is the last.
    pub(super) captures: RefCell<ManuallyDrop<Vec<Arc<Snapshot>>>>,
    /// What to call when a carrier could not be detached, so that foreign state may have stayed on
    /// this thread.
    pub(crate) on_stuck: Cell<Option<fn()>>,
    /// What else ends with the thread's slots, if the thread's end is noticed.
    pub(crate) at_end: Cell<Option<fn()>>,
    /// How often tasks have changed inheritable slots.
    pub(super) changes: Cell<u32>,
    /// The depth of the innermost frame in which something that the user threw is being dropped, if
    /// there is one: see [`discard`](mod@super::discard).
    pub(super) discards: Cell<Option<u32>>,
}

permanent::permanent! { static THREAD: Thread = Thread::new() }

/// Returns this thread's state.
#[inline]
pub(crate) fn current() -> &'static Thread {
    permanent::get(&THREAD)
}

/// Called on paths that are seldom taken, for the compiler to lay them out beside the usual one.
#[cold]
pub(super) fn seldom() {}

impl Thread {
    const fn new() -> Self {
        Self {
            epoch: Cell::new(ROOT),
            id: Cell::new(NOBODY),
            inherits: Cell::new(std::ptr::null()),
            next_epoch: Cell::new(FIRST),
            flags: Cell::new(0),
            trail: Trail::new(),
            cells: RefCell::new(ManuallyDrop::new(Vec::new())),
            inheritable: RefCell::new(ManuallyDrop::new(Vec::new())),
            captures: RefCell::new(ManuallyDrop::new(Vec::new())),
            on_stuck: Cell::new(None),
            at_end: Cell::new(None),
            changes: Cell::new(0),
            discards: Cell::new(None),
        }
    }

    /// Gives the innermost task an epoch of its own that no cell has ever had (T4), if it has none
    /// yet: it is about to leave something to undo.
    #[inline]
    pub(crate) fn own_epoch(&self) -> u64 {
        match self.epoch.get() {
            CLEAN => self.fresh_epoch(),
            epoch => epoch,
        }
    }

    #[inline]
    pub(super) fn fresh_epoch(&self) -> u64 {
        let epoch = self.next_epoch.get();
        self.next_epoch.set(epoch + 1);
        self.epoch.set(epoch);
        epoch
    }

    /// Returns whether the slots have been torn down.
    pub(crate) fn is_gone(&self) -> bool {
        self.epoch.get() == GONE || permanent::is_late()
    }

    /// Sets what the innermost frame's tasks inherit.
    #[inline]
    pub(super) fn hand_down(&self, inherits: Inherits) {
        // Mostly nothing is inherited: a load is cheaper than a store.
        if self.inherits.get() != inherits {
            self.inherits.set(inherits);
        }
    }

    /// Notes that the innermost task leaves something that is undone one by one (T5).
    #[inline]
    pub(super) fn leave(&self, flags: u32) {
        self.own_epoch();
        self.flags.set(self.flags.get() | flags | TRAILED);
    }

    /// Notes the same for an entry that the innermost task, which has an epoch of its own, is about
    /// to leave on the trail, for a value that needs a drop or for one that does not. Returns the
    /// entry's generation.
    #[inline]
    pub(super) fn note_entry(&self, needs_drop: bool) -> u32 {
        // Read in both cases, or the compiler would write one byte of the word, and a read of the
        // whole word would wait until that byte has reached the cache.
        let flags = self.flags.get();
        self.flags.set(flags | TRAILED | if needs_drop { DROPS } else { 0 });
        flags & GENERATIONS
    }

    /// Returns whether a frame that is opened now would know what to put back (T6).
    #[inline]
    pub(super) fn is_on_root(&self) -> bool {
        self.epoch.get() == ROOT && self.flags.get() == 0
    }

    /// Returns the flags that a frame on top puts back. They leave out that the thread itself has
    /// touched slots: that concerns no frame, and the next one is to know what to put back.
    #[inline]
    pub(super) fn flags_below(&self) -> u32 {
        let flags = self.flags.get();
        if self.epoch.get() == ROOT { flags & !(TRAILED | DROPS) } else { flags }
    }

    /// Returns whether a frame is open, so that what is touched belongs to a task.
    pub(crate) fn is_in_frame(&self) -> bool {
        !matches!(self.epoch.get(), ROOT | GONE)
    }

    /// Returns what tells the innermost frame from those below it, and from none.
    pub(crate) fn depth(&self) -> u32 {
        // The thread itself has the flags of a frame that lies on no other.
        self.flags.get() & DEPTH | u32::from(self.is_in_frame())
    }

    /// Notes that a value of this generation is about to be dropped: what the drop touches belongs
    /// to the next one.
    #[inline]
    pub(super) fn begin_drop(&self, generation: u32) {
        let others = self.flags.get() & !GENERATIONS;
        self.flags.set(others + generation + GENERATION);
    }

    /// Notes a declared slot's cell, which this thread has never touched before.
    pub(super) fn add_cell(&self, cell: &RawCell) {
        self.cells.borrow_mut().push(NonNull::from(cell));
        if let Some(slot) = cell.inheritance() {
            self.inheritable.borrow_mut().push(slot);
        }
    }

    /// Returns the declared slots' cells, at the end of the thread.
    pub(super) fn take_cells(&self) -> Vec<NonNull<RawCell>> {
        ManuallyDrop::into_inner(self.cells.take())
    }

    /// Returns the inheritable slots that this thread has ever touched so far. The caller may run
    /// user code while it walks them, which only adds slots at the end.
    pub(super) fn inheritable(&self) -> impl Iterator<Item = &'static dyn Inheritance> {
        let all = 0..self.inheritable.borrow().len();
        all.map_while(|index| self.inheritable.borrow().get(index).copied())
    }

    /// Keeps a capture of the innermost task, which keeps none.
    pub(super) fn keep_capture(&self, snapshot: Arc<Snapshot>) {
        debug_assert!(self.flags.get() & CAPTURED == 0);
        self.captures.borrow_mut().push(snapshot);
        self.leave(CAPTURED);
    }

    /// Takes the innermost task's capture away.
    #[inline]
    pub(super) fn take_capture(&self) -> Option<Arc<Snapshot>> {
        if self.flags.get() & CAPTURED != 0 { self.take_any_capture() } else { None }
    }

    /// Does the same for whatever task keeps one.
    #[cold]
    pub(super) fn take_any_capture(&self) -> Option<Arc<Snapshot>> {
        self.flags.set(self.flags.get() & !CAPTURED);
        self.captures.borrow_mut().pop()
    }

    /// Forgets what the trail holds of owners that are gone.
    pub(crate) fn prune(&self) {
        self.trail.prune();
    }

    /// Lists what the engine keeps on this thread, for the sentinel to leave out.
    #[cfg(feature = "sentinel")]
    pub(super) fn list(&self, ignored: &mut cleanslate_sentinel::Ignored) {
        ignored.value(self);
        // Also where nobody has registered yet: what is initialised now is not initialised during
        // the task, and neither is the flag by which std knows that, which no address covers.
        permanent::list(ignored);
        for cell in self.cells.borrow().iter() {
            // SAFETY: C1: declared slots' cells are permanent.
            ignored.value(unsafe { cell.as_ref() });
        }
    }

    /// Returns whether no task is open and the thread itself holds nothing.
    #[cfg(all(test, not(loom)))]
    pub(super) fn has_nothing(&self) -> bool {
        !self.is_in_frame()
            && self.trail.last_epoch().is_none()
            && self.captures.borrow().is_empty()
    }

    /// Frees what the vectors take up, at the end of the thread.
    pub(super) fn free(&self) {
        self.trail.free();
        drop(ManuallyDrop::into_inner(self.inheritable.take()));
        drop(ManuallyDrop::into_inner(self.captures.take()));
    }
}

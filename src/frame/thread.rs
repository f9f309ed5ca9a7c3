//! What the engine keeps per thread, and how a slot is touched.
//!
//! # Invariants
//!
//! - **T1 (place).** The state and the cells of declared slots are [permanent](super::permanent) (M1):
//!   there, at one address, as long as code of the engine can run on the thread.
//! - **T2 (end).** What they own on the heap is freed by [`teardown`], which is registered before anything
//!   is allocated. After it the epoch is `GONE` and `registered` is false in every cell, so every access
//!   ends in `AccessError`.
//! - **T3 (short).** The vectors are borrowed only inside the methods of [`Thread`] that name them,
//!   and nothing in there calls code of others (the global allocator aside, which must not use
//!   slots).
//! - **T4 (epochs).** `next_epoch` only grows, so an epoch names one task of one frame for good. None is
//!   `NEVER`.
//! - **T5 (flags).** The bits of `flags` in [`TASK`] say what the end of the innermost frame's task has
//!   to do: nothing if they are zero, a new epoch if they are `TOUCHED` alone. `LOOSE` is set while a
//!   loose frame is open above the innermost pinned one, so that the end of the pinned one's task
//!   looks closer. `CAPTURED` goes with `TRAILED`. `UNNOTICED` is set exactly while the thread's end
//!   would not be noticed (T2); no frame is opened then, so it is clear in every frame.

#![expect(unsafe_code, reason = "short borrows of per-thread vectors without a run-time check")]

use std::cell::{Cell, UnsafeCell};
use std::mem::{ManuallyDrop, needs_drop};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cell::{GONE, ROOT, RawCell};
use super::permanent;
use super::stack::{Kind, Record};
use super::trail::{self, Entry};
use super::value::Header;
use crate::context::{Capture, Inheritance, Raw, SnapshotRef};

/// The innermost task holds values that a new epoch is enough to end.
pub(super) const TOUCHED: u32 = 1;
/// The innermost task left something to undo: entries on the trail, a capture, a divergence.
pub(super) const TRAILED: u32 = 1 << 1;
/// A loose frame is open above the innermost pinned one.
pub(super) const LOOSE: u32 = 1 << 2;
/// What the end of a task looks at (T5).
pub(super) const TASK: u32 = TOUCHED | TRAILED | LOOSE;
/// Values without drop glue need no trail entry: the innermost frame is grounded, so whatever it
/// hides is either the root's or stale.
pub(super) const SHORTCUT: u32 = 1 << 3;
/// The frames between the innermost one and the root have touched nothing, and cannot while they
/// are not the innermost.
pub(super) const GROUNDED: u32 = 1 << 4;
/// An inheritable slot may differ from what the frame's context says.
pub(super) const DIVERGED: u32 = 1 << 5;
/// The innermost frame is no task: it only surrounds tasks, and nothing should be touched in it.
pub(super) const WATCHED: u32 = 1 << 6;
/// Nothing is registered that would notice the end of this thread, or it has ended (T5).
pub(super) const UNNOTICED: u32 = 1 << 7;
/// The innermost frame has a pin, which its end takes away.
pub(super) const PINNED: u32 = 1 << 8;
/// The innermost frame keeps its last capture (S4).
pub(super) const CAPTURED: u32 = 1 << 9;
/// Where the generation of the drop that runs begins: see `trail`.
const GENERATION: u32 = 16;
/// The bits of the generation.
pub(super) const GENERATIONS: u32 = !0 << GENERATION;

/// The id of a thread whose end is not noticed, and so of no other.
const NOBODY: u64 = u64::MAX;
/// The id that the next thread gets. None is used twice.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What belongs to the innermost frame: opening one keeps it, and closing that one puts it back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saved {
    pub(super) epoch: u64,
    /// One word, so that it is written and read whole: a load that gathers what several narrower
    /// stores have just left waits for them to reach the cache.
    pub(super) flags: u32,
    pub(super) context: Raw,
}

/// The state of one thread.
///
/// What each frame uses lies in one line of the cache. What a frame saves does not lie side by side, or
/// it would be read as one wide word, which has to wait for the narrow stores before it.
// The alignment is for speed only, and not every system gives thread-locals one beyond a word's.
#[repr(C)]
#[cfg_attr(target_os = "linux", repr(align(64)))]
pub(crate) struct Thread {
    /// The innermost frame's current task.
    pub(super) epoch: Cell<u64>,
    /// Tells this thread from all others of the process, also from those that have ended.
    id: Cell<u64>,
    /// What the innermost frame's tasks inherit. Null: nothing. Kept alive by whoever opened it.
    pub(super) context: Cell<Raw>,
    next_epoch: Cell<u64>,
    /// See T5 and the constants above.
    pub(super) flags: Cell<u32>,
    /// A carrier could not be detached, so foreign state may have stayed on this thread.
    pub(super) tainted: Cell<bool>,
    /// Somebody walks the trail by index, so nothing may move on it.
    pub(super) trail_is_fixed: Cell<bool>,
    trail: UnsafeCell<ManuallyDrop<Vec<Entry>>>,
    frames: UnsafeCell<ManuallyDrop<Vec<Record>>>,
    cells: UnsafeCell<ManuallyDrop<Vec<NonNull<RawCell>>>>,
    heirs: UnsafeCell<ManuallyDrop<Vec<&'static dyn Inheritance>>>,
    /// The last capture of each frame in which nothing has changed since (S4).
    captures: UnsafeCell<ManuallyDrop<Vec<Capture>>>,
}

permanent::permanent! { static THREAD: Thread = Thread::new(permanent::first_epoch()) }

/// This thread's state.
#[inline]
pub(crate) fn current() -> &'static Thread {
    permanent::get(&THREAD)
}

/// Calls back with this thread's state.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&Thread) -> R) -> R {
    f(current())
}

/// The thread's slots have been torn down, or are about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Ends the root frame when the thread ends, and frees what the state owns (T2).
pub(super) fn teardown() {
    let thread = current();
    super::stack::end_all(thread);
    // Those of lexical frames too, which are still open if the process exits from within them.
    thread.forget_captures();
    // A panic here would abort the process, so what a value's drop throws is swallowed.
    if let Some(error) = trail::unwind(thread, 0) {
        drop(error);
    }
    thread.forget_captures();
    thread.flags.set(UNNOTICED);
    thread.id.set(NOBODY);
    thread.epoch.set(GONE);
    // Whoever opened a frame may keep it, but nothing is inherited, or kept, from here on.
    thread.context.set(std::ptr::null());
    crate::slot::owned_teardown();
    // SAFETY: T3; the vectors are not borrowed, and after `GONE` nothing pushes to them.
    let cells = unsafe { std::mem::take(&mut **thread.cells.get()) };
    for cell in cells {
        // SAFETY: C1: declared cells live as long as the thread.
        let cell = unsafe { cell.as_ref() };
        cell.registered.set(false);
        cell.free_boxes();
    }
    // SAFETY: T3, as above.
    drop(unsafe { std::mem::take(&mut **thread.heirs.get()) });
    // SAFETY: T3, as above.
    drop(unsafe { std::mem::take(&mut **thread.frames.get()) });
    // SAFETY: T3, as above.
    drop(unsafe { std::mem::take(&mut **thread.trail.get()) });
    // SAFETY: T3, as above.
    drop(unsafe { std::mem::take(&mut **thread.captures.get()) });
}

impl Thread {
    const fn new(first_epoch: u64) -> Self {
        Self {
            epoch: Cell::new(ROOT),
            flags: Cell::new(UNNOTICED),
            tainted: Cell::new(false),
            trail_is_fixed: Cell::new(false),
            id: Cell::new(NOBODY),
            next_epoch: Cell::new(first_epoch),
            context: Cell::new(std::ptr::null()),
            trail: UnsafeCell::new(ManuallyDrop::new(Vec::new())),
            frames: UnsafeCell::new(ManuallyDrop::new(Vec::new())),
            cells: UnsafeCell::new(ManuallyDrop::new(Vec::new())),
            heirs: UnsafeCell::new(ManuallyDrop::new(Vec::new())),
            captures: UnsafeCell::new(ManuallyDrop::new(Vec::new())),
        }
    }

    /// Makes sure that this thread's end will be noticed (T2).
    #[inline]
    pub(crate) fn register(&self) -> Result<(), Gone> {
        if self.flags.get() & UNNOTICED == 0 { Ok(()) } else { self.register_slow() }
    }

    #[cold]
    fn register_slow(&self) -> Result<(), Gone> {
        if self.epoch.get() == GONE {
            return Err(Gone);
        }
        permanent::notice_end()?;
        #[cfg(feature = "sentinel")]
        super::own::ignore();
        // Relaxed: only uniqueness matters, and that comes with the addition.
        self.id.set(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        self.lower(UNNOTICED);
        Ok(())
    }

    /// This thread's id, which is nobody else's while its end is noticed.
    #[inline]
    pub(super) fn id(&self) -> u64 {
        self.id.get()
    }

    #[inline]
    pub(super) fn raise(&self, flags: u32) {
        self.flags.set(self.flags.get() | flags);
    }

    #[inline]
    pub(super) fn lower(&self, flags: u32) {
        self.flags.set(self.flags.get() & !flags);
    }

    /// How many drops of one clean-up led to the code that runs now: see `trail`.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        self.flags.get() >> GENERATION
    }

    pub(super) fn set_generation(&self, generation: u32) {
        self.flags.set(self.flags.get() & !GENERATIONS | generation << GENERATION);
    }

    /// What belongs to the innermost frame.
    #[inline]
    pub(super) fn save(&self) -> Saved {
        Saved { epoch: self.epoch.get(), flags: self.flags.get(), context: self.context.get() }
    }

    /// Makes the frame below the innermost one again.
    #[inline]
    pub(super) fn restore(&self, below: &Saved) {
        debug_assert_eq!(self.flags.get() & CAPTURED, 0, "S4");
        self.epoch.set(below.epoch);
        self.flags.set(below.flags);
        self.context.set(below.context);
    }

    /// An epoch that no cell of this thread has ever had (T4).
    #[inline]
    pub(super) fn fresh_epoch(&self) -> u64 {
        let epoch = self.next_epoch.get();
        self.next_epoch.set(epoch + 1);
        epoch
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Touches a slot in the current task: gives an empty box that the cell now shows.
    ///
    /// Afterwards the slot counts as touched whatever happens, so that a slot which the
    /// initialiser touches is dropped before this one.
    pub(crate) fn touch<T>(&self, cell: &RawCell) -> Result<NonNull<Header>, Gone> {
        if let Some(header) = self.touch_in_place::<T>(cell) {
            return Ok(header);
        }
        if !cell.registered.get() {
            self.introduce(cell)?;
        }
        let epoch = self.epoch.get();
        debug_assert_ne!(cell.epoch(), epoch, "touched already");
        let header = cell.vacant::<T>();
        if !needs_drop::<T>() && self.flags.get() & SHORTCUT != 0 && cell.epoch() != ROOT {
            cell.place(header, epoch);
            self.raise(TOUCHED);
        } else {
            cell.link(header, epoch);
            self.push(Entry { cell: NonNull::from(cell), epoch, generation: self.generation() });
            cell.add_entry();
            self.raise(TRAILED);
        }
        Ok(header)
    }

    /// The short way of [`touch`](Self::touch): a value without drop glue, in a cell that has held one
    /// before, in a frame directly on the root.
    #[inline]
    pub(crate) fn touch_in_place<T>(&self, cell: &RawCell) -> Option<NonNull<Header>> {
        self.touch_short::<T>(cell, RawCell::reuse)
    }

    /// The same for a value that is there to be written over.
    #[inline]
    pub(crate) fn touch_idle<T>(&self, cell: &RawCell) -> Option<NonNull<Header>> {
        self.touch_short::<T>(cell, RawCell::reuse_idle)
    }

    #[inline]
    fn touch_short<T>(
        &self,
        cell: &RawCell,
        reuse: impl FnOnce(&RawCell, u64) -> Option<NonNull<Header>>,
    ) -> Option<NonNull<Header>> {
        if cfg!(debug_assertions) && self.flags.get() & WATCHED != 0 && !cell.stays() {
            report_uncovered(cell);
        }
        if needs_drop::<T>() || self.flags.get() & SHORTCUT == 0 {
            return None;
        }
        let header = reuse(cell, self.epoch.get())?;
        self.raise(TOUCHED);
        Some(header)
    }

    /// The first touch of a cell on this thread, ever.
    #[cold]
    fn introduce(&self, cell: &RawCell) -> Result<(), Gone> {
        self.register()?;
        cell.registered.set(true);
        if !cell.is_owned() {
            // SAFETY: T3: `Vec::push` calls nothing of others.
            unsafe { &mut *self.cells.get() }.push(NonNull::from(cell));
            if let Some(slot) = cell.inheritance() {
                // SAFETY: T3, as above.
                unsafe { &mut *self.heirs.get() }.push(slot);
            }
        }
        Ok(())
    }

    /// Makes sure that a cell may be linked on this thread, which is not so during its teardown.
    #[inline]
    pub(crate) fn admit(&self, cell: &RawCell) -> bool {
        cell.registered.get() || self.introduce(cell).is_ok()
    }

    /// Lists what the engine keeps on this thread, for the sentinel to leave out.
    #[cfg(feature = "sentinel")]
    pub(super) fn list(&self, ignored: &mut cleanslate_sentinel::Ignored) {
        ignored.value(self);
        if self.flags.get() & UNNOTICED == 0 {
            permanent::list(ignored);
        }
        // SAFETY: T3: nothing below is user code.
        for cell in unsafe { &*self.cells.get() }.iter() {
            // SAFETY: C1: declared cells live as long as the thread.
            ignored.value(unsafe { cell.as_ref() });
        }
    }

    /// The inheritable slots that this thread has ever touched.
    pub(crate) fn heirs(&self) -> Vec<&'static dyn Inheritance> {
        // SAFETY: T3: a copy, so that the caller may run code of others while it walks it.
        unsafe { &*self.heirs.get() }.to_vec()
    }

    /// What the innermost frame's tasks inherit. Null: nothing.
    #[inline]
    pub(crate) fn context(&self) -> Raw {
        self.context.get()
    }

    /// The last capture once more, if it is still what a new one would give.
    #[inline]
    pub(crate) fn draw_capture(&self) -> SnapshotRef {
        if self.flags.get() & CAPTURED == 0 {
            return None;
        }
        // SAFETY: T3: the borrow ends with this function.
        unsafe { &*self.captures.get() }.last()?.draw()
    }

    /// Keeps a capture in a frame that keeps none.
    pub(crate) fn keep_capture(&self, capture: Capture) {
        debug_assert_eq!(self.flags.get() & CAPTURED, 0, "S4");
        // SAFETY: T3: `Vec::push` calls nothing of others.
        unsafe { &mut *self.captures.get() }.push(capture);
        self.raise(CAPTURED | TRAILED);
    }

    /// Whether an inheritable slot may differ from what the context says.
    #[inline]
    pub(crate) fn has_diverged(&self) -> bool {
        self.flags.get() & DIVERGED != 0
    }

    /// Notes that a cell shows a value of the innermost frame though the trail has no entry for it.
    #[inline]
    pub(crate) fn mark_dirty(&self) {
        self.raise(TOUCHED);
    }

    #[inline]
    pub(super) fn push(&self, entry: Entry) {
        // SAFETY: T3: `Vec::push` calls nothing of others.
        unsafe { &mut *self.trail.get() }.push(entry);
    }

    /// Forgets the innermost frame's entries of owners that are gone: a long task, or a thread outside
    /// of any, that makes and drops many would collect them.
    ///
    /// Only those of its current task, which are the last ones (S8).
    pub(crate) fn prune(&self) {
        if self.trail_is_fixed.get() {
            return;
        }
        let mark = self.mark_of_task();
        // SAFETY: T3: nothing below is code of others.
        let trail = unsafe { &mut *self.trail.get() };
        let mut kept = mark;
        for index in mark..trail.len() {
            // SAFETY: C1: in place while it has an entry; `remove_entry` is the last use.
            let cell = unsafe { trail[index].cell.as_ref() };
            if cell.is_owned() && cell.has_ended() {
                cell.remove_entry();
            } else {
                trail.swap(kept, index);
                kept += 1;
            }
        }
        trail.truncate(kept);
    }

    /// Where the entries of the innermost frame's task begin. O(entries of that task).
    pub(super) fn mark_of_task(&self) -> usize {
        // SAFETY: T3: the borrow ends with this function.
        let trail = unsafe { &*self.trail.get() };
        let epoch = self.epoch.get();
        // T4: what lies below belongs to other tasks, and so to other epochs.
        trail.iter().rposition(|entry| entry.epoch != epoch).map_or(0, |last| last + 1)
    }

    /// The position after the topmost pin, which is the innermost lexical frame's if it has one: what
    /// lies there and above are loose frames that were left open in it (S3).
    pub(super) fn top_pin_end(&self) -> usize {
        // SAFETY: T3: the borrow ends with this function.
        let frames = unsafe { &*self.frames.get() };
        frames.iter().rposition(|record| record.kind == Kind::Pin).map_or(0, |pin| pin + 1)
    }

    /// The youngest entry above `mark`.
    pub(super) fn pop_above(&self, mark: usize) -> Option<Entry> {
        // SAFETY: T3: the borrow ends with this function.
        let trail = unsafe { &mut *self.trail.get() };
        if trail.len() > mark { trail.pop() } else { None }
    }

    /// The cell of one entry of the trail.
    #[inline]
    pub(super) fn cell_at(&self, index: usize) -> Option<NonNull<RawCell>> {
        // SAFETY: T3: the borrow ends with this function.
        unsafe { &*self.trail.get() }.get(index).map(|entry| entry.cell)
    }

    /// Forgets the entries above `mark`, which the caller has undone.
    #[inline]
    pub(super) fn cut(&self, mark: usize) {
        // SAFETY: T3: entries need no drop.
        unsafe { &mut *self.trail.get() }.truncate(mark);
    }

    #[inline]
    pub(super) fn mark(&self) -> usize {
        // SAFETY: T3: the borrow ends with this function.
        unsafe { &*self.trail.get() }.len()
    }

    #[inline]
    pub(super) fn depth(&self) -> usize {
        // SAFETY: T3: the borrow ends with this function.
        unsafe { &*self.frames.get() }.len()
    }

    #[inline]
    pub(super) fn push_frame(&self, record: Record) {
        // SAFETY: T3: `Vec::push` calls nothing of others.
        unsafe { &mut *self.frames.get() }.push(record);
    }

    pub(super) fn pop_frame(&self) -> Option<Record> {
        // SAFETY: T3: the borrow ends with this function.
        unsafe { &mut *self.frames.get() }.pop()
    }

    /// A look at, or a change of, one record. `f` must not use the engine.
    #[inline]
    pub(super) fn with_frame<R>(
        &self,
        index: usize,
        f: impl FnOnce(&mut Record) -> R,
    ) -> Option<R> {
        // SAFETY: T3: the callers in `stack` only read and write fields in `f`.
        unsafe { &mut *self.frames.get() }.get_mut(index).map(f)
    }

    /// A cached capture must not pin a value that has changed or gone (R8).
    #[inline]
    pub(crate) fn forget_capture(&self) {
        if self.flags.get() & CAPTURED != 0 {
            self.drop_capture();
        }
    }

    /// Notes that an inheritable slot is no longer what the frame's context says.
    #[inline]
    pub(crate) fn diverge(&self) {
        self.raise(DIVERGED | TRAILED);
        self.forget_capture();
    }

    /// The same for all frames.
    fn forget_captures(&self) {
        // SAFETY: T3: the borrow ends with the expression.
        while !unsafe { &*self.captures.get() }.is_empty() {
            self.drop_capture();
        }
    }

    #[cold]
    fn drop_capture(&self) {
        self.lower(CAPTURED);
        // SAFETY: T3: the borrow ends with the statement.
        let capture = unsafe { &mut *self.captures.get() }.pop();
        if let Some(capture) = capture {
            // The snapshot's values are dropped here if this was the last count: code of others.
            capture.end();
        }
    }

    /// Whether a carrier could not be detached on this thread; asking clears it.
    pub(crate) fn take_taint(&self) -> bool {
        self.tainted.replace(false)
    }
}

/// Makes a loss loud that would otherwise be silent: see [`Frame::watch`](super::Frame::watch).
///
/// Nothing is said while the thread unwinds, since a second panic would abort the process.
#[cold]
#[inline(never)]
fn report_uncovered(cell: &RawCell) {
    if !std::thread::panicking() {
        panic!(
            "slot `{}` was touched beside the items of an isolated parallel iterator, by a closure \
             that no isolation covers, or by a bare rayon job that ran while the iterator waited; \
             isolate before selecting adapters, after re-shaping ones, and twice around a parallel \
             flat_map",
            cell.name()
        );
    }
}

//! Slots that an object owns and that are made at run time.
//!
//! # Invariants
//!
//! - **W1 (cells).** The owner lists its cells of all threads; each is shared with its thread's
//!   table. A thread that ends takes its cell off the list.
//! - **W2 (end).** The owner's drop locks each cell, marks it as ended and takes the values away
//!   (C4). It has the owner exclusively, so no value is borrowed and no thread is linking one. A
//!   thread that unlinks at the same time holds the lock, and one of the two finds the value.
//! - **W3 (kept).** A cell's pointers to its slot and its lock lead into memory that the cell's own
//!   `Arc`s keep alive.

#![expect(unsafe_code, reason = "cells shared between the owner and the threads that use it")]

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::place::{Place, SlotCell, Source};
use super::table;
use crate::frame::cell::{OwnedSlot, RawCell};
use crate::frame::thread::{Gone, Thread};
use crate::frame::value::{self, Header, Released};
use crate::frame::{CleanupError, contained};

/// The next owner's id (O1). 0 is nobody's.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A slot that an object owns, made at run time.
///
/// It has the methods of a [`TaskLocal`](crate::TaskLocal), and the same rules: every task has a value
/// of its own, made by the initialiser at the first touch. It is what `self._local = threading.local()`
/// is in Python. A value ends with its task, or when the owner is dropped, whichever comes first: the
/// drop of the owner drops the values of all threads, on the thread that drops it.
///
/// Access looks the owner up in a per-thread table, which is a comparison for the owner used last. The
/// first touch on a thread allocates; values are reused as with declared slots. Owned slots are not
/// inherited.
///
/// # Examples
///
/// ```
/// use cleanslate::{OwnedLocal, Pool};
///
/// struct Database {
///     default: String,
///     current: OwnedLocal<Option<String>>,
/// }
///
/// impl Database {
///     fn name(&self) -> String {
///         self.current.get().unwrap_or_else(|| self.default.clone())
///     }
/// }
///
/// let db = Database { default: "main".to_owned(), current: OwnedLocal::new(|| None) };
/// let pool = Pool::new(1)?;
/// let names = pool.map(0..4, |n| {
///     if n % 2 == 0 {
///         db.current.set(Some(format!("shard-{n}")));
///     }
///     db.name()
/// });
/// assert_eq!(names, ["shard-0", "main", "shard-2", "main"]);
/// # Ok::<_, cleanslate::BuildError>(())
/// ```
pub struct OwnedLocal<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    /// Here and not in `shared`, which the cells of other threads may keep for a while: what it
    /// captured ends with the owner, on the thread that drops the owner.
    init: Box<dyn Fn() -> T + Send + Sync>,
}

/// What the cells know of their owner. Dropping it runs no code of others.
struct Shared<T: Send + 'static> {
    id: u64,
    birth: &'static Location<'static>,
    /// Leases of worker-locals: a suspended future does not take them along.
    stays: bool,
    /// The cells of all threads by address (W1). `None`: the owner is gone.
    cells: Mutex<Option<HashMap<usize, Arc<TypedCell<T>>>>>,
    me: Weak<Self>,
}

/// One thread's cell.
struct TypedCell<T: Send + 'static> {
    slot: SlotCell<T>,
    /// True: the owner is gone (C4).
    lock: Arc<Mutex<bool>>,
    shared: Arc<Shared<T>>,
}

#[expect(clippy::non_send_fields_in_send_ty, reason = "cells by pointer, see below")]
// SAFETY: its thread uses the cell, and the owner's drop empties it, which needs `T: Send`; W2 keeps
// the two apart.
unsafe impl<T: Send> Send for TypedCell<T> {}
// SAFETY: as for `Send`; the list shares cells, but only W2's steps use them through it.
unsafe impl<T: Send> Sync for TypedCell<T> {}

/// What the table needs of a cell, whatever its type.
pub(super) trait OwnedCell {
    /// Whether the owner is gone and no trail entry is left. For the cell's own thread.
    fn is_dead(&self) -> bool;
    /// The thread ends: free what the cell keeps, and take it off the owner's list.
    fn leave(&self);
}

impl<T: Send + 'static> OwnedCell for TypedCell<T> {
    fn is_dead(&self) -> bool {
        *self.lock.lock() && !self.slot.raw.has_entries()
    }

    fn leave(&self) {
        self.slot.raw.free_boxes();
        let key = std::ptr::from_ref(self).addr();
        let listed = self.shared.cells.lock().as_mut().and_then(|cells| cells.remove(&key));
        drop(listed);
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Makes this thread's cell. `None`: the owner is gone.
    fn add_cell(&self) -> Option<Arc<TypedCell<T>>> {
        let shared = self.me.upgrade()?;
        let slot: NonNull<dyn OwnedSlot> = NonNull::from(&*shared);
        let lock = Arc::new(Mutex::new(false));
        // SAFETY: W3: both are kept by the cell's own `Arc`s.
        let raw = unsafe { RawCell::owned(slot, self.stays, NonNull::from(&*lock)) };
        let cell = Arc::new(TypedCell { slot: SlotCell::from_raw(raw), lock, shared });
        let key = Arc::as_ptr(&cell).addr();
        self.cells.lock().as_mut()?.insert(key, Arc::clone(&cell));
        Some(cell)
    }
}

impl<T: Send + 'static> OwnedSlot for Shared<T> {
    fn name(&self) -> String {
        format!("{} made at {}", std::any::type_name::<OwnedLocal<T>>(), self.birth)
    }

    fn visit(&self, f: &mut dyn FnMut(&RawCell)) {
        // Nobody borrows the owner here, so the lock is held meanwhile (C4).
        let found =
            table::find_or_add(self.id, || self.add_cell().unwrap_or_else(|| self.dead_cell()));
        let Ok(cell) = found else { return };
        // SAFETY: the table has just given it, for this id and so for this type (O1), and keeps it
        // until this thread uses the table again (O2), which `f` does not.
        let cell = unsafe { &*cell.cast::<TypedCell<T>>() };
        let ended = cell.lock.lock();
        if !*ended {
            f(&cell.slot.raw);
        }
    }

    fn handle(&self) -> Arc<dyn OwnedSlot> {
        match self.me.upgrade() {
            Some(shared) => shared,
            None => unreachable!("a cell keeps its slot (W3)"),
        }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// A cell of an owner that is gone, for the table to sweep.
    fn dead_cell(&self) -> Arc<TypedCell<T>> {
        let Some(shared) = self.me.upgrade() else { unreachable!("the caller holds a handle") };
        let slot: NonNull<dyn OwnedSlot> = NonNull::from(&*shared);
        let lock = Arc::new(Mutex::new(true));
        // SAFETY: W3: both are kept by the cell's own `Arc`s.
        let raw = unsafe { RawCell::owned(slot, self.stays, NonNull::from(&*lock)) };
        Arc::new(TypedCell { slot: SlotCell::from_raw(raw), lock, shared })
    }
}

impl<T: Send + 'static> OwnedLocal<T> {
    /// Makes a slot whose values start with what `init` returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::OwnedLocal;
    ///
    /// let greeting = OwnedLocal::new(|| String::from("hello"));
    /// greeting.with_mut(|text| text.push('!'));
    /// assert_eq!(greeting.get(), "hello!");
    /// ```
    #[track_caller]
    pub fn new(init: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self::with_init(Box::new(init), false)
    }

    #[track_caller]
    pub(super) fn with_init(init: Box<dyn Fn() -> T + Send + Sync>, stays: bool) -> Self {
        // Relaxed: only uniqueness matters, and that comes with the addition.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let birth = Location::caller();
        let shared = Arc::new_cyclic(|me| Shared {
            id,
            birth,
            stays,
            cells: Mutex::new(Some(HashMap::new())),
            me: Weak::clone(me),
        });
        Self { shared, init }
    }

    /// The slot's name in errors: its type, and where it was made.
    #[must_use]
    pub fn name(&self) -> String {
        self.shared.name()
    }

    #[inline(always)]
    fn place<R>(&self, f: impl FnOnce(Place<'_, T, Owned<'_, T>>) -> R) -> R {
        let found = table::find_or_add(self.shared.id, || match self.shared.add_cell() {
            Some(cell) => cell,
            None => unreachable!("the owner is borrowed, so it is not gone"),
        });
        let source = Owned(self);
        match found {
            Ok(cell) => {
                // SAFETY: the table has a cell of this type under this id (O1), and keeps it while
                // the owner lives (O2), which `self` borrows.
                let cell = unsafe { &*cell.cast::<TypedCell<T>>() };
                f(Place { cell: &cell.slot, source })
            }
            Err(Gone) => {
                // Every method finds out, since the thread admits no cell any more.
                let cell = self.shared.dead_cell();
                f(Place { cell: &cell.slot, source })
            }
        }
    }
}

super::methods! { OwnedLocal<T: Send + 'static> {
    /// use cleanslate::OwnedLocal;
    ///
    /// let SLOT = OwnedLocal::new(|| vec![1]);
} }

impl<T: Default + Send + 'static> Default for OwnedLocal<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: Send + 'static> fmt::Debug for OwnedLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedLocal").field("made_at", self.shared.birth).finish_non_exhaustive()
    }
}

struct Owned<'o, T: Send + 'static>(&'o OwnedLocal<T>);

impl<T: Send + 'static> Clone for Owned<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + 'static> Copy for Owned<'_, T> {}

impl<T: Send + 'static> Source<T> for Owned<'_, T> {
    #[inline]
    fn is_heir(&self) -> bool {
        false
    }

    fn inherits(&self, _: &Thread) -> bool {
        false
    }

    fn inherit(&self) -> Option<T> {
        None
    }

    fn init(&self) -> T {
        (self.0.init)()
    }
}

impl<T: Send + 'static> Drop for OwnedLocal<T> {
    fn drop(&mut self) {
        let cells = self.shared.cells.lock().take();
        let mut boxes = Vec::new();
        for cell in cells.into_iter().flat_map(HashMap::into_values) {
            let mut ended = cell.lock.lock();
            *ended = true;
            boxes.extend(cell.slot.raw.drain());
        }
        table::forget(self.shared.id);
        let mut error = None;
        for header in boxes {
            if let Err(fault) = end_value(header) {
                CleanupError::add(&mut error, fault);
            }
        }
        if let Some(error) = error {
            let payload = error.to_panic();
            payload.resume_unless_panicking();
        }
    }
}

/// Drops the value in a box that [`RawCell::drain`] gave, and frees the box.
fn end_value(header: NonNull<Header>) -> Result<(), CleanupError> {
    let mut outcome = Ok(());
    // SAFETY: drained, so it is ours (V4).
    match unsafe { value::release(header) } {
        Released::Value => {
            outcome = contained(|| {
                // SAFETY: `release` has just said that there is a value.
                unsafe { value::drop_released(header) };
            });
        }
        Released::Box => {}
        Released::Orphaned => return Ok(()),
    }
    // SAFETY: ours, and nobody borrows a value of an owner that is being dropped (W2).
    unsafe { value::free_box(header) };
    outcome.map_err(CleanupError::from_failure)
}

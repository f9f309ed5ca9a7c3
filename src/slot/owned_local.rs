//! Slots that an object owns and that are made at run time.
//!
//! # Invariants
//!
//! - **W1 (cells).** The owner lists its cells of all threads; each is shared with its thread's
//!   table. A thread that ends takes its cell off the list.
//! - **W2 (end).** The owner's drop ends each cell and takes the values away, under the lock of the
//!   cell's thread (C4). It has exclusive access to the owner, so no value is borrowed and no
//!   thread links one through it. A thread that unlinks at the same time holds the lock, and one of
//!   the two finds the value.
//! - **W3 (kept).** A cell's pointers to its slot and its lock point into memory that the cell's
//!   own `Arc`s keep alive.

#![expect(unsafe_code, reason = "cells shared between the owner and the threads that use it")]

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::error::{AccessError, Reason};
use super::place::{Place, SlotCell, ValueSource};
use super::table;
use crate::frame::cell::{InFutures, OwnedCell, OwnedSlot, OwnersLock, RawCell};
use crate::frame::contained;
use crate::frame::value::{self, Header};
use crate::panic::{Drops, Guarded, Payload};

/// The next owner's id (O1). 0 belongs to nobody.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A slot that an object owns, made at run time.
///
/// It has the methods of a [`TaskLocal`](crate::TaskLocal), except those of inheritance and
/// `scope_future`, and follows the same rules: every task has a value of its own, made by the
/// initialiser at the first touch. It is what `self._local = threading.local()` is in Python. A
/// value ends with its task or when the owner is dropped, whichever comes first: dropping the owner
/// drops the values of all threads, on the thread that drops it. (The value of a suspended future
/// ends when the future is next polled or dropped.)
///
/// An access looks the owner up in a per-thread table; for the owner used last, that is a
/// comparison. The first touch on a thread allocates; values are reused as with declared slots.
/// Owned slots are not inherited.
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
    shared: Arc<CellOwner<T>>,
    /// Here and not in `shared`, which the cells of other threads may keep for a while: what the
    /// initialiser captured ends with the owner, on the thread that drops the owner.
    init: Guarded<Init<T>>,
}

/// An initialiser.
pub(super) type Init<T> = Box<dyn Fn() -> Result<T, Reason> + Send + Sync>;

/// What the cells know of their owner. Dropping it runs no user code.
struct CellOwner<T: Send + 'static> {
    id: u64,
    birth: &'static Location<'static>,
    in_futures: InFutures,
    /// The name of the public type, for errors.
    type_name: fn() -> &'static str,
    /// The cells of all threads by address (W1). `None`: the owner is gone.
    cells: Mutex<Option<BTreeMap<usize, Arc<TypedCell<T>>>>>,
    me: Weak<Self>,
}

/// One thread's cell.
struct TypedCell<T: Send + 'static> {
    slot: SlotCell<T>,
    lock: Arc<OwnersLock>,
    shared: Arc<CellOwner<T>>,
}

#[expect(clippy::non_send_fields_in_send_ty, reason = "cells by pointer, see below")]
// SAFETY: its thread uses the cell, and the owner's drop empties it, which needs `T: Send`; W2
// keeps the two apart.
unsafe impl<T: Send> Send for TypedCell<T> {}
// SAFETY: as for `Send`; the list shares cells, but only W2's steps use them through it.
unsafe impl<T: Send> Sync for TypedCell<T> {}

impl<T: Send + 'static> TypedCell<T> {
    fn new(shared: Arc<CellOwner<T>>, lock: Arc<OwnersLock>) -> Self {
        let slot: NonNull<dyn OwnedSlot> = NonNull::from(&*shared);
        // SAFETY: W3: both are kept by the cell's own `Arc`s.
        let raw = unsafe { RawCell::owned(slot, NonNull::from(&*lock), shared.in_futures) };
        Self { slot: SlotCell::from_raw(raw), lock, shared }
    }
}

impl<T: Send + 'static> OwnedCell for TypedCell<T> {
    fn raw(&self) -> &RawCell {
        &self.slot.raw
    }

    fn slot(&self) -> &dyn OwnedSlot {
        &*self.shared
    }

    fn lock(&self) -> &Arc<OwnersLock> {
        &self.lock
    }

    fn leave(&self) {
        self.slot.raw.free_boxes();
        let key = std::ptr::from_ref(self).addr();
        let listed = self.shared.cells.lock().as_mut().and_then(|cells| cells.remove(&key));
        drop(listed);
    }
}

impl<T: Send + 'static> CellOwner<T> {
    fn me(&self) -> Arc<Self> {
        match self.me.upgrade() {
            Some(shared) => shared,
            None => unreachable!("whoever calls has a count (W3)"),
        }
    }

    /// Makes the cell of the thread with this lock. `None`: the owner is gone.
    fn add_cell(&self, lock: Arc<OwnersLock>) -> Option<Arc<dyn OwnedCell>> {
        let cell = Arc::new(TypedCell::new(self.me(), lock));
        let key = Arc::as_ptr(&cell).addr();
        self.cells.lock().as_mut()?.insert(key, Arc::clone(&cell));
        Some(cell)
    }
}

impl<T: Send + 'static> OwnedSlot for CellOwner<T> {
    fn name(&self) -> String {
        // Without its module, which users cannot name.
        let type_name = (self.type_name)();
        let (path, parameter) = type_name.split_at(type_name.find('<').unwrap_or(type_name.len()));
        let name = path.rsplit("::").next().unwrap_or(path);
        format!("cleanslate::{name}{parameter} made at {}", self.birth)
    }

    fn cell(&self) -> Option<Arc<dyn OwnedCell>> {
        table::handle_or_add(self.id, |lock| self.add_cell(lock))
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
        let name = std::any::type_name::<Self>;
        Self::with_init(Box::new(move || Ok(init())), InFutures::Travels, name)
    }

    #[track_caller]
    pub(super) fn with_init(
        init: Init<T>,
        in_futures: InFutures,
        type_name: fn() -> &'static str,
    ) -> Self {
        // Relaxed: only uniqueness matters, and that comes with the addition.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let birth = Location::caller();
        let shared = Arc::new_cyclic(|me| CellOwner {
            id,
            birth,
            in_futures,
            type_name,
            cells: Mutex::new(Some(BTreeMap::new())),
            me: Weak::clone(me),
        });
        Self { shared, init: Guarded::new(init) }
    }

    /// Returns the slot's name in errors: its type, and where it was made.
    ///
    /// # Examples
    ///
    /// ```
    /// let slot = cleanslate::OwnedLocal::new(|| 0);
    /// assert!(slot.name().contains("OwnedLocal"), "{}", slot.name());
    /// ```
    #[must_use]
    pub fn name(&self) -> String {
        self.shared.name()
    }

    /// Returns the slot's place on this thread, unless the thread is ending.
    #[inline(always)]
    fn place(&self) -> Result<Place<'_, T, &Self>, AccessError> {
        match table::find_or_add(self.shared.id, |lock| self.shared.add_cell(lock)) {
            Some(cell) => {
                // SAFETY: the table has a cell of this type under this id (O1), and keeps it while
                // the owner lives (O2), which `self` borrows.
                let cell = unsafe { &*cell.cast::<TypedCell<T>>() };
                Ok(Place { cell: &cell.slot, source: self })
            }
            None => Err(AccessError::new(self.name(), Reason::Gone)),
        }
    }
}

super::methods! { OwnedLocal
    /// use cleanslate::OwnedLocal;
    ///
    /// let SLOT = OwnedLocal::new(|| vec![1]);
}

impl<T: Default + Send + 'static> Default for OwnedLocal<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default)
    }
}

// Panics inside are contained, so nobody sees a value in the middle of a change.
impl<T: Send + 'static> UnwindSafe for OwnedLocal<T> {}
impl<T: Send + 'static> RefUnwindSafe for OwnedLocal<T> {}

impl<T: Send + 'static> fmt::Debug for OwnedLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedLocal").field("made_at", self.shared.birth).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> ValueSource<T> for &OwnedLocal<T> {
    fn init(&self) -> Result<T, Reason> {
        (self.init)()
    }
}

impl<T: Send + 'static> OwnedLocal<T> {
    /// Drops the values of all threads, each contained.
    pub(super) fn end(&mut self) -> Drops {
        let cells = self.shared.cells.lock().take();
        let mut boxes = Vec::new();
        for cell in cells.into_iter().flat_map(BTreeMap::into_values) {
            boxes.extend(cell.slot.raw.end());
        }
        let mut drops = Drops::default();
        for header in boxes {
            drops.add(end_value(header));
        }
        drops
    }
}

impl<T: Send + 'static> Drop for OwnedLocal<T> {
    fn drop(&mut self) {
        self.end().resume();
    }
}

/// Ends a box returned by [`RawCell::end`], in a frame of its own.
fn end_value(header: NonNull<Header>) -> Result<(), Payload> {
    let mut dropped = Ok(());
    let ended = contained(|| {
        // SAFETY: the cell has given it away, so it is ours (V4).
        dropped = unsafe { value::end(header) };
    });
    dropped.and(ended.map_err(|failure| failure.into_payload()))
}

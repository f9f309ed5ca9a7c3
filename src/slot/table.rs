//! Which cell an [`OwnedLocal`](super::OwnedLocal) has on this thread.
//!
//! # Invariants
//!
//! - **O1 (id).** An owner's id is never used again in this process, so a cell is never found by
//!   another owner, whatever addresses and threads are reused.
//! - **O2 (kept).** The table keeps a cell while its owner lives or the trail has an entry for it,
//!   until its thread's slots have ended. Cells of owners that are gone are swept at the first use
//!   of another owner, with their entries, when they are more than half of the table. So then a
//!   thread keeps at most as many dead cells as live ones, or [`SLACK`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use crate::frame::cell::{OwnedCell, OwnersLock};
use crate::frame::permanent;
use crate::frame::thread;
use crate::frame::thread_end::register;

/// How many dead cells are not worth a sweep.
const SLACK: usize = 16;

/// Ids are consecutive; a multiplication spreads them over the table's high bits.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4).
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Map = HashMap<u64, Arc<dyn OwnedCell>, BuildHasherDefault<IdHasher>>;

struct Table {
    /// The cell used last, which is most often the one used next. It dangles once its owner is
    /// gone, after which nobody asks for the id (O1). Id 0 belongs to nobody.
    last: Cell<(u64, *const ())>,
    map: RefCell<ManuallyDrop<Map>>,
    /// What all of this thread's cells share (C4). Made with the first one.
    lock: RefCell<ManuallyDrop<Option<Arc<OwnersLock>>>>,
}

// Freed by the engine's teardown, after the last value has ended.
permanent::permanent! {
    static TABLE: Table = Table {
        last: Cell::new((0, std::ptr::null())),
        map: RefCell::new(ManuallyDrop::new(Map::with_hasher(BuildHasherDefault::new()))),
        lock: RefCell::new(ManuallyDrop::new(None)),
    }
}

/// Returns the cell of the owner with this id, made at its first use on this thread. `None` while
/// the thread ends.
///
/// The pointer is the one that `make` returned, without its type. It is valid while the owner
/// lives: see O2.
#[inline]
pub(super) fn find_or_add(
    id: u64,
    make: impl FnOnce(Arc<OwnersLock>) -> Option<Arc<dyn OwnedCell>>,
) -> Option<*const ()> {
    let table = permanent::get(&TABLE);
    let (last, cell) = table.last.get();
    if last == id { Some(cell) } else { table.look_up(id, make) }
}

/// Returns the cell with a reference count of its own. `None` also if `make` returns none.
pub(super) fn handle_or_add(
    id: u64,
    make: impl FnOnce(Arc<OwnersLock>) -> Option<Arc<dyn OwnedCell>>,
) -> Option<Arc<dyn OwnedCell>> {
    let known = permanent::get(&TABLE).map.borrow().get(&id).cloned();
    match known {
        Some(cell) => Some(cell),
        None => add(id, make),
    }
}

#[cold]
fn add(
    id: u64,
    make: impl FnOnce(Arc<OwnersLock>) -> Option<Arc<dyn OwnedCell>>,
) -> Option<Arc<dyn OwnedCell>> {
    let table = permanent::get(&TABLE);
    let thread = thread::current();
    register(thread).ok()?;
    thread.at_end.set(Some(teardown));
    #[cfg(feature = "sentinel")]
    ignore_own();
    let lock = Arc::clone(table.lock.borrow_mut().get_or_insert_default());
    let cell = make(Arc::clone(&lock))?;
    table.insert(id, Arc::clone(&cell), &lock);
    Some(cell)
}

/// Returns whether the owner is gone and nothing on this thread refers to the cell. To be called on
/// the cell's own thread.
fn is_dead(cell: &dyn OwnedCell) -> bool {
    cell.raw().has_ended_by_now() && !cell.raw().has_entries()
}

impl Table {
    #[inline(never)]
    fn look_up(
        &self,
        id: u64,
        make: impl FnOnce(Arc<OwnersLock>) -> Option<Arc<dyn OwnedCell>>,
    ) -> Option<*const ()> {
        let known = self.map.borrow().get(&id).map(|cell| Arc::as_ptr(cell).cast::<()>());
        let cell = match known {
            Some(cell) => cell,
            None => Arc::as_ptr(&add(id, make)?).cast(),
        };
        self.last.set((id, cell));
        Some(cell)
    }

    fn insert(&self, id: u64, cell: Arc<dyn OwnedCell>, lock: &OwnersLock) {
        let mut map = self.map.borrow_mut();
        let dead = *lock.lock();
        if dead > SLACK && dead > map.len() / 2 {
            *lock.lock() = 0;
            thread::current().prune();
            // Runs no user code: the values of a dead owner are gone already.
            map.retain(|_, cell| !is_dead(&**cell));
            let len = map.len();
            map.shrink_to(len * 2);
        }
        map.insert(id, cell);
    }
}

/// Tells the sentinel, once, what this module keeps per thread.
#[cfg(feature = "sentinel")]
fn ignore_own() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| cleanslate_sentinel::ignore(|ignored| ignored.value(permanent::get(&TABLE))));
}

/// Releases all cells at the end of the thread, after the last value has ended.
fn teardown() {
    let table = permanent::get(&TABLE);
    table.last.set((0, std::ptr::null()));
    let map = ManuallyDrop::into_inner(table.map.take());
    for cell in map.into_values() {
        cell.leave();
    }
    drop(ManuallyDrop::into_inner(table.lock.take()));
}

//! Which cell an [`OwnedLocal`](super::OwnedLocal) has on this thread.
//!
//! # Invariants
//!
//! - **O1 (id).** An owner's id is never used again in this process, so a cell is never found by
//!   another owner, whatever addresses and threads are reused.
//! - **O2 (kept).** The table keeps a cell while its owner lives or the trail has an entry for it.
//!   Cells of owners that are gone are swept when the table has doubled, after their entries in the
//!   innermost frame. So a thread keeps at most as many dead cells as live ones and ones that outer
//!   frames have touched, plus [`SLACK`].

#![expect(unsafe_code, reason = "short borrows of a per-thread table without a run-time check")]

use std::cell::{Cell, UnsafeCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::owned_local::OwnedCell;
use crate::frame::permanent;
use crate::frame::thread::{self, Gone};

/// Dead cells that are not worth a sweep.
const SLACK: usize = 16;

/// Ids are consecutive; a multiplication spreads them over the table's high bits.
#[derive(Default)]
struct IdHasher(u64);

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
    /// The cell used last, which is most often the one used next. Id 0 is nobody's.
    last: Cell<(u64, *const ())>,
    map: UnsafeCell<ManuallyDrop<Option<Map>>>,
    /// Sweep when the map has grown to this.
    sweep_at: Cell<usize>,
}

// Freed by the engine's teardown, after the last value has ended.
permanent::permanent! {
    static TABLE: Table = Table {
        last: Cell::new((0, std::ptr::null())),
        map: UnsafeCell::new(ManuallyDrop::new(None)),
        sweep_at: Cell::new(SLACK),
    }
}

/// The cell of the owner with this id, made at its first use on this thread.
///
/// The pointer is the one that `make` gave, without its type. It is valid while the owner lives: see
/// O2.
#[inline]
pub(super) fn find_or_add(
    id: u64,
    make: impl FnOnce() -> Arc<dyn OwnedCell>,
) -> Result<*const (), Gone> {
    let table = permanent::get(&TABLE);
    let (last, cell) = table.last.get();
    if last == id {
        return Ok(cell);
    }
    table.look_up(id, make)
}

impl Table {
    fn look_up(
        &self,
        id: u64,
        make: impl FnOnce() -> Arc<dyn OwnedCell>,
    ) -> Result<*const (), Gone> {
        // SAFETY: only this module borrows the map, never across code of others, and one thread only.
        let found = unsafe { &*self.map.get() }
            .as_ref()
            .and_then(|map| map.get(&id))
            .map(|cell| Arc::as_ptr(cell).cast::<()>());
        let cell = match found {
            Some(cell) => cell,
            None => {
                thread::with(thread::Thread::register)?;
                #[cfg(feature = "sentinel")]
                super::own::ignore();
                let cell = make();
                let pointer = Arc::as_ptr(&cell).cast::<()>();
                let swept = self.insert(id, cell);
                // Their last reference may free memory, but runs no code of others: the values of a
                // dead owner are gone already.
                drop(swept);
                pointer
            }
        };
        self.last.set((id, cell));
        Ok(cell)
    }

    fn insert(&self, id: u64, cell: Arc<dyn OwnedCell>) -> Vec<Arc<dyn OwnedCell>> {
        // SAFETY: as above; nothing in this function is code of others.
        let map = unsafe { &mut *self.map.get() }.get_or_insert_with(Map::default);
        let mut swept = Vec::new();
        if map.len() >= self.sweep_at.get() {
            thread::current().prune();
            swept.extend(map.extract_if(|_, cell| cell.is_dead()).map(|(_, cell)| cell));
            self.last.set((0, std::ptr::null()));
            map.shrink_to(map.len() * 2);
            self.sweep_at.set(map.len() * 2 + SLACK);
        }
        map.insert(id, cell);
        swept
    }
}

/// Lists what this module keeps per thread.
#[cfg(feature = "sentinel")]
pub(super) fn list(ignored: &mut cleanslate_sentinel::Ignored) {
    ignored.value(permanent::get(&TABLE));
}

/// Forgets the cell of an owner that is gone, if this thread has one that nothing refers to.
pub(super) fn forget(id: u64) {
    let table = permanent::get(&TABLE);
    if table.last.get().0 == id {
        table.last.set((0, std::ptr::null()));
    }
    // SAFETY: as in `look_up`.
    let map = unsafe { &mut *table.map.get() };
    let cell = map.as_mut().and_then(|map| {
        if map.get(&id).is_some_and(|cell| cell.is_dead()) { map.remove(&id) } else { None }
    });
    drop(cell);
}

/// Lets go of all cells at the end of the thread, after the last value has ended.
pub(crate) fn teardown() {
    let table = permanent::get(&TABLE);
    table.last.set((0, std::ptr::null()));
    // SAFETY: as in `look_up`.
    let map = unsafe { &mut *table.map.get() }.take();
    for cell in map.into_iter().flatten() {
        cell.1.leave();
    }
}

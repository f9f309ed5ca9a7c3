//! What the crate allocates, and that it gives it back. A binary of its own for its allocator, and
//! one test at a time, since the allocator counts for the whole process.

#[path = "../support/mod.rs"]
mod support;

mod installed;
mod pool;
mod slots;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "counts, and passes on to the system's allocator")]
// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        BYTES.fetch_add(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Lets one test at a time count.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are allocated now.
fn bytes() -> isize {
    BYTES.load(Ordering::SeqCst)
}

/// Allocations while `f` runs.
fn allocations(f: impl FnOnce()) -> usize {
    let before = CALLS.load(Ordering::SeqCst);
    f();
    CALLS.load(Ordering::SeqCst) - before
}

/// Bytes that are left after `f`.
fn growth(f: impl FnOnce()) -> isize {
    let before = bytes();
    f();
    bytes() - before
}

/// The least of several measurements: the test harness allocates as well, now and then.
fn least<T: Ord>(mut measure: impl FnMut() -> T) -> T {
    (0..5).map(|_| measure()).min().expect("five of them")
}

//! What watching allocates, and that it gives it back. A binary of its own for its allocator, which
//! counts for each thread.

#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cleanslate_sentinel::Sentinel;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static CACHE: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "counts, and passes on to the system's allocator")]
// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE.set(LIVE.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

// Broke: it was examined like a leak, with a lock, a walk through the loaded modules and some
// vectors.
#[test]
fn a_change_that_the_rules_let_pass_allocates_nothing_and_asks_nobody() {
    thread_local! { static ASKED: Cell<u32> = const { Cell::new(0) }; }
    cleanslate_sentinel::ignore(|_| ASKED.set(ASKED.get() + 1));
    let sentinel = Sentinel::new().allow_first_touch("memory::CACHE").allow("memory::ALLOCATIONS");
    std::thread::spawn(move || {
        let mut watcher = sentinel.watcher().unwrap();
        // Once before, for what the probes of features bring to life.
        watcher.begin();
        assert!(watcher.finish().is_none());
        let (asked, before) = (ASKED.get(), ALLOCATIONS.get());
        watcher.begin();
        CACHE.set(7);
        assert!(watcher.finish().is_none());
        assert_eq!((ASKED.get(), ALLOCATIONS.get()), (asked, before));
        watcher.begin();
        CACHE.set(8);
        assert_eq!(watcher.finish().unwrap().leaks().len(), 1);
        assert_eq!(ASKED.get(), asked + 1);
    })
    .join()
    .unwrap();
}

// Broke: what a probe panicked with was leaked, each time.
#[test]
fn a_probe_that_panics_leaves_no_memory_behind() {
    let panics = || std::panic::resume_unwind(Box::new([0_u8; 1_000]));
    let mut watcher = Sentinel::new().probe("panics", panics).watcher().unwrap();
    let mut once = || {
        watcher.begin();
        drop(watcher.finish());
    };
    once();
    let before = LIVE.get();
    (0..10).for_each(|_| once());
    assert_eq!(LIVE.get(), before);
}

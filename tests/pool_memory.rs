//! What the pool allocates, and that it gives it back. A counting allocator, so one test at a time.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cleanslate::Pool;
use support::finishes;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALONE: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "counts, and passes on to the system's allocator")]
// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        BYTES.fetch_add(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    f();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

#[test]
fn a_submitted_task_is_one_allocation_besides_the_queues_blocks() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for workers in support::SHAPES {
        let pool = Pool::new(workers).unwrap();
        pool.submit(|| ()).join().unwrap();
        let mut handles = Vec::with_capacity(3_100);
        let made = allocations(|| {
            handles.extend((0..3_100_u64).map(|n| pool.submit(move || n)));
            for handle in handles.drain(..) {
                handle.join().unwrap();
            }
        });
        // The queue allocates a block for every 31 entries; the rest is for what the test harness and
        // parking_lot, at a thread's first wait, may do meanwhile.
        assert!(
            (3_100..=3_100 + 100 + 60).contains(&made),
            "{made} allocations, {workers} workers"
        );
    }
}

#[test]
fn the_items_of_a_map_allocate_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for workers in support::SHAPES {
        let pool = Pool::new(workers).unwrap();
        let numbers: Vec<u64> = (0..100_000).collect();
        pool.map_slice(&numbers, |n| n + 1);
        // Per call, per helper and per doubling of a list of chunks; none of it per item.
        let fixed = 100 + 20 * workers;
        let made = allocations(|| drop(pool.map_slice(&numbers, |n| n + 1)));
        assert!(made <= fixed, "map_slice: {made} allocations, {workers} workers");
        let made = allocations(|| drop(pool.map(&numbers, |n| n + 1)));
        assert!(made <= fixed, "map: {made} allocations, {workers} workers");
    }
}

#[test]
fn fork_join_recursion_keeps_memory_bounded() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for workers in support::SHAPES {
        finishes("recursion", move || {
            let pool = Pool::new(workers).unwrap();
            let most = AtomicUsize::new(0);
            pool.scope(|s| {
                let (pool, most) = (&pool, &most);
                s.submit(move || {
                    let base = BYTES.load(Ordering::SeqCst);
                    // Each task is claimed by its waiter, so each leaves a tombstone.
                    for _ in 0..100_000 {
                        pool.submit(|| ()).join().unwrap();
                        let now = BYTES.load(Ordering::SeqCst).saturating_sub(base);
                        most.fetch_max(now, Ordering::SeqCst);
                    }
                });
            });
            // Unswept, the tombstones of one worker alone would come to ten megabytes.
            let most = most.load(Ordering::SeqCst);
            assert!(most < 200_000, "{most} bytes, {workers} workers");
        });
    }
}

#[test]
fn cancelled_tasks_do_not_pile_up_behind_a_busy_worker() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    finishes("tombstones", || {
        let pool = Pool::new(1).unwrap();
        let busy = support::occupy(&pool);
        let live: Vec<_> = (0..10).map(|n| pool.submit(move || n)).collect();
        let base = BYTES.load(Ordering::SeqCst);
        for _ in 0..100_000 {
            assert!(pool.submit(|| ()).cancel());
        }
        let held = BYTES.load(Ordering::SeqCst).saturating_sub(base);
        assert!(held < 100_000, "{held} bytes");
        drop(busy);
        for (n, handle) in live.into_iter().enumerate() {
            assert_eq!(handle.join().unwrap(), n);
        }
    });
}

#[test]
fn closed_pools_give_everything_back() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let round = || {
        finishes("round", || {
            let pool = Pool::new(2).unwrap();
            pool.map(0..1_000, |n| n);
            let kept = pool.submit(|| 1);
            drop(pool);
            assert_eq!(kept.join().unwrap(), 1);
        });
    };
    round();
    let before = BYTES.load(Ordering::SeqCst);
    for _ in 0..50 {
        round();
    }
    let grown = BYTES.load(Ordering::SeqCst).saturating_sub(before);
    assert!(grown < 10_000, "{grown} bytes");
}

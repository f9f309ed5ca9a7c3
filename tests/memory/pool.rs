//! What the pool allocates, and that it gives it back.

use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{self, finishes};
use crate::{allocations, alone, bytes, growth, least};
use cleanslate::{JoinHandle, Pool};

#[test]
fn a_submitted_task_is_one_allocation_besides_the_queues_blocks() {
    let _alone = alone();
    for workers in support::SHAPES {
        let pool = Pool::new(workers).unwrap();
        pool.submit(|| ()).join().unwrap();
        let mut handles = Vec::with_capacity(3_100);
        let made = least(|| {
            allocations(|| {
                handles.extend((0..3_100_u64).map(|n| pool.submit(move || n)));
                for handle in handles.drain(..) {
                    handle.join().unwrap();
                }
            })
        });
        // The queue allocates a block for every 31 entries; the rest is for what the test harness
        // and parking_lot, at a thread's first wait, may do meanwhile.
        assert!(
            (3_100..=3_100 + 100 + 60).contains(&made),
            "{made} allocations, {workers} workers"
        );
    }
}

#[test]
fn a_join_in_a_task_is_three_allocations_besides_the_queues_blocks() {
    let _alone = alone();
    let pool = Pool::new(1).unwrap();
    let made = least(|| {
        let joins = || (0..310).for_each(|n| _ = pool.join(move || n, move || n));
        allocations(|| pool.for_each(0..1, |_| joins()))
    });
    assert!((3 * 310..3 * 310 + 40).contains(&made), "{made} allocations");
}

#[test]
fn the_items_of_a_map_allocate_nothing() {
    let _alone = alone();
    for workers in support::SHAPES {
        let pool = Pool::new(workers).unwrap();
        let numbers: Vec<u64> = (0..100_000).collect();
        pool.map_slice(&numbers, |n| n + 1);
        // Per call, per helper, per doubling of a list of chunks and per turn at the iterator, of
        // which there are more on a busy machine; none of it per item.
        let fixed = numbers.len() / 100;
        let made = allocations(|| drop(pool.map_slice(&numbers, |n| n + 1)));
        assert!(made <= fixed, "map_slice: {made} allocations, {workers} workers");
        let made = allocations(|| drop(pool.map(&numbers, |n| n + 1)));
        assert!(made <= fixed, "map: {made} allocations, {workers} workers");
    }
}

#[test]
fn fork_join_recursion_keeps_memory_bounded() {
    let _alone = alone();
    for workers in support::SHAPES {
        finishes("recursion", move || {
            let pool = Pool::new(workers).unwrap();
            let most = AtomicIsize::new(0);
            pool.scope(|s| {
                let (pool, most) = (&pool, &most);
                s.submit(move || {
                    let base = bytes();
                    // Each task is claimed by its waiter, so each leaves a tombstone.
                    for _ in 0..100_000 {
                        pool.submit(|| ()).join().unwrap();
                        let now = bytes() - base;
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
    let _alone = alone();
    finishes("tombstones", || {
        let pool = Pool::new(1).unwrap();
        let busy = support::occupy(&pool);
        let live: Vec<_> = (0..10).map(|n| pool.submit(move || n)).collect();
        let base = bytes();
        for _ in 0..100_000 {
            assert!(pool.submit(|| ()).cancel());
        }
        let held = bytes() - base;
        assert!(held < 100_000, "{held} bytes");
        drop(busy);
        for (n, handle) in live.into_iter().enumerate() {
            assert_eq!(handle.join().unwrap(), n);
        }
    });
}

#[test]
fn closed_pools_give_everything_back() {
    let _alone = alone();
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
    let grown = least(|| growth(|| (0..50).for_each(|_| round())));
    assert!(grown < 10_000, "{grown} bytes");
}

#[test]
fn a_long_scope_inside_a_task_keeps_memory_bounded() {
    let _alone = alone();
    for workers in support::SHAPES {
        finishes("a scope", move || {
            let pool = Pool::new(workers).unwrap();
            let inner = pool.clone();
            let grown = pool.submit(move || {
                inner.scope(|s| {
                    let base = bytes();
                    for _ in 0..100_000 {
                        s.submit(|| ()).join().unwrap();
                    }
                    bytes() - base
                })
            });
            let grown = grown.join().unwrap();
            // Each would leave a shell of more than a hundred bytes.
            assert!(grown < 200_000, "{grown} bytes, {workers} workers");
        });
    }
}

// Broke: a place was kept for each chunk, to the end of the map.
#[test]
fn a_map_without_results_keeps_nothing_for_its_chunks() {
    const ITEMS: usize = 5_000;
    let _alone = alone();
    for workers in support::SHAPES {
        finishes("maps", move || {
            let pool = Pool::new(workers).unwrap();
            // Long enough for a chunk of its own.
            let item = |n| {
                let began = Instant::now();
                while began.elapsed() < Duration::from_micros(50) {}
                n
            };
            let grown = AtomicIsize::new(0);
            let items = || {
                (0..ITEMS).inspect(|n| match *n {
                    500 => grown.store(-bytes(), Ordering::SeqCst),
                    n if n == ITEMS - 1 => _ = grown.fetch_add(bytes(), Ordering::SeqCst),
                    _ => {}
                })
            };
            pool.for_each(items(), |n| _ = item(n));
            let grown_in_each = grown.load(Ordering::SeqCst);
            assert_eq!(pool.map_reduce(items(), item, || 0, usize::max), ITEMS - 1);
            for grown in [grown_in_each, grown.load(Ordering::SeqCst)] {
                assert!(grown < 20_000, "{grown} bytes, {workers} workers");
            }
        });
    }
}

#[test]
fn waiting_for_others_leaves_nothing_at_a_task_that_runs() {
    let _alone = alone();
    finishes("waits", || {
        let pool = Pool::new(2).unwrap();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let slow = pool.submit(move || assert!(gate.recv().is_err()));
        let mut handles = vec![slow];
        let base = bytes();
        for _ in 0..20_000 {
            handles.push(pool.submit(|| ()));
            assert_eq!(JoinHandle::wait_any(&handles), 1);
            handles.pop().unwrap().join().unwrap();
        }
        let grown = bytes() - base;
        assert!(grown < 100_000, "{grown} bytes");
        drop(go);
        handles.pop().unwrap().join().unwrap();
    });
}

#[test]
fn a_thread_on_which_pools_lie_on_one_another_leaves_nothing() {
    let _alone = alone();
    let pools = [Pool::new(1).unwrap(), Pool::new(1).unwrap()];
    let nest = || {
        let [one, other] = pools.clone();
        let measured = support::WhenMeasured::new(move || other.for_each(0..1, drop));
        support::on_a_thread(move || one.for_each(measured, drop));
    };
    nest();
    let grown = least(|| growth(|| (0..100).for_each(|_| nest())));
    assert!(grown < 800, "{grown} bytes");
}

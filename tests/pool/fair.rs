//! R17: whoever comes while a map runs waits for chunks of it, not for the map.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cleanslate::foreign::adopt;
use cleanslate::{Context, Pool};

use crate::support::each_shape;

/// An input without end, until `over`.
fn until(over: &AtomicBool) -> impl Iterator<Item = usize> + Send {
    (0..).take_while(|_| !over.load(Ordering::SeqCst))
}

/// What an item or another task takes.
const WORK: Duration = Duration::from_micros(100);

/// Has other tasks wait for a worker, until `over`.
fn keep_busy(pool: &Pool, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let others: Vec<_> =
            (0..pool.workers()).map(|_| pool.submit(|| std::thread::sleep(WORK))).collect();
        others.into_iter().for_each(|other| other.join().unwrap());
    }
}

/// Runs `visit` on a plain thread while a map of short items keeps every worker, and ends the map
/// after it.
fn beside_a_map(pool: &Pool, visit: impl FnOnce(&Pool) + Send) {
    beside(pool, |over, item| pool.map(until(over), item), visit);
}

/// The same beside another kind of map, of items `until` its flag is set.
fn beside(
    pool: &Pool,
    map: impl FnOnce(&AtomicBool, &(dyn Fn(usize) -> usize + Sync)) -> Vec<usize>,
    visit: impl FnOnce(&Pool) + Send,
) {
    let over = AtomicBool::new(false);
    let started = AtomicUsize::new(0);
    std::thread::scope(|s| {
        s.spawn(|| {
            // All workers are at it.
            while started.load(Ordering::SeqCst) < 1000 {
                std::thread::yield_now();
            }
            visit(pool);
            over.store(true, Ordering::SeqCst);
        });
        let done = map(&over, &|n| {
            started.fetch_add(1, Ordering::SeqCst);
            n
        });
        assert!(done.iter().copied().eq(0..done.len()), "every item once, in order");
    });
}

#[test]
fn a_task_beside_a_map_does_not_wait_for_its_end() {
    each_shape(|pool| {
        beside_a_map(pool, |pool| {
            for n in 0..20 {
                assert_eq!(pool.submit(move || n).join().unwrap(), n);
            }
        });
    });
}

#[test]
fn a_task_beside_a_map_with_carriers_does_not_wait_for_its_end() {
    thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    let carries = Context::empty().carry(adopt(&LEVEL));
    each_shape(move |pool| {
        beside_a_map(&pool.in_context(&carries), |_| {
            for n in 0..20 {
                assert_eq!(pool.submit(move || n).join().unwrap(), n);
            }
        });
    });
}

#[test]
fn a_short_map_a_scope_and_a_broadcast_beside_a_map_do_not_wait_for_its_end() {
    each_shape(|pool| {
        beside_a_map(pool, |pool| {
            assert_eq!(pool.map([1, 2], |n| n), [1, 2]);
            assert_eq!(pool.broadcast(|| 1).len(), pool.workers());
            pool.scope(|s| {
                s.submit(|| ());
            });
        });
    });
}

#[test]
fn a_broadcast_alone_beside_a_map_does_not_wait_for_its_end() {
    each_shape(|pool| {
        beside_a_map(pool, |pool| assert_eq!(pool.broadcast(|| 1).len(), pool.workers()));
    });
}

#[test]
fn two_maps_without_end_share_the_workers() {
    each_shape(|pool| {
        let (over, seen) = (AtomicBool::new(false), [0, 1].map(|_| AtomicUsize::new(0)));
        let maps = [&seen[0], &seen[1]].map(|own| {
            let (over, seen) = (&over, &seen);
            move || {
                let map = pool.map(until(over), |_| {
                    own.fetch_add(1, Ordering::SeqCst);
                    // Both have come far.
                    if seen.iter().all(|seen| seen.load(Ordering::SeqCst) > 10_000) {
                        over.store(true, Ordering::SeqCst);
                    }
                });
                assert_eq!(map.len(), own.load(Ordering::SeqCst));
            }
        });
        std::thread::scope(|s| {
            for map in maps {
                s.spawn(map);
            }
        });
    });
}

#[test]
fn a_shutdown_finds_what_gave_way() {
    each_shape(|pool| {
        let (tell, told) = mpsc::channel();
        let runs = Arc::new(AtomicUsize::new(0));
        let map = {
            let (pool, runs) = (pool.clone(), Arc::clone(&runs));
            std::thread::spawn(move || {
                let map = || {
                    pool.map(0.., |_: u64| {
                        if runs.fetch_add(1, Ordering::SeqCst) == 1000 {
                            tell.send(()).unwrap();
                        }
                    })
                };
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(map)).is_err()
            })
        };
        told.recv().unwrap();
        // Others come and go, so that helpers give way, until the end.
        let others: Vec<_> = (0..100).map(|n| pool.submit(move || n)).collect();
        pool.shutdown_now().unwrap();
        assert!(map.join().unwrap(), "the map says that the pool is shut down");
        for other in others {
            let joined = other.join();
            assert!(joined.is_ok() || joined.unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn helpers_with_scratch_give_way_all_the_same() {
    each_shape(|pool| {
        for makes in [Duration::ZERO, Duration::from_millis(1)] {
            let init = || std::thread::sleep(makes);
            let map = |over: &AtomicBool, item: &(dyn Fn(usize) -> usize + Sync)| {
                pool.map_init(until(over), init, |(), n| item(n))
            };
            beside(pool, map, |pool| {
                assert_eq!(pool.submit(|| 7).join().unwrap(), 7);
                assert_eq!(pool.broadcast(|| 1).len(), pool.workers());
            });
        }
    });
}

// Broke: a helper gave way after each item, as items took longer than a chunk, and made its scratch
// anew for the next one.
#[test]
fn scratch_that_took_long_is_not_made_anew_for_each_turn() {
    const INIT: Duration = Duration::from_millis(2);
    thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
    each_shape(|pool| {
        let carries = Context::empty().carry(adopt(&LEVEL));
        for pool in [pool, &pool.in_context(&carries)] {
            let (over, made) = (AtomicBool::new(false), AtomicUsize::new(0));
            std::thread::scope(|s| {
                s.spawn(|| keep_busy(pool, &over));
                let init = || {
                    made.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(INIT);
                };
                let began = Instant::now();
                pool.map_init(0..200, init, |(), _| std::thread::sleep(WORK));
                // A worker that has made it stays for ten times as long.
                let turns = began.elapsed().as_nanos() / (11 * INIT).as_nanos() + 1;
                over.store(true, Ordering::SeqCst);
                let made = made.load(Ordering::SeqCst);
                assert!(made as u128 <= turns * pool.workers() as u128, "{made} in {turns} turns");
            });
        }
    });
}

#[test]
fn scratch_that_took_very_long_is_made_anew_all_the_same() {
    let pool = Pool::new(1).unwrap();
    let (over, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|s| {
        s.spawn(|| keep_busy(&pool, &over));
        let init = || {
            std::thread::sleep(Duration::from_millis(100));
            made.fetch_add(1, Ordering::SeqCst);
        };
        pool.map_init(0..2_000, init, |(), _| std::thread::sleep(WORK));
        over.store(true, Ordering::SeqCst);
    });
    assert!(made.into_inner() > 1, "a helper gives way after 100 ms");
}

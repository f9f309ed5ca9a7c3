//! `broadcast`: every worker once, in one order for all, and cancelled as a whole.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use crate::support::{
    Census, Fails, SHAPES, each_shape, finishes, occupy, panic_of, quiet, retiring,
};
use cleanslate::Pool;

const CALLERS: usize = 4;

#[test]
fn every_worker_is_visited_once_and_the_results_are_in_their_order() {
    each_shape(|pool| {
        for _ in 0..50 {
            let visits = pool.broadcast(|| (pool.worker_index(), std::thread::current().id()));
            let indices: Vec<_> = visits.iter().map(|(index, _)| index.unwrap()).collect();
            assert_eq!(indices, (0..pool.workers()).collect::<Vec<_>>());
            let threads: HashSet<_> = visits.iter().map(|(_, id)| id).collect();
            assert_eq!(threads.len(), pool.workers());
        }
    });
}

#[test]
fn visits_are_counted_while_they_run_and_by_how_they_end() {
    quiet();
    each_shape(|pool| {
        let workers = pool.workers();
        let meeting = Barrier::new(workers);
        let running = pool.broadcast(|| {
            meeting.wait();
            let running = pool.stats().running;
            meeting.wait();
            running
        });
        assert_eq!(running, vec![workers; workers]);
        panic_of(|| pool.broadcast(|| panic!("a visit, on purpose")));
        pool.wait_idle();
        let stats = pool.stats();
        let visits = workers as u64;
        assert_eq!((stats.running, stats.completed, stats.panicked), (0, visits, visits));
    });
}

// Broke: a worker ran visits for as long as there were any, and nothing else meanwhile.
#[test]
fn broadcasts_without_end_keep_nobody_else_from_their_turns() {
    finishes("broadcasts", || {
        let pool = Pool::new(1).unwrap();
        let (is_over, begun) = (AtomicUsize::new(0), Barrier::new(2 * CALLERS + 1));
        let visit = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1) {}
        };
        std::thread::scope(|s| {
            for _ in 0..2 * CALLERS {
                s.spawn(|| {
                    pool.broadcast(visit);
                    begun.wait();
                    while is_over.load(Ordering::SeqCst) == 0 {
                        pool.broadcast(visit);
                    }
                });
            }
            begun.wait();
            for _ in 0..100 {
                pool.submit(|| ()).join().unwrap();
                pool.map(0..2, |n| n);
            }
            is_over.store(1, Ordering::SeqCst);
        });
    });
}

// Broke: two workers saw two broadcasts in different orders, each waited at its barrier, for ever.
#[test]
fn the_visits_of_racing_broadcasts_meet() {
    for workers in SHAPES {
        finishes("barriers", move || {
            let pool = Pool::new(workers).unwrap();
            std::thread::scope(|s| {
                for _ in 0..CALLERS {
                    s.spawn(|| {
                        for _ in 0..200 {
                            let barrier = Barrier::new(workers);
                            pool.broadcast(|| barrier.wait());
                        }
                    });
                }
            });
        });
    }
}

#[test]
fn all_workers_see_racing_broadcasts_in_one_order() {
    each_shape(|pool| {
        let seen: Vec<Mutex<Vec<usize>>> = (0..pool.workers()).map(|_| Mutex::default()).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..CALLERS {
                s.spawn(|| {
                    for _ in 0..200 {
                        let id = next.fetch_add(1, Ordering::SeqCst);
                        pool.broadcast(|| {
                            seen[pool.worker_index().unwrap()].lock().unwrap().push(id);
                        });
                    }
                });
            }
        });
        let seen: Vec<_> = seen.into_iter().map(|seen| seen.into_inner().unwrap()).collect();
        assert_eq!(seen[0].len(), CALLERS * 200);
        assert!(seen.iter().all(|order| *order == seen[0]));
    });
}

// Broke: a shutdown cancelled the visits of some workers, and the others waited for them.
#[test]
fn a_shutdown_cancels_all_visits_of_a_broadcast_or_none() {
    quiet();
    for workers in SHAPES {
        finishes("cancelled as a whole", move || {
            for round in 0..300 {
                let pool = Pool::new(workers).unwrap();
                let begun = AtomicUsize::new(0);
                let start = Barrier::new(CALLERS + 1);
                std::thread::scope(|s| {
                    for _ in 0..CALLERS {
                        s.spawn(|| {
                            let barrier = Barrier::new(workers);
                            let visits = AtomicUsize::new(0);
                            start.wait();
                            let run = || {
                                pool.broadcast(|| {
                                    begun.fetch_add(1, Ordering::SeqCst);
                                    visits.fetch_add(1, Ordering::SeqCst);
                                    barrier.wait();
                                })
                            };
                            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
                            let visits = visits.into_inner();
                            match ended {
                                Ok(results) => {
                                    assert_eq!((results.len(), visits), (workers, workers))
                                }
                                Err(_refused) => assert_eq!(visits, 0),
                            }
                        });
                    }
                    start.wait();
                    if round % 2 == 0 {
                        while begun.load(Ordering::SeqCst) == 0 {
                            std::thread::yield_now();
                        }
                    }
                    pool.shutdown_now().unwrap();
                });
            }
        });
    }
}

#[test]
fn a_cancelled_broadcast_says_that_the_pool_is_shut_down() {
    each_shape(|pool| {
        let busy = occupy(pool);
        let visits = AtomicUsize::new(0);
        std::thread::scope(|s| {
            let caller =
                s.spawn(|| panic_of(|| pool.broadcast(|| visits.fetch_add(1, Ordering::SeqCst))));
            let closer = s.spawn(|| pool.shutdown_now().unwrap());
            // While the workers are still busy.
            assert_eq!(caller.join().unwrap(), "the pool is shut down");
            drop(busy);
            closer.join().unwrap();
        });
        assert_eq!(visits.into_inner(), 0);
    });
}

#[test]
fn a_failed_broadcast_resumes_a_panic_and_drops_the_results() {
    each_shape(|pool| {
        let census = Census::new();
        let visits = AtomicUsize::new(0);
        let said = panic_of(|| {
            pool.broadcast(|| {
                visits.fetch_add(1, Ordering::SeqCst);
                assert_ne!(pool.worker_index(), Some(0), "the first, on purpose");
                census.token()
            })
        });
        assert!(said.contains("the first, on purpose"), "{said}");
        assert_eq!(visits.into_inner(), pool.workers());
        assert_eq!((census.alive(), census.made()), (0, pool.workers() - 1));
    });
}

#[test]
fn a_worker_that_is_replaced_misses_no_visit() {
    each_shape(|pool| {
        let context = retiring();
        std::thread::scope(|s| {
            s.spawn(|| {
                for _ in 0..100 {
                    assert!(pool.in_context(&context).submit(|| ()).join().is_err());
                }
            });
            for _ in 0..100 {
                assert_eq!(pool.broadcast(|| 1).len(), pool.workers());
            }
        });
        assert!(pool.stats().renewed > 0);
    });
}

#[test]
fn a_visit_may_submit_join_map_and_broadcast() {
    each_shape(|pool| {
        let inner = pool.clone();
        let sums = pool.broadcast(move || {
            let joined = inner.submit(|| 1).join().unwrap();
            let mapped: i32 = inner.map(0..10, |n| n).into_iter().sum();
            // Only one of them: a visit is not to wait for one that lies below it.
            let visited =
                if inner.worker_index() == Some(0) { inner.broadcast(|| 1).len() } else { 0 };
            joined + mapped + i32::try_from(visited).unwrap()
        });
        let workers = i32::try_from(pool.workers()).unwrap();
        assert_eq!(sums.iter().sum::<i32>(), 46 * workers + workers);
    });
}

#[test]
fn a_failure_beside_another_one_is_reported() {
    quiet();
    for workers in SHAPES {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&reported);
        let pool = Pool::builder()
            .workers(workers)
            .panic_hook(move |error| theirs.lock().unwrap().push(error.to_string()))
            .build()
            .unwrap();
        let held = Fails::new(&Census::new());
        let words = panic_of(|| {
            pool.broadcast(move || {
                held.held();
                panic!("a visit, on purpose")
            })
        });
        assert!(words.contains("a visit"), "{words}");
        let reported = std::mem::take(&mut *reported.lock().unwrap());
        assert!(reported.iter().any(|words| words.contains("a drop, on purpose")), "{reported:?}");
    }
}

// The hook, which is user code, may wait for the other one.
#[test]
fn two_failures_of_a_broadcast_are_reported_at_the_same_time() {
    finishes("the hook", || {
        quiet();
        let both = Barrier::new(2);
        let hook = move |_| _ = both.wait();
        let pool = Pool::builder().workers(3).panic_hook(hook).build().unwrap();
        let said = panic_of(|| pool.broadcast(|| panic!("a visit, on purpose")));
        assert_eq!((said.as_str(), pool.stats().unobserved), ("a visit, on purpose", 2));
    });
}

// They could take longer than the limit.
#[test]
fn a_wait_with_a_limit_runs_no_visits() {
    const LIMIT: Duration = Duration::from_millis(1);
    let (pool, other) = (Pool::new(1).unwrap(), Pool::new(1).unwrap());
    let (busy, begin, visits) = (occupy(&other), Barrier::new(2), AtomicUsize::new(0));
    pool.scope(|s| {
        let waits = s.submit(|| {
            let mut handle = other.submit(|| ());
            begin.wait();
            // The visit comes at some time of the waits.
            (0..50).for_each(|_| assert!(handle.join_timeout(LIMIT).is_none()));
            visits.load(Ordering::SeqCst)
        });
        begin.wait();
        assert_eq!(pool.broadcast(|| visits.fetch_add(1, Ordering::SeqCst)), [0]);
        assert_eq!(waits.join().unwrap(), 0);
    });
    drop(busy);
}

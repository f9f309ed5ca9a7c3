//! `shutdown_now`, and what becomes of what it cancels.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};

use crate::support::{Census, OnDrop, WhenMeasured, each_shape, finishes, occupy, panic_of, quiet};
use cleanslate::{JoinHandle, Pool};
use futures_lite::future::block_on;

#[test]
fn shutdown_now_cancels_what_has_not_started_and_frees_it_at_once() {
    each_shape(|pool| {
        let census = Census::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let busy = occupy(pool);
        let handles: Vec<_> = (0..100)
            .map(|_| {
                let (token, runs) = (census.token(), Arc::clone(&runs));
                pool.submit(move || (runs.fetch_add(1, Ordering::SeqCst), token).0)
            })
            .collect();
        std::thread::scope(|s| {
            s.spawn(|| pool.shutdown_now().unwrap());
            // Before the running tasks are over.
            for handle in handles {
                assert!(handle.join().unwrap_err().is_cancelled());
            }
            while census.alive() != 0 {
                std::thread::yield_now();
            }
            drop(busy);
        });
        assert_eq!(runs.load(Ordering::SeqCst), 0);
        assert_eq!(pool.stats().cancelled, 100);
    });
}

#[test]
fn shutdown_now_ends_maps_scopes_and_broadcasts_with_a_panic() {
    each_shape(|pool| {
        let census = Census::default();
        let busy = occupy(pool);
        std::thread::scope(|s| {
            let map = s.spawn(|| panic_of(|| pool.map(0..10, |_| census.token())));
            let scope = s.spawn(|| {
                panic_of(|| {
                    pool.scope(|s| {
                        s.submit(|| census.token());
                    })
                })
            });
            let broadcast = s.spawn(|| panic_of(|| pool.broadcast(|| census.token())));
            // Whether the others are under way or come too late, they say the same.
            while pool.stats().queued != 1 {
                std::thread::yield_now();
            }
            let closer = s.spawn(|| pool.shutdown_now().unwrap());
            for said in [map, scope, broadcast].map(|thread| thread.join().unwrap()) {
                assert!(said.contains("shut down") || said.contains("cancelled"), "{said}");
            }
            assert_eq!(census.made(), 0);
            drop(busy);
            closer.join().unwrap();
        });
    });
}

// Broke: what was admitted before the cancellation, and delivered after it had looked, waited for
// the busy workers.
#[test]
fn shutdown_now_cancels_what_is_submitted_meanwhile() {
    finishes("submitting meanwhile", || {
        for _ in 0..300 {
            let pool = Pool::new(2).unwrap();
            let busy = occupy(&pool);
            std::thread::scope(|s| {
                let broadcast = s.spawn(|| panic_of(|| pool.broadcast(|| ())));
                let job = s.spawn(|| pool.submit(|| ()).join().unwrap_err().is_cancelled());
                let closer = s.spawn(|| pool.shutdown_now().unwrap());
                assert!(broadcast.join().unwrap().contains("shut down"));
                assert!(job.join().unwrap());
                drop(busy);
                closer.join().unwrap();
            });
        }
    });
}

#[test]
fn shutdown_now_stops_a_running_map() {
    each_shape(|pool| {
        let (inputs, outputs) = (Census::default(), Census::default());
        let (tell, told) = mpsc::channel();
        let first = AtomicBool::new(true);
        std::thread::scope(|s| {
            let map = s.spawn(|| {
                panic_of(|| {
                    let items = std::iter::repeat_with(|| inputs.token());
                    pool.map(items, |_token| {
                        if first.swap(false, Ordering::SeqCst) {
                            tell.send(()).unwrap();
                        }
                        outputs.token()
                    })
                })
            });
            told.recv().unwrap();
            pool.shutdown_now().unwrap();
            assert_eq!(map.join().unwrap(), "the pool is shut down");
        });
        assert_eq!((inputs.alive(), outputs.alive()), (0, 0));
    });
}

#[test]
fn a_task_of_a_pool_that_was_shut_down_now_is_told_so() {
    each_shape(|pool| {
        let (go, gate) = mpsc::channel::<()>();
        let (tell, started) = mpsc::channel();
        let inner = pool.clone();
        let task = pool.submit(move || {
            tell.send(()).unwrap();
            assert!(gate.recv().is_err());
            let said = [
                panic_of(|| inner.scope(|_| ())),
                panic_of(|| inner.map([1], |n| n)),
                panic_of(|| inner.broadcast(|| ())),
            ];
            (said, inner.try_reserve().unwrap_err().is_shut_down())
        });
        started.recv().unwrap();
        pool.shutdown_background_now();
        drop(go);
        let (said, is_shut_down) = task.join().unwrap();
        assert_eq!(said, ["the pool is shut down"; 3]);
        assert!(is_shut_down);
    });
}

/// Waits for a task in its drop, if nobody else has.
struct JoinsInDrop(Arc<Mutex<Option<JoinHandle<()>>>>);

impl Drop for JoinsInDrop {
    fn drop(&mut self) {
        let running = self.0.lock().unwrap().take();
        if let Some(running) = running {
            running.join().unwrap();
        }
    }
}

// Broke: a task that submitted while its pool was cancelled helped to end what was on the queue. So
// the drop of what was ended waited on top of the very task that it waited for.
#[test]
fn what_is_cancelled_may_wait_in_its_drop_for_a_task_that_submits() {
    finishes("the shutdown", || {
        for _ in 0..200 {
            let pool = Pool::new(1).unwrap();
            let (tell, submits) = mpsc::channel();
            let theirs = pool.clone();
            let begin = Arc::new(Barrier::new(2));
            let begins = Arc::clone(&begin);
            let running = pool.submit(move || {
                begins.wait();
                while !theirs.submit(|| ()).is_cancelled() {
                    // Nobody listens any more when the pool is being cancelled.
                    let _told = tell.send(());
                }
            });
            begin.wait();
            let place = Arc::new(Mutex::new(None));
            for _ in 0..30 {
                let joins = JoinsInDrop(Arc::clone(&place));
                drop(pool.submit(move || drop(joins)));
            }
            *place.lock().unwrap() = Some(running);
            submits.recv().unwrap();
            drop(submits);
            pool.shutdown_now().unwrap();
        }
    });
}

// Whoever cancels drops one task after the other, and waits in the first drop.
#[test]
fn what_is_cancelled_may_leave_the_wait_for_another_task_to_a_thread() {
    finishes("a thread that waits", || {
        let pool = Pool::new(1).unwrap();
        let busy = occupy(&pool);
        let (give, given) = mpsc::channel::<JoinHandle<()>>();
        let waits = OnDrop::new(move || {
            let second = given.recv().unwrap();
            let ended = std::thread::spawn(move || block_on(second).unwrap_err().is_cancelled());
            assert!(ended.join().unwrap());
        });
        let first = pool.submit(move || drop(waits));
        give.send(pool.submit(|| ())).unwrap();
        pool.shutdown_background_now();
        drop(busy);
        assert!(first.join().unwrap_err().is_cancelled());
        assert_eq!(pool.stats().cancelled, 2);
    });
}

// Broke: each lay on top of the one before, until the stack was at its end.
#[test]
fn what_is_cancelled_may_shut_the_pool_down_in_its_drop() {
    const TASKS: usize = 20_000;

    for on_a_worker in [false, true] {
        finishes("shutdowns in drops", move || {
            let census = Census::default();
            let pool = Pool::new(1).unwrap();
            let busy = occupy(&pool);
            let weak = pool.downgrade();
            let stop = move || {
                if let Some(pool) = weak.upgrade() {
                    pool.shutdown_background_now();
                }
            };
            if on_a_worker {
                drop(pool.submit(stop.clone()));
            }
            for _ in 0..TASKS {
                let (token, stop) = (census.token(), stop.clone());
                let stops = OnDrop::new(move || (drop(token), stop()).1);
                drop(pool.submit(move || drop(stops)));
            }
            if !on_a_worker {
                stop();
                assert_eq!(census.alive(), 0, "here and now");
            }
            drop(busy);
            pool.shutdown().unwrap();
            assert_eq!((census.alive(), pool.stats().cancelled), (0, TASKS as u64));
        });
    }
}

// Broke: a helper that looked for more found the pool shut down, and all results were lost, though
// there was nothing more.
#[test]
fn shutdown_now_takes_nothing_from_a_map_of_which_everything_has_begun() {
    each_shape(|pool| {
        let n = pool.workers();
        let barrier = Barrier::new(n + 1);
        let items: Vec<usize> = (0..n).collect();
        let work = |n: usize| {
            barrier.wait();
            while !pool.try_reserve().is_err_and(|error| error.is_shut_down()) {
                std::thread::yield_now();
            }
            n
        };
        std::thread::scope(|s| {
            let closer = s.spawn(|| {
                barrier.wait();
                pool.shutdown_now().unwrap();
            });
            assert_eq!(pool.map_slice(&items, |n| work(*n)), items);
            closer.join().unwrap();
        });
    });
}

#[test]
fn what_a_map_returns_is_whole_whenever_the_pool_is_shut_down() {
    type Way = fn(&Pool, &[u64]) -> u64;
    let ways: [Way; 4] = [
        |pool, items| pool.map_slice(items, |n| *n).iter().sum(),
        |pool, items| pool.map(items, |n| *n).iter().sum(),
        |pool, items| pool.map_reduce(items, |n| *n, || 0, |a, b| a + b),
        |pool, items| pool.map_results(items, |n| *n).into_iter().map(Result::unwrap).sum(),
    ];
    let items: Vec<u64> = (0..20_000).collect();
    finishes("maps until a shutdown", move || {
        quiet();
        let mut whole = 0;
        for round in 0..400_u64 {
            let pool = Pool::new(1 + round as usize / 4 % 3).unwrap();
            std::thread::scope(|s| {
                let map = s.spawn(|| {
                    let sum = || ways[round as usize % 4](&pool, &items);
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(sum))
                });
                let began = std::time::Instant::now();
                while began.elapsed() < std::time::Duration::from_micros(round % 97 * 4) {}
                pool.shutdown_now().unwrap();
                if let Ok(sum) = map.join().unwrap() {
                    assert_eq!(sum, items.iter().sum(), "round {round}");
                    whole += 1;
                }
            });
        }
        println!("{whole} of 400 were whole");
    });
}

#[test]
fn a_reduction_of_which_everything_has_begun_is_whole() {
    const LAST: u64 = 999;
    finishes("the end of a reduction", || {
        let whole = |_| {
            let pool = Pool::new(2).unwrap();
            let first = OnceLock::new();
            let (second_has_come, last_has_begun) = (AtomicBool::new(false), Barrier::new(2));
            let until = |is_done: &dyn Fn() -> bool| {
                while !is_done() {
                    std::thread::yield_now();
                }
            };
            let is_shut_down = || pool.try_reserve().is_err_and(|error| error.is_shut_down());
            let item = |n: u64| {
                let me = std::thread::current().id();
                if *first.get_or_init(|| me) != me {
                    // It finds the pool shut down, and leaves.
                    second_has_come.store(true, Ordering::SeqCst);
                    until(&is_shut_down);
                } else if n == 1 || n == 2 {
                    until(&|| second_has_come.load(Ordering::SeqCst));
                } else if n == LAST {
                    last_has_begun.wait();
                    until(&|| is_shut_down() && pool.stats().running == 1);
                }
                n
            };
            std::thread::scope(|s| {
                let closer = s.spawn(|| {
                    last_has_begun.wait();
                    pool.shutdown_now().unwrap();
                });
                let items = (0..).take_while(|n| *n <= LAST);
                let sum = || pool.map_reduce(items, item, || 0, |a, b| a + b);
                let sum = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sum));
                closer.join().unwrap();
                sum.is_ok_and(|sum| {
                    assert_eq!(sum, LAST * (LAST + 1) / 2);
                    true
                })
            })
        };
        quiet();
        // Unless a chunk happens to end with the last item, so that the next one would be empty.
        assert!((0..20).any(whole));
    });
}

// The worker that would come to the second task may be busy for ever, and the thread that cancels
// waits in the drop of the first.
#[test]
fn a_plain_thread_that_waits_for_a_task_of_a_cancelled_pool_ends_it() {
    finishes("a thread that the drop of another task waits for", || {
        let pool = Pool::new(1).unwrap();
        let busy = occupy(&pool);
        let (tell, told) = mpsc::channel::<JoinHandle<()>>();
        let (begin, begun) = mpsc::channel();
        let waits = std::thread::spawn(move || {
            begun.recv().unwrap();
            told.recv().unwrap().join().unwrap_err().is_cancelled()
        });
        let drops = OnDrop::new(move || {
            begin.send(()).unwrap();
            assert!(waits.join().unwrap());
        });
        drop(pool.submit(move || drop(drops)));
        tell.send(pool.submit(|| ())).unwrap();
        pool.shutdown_background_now();
        drop(busy);
    });
}

#[test]
fn a_map_that_a_cancelled_pool_has_let_in_waits_for_no_worker_that_is_busy() {
    each_shape(|pool| {
        let busy = occupy(pool);
        let again = pool.clone();
        let cancels = WhenMeasured::new(move || again.shutdown_background_now());
        assert_eq!(panic_of(|| pool.map(cancels, |()| ())), "the pool is shut down");
        drop(busy);
    });
}

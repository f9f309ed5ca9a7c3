//! `wait_idle`: a moment at which nothing is left to do.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::yield_now;

use crate::support::{OnDrop, SHAPES, each_shape, finishes, occupy, panic_of, quiet, retiring};
use cleanslate::{JoinHandle, Pool, WeakPool};

#[test]
fn everything_that_was_submitted_is_over_and_what_that_has_submitted() {
    each_shape(|pool| {
        pool.wait_idle();
        let runs = Arc::new(AtomicUsize::new(0));
        for round in 1..=200 {
            for _ in 0..10 {
                let (runs, inner) = (Arc::clone(&runs), pool.clone());
                drop(pool.submit(move || {
                    drop(inner.submit(move || runs.fetch_add(1, Ordering::Relaxed)));
                }));
            }
            pool.wait_idle();
            assert_eq!(runs.load(Ordering::Relaxed), 10 * round);
            let stats = pool.stats();
            assert_eq!((stats.queued, stats.running), (0, 0));
        }
    });
}

#[test]
fn tasks_that_panic_are_cancelled_or_spoil_their_worker_are_over_too() {
    quiet();
    each_shape(|pool| {
        for _ in 0..20 {
            drop(pool.submit(|| panic!("on purpose")));
            drop(pool.in_context(&retiring()).submit(|| ()));
            assert!(pool.submit(|| 1).cancel() || pool.workers() > 0);
            pool.wait_idle();
            assert_eq!(pool.stats().queued, 0);
        }
    });
}

// Work goes on coming all the time; each waiter is told of the first idle moment after its call.
#[test]
fn several_threads_wait_at_the_same_time() {
    each_shape(|pool| {
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for n in 0..200 {
                        let handle = pool.submit(move || n);
                        pool.wait_idle();
                        assert!(handle.is_finished());
                        pool.map_range(0..10, |n| n);
                        pool.scope(|s| drop(s.submit(|| ())));
                    }
                });
            }
        });
    });
}

#[test]
fn it_waits_for_a_map_that_another_thread_runs() {
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            let (begun, has_begun) = mpsc::channel();
            let (go, gate) = mpsc::channel::<()>();
            let gate = std::sync::Mutex::new(gate);
            std::thread::scope(|s| {
                s.spawn(|| {
                    pool.for_each(0..1, |_| {
                        begun.send(()).unwrap();
                        assert!(gate.lock().unwrap().recv().is_err());
                    });
                });
                has_begun.recv().unwrap();
                let waits = s.spawn(|| pool.wait_idle());
                assert!(!waits.is_finished());
                drop(go);
                waits.join().unwrap();
                assert_eq!(pool.stats().running, 0);
            });
        });
    }
}

#[test]
fn inside_a_task_of_the_pool_it_panics_and_inside_one_of_another_pool_it_waits() {
    each_shape(|pool| {
        let inner = pool.clone();
        let error = pool.submit(move || inner.wait_idle()).join().unwrap_err();
        assert!(error.message().unwrap().contains("waits until the pool is idle"), "{error}");
        assert!(panic_of(|| pool.for_each(0..3, |_| pool.wait_idle())).contains("is idle"));
        assert!(panic_of(|| pool.broadcast(|| pool.wait_idle())).contains("is idle"));
        // Of its tasks, the first item of a map runs on the plain thread.
        let helped = Pool::builder().workers(1).caller_helps(true).build().unwrap();
        assert!(panic_of(|| helped.for_each(0..1, |_| helped.wait_idle())).contains("is idle"));
        let other = Pool::new(1).unwrap();
        let through = pool.clone();
        let nested = other.submit(move || {
            let ran = through.submit(|| 7);
            through.wait_idle();
            assert!(ran.is_finished());
            // A task of the first pool on top of this one.
            through.submit({
                let through = through.clone();
                move || through.wait_idle()
            })
        });
        assert!(nested.join().unwrap().join().unwrap_err().is_panic());
    });
}

#[test]
fn on_a_thread_of_the_pool_it_panics_also_outside_of_tasks() {
    thread_local! { static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    finishes("hooks and destructors", || {
        static POOL: OnceLock<WeakPool> = OnceLock::new();
        let (tell, told) = mpsc::channel();
        let wait = move |place: &'static str| {
            // Of another handle, so that this thread's is not the last one.
            let pool = POOL.get().unwrap().upgrade().unwrap();
            tell.send((place, panic_of(|| pool.wait_idle()))).unwrap();
        };
        let stops = wait.clone();
        let pool = Pool::builder().workers(1).on_worker_stop(move |_| stops("hook"));
        let pool = pool.build().unwrap();
        POOL.set(pool.downgrade()).unwrap();
        pool.broadcast(|| {
            let wait = wait.clone();
            AT_EXIT.set(Some(OnDrop::new(move || wait("destructor"))));
        });
        pool.shutdown().unwrap();
        drop(wait);
        let all: Vec<_> = told.try_iter().collect();
        assert_eq!(all.iter().map(|(place, _)| *place).collect::<Vec<_>>(), ["hook", "destructor"]);
        assert!(all.iter().all(|(_, words)| words.contains("waits until the pool is idle")));
    });
}

#[test]
fn of_a_pool_that_closes_it_waits_for_what_drains_or_is_cancelled() {
    each_shape(|pool| {
        let handles: Vec<JoinHandle<_>> = (0..100).map(|n| pool.submit(move || n)).collect();
        pool.shutdown_background();
        pool.wait_idle();
        assert!(handles.iter().all(JoinHandle::is_finished));
        pool.shutdown().unwrap();
        pool.wait_idle();
        let second = Pool::new(pool.workers()).unwrap();
        let busy = occupy(&second);
        let waiting = second.submit(|| 1);
        std::thread::scope(|s| {
            let waits = s.spawn(|| second.wait_idle());
            second.shutdown_background_now();
            assert!(waiting.is_cancelled());
            drop(busy);
            waits.join().unwrap();
        });
    });
}

#[test]
fn a_thread_that_helps_tells_those_who_wait() {
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::builder().workers(workers).caller_helps(true).build().unwrap();
            let busy = occupy(&pool);
            let (begun, has_begun) = mpsc::channel();
            let (go, gate) = mpsc::channel::<()>();
            std::thread::scope(|s| {
                let own = pool.submit(move || {
                    begun.send(()).unwrap();
                    assert!(gate.recv().is_err());
                });
                // The workers are busy, so it runs here.
                let helps = s.spawn(|| own.join().unwrap());
                has_begun.recv().unwrap();
                drop(busy);
                let waits = s.spawn(|| pool.wait_idle());
                while pool.stats().running > 1 {
                    yield_now();
                }
                drop(go);
                waits.join().unwrap();
                helps.join().unwrap();
            });
        });
    }
}

// Broke: a worker looked whether anybody waits when its loop had nothing to do, which a hook that
// blocks delays for ever.
#[test]
fn a_hook_that_takes_its_time_holds_nobody_up() {
    quiet();
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let (go, gate) = mpsc::channel::<()>();
            let gate = std::sync::Mutex::new(gate);
            let pool = Pool::builder()
                .workers(workers)
                .on_worker_stop(move |_| assert!(gate.lock().unwrap().recv().is_err()))
                .build()
                .unwrap();
            drop(pool.in_context(&retiring()).submit(|| (0..50).for_each(|_| yield_now())));
            pool.wait_idle();
            drop(go);
        });
        finishes(&format!("{workers} workers that start"), move || {
            let (give, given) = mpsc::channel::<Pool>();
            let (go, gate) = mpsc::channel::<()>();
            let (joins, has_joined) = mpsc::channel();
            let hook = std::sync::Mutex::new((given, gate));
            let first = std::sync::Once::new();
            let pool = Pool::builder()
                .workers(workers)
                .on_worker_start(move |_| {
                    first.call_once(|| {
                        let (given, gate) = &*hook.lock().unwrap();
                        let pool = given.recv().unwrap();
                        let task = || (0..50).for_each(|_| yield_now());
                        let handle = pool.submit(task);
                        joins.send(()).unwrap();
                        handle.join().unwrap();
                        assert!(gate.recv().is_err());
                    });
                })
                .build()
                .unwrap();
            give.send(pool.clone()).unwrap();
            has_joined.recv().unwrap();
            pool.wait_idle();
            drop(go);
        });
    }
}

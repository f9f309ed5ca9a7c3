//! A worker's birth, hooks, renewal and death: `src/pool/scheduler/worker.rs` has the states.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use crate::support::{
    Census, Counted, OnDrop, SHAPES, each_shape, finishes, occupy, panic_of, quiet, retiring,
};
use cleanslate::{JoinHandle, Pool, WeakPool};

thread_local! {
    static AT_EXIT: RefCell<Vec<OnDrop>> = const { RefCell::new(Vec::new()) };
    static TOKEN: RefCell<Option<Counted>> = const { RefCell::new(None) };
}

/// How a hook finds its pool: put there after the pool was built.
type Where = Arc<OnceLock<WeakPool>>;

fn pool_at(place: &Where) -> Option<Pool> {
    // The first hooks can be earlier than the end of `build`.
    loop {
        match place.get() {
            Some(weak) => return weak.upgrade(),
            None => std::thread::yield_now(),
        }
    }
}

#[test]
fn hooks_run_once_for_each_thread_in_pairs() {
    quiet();
    for workers in SHAPES {
        finishes("pairs", move || {
            let (starts, stops) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (start, stop) = (Arc::clone(&starts), Arc::clone(&stops));
            let pool = Pool::builder()
                .workers(workers)
                .on_worker_start(move |_| {
                    start.fetch_add(1, Ordering::SeqCst);
                })
                .on_worker_stop(move |_| {
                    stop.fetch_add(1, Ordering::SeqCst);
                })
                .build()
                .unwrap();
            let context = retiring();
            for _ in 0..20 {
                assert!(pool.in_context(&context).submit(|| ()).join().is_err());
            }
            pool.broadcast(|| ());
            pool.shutdown().unwrap();
            let threads = workers as u64 + pool.stats().renewed;
            let seen = [&starts, &stops].map(|count| count.load(Ordering::SeqCst) as u64);
            assert_eq!(seen, [threads, threads]);
            assert!(pool.stats().renewed >= 20 - workers as u64);
        });
    }
}

// Broke: a hook submitted after the last worker had looked, and its task was never run; `shutdown`
// hung.
#[test]
fn what_hooks_submit_while_the_pool_is_open_runs_and_afterwards_is_refused() {
    quiet();
    for workers in SHAPES {
        finishes("submitting hooks", move || {
            for round in 0..50 {
                let place = Where::default();
                let handles: Arc<Mutex<Vec<JoinHandle<i32>>>> = Arc::default();
                let hook = |place: &Where, handles: &Arc<Mutex<Vec<JoinHandle<i32>>>>| {
                    let (place, handles) = (Arc::clone(place), Arc::clone(handles));
                    move |_: usize| {
                        if let Some(pool) = pool_at(&place) {
                            let handle = pool.submit(|| 7);
                            handles.lock().unwrap().push(handle);
                        }
                    }
                };
                let pool = Pool::builder()
                    .workers(workers)
                    .on_worker_start(hook(&place, &handles))
                    .on_worker_stop(hook(&place, &handles))
                    .build()
                    .unwrap();
                place.set(pool.downgrade()).unwrap();
                if round % 2 == 0 {
                    drop(pool.in_context(&retiring()).submit(|| ()));
                }
                pool.shutdown().unwrap();
                let stats = pool.stats();
                assert_eq!((stats.queued, stats.running), (0, 0), "{stats:?}");
                let taken = std::mem::take(&mut *handles.lock().unwrap());
                for handle in taken {
                    assert!(handle.is_finished(), "nothing is left behind");
                    match handle.join() {
                        Ok(n) => assert_eq!(n, 7),
                        Err(error) => assert!(error.is_cancelled()),
                    }
                }
            }
        });
    }
}

// Broke: the hook did not count as a task then, and waited for the worker that it was running on.
#[test]
fn a_start_hook_on_a_closed_pool_runs_what_it_waits_for() {
    quiet();
    finishes("start hook", || {
        let (place, waiting) = (Where::default(), Arc::new(Mutex::new(None::<JoinHandle<i32>>)));
        let (stop_place, theirs, starts) =
            (Arc::clone(&place), Arc::clone(&waiting), AtomicUsize::new(0));
        let (tell, told) = mpsc::channel();
        let pool = Pool::builder()
            .workers(1)
            // The first one ends as a worker to be replaced, on an open pool; its successor starts
            // on a closed one.
            .on_worker_stop(move |_| {
                if let Some(pool) = pool_at(&stop_place) {
                    pool.shutdown_background();
                }
            })
            .on_worker_start(move |_| {
                if starts.fetch_add(1, Ordering::SeqCst) == 1 {
                    let waiting = theirs.lock().unwrap().take().unwrap();
                    tell.send(waiting.join().unwrap()).unwrap();
                }
            })
            .build()
            .unwrap();
        place.set(pool.downgrade()).unwrap();
        let busy = occupy(&pool);
        drop(pool.in_context(&retiring()).submit(|| ()));
        *waiting.lock().unwrap() = Some(pool.submit(|| 7));
        drop(busy);
        assert_eq!(told.recv().unwrap(), 7);
        pool.shutdown().unwrap();
    });
}

// Broke: the task that the hook ran left its thread to be retired, so that the worker was replaced
// before it had served, and so was the next one, for ever.
#[test]
fn a_start_hook_that_spoils_its_thread_fails_and_the_worker_serves() {
    quiet();
    for workers in SHAPES {
        finishes("retiring", move || {
            let fail = |_: usize| assert!(retiring().try_run(|| ()).is_err());
            let (tell, told) = mpsc::channel();
            let pool = Pool::builder()
                .workers(workers)
                .on_worker_start(fail)
                .panic_hook(move |error| tell.send(error.to_string()).unwrap())
                .build()
                .unwrap();
            assert_eq!(pool.map(0..100, |n| n).len(), 100);
            assert_eq!(pool.broadcast(|| 1).len(), workers);
            pool.shutdown().unwrap();
            assert_eq!(pool.stats().renewed, 0);
            drop(pool);
            let said: Vec<_> = told.iter().collect();
            assert_eq!(said.len(), workers);
            assert!(said.iter().all(|text| text.contains("foreign state")), "{said:?}");
            let required = Pool::builder().workers(workers).on_worker_start(fail);
            let error = required.require_worker_start(true).build().unwrap_err();
            assert!(
                error.is_worker_start() && error.to_string().contains("foreign state"),
                "{error}"
            );
            let fail_first = move |index| {
                fail(index);
                panic!("on purpose");
            };
            let required = Pool::builder().workers(workers).on_worker_start(fail_first);
            let error = required.require_worker_start(true).build().unwrap_err();
            assert!(error.to_string().contains("on purpose"), "{error}");
        });
    }
}

#[test]
fn a_worker_whose_start_is_required_serves_only_after_one_that_went_well() {
    quiet();
    for workers in SHAPES {
        finishes("required", move || {
            let (starts, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let theirs = Arc::clone(&starts);
            thread_local! { static READY: Cell<bool> = const { Cell::new(false) }; }
            let pool = Pool::builder()
                .workers(workers)
                .require_worker_start(true)
                .on_worker_start(move |_| {
                    // The first replacement fails, and is replaced.
                    let start = theirs.fetch_add(1, Ordering::SeqCst);
                    assert_ne!(start, workers, "on purpose");
                    READY.set(true);
                })
                .build()
                .unwrap();
            assert_eq!(starts.load(Ordering::SeqCst), workers, "`build` waits for all of them");
            let all_ready = || {
                let count = Arc::clone(&served);
                pool.broadcast(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    READY.get()
                })
            };
            assert!(all_ready().into_iter().all(|ready| ready));
            assert!(pool.in_context(&retiring()).submit(|| ()).join().is_err());
            assert!(all_ready().into_iter().all(|ready| ready));
            assert_eq!(starts.load(Ordering::SeqCst), workers + 2);
            assert_eq!(served.load(Ordering::SeqCst), 2 * workers);
        });
    }
}

#[test]
fn of_several_starts_that_fail_build_returns_one_and_every_thread_has_ended() {
    quiet();
    for workers in SHAPES {
        finishes("all fail", move || {
            let census = Census::new();
            let tokens = census.clone();
            let error = Pool::builder()
                .workers(workers)
                .require_worker_start(true)
                .on_worker_start(move |index| {
                    TOKEN.set(Some(tokens.token()));
                    panic!("worker {index}, on purpose")
                })
                .build()
                .unwrap_err();
            assert!(error.is_worker_start() && error.to_string().contains("on purpose"), "{error}");
            assert_eq!((census.made(), census.alive()), (workers, 0));
        });
    }
}

// Broke: the task that built the pool blocked without running visits, for which the hook waited.
#[test]
fn build_inside_a_task_runs_visits_while_it_waits_for_start_hooks() {
    each_shape(|pool| {
        let outer = pool.clone();
        let built = pool.submit(move || {
            let visiting = outer.clone();
            let hook = move |_| assert_eq!(visiting.broadcast(|| 1).len(), visiting.workers());
            let builder = Pool::builder().workers(2).on_worker_start(hook);
            builder.require_worker_start(true).build().unwrap().map(0..3, |n| n)
        });
        assert_eq!(built.join().unwrap(), [0, 1, 2]);
    });
}

// Broke: a rejected submission from a worker that had left its loop was counted for a moment, in
// which the others fell asleep, and woke nobody.
#[test]
fn destructors_whose_submissions_are_rejected_hold_nobody_up() {
    for workers in SHAPES {
        finishes("rejected", move || {
            let census = Census::new();
            for _ in 0..200 {
                let pool = Pool::new(workers).unwrap();
                pool.broadcast(|| {
                    let (weak, census) = (pool.downgrade(), census.clone());
                    AT_EXIT.with_borrow_mut(|all| {
                        all.push(OnDrop::new(move || {
                            let Some(pool) = weak.upgrade() else { return };
                            let (first, second) = (census.token(), census.token());
                            let joined = pool.submit(move || drop(first)).join();
                            assert!(joined.is_err_and(|error| error.is_cancelled()));
                            assert!(pool.try_submit(move || drop(second)).is_err());
                        }));
                    });
                });
                pool.shutdown().unwrap();
                assert_eq!(pool.stats().queued, 0);
            }
            assert_eq!((census.alive(), census.made()), (0, 400 * workers));
        });
    }
}

// Broke: the successor was started only after the thread had ended, which waited for it.
#[test]
fn a_replaced_worker_may_wait_for_its_successor_to_its_very_end() {
    quiet();
    for workers in SHAPES {
        finishes("successor", move || {
            let pool = Pool::builder().workers(workers).queue_capacity(1).build().unwrap();
            let ends = Arc::new(AtomicUsize::new(0));
            for _ in 0..20 {
                let (weak, ends) = (pool.downgrade(), Arc::clone(&ends));
                let leaves = move || {
                    let waits = OnDrop::new(move || {
                        let pool = weak.upgrade().unwrap();
                        for _ in 0..3 {
                            drop(pool.submit(|| ()));
                        }
                        assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
                        assert_eq!(pool.broadcast(|| 1).len(), pool.workers());
                        assert_eq!(pool.map(0..10, |n| n).len(), 10);
                        assert_eq!(pool.worker_index(), None, "it serves no more");
                        ends.fetch_add(1, Ordering::SeqCst);
                    });
                    AT_EXIT.with_borrow_mut(|all| all.push(waits));
                };
                assert!(pool.in_context(&retiring()).submit(leaves).join().is_err());
            }
            while ends.load(Ordering::SeqCst) != 20 {
                std::thread::yield_now();
            }
            assert_eq!(pool.stats().renewed, 20);
            pool.shutdown().unwrap();
        });
    }
}

#[test]
fn a_shutdown_waits_for_the_threads_that_were_replaced_too() {
    quiet();
    for workers in SHAPES {
        finishes("replaced", move || {
            for way in 0..4 {
                let census = Census::new();
                let pool = Pool::new(workers).unwrap();
                let (go, gate) = mpsc::channel::<()>();
                let gate = Arc::new(Mutex::new(gate));
                for _ in 0..10 {
                    let (token, gate) = (census.token(), Arc::clone(&gate));
                    let leaves = move || {
                        let waits = OnDrop::new(move || {
                            // Until all have been replaced, and the sender is gone.
                            let _gone = gate.lock().unwrap().recv();
                            drop(token);
                        });
                        AT_EXIT.with_borrow_mut(|all| all.push(waits));
                    };
                    assert!(pool.in_context(&retiring()).submit(leaves).join().is_err());
                }
                drop(go);
                match way {
                    0 => pool.shutdown().unwrap(),
                    1 => pool.shutdown_now().unwrap(),
                    2 => pool.shutdown_timeout(std::time::Duration::MAX).unwrap(),
                    _ => drop(pool),
                }
                assert_eq!(census.alive(), 0);
            }
        });
    }
}

// Broke: the workers went on taking tasks off the queue, and ran them, while another thread
// cancelled it.
#[test]
fn a_worker_that_is_replaced_is_the_failure_of_its_task_only() {
    quiet();
    each_shape(|pool| {
        for n in 1..=3 {
            assert!(pool.in_context(&retiring()).submit(|| ()).join().is_err());
            pool.broadcast(|| ());
            let stats = pool.stats();
            assert_eq!((stats.failed, stats.panicked, stats.unobserved), (n, 0, 0));
            assert_eq!(stats.renewed, n);
        }
    });
}

#[test]
fn shutdown_now_starts_nothing_more() {
    for workers in SHAPES {
        finishes("starts nothing", move || {
            let pool = Pool::new(workers).unwrap();
            let busy = occupy(&pool);
            let runs = Arc::new(AtomicUsize::new(0));
            for _ in 0..20_000 {
                let runs = Arc::clone(&runs);
                drop(pool.submit(move || runs.fetch_add(1, Ordering::SeqCst)));
            }
            std::thread::scope(|s| {
                s.spawn(|| pool.shutdown_now().unwrap());
                // A submission is refused from the closing on, and the cancellation comes after it.
                while pool.stats().cancelled == 0 {
                    std::thread::yield_now();
                }
                // The queue is being emptied now, and the workers take from it as well.
                drop(busy);
            });
            assert_eq!(runs.load(Ordering::SeqCst), 0);
        });
    }
}

#[test]
fn a_task_that_waits_for_the_end_of_another_pool_is_visited_meanwhile() {
    each_shape(|pool| {
        let inner = pool.clone();
        let task = pool.submit(move || {
            // The other pool ends only after a task of it has broadcast on this one.
            for way in 0..3 {
                let other = Pool::new(1).unwrap();
                let visiting = inner.clone();
                let visits = other.submit(move || visiting.broadcast(|| 1).len());
                match way {
                    0 => other.shutdown().unwrap(),
                    1 => other.shutdown_timeout(std::time::Duration::MAX).unwrap(),
                    _ => drop(other),
                }
                assert_eq!(visits.join().unwrap(), inner.workers());
            }
        });
        task.join().unwrap();
    });
}

#[test]
fn a_pool_that_was_let_go_of_drains_or_cancels_in_the_background() {
    for workers in SHAPES {
        finishes("background", move || {
            for cancels in [false, true] {
                let (queued, threads) = (Census::new(), Census::new());
                let pool = Pool::new(workers).unwrap();
                pool.broadcast(|| TOKEN.set(Some(threads.token())));
                let (go, gate) = mpsc::channel::<()>();
                let gate = Arc::new(Mutex::new(gate));
                let busy: Vec<_> = (0..workers)
                    .map(|_| {
                        let gate = Arc::clone(&gate);
                        let (tell, told) = mpsc::channel();
                        let handle = pool.submit(move || {
                            tell.send(()).unwrap();
                            let _gone = gate.lock().unwrap().recv();
                        });
                        told.recv().unwrap();
                        handle
                    })
                    .collect();
                let waiting: Vec<_> = (0..10)
                    .map(|_| {
                        let token = queued.token();
                        pool.submit(move || drop(token))
                    })
                    .collect();
                match cancels {
                    false => pool.shutdown_background(),
                    true => pool.shutdown_background_now(),
                }
                assert_eq!(queued.alive(), if cancels { 0 } else { 10 });
                assert_eq!(panic_of(|| pool.map(0..1, |n| n)), "the pool is shut down");
                // Comes back, though the workers are busy.
                drop(pool);
                drop(go);
                for handle in busy {
                    handle.join().unwrap();
                }
                let ran = waiting
                    .into_iter()
                    .filter(|_| true)
                    .map(JoinHandle::join)
                    .filter(Result::is_ok)
                    .count();
                assert_eq!(ran, if cancels { 0 } else { 10 });
                while threads.alive() != 0 {
                    std::thread::yield_now();
                }
            }
        });
    }
}

#[test]
fn after_a_timeout_the_last_handle_does_not_wait() {
    finishes("limit", || {
        let pool = Pool::new(1).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let busy = pool.submit(move || gate.recv());
        let limit = std::time::Duration::from_millis(1);
        assert!(pool.shutdown_timeout(limit).unwrap_err().is_timed_out());
        drop(pool);
        go.send(()).unwrap();
        busy.join().unwrap().unwrap();
    });
}

//! `shutdown`, `shutdown_timeout` and `Drop`, from outside and from inside.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use crate::support::{
    Census, Counted, OnDrop, SHAPES, each_shape, finishes, message, occupy, panic_of, quiet,
    retiring,
};
use cleanslate::{Context, JoinHandle, Pool, task_local};
use futures_lite::future::block_on;

thread_local! {
    static AT_EXIT: RefCell<Option<Counted>> = const { RefCell::new(None) };
}

#[test]
fn a_shutdown_drains_and_tasks_that_drain_may_submit() {
    each_shape(|pool| {
        let runs = Arc::new(AtomicUsize::new(0));
        // The handles outlive the pool's closing, the pool itself is only borrowed.
        let (go, gate) = mpsc::channel::<()>();
        std::thread::scope(|s| {
            let count = Arc::clone(&runs);
            let (tell, started) = mpsc::channel();
            s.spawn(move || {
                pool.scope(|scope| {
                    let count = &count;
                    scope.submit(move || {
                        tell.send(()).unwrap();
                        gate.recv().unwrap();
                        // Closed by now; every way of submitting still works.
                        let nested = pool.submit(|| 1);
                        pool.scope(|s| {
                            s.submit(|| count.fetch_add(1, Ordering::SeqCst));
                        });
                        let more = pool.map(0..10, |n| n).len();
                        let all = pool.broadcast(|| ()).len();
                        let count = Arc::clone(count);
                        drop(pool.submit(move || count.fetch_add(1, Ordering::SeqCst)));
                        assert_eq!((nested.join().unwrap(), more), (1, 10));
                        assert_eq!(all, pool.workers());
                    });
                });
            });
            started.recv().unwrap();
            s.spawn(|| pool.shutdown().unwrap());
            while pool.try_submit(|| ()).is_ok() {
                std::thread::yield_now();
            }
            go.send(()).unwrap();
        });
        pool.shutdown().unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        assert_eq!((pool.stats().queued, pool.stats().running), (0, 0));
    });
}

#[test]
fn thread_local_destructors_have_run_when_any_shutdown_returns() {
    for workers in SHAPES {
        finishes("teardown", move || {
            for way in 0..4 {
                let census = Census::default();
                let pool = Pool::new(workers).unwrap();
                pool.broadcast(|| AT_EXIT.set(Some(census.token())));
                assert_eq!(census.alive(), workers);
                match way {
                    0 => pool.shutdown().unwrap(),
                    1 => pool.shutdown_timeout(Duration::from_secs(60)).unwrap(),
                    2 => pool.shutdown_now().unwrap(),
                    _ => drop(pool),
                }
                assert_eq!(census.alive(), 0);
            }
        });
    }
}

#[test]
fn concurrent_shutdowns_all_wait() {
    each_shape(|pool| {
        let census = Census::default();
        pool.broadcast(|| AT_EXIT.set(Some(census.token())));
        let busy = occupy(pool);
        let barrier = Barrier::new(5);
        std::thread::scope(|s| {
            for n in 0..4 {
                let (barrier, census) = (&barrier, &census);
                s.spawn(move || {
                    barrier.wait();
                    match n {
                        0 => pool.shutdown_timeout(Duration::from_secs(60)).unwrap(),
                        1 => pool.shutdown_now().unwrap(),
                        _ => pool.shutdown().unwrap(),
                    }
                    assert_eq!(census.alive(), 0);
                });
            }
            barrier.wait();
            drop(busy);
        });
    });
}

#[test]
fn a_timeout_gives_up_while_a_task_or_a_destructor_hangs() {
    struct Stuck(mpsc::Receiver<()>);
    impl Drop for Stuck {
        fn drop(&mut self) {
            // Until the sender is gone.
            let _open = self.0.recv();
        }
    }
    thread_local! {
        static STUCK: RefCell<Option<Stuck>> = const { RefCell::new(None) };
    }
    finishes("stuck", || {
        let pool = Pool::new(1).unwrap();
        let (open, gate) = mpsc::channel();
        pool.submit(move || STUCK.set(Some(Stuck(gate)))).join().unwrap();
        // Twice: who comes later does not take the threads that somebody joins for joined.
        for _ in 0..2 {
            let error = pool.shutdown_timeout(Duration::from_millis(20)).unwrap_err();
            assert!(error.is_timed_out() && !error.is_on_worker());
        }
        assert!(pool.shutdown_timeout(Duration::ZERO).unwrap_err().is_timed_out());
        drop(open);
        pool.shutdown().unwrap();
    });
}

#[test]
fn a_task_cannot_shut_its_own_pool_down() {
    each_shape(|pool| {
        let from_task = |f: &(dyn Fn() -> bool + Sync)| pool.map([()], |()| f())[0];
        assert!(from_task(&|| pool.shutdown().unwrap_err().is_on_worker()));
        assert!(from_task(&|| pool.shutdown_now().unwrap_err().is_on_worker()));
        let limit = Duration::from_secs(1);
        assert!(from_task(&|| pool.shutdown_timeout(limit).unwrap_err().is_on_worker()));
        // Nor on a thread of another pool that runs the task inline, below yet another task.
        let other = Pool::new(1).unwrap();
        let refused = other.map([()], |()| {
            pool.map([()], |()| other.map([()], |()| pool.shutdown().is_err())[0])[0]
        });
        assert_eq!(refused, [true]);
        // The pool is still open.
        assert_eq!(pool.submit(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn the_last_owner_may_die_inside_a_task() {
    for workers in SHAPES {
        finishes("detach", move || {
            let census = Census::default();
            let pool = Arc::new(Pool::new(workers).unwrap());
            let (go, gate) = mpsc::channel::<()>();
            let (tell, told) = mpsc::channel();
            let inner = Arc::clone(&pool);
            let token = census.token();
            let last = pool.submit(move || {
                gate.recv().unwrap();
                // Work that is queued when the pool is dropped, right here.
                for n in 0..10 {
                    let tell = tell.clone();
                    drop(inner.submit(move || tell.send(n).unwrap()));
                }
                AT_EXIT.set(Some(token));
                assert_eq!(Arc::strong_count(&inner), 1);
                drop(inner);
                "survived"
            });
            drop(pool);
            go.send(()).unwrap();
            assert_eq!(last.join().unwrap(), "survived");
            let mut drained: Vec<i32> = told.iter().collect();
            drained.sort_unstable();
            assert_eq!(drained, (0..10).collect::<Vec<_>>());
            // The workers end by themselves.
            while census.alive() != 0 {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn after_a_shutdown_everything_says_so() {
    each_shape(|pool| {
        pool.shutdown().unwrap();
        pool.shutdown().unwrap();
        let census = Census::default();
        let token = census.token();
        let handle = pool.submit(move || drop(token));
        assert_eq!(census.alive(), 0);
        assert!(handle.is_finished() && !handle.cancel());
        assert!(handle.join().unwrap_err().is_cancelled());
        let token = census.token();
        let error = pool.try_submit(move || drop(token)).unwrap_err();
        assert!(error.is_shut_down() && census.alive() == 1);
        drop(error.into_inner());
        assert_eq!(panic_of(|| pool.map([1], |n| n)), "the pool is shut down");
        assert_eq!(panic_of(|| pool.map_slice(&[1], |n| *n)), "the pool is shut down");
        assert_eq!(panic_of(|| pool.broadcast(|| ())), "the pool is shut down");
        assert_eq!(pool.stats().queued, 0);
    });
}

#[test]
fn a_pool_of_a_running_map_can_be_closed_and_the_map_completes() {
    each_shape(|pool| {
        let (tell, told) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        std::thread::scope(|s| {
            let map = s.spawn(|| {
                pool.map(0..1_000, |n| {
                    if n == 0 {
                        tell.send(()).unwrap();
                        gate.lock().unwrap().recv().unwrap();
                    }
                    n
                })
            });
            told.recv().unwrap();
            let closer = s.spawn(|| pool.shutdown().unwrap());
            while pool.try_submit(|| ()).is_ok() {
                std::thread::yield_now();
            }
            go.send(()).unwrap();
            assert_eq!(map.join().unwrap().len(), 1_000);
            closer.join().unwrap();
        });
    });
}

// All ways into a bounded pool at once, while it ends in each way: what comes in runs or is
// cancelled, nobody waits for ever, and nothing is left.
#[test]
fn whatever_comes_in_while_a_bounded_pool_ends_runs_or_is_cancelled() {
    let ends: [fn(&Pool); 5] = [
        |pool| pool.shutdown().unwrap(),
        |pool| pool.shutdown_now().unwrap(),
        |pool| pool.shutdown_timeout(Duration::MAX).unwrap(),
        |pool| pool.shutdown_background(),
        |pool| pool.shutdown_background_now(),
    ];
    let seven = |census: &Census| {
        let token = census.token();
        move || {
            let _owned = &token;
            7
        }
    };
    /// Whether it ran; otherwise it was cancelled.
    fn ran(handle: JoinHandle<i32>) -> bool {
        let joined = handle.join();
        match &joined {
            Ok(n) => assert_eq!(*n, 7),
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
        joined.is_ok()
    }
    /// Whether it was done; otherwise the pool was shut down.
    fn done<R>(f: impl FnOnce() -> Vec<R>) -> bool {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(results) => !results.is_empty(),
            Err(payload) => {
                let said = message(&*payload);
                assert!(said.contains("shut down"), "{said}");
                false
            }
        }
    }
    for workers in SHAPES {
        for (way, end) in ends.into_iter().enumerate() {
            finishes(&format!("end {way}"), move || {
                for _ in 0..10 {
                    let census = Census::new();
                    let pool = Pool::builder().workers(workers).queue_capacity(1).build().unwrap();
                    std::thread::scope(|s| {
                        s.spawn(|| while ran(pool.submit(seven(&census))) {});
                        s.spawn(|| {
                            loop {
                                match pool.try_submit(seven(&census)) {
                                    Ok(handle) => _ = ran(handle),
                                    Err(refused) if refused.is_full() => std::thread::yield_now(),
                                    Err(_) => break,
                                }
                            }
                        });
                        s.spawn(|| {
                            while block_on(pool.reserve())
                                .is_ok_and(|permit| ran(permit.submit(seven(&census))))
                            {
                            }
                        });
                        s.spawn(|| while done(|| pool.broadcast(seven(&census))) {});
                        s.spawn(|| while done(|| pool.map(0..3, |_| census.token())) {});
                        while pool.stats().completed < 30 {
                            std::thread::yield_now();
                        }
                        end(&pool);
                    });
                    pool.shutdown().unwrap();
                    assert_eq!(census.alive(), 0);
                    let stats = pool.stats();
                    assert_eq!((stats.queued, stats.running), (0, 0), "{stats:?}");
                }
            });
        }
    }
}

#[test]
fn a_thread_that_ran_tasks_of_a_pool_waits_for_its_end_afterwards() {
    finishes("afterwards", || {
        let (first, second) = (Pool::new(1).unwrap(), Pool::new(1).unwrap());
        let busy = occupy(&second);
        let (again, other) = (first.clone(), second.clone());
        // On one thread, three deep: the second pool's worker is busy.
        let task = first.submit(move || {
            other.submit(move || again.submit(|| 7).join().unwrap()).join().unwrap()
        });
        assert_eq!(task.join().unwrap(), 7);
        drop(busy);
        let other = second.clone();
        first.submit(move || other.shutdown()).join().unwrap().unwrap();
    });
}

// Broke: the last handle waited for a task, and that for what the context beside it held.
#[test]
fn the_context_of_a_handle_goes_before_the_handle() {
    #[derive(Clone)]
    struct Held(#[expect(dead_code, reason = "is dropped")] Option<mpsc::Sender<()>>);
    task_local! {
        #[inherit]
        static HELD: Held = Held(None);
    }
    finishes("the drop of the last handle", || {
        let pool = Pool::new(1).unwrap();
        let (held, let_go) = mpsc::channel();
        let given = HELD.scope(Held(Some(held)), || pool.in_context(&Context::capture()));
        let waits = pool.detached().submit(move || let_go.recv().is_err());
        drop(pool);
        drop(given);
        assert!(waits.join().unwrap());
    });
}

// Broke: in a thread's teardown only the innermost of several pools was known.
#[test]
fn a_shutdown_from_within_what_the_pool_waits_for_fails_in_a_threads_teardown_too() {
    struct Hint<F>(F);
    impl<F: Fn()> Iterator for Hint<F> {
        type Item = ();
        fn next(&mut self) -> Option<()> {
            None
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            self.0();
            (0, None)
        }
    }
    thread_local! { static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    finishes("the shutdown", || {
        let pools = [Pool::new(1).unwrap(), Pool::new(1).unwrap()];
        let failed = Arc::new(AtomicUsize::new(0));
        let tries = {
            let failed = Arc::clone(&failed);
            move || {
                let [one, other] = &pools;
                let shuts_down = || {
                    assert!(one.shutdown().is_err());
                    failed.fetch_add(1, Ordering::SeqCst);
                };
                one.map(Hint(|| drop(other.map(Hint(shuts_down), |()| ()))), |()| ());
            }
        };
        let thread = std::thread::spawn(move || {
            let again = tries.clone();
            AT_EXIT.set(Some(OnDrop::new(again)));
            tries();
        });
        thread.join().unwrap();
        assert!(failed.load(Ordering::SeqCst) >= 2);
    });
}

// It would wait for itself.
#[test]
fn a_worker_that_has_been_replaced_cannot_wait_for_the_end_of_its_pool() {
    thread_local! { static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    quiet();
    finishes("at its end", || {
        let pool = Pool::new(1).unwrap();
        let again = pool.clone();
        let (go, gate) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let at_exit = OnDrop::new(move || {
            let limit = Duration::MAX;
            let ended = [again.shutdown(), again.shutdown_now(), again.shutdown_timeout(limit)];
            let refused = ended.map(|ended| ended.is_err_and(|error| error.is_on_worker()));
            let _last = gate.recv();
            drop(again);
            tell.send(refused).unwrap();
        });
        let leaves = pool.in_context(&retiring()).submit(move || AT_EXIT.set(Some(at_exit)));
        assert!(leaves.join().is_err());
        drop((pool, go));
        assert_eq!(told.recv().unwrap(), [true; 3]);
    });
}

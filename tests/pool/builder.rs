//! The builder: names, stacks, hooks, and what it refuses. And what a pool says of itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};

use crate::support::{alone, deeper, each_shape, finishes, occupy, pause, quiet};
use cleanslate::{Pool, TaskError, WeakPool};

#[test]
fn impossible_pools_are_refused() {
    assert!(Pool::new(0).unwrap_err().is_no_workers());
    assert!(Pool::new(usize::MAX).unwrap_err().is_too_many_workers());
    let refused = |builder: cleanslate::PoolBuilder| builder.workers(1).build().unwrap_err();
    assert!(refused(Pool::builder().stack_size(0)).is_stack_size());
    assert!(refused(Pool::builder().stack_size(usize::MAX)).is_stack_size());
    assert!(refused(Pool::builder().name("a\0b")).is_name());
    assert!(refused(Pool::builder().queue_capacity(0)).is_queue_capacity());
}

#[test]
fn a_thread_that_the_system_refuses_is_an_error_and_the_others_end() {
    finishes("refused", || {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&ended);
        // No address space has room for even one of these stacks.
        let error = Pool::builder()
            .workers(3)
            .stack_size(isize::MAX as usize)
            .on_worker_stop(move |index| log.lock().unwrap().push(index))
            .build()
            .unwrap_err();
        assert!(error.is_thread(), "{error}");
        assert!(std::error::Error::source(&error).is_some());
        assert!(error.to_string().contains("worker 0"));
    });
}

#[test]
fn threads_are_named_and_have_the_stack_that_was_asked_for() {
    finishes("names", || {
        let pool = Pool::builder().workers(3).name("web").stack_size(48 << 20).build().unwrap();
        let names = pool.broadcast(|| std::thread::current().name().map(str::to_owned));
        assert_eq!(names.map_all(), ["web-0", "web-1", "web-2"]);
        // Far beyond the two mebibytes of the default.
        let deep = pool.submit(|| {
            fn fill(levels: usize) -> usize {
                let block = std::hint::black_box([1_u8; 1 << 20]);
                if levels == 0 { 0 } else { fill(levels - 1) + usize::from(block[levels]) }
            }
            fill(10)
        });
        assert_eq!(deep.join().unwrap(), 10);
    });
}

#[test]
fn the_default_stack_is_stds() {
    const MARK: &str = "CLEANSLATE_TEST_STACK";
    if std::env::var_os(MARK).is_none() {
        let mut alone = alone("builder::the_default_stack_is_stds", "");
        let ended = alone.env(MARK, "").env("RUST_MIN_STACK", (16 << 20).to_string()).output();
        assert!(ended.unwrap().status.success());
        return;
    }
    // It is known how much is left, too.
    let pool = Pool::new(1).unwrap();
    let inner = pool.clone();
    let nests = move || deeper(8 << 10, &|| inner.submit(|| 5).join().unwrap());
    assert_eq!(pool.submit(nests).join().unwrap(), 5);
}

trait MapAll {
    fn map_all(self) -> Vec<String>;
}

impl MapAll for Vec<Option<String>> {
    fn map_all(self) -> Vec<String> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn the_default_is_a_worker_per_processor() {
    let pool = Pool::builder().build().unwrap();
    assert_eq!(pool.workers(), std::thread::available_parallelism().unwrap().get());
}

#[test]
fn hooks_run_once_per_worker_around_all_tasks() {
    for workers in crate::support::SHAPES {
        finishes("hooks", move || {
            let log = Arc::new(Mutex::new(Vec::new()));
            let (starts, stops) = (Arc::clone(&log), Arc::clone(&log));
            let pool = Pool::builder()
                .workers(workers)
                .on_worker_start(move |index| {
                    starts.lock().unwrap().push(("start", index, std::thread::current().id()));
                })
                .on_worker_stop(move |index| {
                    stops.lock().unwrap().push(("stop", index, std::thread::current().id()));
                })
                .build()
                .unwrap();
            let ids = pool.broadcast(|| std::thread::current().id());
            pool.shutdown().unwrap();
            let log = log.lock().unwrap();
            assert_eq!(log.len(), 2 * workers);
            for (index, id) in ids.into_iter().enumerate() {
                for what in ["start", "stop"] {
                    assert_eq!(log.iter().filter(|e| **e == (what, index, id)).count(), 1);
                }
            }
        });
    }
}

#[test]
fn a_hook_that_began_while_the_pool_was_open_submits_after_it_was_closed() {
    for workers in crate::support::SHAPES {
        finishes("hooks", move || {
            let place = Arc::new(OnceLock::<WeakPool>::new());
            let (theirs, open) = (Arc::clone(&place), Arc::new(Barrier::new(workers + 1)));
            let (began, closed) = (Arc::clone(&open), Arc::new(Barrier::new(workers + 1)));
            let (goes_on, (tell, told)) = (Arc::clone(&closed), mpsc::channel());
            let hook = move |_| {
                began.wait();
                goes_on.wait();
                let pool = theirs.get().and_then(WeakPool::upgrade).unwrap();
                tell.send(pool.submit(|| 5)).unwrap();
            };
            let pool = Pool::builder().workers(workers).on_worker_start(hook).build().unwrap();
            place.set(pool.downgrade()).unwrap();
            open.wait();
            pool.shutdown_background();
            closed.wait();
            for handle in told.iter().take(workers) {
                assert_eq!(handle.join().unwrap(), 5);
            }
        });
    }
}

#[test]
fn panicking_hooks_are_contained_and_reported() {
    for workers in crate::support::SHAPES {
        finishes("hooks", move || {
            let heard = Arc::new(Mutex::new(HashSet::new()));
            let log = Arc::clone(&heard);
            let pool = Pool::builder()
                .workers(workers)
                .on_worker_start(|index| panic!("start {index}"))
                .on_worker_stop(|index| panic!("stop {index}"))
                .panic_hook(move |error: TaskError| {
                    assert!(log.lock().unwrap().insert(error.to_string()));
                })
                .build()
                .unwrap();
            assert_eq!(pool.map(0..100, |n| n).len(), 100);
            pool.shutdown().unwrap();
            let heard = heard.lock().unwrap();
            assert_eq!(heard.len(), 2 * workers);
            assert!(heard.iter().any(|text| text.contains("on_worker_stop of worker 0")));
        });
    }
}

#[test]
fn a_worker_is_neutral_at_birth() {
    // Started while the building thread runs a task: the worker is a plain one all the same.
    each_shape(|pool| {
        let inner = pool.map([()], |()| Pool::new(1).unwrap());
        assert_eq!(inner[0].submit(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn stats_follow_the_tasks() {
    each_shape(|pool| {
        let workers = pool.workers();
        let busy = occupy(pool);
        let waiting: Vec<_> = (0..3).map(|_| pool.submit(|| ())).collect();
        let stats = pool.stats();
        assert_eq!((stats.workers, stats.running, stats.queued), (workers, workers, 3));
        drop(busy);
        for handle in waiting {
            handle.join().unwrap();
        }
        let before = pool.stats();
        assert_eq!((before.completed, before.queued, before.inline), (workers as u64 + 3, 0, 0));
        pool.map(0..10, |n| n);
        pool.broadcast(|| ());
        let after = pool.stats();
        assert_eq!(after.completed, before.completed + 10 + workers as u64);
        pool.map([()], |()| pool.scope(|s| s.submit(|| ()).cancel()));
        let last = pool.stats();
        // Unless another worker was quicker than the cancellation.
        assert_eq!(last.completed + last.cancelled, after.completed + 2);
        let shown = format!("{:?}", pool.named("resize"));
        assert!(shown.contains("completed") && shown.contains("task_name: Some(\"resize\")"));
    });
}

#[test]
fn inline_runs_are_counted() {
    finishes("inline", || {
        let pool = Pool::new(1).unwrap();
        let other = Pool::new(1).unwrap();
        let n = pool.map([()], |()| {
            let own = pool.submit(|| 1).join().unwrap();
            let busy = occupy(&other);
            // The other pool's worker is taken, so its task runs on this thread.
            let foreign = other.submit(|| 2).join().unwrap();
            drop(busy);
            own + foreign
        });
        assert_eq!(n, [3]);
        assert_eq!((pool.stats().inline, other.stats().inline), (1, 1));
        assert_eq!((pool.stats().completed, other.stats().completed), (2, 2));
    });
}

// Broke: inside a task the failed pool was let go of, and its threads ended at some time after.
#[test]
fn a_build_that_fails_inside_a_task_returns_when_every_thread_has_ended() {
    quiet();
    each_shape(|pool| {
        let build = || {
            let stopped = Arc::new(AtomicUsize::new(0));
            let theirs = Arc::clone(&stopped);
            let error = Pool::builder()
                .workers(3)
                .require_worker_start(true)
                .on_worker_start(|index| assert_ne!(index, 2, "on purpose"))
                .on_worker_stop(move |_| {
                    // Long enough for a `build` that does not wait to be over before.
                    pause();
                    theirs.fetch_add(1, Ordering::SeqCst);
                })
                .build();
            assert!(error.unwrap_err().is_worker_start());
            stopped.load(Ordering::SeqCst)
        };
        assert_eq!((build(), pool.submit(build).join().unwrap()), (3, 3));
    });
}

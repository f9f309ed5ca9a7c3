//! What is watched, counted and reported.

use super::*;

#[test]
fn a_callback_is_told_the_name_the_place_the_worker_and_the_leaks() {
    for workers in SHAPES {
        let log = Log::default();
        let pool = Arc::new(pool(workers, log.of(Sentinel::new())));
        let theirs = Arc::clone(&pool);
        let here = Location::caller().line();
        let worker = pool
            .named("billing")
            .submit(move || {
                TENANT.set(9);
                USER.set(8);
                theirs.worker_index()
            })
            .join()
            .unwrap();
        let [told] = &log.all()[..] else { panic!("{:?}", log.all()) };
        assert_eq!(told.task.as_deref(), Some("billing"));
        assert_eq!(told.submitted.file(), file!());
        assert_eq!(told.submitted.line(), here + 3);
        assert_eq!(Some(told.worker), worker);
        assert!(!told.renews);
        let mut paths = told.paths.clone();
        paths.sort_unstable();
        assert_eq!(paths, ["sentinel::pool::TENANT", "sentinel::pool::USER"]);
        assert_eq!(pool.stats().leaks, 1);
        // Nothing was mended.
        assert_eq!(pool.stats().renewed, 0);
    }
}

#[test]
fn a_task_is_reported_before_its_end_can_be_seen() {
    for workers in SHAPES {
        let log = Log::default();
        let pool = pool(workers, log.of(Sentinel::new()));
        for n in 1..200 {
            pool.submit(dirty).join().unwrap();
            assert_eq!((log.all().len(), pool.stats().leaks), (n, n as u64));
        }
    }
}

// Broke: what a map keeps from item to item is put together and dropped outside of the items'
// tasks, where nobody watched.
#[test]
fn what_a_map_keeps_is_watched_where_it_belongs_to_no_item() {
    struct Leaves;
    impl Drop for Leaves {
        fn drop(&mut self) {
            dirty();
        }
    }
    each_shape_of(
        |workers| pool(workers, Sentinel::new()),
        |pool| {
            for n in 1..=20 {
                let put_together = |a: u64, b: u64| {
                    dirty();
                    a + b
                };
                assert_eq!(pool.reduce([1, 2], || 0, put_together), 3);
                assert_eq!(pool.stats().leaks, n, "one pair was put together");
            }
            let made = AtomicUsize::new(0);
            let make = || {
                made.fetch_add(1, Ordering::SeqCst);
                Leaves
            };
            pool.map_init(0..20, make, |_, n| n);
            assert_eq!(pool.stats().leaks, 20 + made.into_inner() as u64);
        },
    );
}

// Broke: a task that ran on top took the item's number away.
// Broke: it was reported as of a `map_reduce`, which nobody had called.
#[test]
fn what_a_reduction_leaves_where_parts_meet_has_its_name() {
    let log = Log::default();
    let pool = pool(2, log.of(Sentinel::new()));
    // Within a chunk the right one is a single item.
    let add = |a: u64, b: u64| (a + b, (b > 1).then(dirty)).0;
    let names = || log.take().into_iter().filter_map(|told| told.task).collect::<HashSet<_>>();
    assert_eq!(pool.reduce(vec![1; BURST], || 0, add), BURST as u64);
    assert_eq!(names(), HashSet::from(["reduce".to_owned()]));
    pool.named("sum").map_reduce(0..BURST, |_| 1, || 0, add);
    assert_eq!(names(), HashSet::from(["sum: map_reduce".to_owned()]));
}

#[test]
fn an_item_that_waits_for_another_task_is_reported_by_its_number() {
    each_shape_of(
        |workers| {
            let log = Log::default();
            (pool(workers, log.of(Sentinel::new())), log)
        },
        |(pool, log)| {
            let inner = pool.detached();
            let item = move |n: usize| {
                if n % 7 == 0 {
                    dirty();
                }
                inner.submit(|| ()).join().unwrap();
            };
            assert_eq!(pool.imap_unordered(0..50, item).count(), 50);
            let items: HashSet<_> = log.take().into_iter().map(|told| told.item).collect();
            assert_eq!(items, (0..50).step_by(7).map(Some).collect());
        },
    );
}

// Broke: the report said that the task was the last item that its drop had run.
#[test]
fn a_task_whose_drop_runs_items_is_none_of_them() {
    struct RunsItems(Pool);
    impl Drop for RunsItems {
        fn drop(&mut self) {
            assert_eq!(self.0.imap(0..5, |n| n).count(), 5);
            dirty();
        }
    }
    const STACK: usize = 1 << 20;
    finishes("a drop that runs items", || {
        let log = Log::default();
        let watched = pool(1, log.of(Sentinel::new()));
        let canceller = Pool::builder().workers(1).stack_size(STACK).build().unwrap();
        let other = Pool::new(1).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let (stop, stopped) = mpsc::channel::<()>();
        // Keep the worker of `other` busy, so that its items run where they are waited for, and the
        // task in the queue until it is cancelled.
        let busy = other.submit(move || stopped.recv().unwrap());
        let first = watched.submit(move || gate.recv().unwrap());
        let value = RunsItems(other);
        let handle = watched.named("cancelled").submit(move || drop(value));
        // Where hardly any stack is left, the drop is left to the worker.
        let cancel = move || {
            let room = [0_u8; STACK / 10 * 9];
            let is_cancelled = handle.cancel();
            black_box(&room);
            is_cancelled
        };
        assert!(canceller.submit(cancel).join().unwrap());
        go.send(()).unwrap();
        first.join().unwrap();
        watched.submit(|| ()).join().unwrap();
        stop.send(()).unwrap();
        busy.join().unwrap();
        let [told] = &log.all()[..] else { panic!("{:?}", log.all()) };
        assert_eq!((told.task.as_deref(), told.item), (Some("cancelled"), None));
    });
}

// Broke: what the stop hook and the panic hook waited for was watched, counted, and renewed for.
#[test]
fn no_hook_is_watched_nor_the_tasks_that_it_waits_for() {
    quiet();
    finishes("hooks that wait for tasks", || {
        let log = Log::default();
        let place: Arc<Mutex<Option<Pool>>> = Arc::default();
        let (tell, told) = mpsc::channel();
        let theirs = Arc::clone(&place);
        let leaves = move |hook: &'static str| {
            let pool = theirs.lock().unwrap().clone();
            if let Some(pool) = pool {
                pool.submit(dirty).join().unwrap();
                pool.map(0..3, |_| dirty());
                tell.send(hook).unwrap();
            }
        };
        let leaves = Arc::new(leaves);
        let (starts, stops, fails) = (leaves.clone(), leaves.clone(), leaves);
        let pool = builder(1, log.of(Sentinel::new().renew(u32::MAX, HOUR)))
            .on_worker_start(move |_| starts("start"))
            .on_worker_stop(move |_| stops("stop"))
            .panic_hook(move |_| fails("panic"))
            .build()
            .unwrap();
        pool.submit(|| ()).join().unwrap();
        *place.lock().unwrap() = Some(pool.clone());
        // Not before its handle is gone, or this thread would hear of it.
        let (go, gate) = mpsc::channel::<()>();
        drop(pool.submit(move || {
            let _gone = gate.recv();
            panic!("on purpose");
        }));
        drop(go);
        assert_eq!(told.recv(), Ok("panic"));
        pool.named("the only one").submit(dirty).join().unwrap();
        // In either order: the successor does not wait for the end of the old thread.
        let mut hooks = [told.recv().unwrap(), told.recv().unwrap()];
        hooks.sort_unstable();
        assert_eq!(hooks, ["start", "stop"]);
        place.lock().unwrap().take();
        pool.shutdown().unwrap();
        let tasks: Vec<_> = log.take().into_iter().map(|told| told.task).collect();
        assert_eq!(tasks, [Some("the only one".to_owned())]);
        assert_eq!((pool.stats().leaks, pool.stats().renewed), (1, 1));
    });
}

#[test]
fn every_way_into_a_pool_is_watched_task_by_task() {
    each_shape_of(
        |workers| pool(workers, Sentinel::new()),
        |pool| {
            let mut expected = 0;
            let mut now = |what: &str, n: u64| {
                expected += n;
                assert_eq!(pool.stats().leaks, expected, "{what}");
            };
            drop(pool.submit(dirty).join());
            now("submit", 1);
            drop(pool.try_submit(dirty).unwrap().join());
            now("try_submit", 1);
            pool.scope(|s| {
                s.submit(dirty);
                s.submit(|| ());
                s.submit(dirty);
            });
            now("scope", 2);
            let third = |n: &usize| if n % 3 == 0 { dirty() } else { 0 };
            let items: Vec<usize> = (0..300).collect();
            pool.map(&items, third);
            now("map", 100);
            pool.map_slice(&items, third);
            now("map_slice", 100);
            pool.map_range(0..300_usize, |n| third(&n));
            now("map_range", 100);
            pool.try_map(&items, |n| Ok::<_, ()>(third(n))).unwrap();
            now("try_map", 100);
            drop(pool.map_results(&items, third));
            now("map_results", 100);
            assert_eq!(pool.imap(items.clone(), move |n| third(&n)).count(), 300);
            now("imap", 100);
            assert_eq!(pool.imap_unordered(items.clone(), move |n| third(&n)).count(), 300);
            now("imap_unordered", 100);
            pool.broadcast(dirty);
            now("broadcast", pool.workers() as u64);
            drop(pool.detached().named("x").submit(dirty).join());
            now("detached", 1);
            drop(pool.in_context(&Context::empty()).submit(dirty).join());
            now("in_context", 1);
        },
    );
}

#[test]
fn in_a_burst_exactly_the_dirty_tasks_are_counted() {
    for (workers, nth) in SHAPES.into_iter().zip([2, 7, 100]) {
        let pool = pool(workers, Sentinel::new());
        let tasks = (0..BURST).map(|n| {
            pool.submit(move || {
                if n % nth == 0 {
                    dirty();
                }
            })
        });
        let handles: Vec<_> = tasks.collect();
        for handle in handles {
            handle.join().unwrap();
        }
        assert_eq!(pool.stats().leaks, BURST.div_ceil(nth) as u64, "every {nth}th");
        pool.map_range(0..BURST, |n| {
            if n % nth == 0 {
                dirty();
            }
        });
        assert_eq!(pool.stats().leaks, 2 * BURST.div_ceil(nth) as u64, "every {nth}th item");
    }
}

#[test]
fn what_a_panicking_task_left_is_reported_as_well() {
    quiet();
    for workers in SHAPES {
        let log = Log::default();
        let pool = pool(workers, log.of(Sentinel::new()));
        let task = || {
            dirty();
            panic!("on purpose");
        };
        let error = pool.submit(task).join().unwrap_err();
        assert_eq!(error.message(), Some("on purpose"));
        assert_eq!(log.all().len(), 1);
    }
}

#[test]
fn a_callback_that_panics_costs_a_report_only() {
    quiet();
    let (tell, told) = mpsc::channel();
    let pool = builder(1, Sentinel::new().report(|_| panic!("on purpose")))
        .panic_hook(move |error| tell.send(error.to_string()).unwrap())
        .build()
        .unwrap();
    assert_eq!(pool.named("first").submit(dirty).join().unwrap(), 0);
    assert_eq!(pool.submit(dirty).join().unwrap(), 1);
    assert!(told.recv().unwrap().starts_with("task `first` (#0) panicked: on purpose"));
    let stats = pool.stats();
    assert_eq!((stats.leaks, stats.unobserved, stats.panicked), (2, 2, 0));
}

#[test]
fn a_callback_whose_payload_cannot_be_dropped_costs_a_report_only() {
    quiet();
    for workers in SHAPES {
        let pool = pool(workers, Sentinel::new().report(|_| Bomb::explode()));
        for n in 0..20 {
            drop(pool.submit(dirty).join());
            assert_eq!(pool.submit(move || n).join().unwrap(), n);
        }
        pool.map(0..20, |_| dirty());
        pool.shutdown().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.leaks, stats.unobserved, stats.renewed), (40, 40, 0));
    }
}

#[test]
fn an_incident_names_the_item_of_a_map() {
    each_shape_of(
        |workers| {
            let log = Log::default();
            (pool(workers, log.of(Sentinel::new())), log)
        },
        |(pool, log)| {
            let items = || {
                let mut items: Vec<_> = log.take().iter().map(|told| told.item).collect();
                items.sort_unstable();
                items
            };
            let every_tenth = |n: usize| if n % 10 == 7 { dirty() } else { 0 };
            let expected = [Some(7), Some(17), Some(27)];
            pool.map(0..30, every_tenth);
            assert_eq!(items(), expected, "map");
            pool.map_range(0..30, every_tenth);
            assert_eq!(items(), expected, "map_range");
            pool.map_slice(&(0..30).collect::<Vec<_>>(), |n| every_tenth(*n));
            assert_eq!(items(), expected, "map_slice");
            pool.try_map(0..30, |n| Ok::<_, ()>(every_tenth(n))).unwrap();
            assert_eq!(items(), expected, "try_map");
            drop(pool.map_results(0..30, every_tenth));
            assert_eq!(items(), expected, "map_results");
            assert_eq!(pool.imap(0..30, every_tenth).count(), 30);
            assert_eq!(items(), expected, "imap");
            assert_eq!(pool.imap_unordered(0..30, every_tenth).count(), 30);
            assert_eq!(items(), expected, "imap_unordered");
            // No item, even if it runs some.
            let theirs = pool.clone();
            pool.submit(move || {
                assert_eq!(theirs.imap(0..10, |n| n).count(), 10);
                dirty();
            })
            .join()
            .unwrap();
            assert_eq!(items(), [None], "a task with an imap");
            pool.broadcast(dirty);
            assert_eq!(items(), vec![None; pool.workers()], "broadcast");
        },
    );
}

#[test]
fn a_callback_may_wait_for_tasks_and_is_not_watched_itself() {
    let place: Arc<Mutex<Option<Arc<Pool>>>> = Arc::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let (theirs, count) = (Arc::clone(&place), Arc::clone(&calls));
    let sentinel = Sentinel::new().report(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let pool = theirs.lock().unwrap().clone().unwrap();
        // Were the watch still open, or a second one opened, this would come back here for ever.
        pool.submit(dirty).join().unwrap();
        USER.set(USER.get() + 1);
    });
    finishes("a callback that waits", move || {
        let pool = Arc::new(pool(1, sentinel));
        *place.lock().unwrap() = Some(Arc::clone(&pool));
        pool.submit(dirty).join().unwrap();
        pool.submit(|| ()).join().unwrap();
        assert_eq!((calls.load(Ordering::SeqCst), pool.stats().leaks), (1, 1));
        place.lock().unwrap().take();
    });
}

#[test]
fn what_runs_below_a_waiting_task_is_put_down_to_the_outermost_one() {
    let log = Log::default();
    let pool = Arc::new(pool(1, log.of(Sentinel::new())));
    let theirs = Arc::clone(&pool);
    let outer = pool.named("outer").submit(move || {
        theirs.named("inner").submit(dirty).join().unwrap();
        theirs.map(0..10, |_| dirty());
        // Put back, so not a leak of the outermost task: a watch cut in two would report it.
        USER.set(5);
        theirs.scope(|s| {
            s.submit(|| ());
        });
        USER.set(0);
    });
    outer.join().unwrap();
    let [told] = &log.all()[..] else { panic!("{:?}", log.all()) };
    assert_eq!(told.task.as_deref(), Some("outer"));
    assert_eq!(told.paths, ["sentinel::pool::TENANT"]);
}

#[test]
fn a_task_on_another_pools_worker_belongs_to_that_pools_watch() {
    finishes("two pools that call each other", || {
        let (ours, theirs) = (Log::default(), Log::default());
        let a = Arc::new(pool(1, ours.of(Sentinel::new())));
        let b = Arc::new(pool(1, theirs.of(Sentinel::new())));
        let (go, gate) = mpsc::channel::<()>();
        // Keeps the worker of `b` busy, so that its task runs on the worker of `a`.
        let busy = b.submit(move || gate.recv().unwrap());
        let other = Arc::clone(&b);
        let outer = a.named("outer").submit(move || other.submit(dirty).join().unwrap());
        outer.join().unwrap();
        go.send(()).unwrap();
        busy.join().unwrap();
        assert_eq!(ours.all().len(), 1);
        assert_eq!(ours.all()[0].task.as_deref(), Some("outer"));
        assert_eq!(theirs.all(), []);
    });
}

#[test]
fn what_is_dropped_or_pulled_on_a_worker_is_watched() {
    struct Dirty;
    impl Drop for Dirty {
        fn drop(&mut self) {
            dirty();
        }
    }
    for workers in SHAPES {
        let log = Log::default();
        let pool = pool(workers, log.of(Sentinel::new()));
        let (go, gate) = mpsc::channel::<()>();
        // The result is nobody's, so the worker drops it.
        drop(pool.named("result").submit(move || {
            gate.recv().unwrap();
            Dirty
        }));
        go.send(()).unwrap();
        while log.all().is_empty() {
            thread::yield_now();
        }
        assert_eq!(log.all()[0].task.as_deref(), Some("result"));
        // The closure itself.
        let value = Dirty;
        pool.named("capture").submit(move || drop(value)).join().unwrap();
        assert_eq!(log.all()[1].task.as_deref(), Some("capture"));
        // The iterator of a map runs on the workers.
        let mut pulled = 0;
        let items = std::iter::from_fn(|| {
            pulled += 1;
            (pulled < 4).then(dirty)
        });
        pool.named("items").map(items, |_| ());
        let told = log.all().split_off(2);
        assert!(!told.is_empty());
        assert!(told.iter().all(|told| told.task.as_deref() == Some("items")), "{told:?}");
    }
}

#[test]
fn a_leaky_pool_is_watched_too() {
    let pool = builder(1, Sentinel::new()).isolation(Isolation::Leaky).build().unwrap();
    pool.submit(dirty).join().unwrap();
    pool.map(0..10, |_| dirty());
    assert_eq!(pool.stats().leaks, 11);
}

#[test]
fn the_rules_of_the_sentinel_hold_in_the_pool() {
    let pool = pool(2, Sentinel::new().allow("sentinel::pool::TENANT"));
    pool.map(0..100, |_| dirty());
    assert_eq!(pool.stats().leaks, 0);
    pool.submit(|| USER.set(1)).join().unwrap();
    assert_eq!(pool.stats().leaks, 1);
}

// Broke: of two callbacks that cannot be dropped the second one ended the process.
#[test]
fn a_callback_that_is_replaced_costs_one_panic() {
    let census = Census::new();
    let (first, second) = (Fails::new(&census), Fails::new(&census));
    let words = panic_of(|| {
        drop(Sentinel::new().report(move |_| first.held()).report(move |_| second.held()));
    });
    assert!(words.contains("a drop"), "{words}");
    assert_eq!(census.alive(), 0);
}

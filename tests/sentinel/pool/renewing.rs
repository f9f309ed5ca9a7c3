//! The action that replaces a worker on which a task leaked.

use super::*;
use crate::support::{Stuck, finishes, retiring};

#[test]
fn no_task_finds_what_an_earlier_one_left() {
    for (workers, nth) in SHAPES.into_iter().zip([100, 150, 50]) {
        let pool = pool(workers, Sentinel::new().renew(u32::MAX, HOUR));
        let task = move |n: usize| if n % nth == 0 { dirty() } else { TENANT.get() };
        let handles: Vec<_> = (0..BURST).map(|n| pool.submit(move || task(n))).collect();
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(handle.join().unwrap(), 0, "task {n} of {workers} workers");
        }
        let found = pool.map(0..BURST, task);
        assert_eq!(found.iter().sum::<u64>(), 0, "items on {workers} workers");
        let leaks = 2 * BURST.div_ceil(nth) as u64;
        assert_eq!(pool.stats().leaks, leaks);
        pool.shutdown().unwrap();
        // The last thread on each worker slot may have had nothing left to do.
        let renewed = pool.stats().renewed;
        assert!((leaks - workers as u64..=leaks).contains(&renewed), "{renewed} of {leaks}");
    }
}

#[test]
fn every_item_of_every_kind_of_map_starts_clean() {
    each_shape_of(
        |workers| pool(workers, Sentinel::new().renew(u32::MAX, HOUR)),
        |pool| {
            let items: Vec<u32> = (0..60).collect();
            assert_eq!(pool.map(&items, |_| dirty()), [0; 60]);
            assert_eq!(pool.map_slice(&items, |_| dirty()), [0; 60]);
            assert_eq!(pool.map_range(0..60, |_| dirty()), [0; 60]);
            assert_eq!(pool.try_map(&items, |_| Ok::<_, ()>(dirty())).unwrap(), [0; 60]);
            assert!(
                pool.map_results(&items, |_| dirty()).iter().all(|r| *r.as_ref().unwrap() == 0)
            );
            assert_eq!(pool.imap(0..60, |_| dirty()).sum::<u64>(), 0);
            assert_eq!(pool.imap_unordered(0..60, |_| dirty()).sum::<u64>(), 0);
            assert_eq!(pool.broadcast(dirty).iter().sum::<u64>(), 0);
            assert_eq!(pool.broadcast(dirty).iter().sum::<u64>(), 0);
            assert_eq!(pool.stats().leaks, 7 * 60 + 2 * pool.workers() as u64);
        },
    );
}

/// Counts the threads that ended after they had touched it.
struct Ends(Arc<AtomicUsize>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static ENDS: RefCell<Option<Ends>> = const { RefCell::new(None) };
}

#[test]
fn each_dirty_task_ends_its_thread_with_all_destructors() {
    let ended = Arc::new(AtomicUsize::new(0));
    let pool = pool(1, Sentinel::new().renew(u32::MAX, HOUR));
    let mut threads = HashSet::new();
    for n in 0..100 {
        let theirs = Arc::clone(&ended);
        let leak = pool.submit(move || {
            ENDS.set(Some(Ends(theirs)));
            thread::current().id()
        });
        assert!(threads.insert(leak.join().unwrap()), "a thread ran two dirty tasks");
        // A clean task leaves the thread where it is.
        let here = pool.submit(|| thread::current().id());
        let there = pool.submit(|| thread::current().id());
        assert_eq!(here.join().unwrap(), there.join().unwrap());
        assert_eq!(pool.stats().renewed, n as u64 + 1);
    }
    // The successor does not wait for them: they might wait for it.
    pool.shutdown().unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 100);
}

#[test]
fn above_the_rate_workers_run_on_and_the_leaks_are_counted_and_reported() {
    for workers in SHAPES {
        let log = Log::default();
        let pool = pool(workers, log.of(Sentinel::new().renew(3, HOUR)));
        for _ in 0..50 {
            pool.submit(dirty).join().unwrap();
        }
        pool.map(0..50, |_| dirty());
        let told = log.all();
        assert_eq!((told.len(), pool.stats().leaks), (100, 100));
        assert_eq!(told.iter().filter(|told| told.renews).count(), 3);
        assert!(told[..3].iter().all(|told| told.renews));
        // A successor that has nothing to do would not be started after the shutdown.
        pool.broadcast(|| ());
        pool.shutdown().unwrap();
        assert_eq!(pool.stats().renewed, 3);
    }
}

#[test]
fn a_rate_of_none_never_renews() {
    let pool = pool(1, Sentinel::new().renew(0, HOUR));
    assert_eq!((0..10).map(|_| pool.submit(dirty).join().unwrap()).sum::<u64>(), 45);
    assert_eq!((pool.stats().leaks, pool.stats().renewed), (10, 0));
}

#[test]
fn a_worker_is_not_renewed_below_a_waiting_task() {
    each_shape_of(
        |workers| Arc::new(pool(workers, Sentinel::new().renew(u32::MAX, HOUR))),
        |pool| {
            fn nest(pool: &Arc<Pool>, depth: usize) -> usize {
                let here = thread::current().id();
                TENANT.set(TENANT.get() + 1);
                let theirs = Arc::clone(pool);
                let below = match depth {
                    0 => 1,
                    _ => pool.submit(move || nest(&theirs, depth - 1)).join().unwrap(),
                };
                pool.map(0..3, |_| dirty());
                pool.scope(|s| {
                    s.submit(dirty);
                });
                assert_eq!(thread::current().id(), here);
                below + 1
            }
            for _ in 0..20 {
                let theirs = Arc::clone(pool);
                assert_eq!(pool.submit(move || nest(&theirs, 20)).join().unwrap(), 22);
                assert_eq!(pool.broadcast(|| TENANT.get()).iter().sum::<u64>(), 0);
            }
        },
    );
}

#[test]
fn a_shutdown_that_races_with_renewals_drains_and_ends_every_thread() {
    for workers in SHAPES {
        for round in 0..20 {
            let ended = Arc::new(AtomicUsize::new(0));
            let pool = Arc::new(pool(workers, Sentinel::new().renew(u32::MAX, HOUR)));
            let handles: Vec<_> = (0..30)
                .map(|_| {
                    let theirs = Arc::clone(&ended);
                    pool.submit(move || ENDS.set(Some(Ends(theirs))))
                })
                .collect();
            for _ in 0..round {
                thread::yield_now();
            }
            let other = Arc::clone(&pool);
            finishes("shutdown", move || other.shutdown().unwrap());
            // Every task had a thread of its own, which has ended.
            assert_eq!(ended.load(Ordering::SeqCst), 30);
            for handle in handles {
                handle.join().unwrap();
            }
            assert_eq!(pool.stats().completed, 30);
        }
    }
}

#[test]
fn a_shutdown_now_that_races_with_renewals_loses_no_task() {
    for workers in SHAPES {
        for round in 0..20 {
            let pool = Arc::new(pool(workers, Sentinel::new().renew_always()));
            let ended = Arc::new(AtomicUsize::new(0));
            let handles: Vec<_> = (0..30)
                .map(|_| {
                    let theirs = Arc::clone(&ended);
                    pool.submit(move || ENDS.set(Some(Ends(theirs))))
                })
                .collect();
            for _ in 0..round {
                thread::yield_now();
            }
            let other = Arc::clone(&pool);
            finishes("shutdown_now", move || other.shutdown_now().unwrap());
            let ran = handles.into_iter().filter_map(|handle| handle.join().ok()).count();
            assert_eq!(ended.load(Ordering::SeqCst), ran);
            let stats = pool.stats();
            assert_eq!((stats.completed, stats.cancelled), (ran as u64, 30 - ran as u64));
        }
    }
}

#[test]
fn a_pool_dropped_inside_a_dirty_task_drains_on_renewed_workers() {
    for always in [false, true] {
        for workers in SHAPES {
            let sentinel = match always {
                true => Sentinel::new().renew_always(),
                false => Sentinel::new().renew(u32::MAX, HOUR),
            };
            let pool = Arc::new(pool(workers, sentinel));
            let (tell, told) = mpsc::channel();
            let (go, gate) = mpsc::channel::<()>();
            let last = Arc::clone(&pool);
            drop(pool.submit(move || {
                gate.recv().unwrap();
                dirty();
                drop(last);
            }));
            for _ in 0..20 {
                let tell = tell.clone();
                drop(pool.submit(move || tell.send(dirty()).unwrap()));
            }
            drop((pool, tell));
            go.send(()).unwrap();
            finishes("a pool without an owner", move || {
                assert_eq!(told.iter().collect::<Vec<_>>(), [0; 20]);
            });
        }
    }
}

#[test]
fn workers_are_renewed_while_others_are_busy() {
    let pool = pool(5, Sentinel::new().renew(u32::MAX, HOUR));
    for _ in 0..20 {
        // Only if all five are there do all come through, the fresh ones too.
        let barrier = Arc::new(Barrier::new(5));
        let tasks = (0..5).map(|_| {
            let barrier = Arc::clone(&barrier);
            pool.submit(move || {
                barrier.wait();
                dirty()
            })
        });
        let handles: Vec<_> = tasks.collect();
        let found = handles.into_iter().map(|handle| handle.join().unwrap()).sum::<u64>();
        assert_eq!(found, 0);
    }
    assert_eq!(pool.stats().workers, 5);
}

#[test]
fn hooks_run_on_every_thread_and_what_they_leave_is_not_the_tasks_fault() {
    let (starts, stops) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (starting, stopping) = (Arc::clone(&starts), Arc::clone(&stops));
    let pool = builder(1, Sentinel::new().renew(u32::MAX, HOUR))
        .on_worker_start(move |_| {
            starting.fetch_add(1, Ordering::SeqCst);
            USER.set(77);
        })
        .on_worker_stop(move |_| {
            stopping.fetch_add(1, Ordering::SeqCst);
            USER.set(78);
        })
        .build()
        .unwrap();
    for _ in 0..10 {
        assert_eq!(pool.submit(|| USER.get()).join().unwrap(), 77);
        pool.submit(dirty).join().unwrap();
    }
    assert_eq!(pool.stats().leaks, 10);
    pool.shutdown().unwrap();
    let renewed = usize::try_from(pool.stats().renewed).unwrap();
    assert_eq!(starts.load(Ordering::SeqCst), renewed + 1);
    assert_eq!(stops.load(Ordering::SeqCst), renewed + 1);
}

#[test]
fn a_start_hook_that_waits_for_a_dirty_task_does_not_renew_for_ever() {
    for sentinel in [Sentinel::new().renew(u32::MAX, HOUR), Sentinel::new().renew_always()] {
        // The hook can only reach the pool once it is there.
        let place: Arc<Mutex<Option<Arc<Pool>>>> = Arc::default();
        let theirs = Arc::clone(&place);
        let hook = move |_| {
            let pool = theirs.lock().unwrap().clone();
            if let Some(pool) = pool {
                let _before = pool.submit(|| USER.replace(1)).join().unwrap();
            }
        };
        let pool = Arc::new(builder(1, sentinel).on_worker_start(hook).build().unwrap());
        pool.submit(|| ()).join().unwrap();
        *place.lock().unwrap() = Some(Arc::clone(&pool));
        finishes("a hook that waits", move || {
            pool.submit(dirty).join().unwrap();
            // This worker's hook has run a task.
            assert_eq!(pool.submit(|| (dirty(), USER.get())).join().unwrap(), (0, 1));
            place.lock().unwrap().take();
            assert_eq!(pool.submit(|| (dirty(), USER.get())).join().unwrap().0, 0);
            // Once for each of the four tasks at most.
            assert!(pool.stats().renewed <= 4, "{:?}", pool.stats());
        });
    }
}

#[test]
fn a_carrier_that_cannot_be_detached_renews_once_per_task() {
    let pool = builder(1, Sentinel::new()).build().unwrap();
    finishes("a pool with a carrier that fails", move || {
        for _ in 0..5 {
            let error = pool.in_context(&retiring()).submit(|| ()).join().unwrap_err();
            assert!(error.is_cleanup() && error.to_string().contains("stuck"), "{error}");
        }
        pool.shutdown().unwrap();
        assert!(pool.stats().renewed <= 5, "{:?}", pool.stats());
    });
}

#[test]
fn a_worker_that_is_replaced_anyway_costs_no_renewal() {
    let log = Log::default();
    let pool = pool(1, log.of(Sentinel::new().renew(1, HOUR)));
    let stuck = pool.in_context(&retiring()).submit(dirty).join().unwrap_err();
    assert!(stuck.is_cleanup(), "{stuck}");
    for _ in 0..2 {
        pool.submit(dirty).join().unwrap();
    }
    assert_eq!(log.take().iter().map(|told| told.renews).collect::<Vec<_>>(), [true, true, false]);
}

const STARVED: &str = "CLEANSLATE_TEST_STARVED";

#[test]
fn a_renewal_that_fails_is_reported_and_repeated() {
    if std::env::var_os(STARVED).is_some() {
        return starved();
    }
    let output = Command::new("sh")
        // In KiB: room for two stacks, and for what the process has anyway.
        .args(["-c", "ulimit -v 6291456 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "pool::renewing::a_renewal_that_fails_is_reported_and_repeated",
            "--exact",
            "--nocapture",
        ])
        .env(STARVED, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("renewed in the end"), "{text}");
}

/// Runs where the address space has room for two stacks, as long as nothing else takes it.
fn starved() {
    const STACK: usize = 2 << 30;
    let (tell, told) = mpsc::channel();
    let pool = builder(1, Sentinel::new().renew(u32::MAX, HOUR))
        .stack_size(STACK)
        .panic_hook(move |error| tell.send(error.to_string()).unwrap())
        .build()
        .unwrap();
    // Not optimised away, though nobody uses it.
    let hog: Vec<u8> = black_box(Vec::with_capacity(STACK));
    pool.submit(dirty).join().unwrap();
    for _ in 0..3 {
        let text = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(text.starts_with("`renewal of worker 0` panicked"), "{text}");
        assert!(text.contains("no thread could be started"), "{text}");
    }
    assert_eq!(pool.stats().renewed, 0);
    drop(hog);
    assert_eq!(pool.submit(|| TENANT.get()).join().unwrap(), 0);
    assert_eq!(pool.stats().renewed, 1);
    println!("renewed in the end");
}

// What the worker does before its first task attaches them, too.
#[test]
fn a_worker_whose_carriers_cannot_be_detached_is_replaced_for_tasks_only() {
    finishes("its first task", || {
        let sentinel = Sentinel::new().count();
        let pool = Pool::builder().workers(1).sentinel(sentinel).carry(Stuck).build().unwrap();
        for _ in 0..3 {
            assert!(pool.submit(|| 1).join().unwrap_err().to_string().contains("stuck"));
        }
        pool.shutdown().unwrap();
        assert!((2..=3).contains(&pool.stats().renewed));
    });
}

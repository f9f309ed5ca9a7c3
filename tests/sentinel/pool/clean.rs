//! What clean tasks and the pool itself do raises no alarm.

use std::sync::LazyLock;

use super::*;
use crate::support::{exits_in_a_process_of_its_own, in_a_process_of_its_own};
use cleanslate::{OwnedLocal, OwnedWorkerLocal};

task_local! {
    static SCRATCH: String = String::from("scratch");
    #[inherit]
    static REQUEST: u64 = 0;
}

worker_local! { static BUFFER: Vec<u8> = Vec::new(); }

thread_local! {
    /// Adopted by the pool below: each task has its own.
    static LOCALE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Uses everything that a clean task may use.
fn clean(n: usize) -> usize {
    SCRATCH.with_mut(|text| text.push_str("and more"));
    REQUEST.set(REQUEST.get() + n as u64);
    BUFFER.with(|buffer| buffer.push(1));
    LOCALE.set(Some(format!("locale {n}")));
    let map: HashMap<usize, String> = (0..8).map(|k| (k, k.to_string())).collect();
    println!("task {n} says {}", map[&(n % 8)]);
    eprintln!("and complains");
    let caught = catch_unwind(|| panic!("on purpose"));
    assert!(caught.is_err());
    let shared = Arc::new(Mutex::new(n));
    thread::scope(|s| {
        s.spawn(|| *shared.lock().unwrap() += 1);
    });
    assert!("no number".parse::<u8>().is_err());
    n
}

#[test]
fn clean_tasks_raise_no_alarm_through_any_way_in() {
    quiet();
    for workers in SHAPES {
        let log = Log::default();
        let pool = builder(workers, log.of(Sentinel::new().renew(u32::MAX, HOUR)))
            .carry(adopt(&LOCALE))
            .queue_capacity(8)
            .build()
            .unwrap();
        let pool = Arc::new(pool);
        let first = pool.broadcast(|| clean(1));
        assert_eq!(first.len(), workers);
        for n in 0..20 {
            REQUEST.set(n);
            let by_name = pool.named("x").submit(|| clean(2));
            drop(pool.detached().submit(|| clean(3)));
            let nested = Arc::clone(&pool);
            let waits = pool.submit(move || {
                let one = nested.submit(|| clean(4));
                let two = nested.map(0..3, clean).len();
                nested.scope(|s| {
                    s.submit(|| clean(5));
                });
                one.join().unwrap() + two
            });
            let given = pool.in_context(&Context::capture()).submit(|| clean(6));
            assert_eq!(by_name.join().unwrap(), 2);
            assert_eq!(waits.join().unwrap(), 7);
            assert_eq!(given.join().unwrap(), 6);
            drop(pool.try_submit(|| clean(7)));
            assert!(pool.submit(|| panic!("on purpose")).join().is_err());
            pool.scope(|s| {
                let handles: Vec<_> = (0..5).map(|n| s.submit(move || clean(n))).collect();
                handles.into_iter().for_each(|handle| drop(handle.join()));
            });
            assert_eq!(pool.map(0..20, clean).len(), 20);
            assert_eq!(pool.map_slice(&[1, 2, 3], |n| clean(*n)), [1, 2, 3]);
            assert_eq!(pool.map_range(0..20, clean).len(), 20);
            // Which one is the first is the workers' affair.
            let stopped = pool.try_map(0..20, |n| Err::<(), _>(clean(n)));
            assert!(stopped.is_err_and(|n| n < 20));
            assert_eq!(pool.map_results(0..20, clean).len(), 20);
            assert_eq!(pool.imap(0..20, clean).buffer(3).count(), 20);
            assert_eq!(pool.imap_unordered(0..20, clean).buffer(3).count(), 20);
        }
        pool.shutdown().unwrap();
        assert_eq!(log.all(), []);
        let stats = pool.stats();
        assert_eq!((stats.leaks, stats.renewed), (0, 0));
        assert_eq!(stats.panicked, 20);
    }
}

#[test]
fn the_pools_own_machinery_never_shows() {
    // Idle workers that are woken one by one, a full queue, tombstones, and busy ones.
    for workers in SHAPES {
        let log = Log::default();
        let pool = builder(workers, log.of(Sentinel::new())).queue_capacity(2).build().unwrap();
        for _ in 0..500 {
            pool.submit(|| ()).join().unwrap();
        }
        let handles: Vec<_> = (0..BURST).map(|n| pool.submit(move || n)).collect();
        for (n, handle) in handles.into_iter().enumerate() {
            if n % 3 == 0 {
                handle.cancel();
            }
            drop(handle);
        }
        assert_eq!(pool.map_range(0..BURST, |n| n).len(), BURST);
        pool.shutdown().unwrap();
        assert_eq!(log.all(), []);
    }
}

#[test]
fn the_watch_on_a_worker_and_a_watch_in_a_task_keep_out_of_each_others_way() {
    let pool = pool(1, Sentinel::new());
    let task = || {
        let ((), report) = cleanslate::sentinel::watch(|| TENANT.set(TENANT.get() + 1));
        report.leaks().len()
    };
    assert_eq!(pool.submit(task).join().unwrap(), 1);
    assert_eq!(pool.stats().leaks, 1);
}

#[test]
fn slots_never_show_in_a_watch_on_a_plain_thread() {
    let use_all = |n: u64| {
        SCRATCH.with_mut(|text| text.push('x'));
        REQUEST.set(n);
        BUFFER.with(|buffer| buffer.push(1));
        OWNED.with(|owned| owned.set(n));
        assert!(Context::empty().run(|| SCRATCH.with(String::len)) > 0);
    };
    thread_local! { static OWNED: OwnedLocal<u64> = OwnedLocal::new(|| 0); }
    for sentinel in [Sentinel::new(), Sentinel::strict().allow("module:libc.so*")] {
        thread::spawn(move || {
            OWNED.with(|_| ());
            for n in 0..3 {
                let ((), report) = sentinel.watch(|| use_all(n));
                assert!(report.is_clean(), "{report}");
            }
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_pool_that_has_no_sentinel_never_shows_in_a_watch_on_a_plain_thread() {
    let name = "pool::clean::a_pool_that_has_no_sentinel_never_shows_in_a_watch_on_a_plain_thread";
    if !in_a_process_of_its_own(name) {
        return;
    }
    // The thread runs tasks as well, and notes where its stack was then.
    let pool = Pool::builder().workers(1).caller_helps(true).build().unwrap();
    let ((), report) = Sentinel::new().watch(|| drop(pool.map(0..9, |n| n)));
    assert!(report.is_clean(), "{report}");
}

#[cfg(feature = "opentelemetry")]
#[test]
fn the_first_context_that_is_carried_never_shows_in_a_watch() {
    use cleanslate::foreign::OpenTelemetryCarrier;

    let carries = || Context::empty().carry(OpenTelemetryCarrier::new()).run(|| ());
    let ((), report) = thread::spawn(move || Sentinel::new().watch(carries)).join().unwrap();
    assert!(report.is_clean(), "{report}");
}

// In processes of their own: what one kind of slot tells the sentinel it tells it once.
#[test]
fn the_first_use_of_a_slot_in_a_process_never_shows_in_a_watch() {
    static OWNED: LazyLock<OwnedLocal<u64>> = LazyLock::new(|| OwnedLocal::new(|| 0));
    static KEPT: LazyLock<OwnedWorkerLocal<u64>> = LazyLock::new(|| OwnedWorkerLocal::new(|| 0));
    let kinds: [(&str, fn()); 4] = [
        ("task-local", || SCRATCH.with_mut(|text| text.push('x'))),
        ("worker-local", || BUFFER.with(|buffer| buffer.push(1))),
        ("owned", || OWNED.set(1)),
        ("owned worker-local", || KEPT.with(|n| *n = 1)),
    ];
    let name = "pool::clean::the_first_use_of_a_slot_in_a_process_never_shows_in_a_watch";
    exits_in_a_process_of_its_own(name, &kinds.map(|(kind, _)| kind), |case| {
        let (_, first_use) = kinds.iter().find(|(kind, _)| *kind == case).unwrap();
        let ((), report) = Sentinel::new().watch(first_use);
        assert!(report.is_clean(), "{case}: {report}");
        std::process::exit(0);
    });
}

#[test]
fn a_destructor_at_the_end_of_a_worker_may_cancel_a_task() {
    struct Last(JoinHandle<()>, Arc<AtomicUsize>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.1.fetch_add(usize::from(self.0.cancel()), Ordering::SeqCst);
        }
    }
    thread_local! {
        static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    for _ in 0..20 {
        let census = Census::default();
        let (ran, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let pool = Arc::new(pool(1, Sentinel::new().renew(u32::MAX, HOUR)));
        let (theirs, token) = (Arc::clone(&pool), census.token());
        let (runs, cancels) = (Arc::clone(&ran), Arc::clone(&cancelled));
        pool.submit(move || {
            let waiting = theirs.submit(move || {
                runs.fetch_add(1, Ordering::SeqCst);
                drop(token);
            });
            LAST.set(Some(Last(waiting, cancels)));
        })
        .join()
        .unwrap();
        assert_eq!(pool.submit(|| 1).join().unwrap(), 1);
        pool.shutdown().unwrap();
        // The successor, which has begun already, runs the task, unless the destructor was faster.
        let ended = ran.load(Ordering::SeqCst) + cancelled.load(Ordering::SeqCst);
        assert_eq!((ended, census.alive(), pool.stats().renewed), (1, 0, 1));
    }
}

#[test]
fn a_cache_that_is_allowed_at_its_first_touch_fills_once_per_thread() {
    let pool = pool(2, Sentinel::new().allow_first_touch("*::CACHE"));
    pool.broadcast(|| CACHE.with_borrow(Vec::len));
    pool.map(0..100, |_| CACHE.with_borrow(Vec::len));
    assert_eq!(pool.stats().leaks, 0);
    pool.submit(|| CACHE.with_borrow_mut(|cache| cache.push(1))).join().unwrap();
    assert_eq!(pool.stats().leaks, 1);
}

#[test]
fn the_builder_says_what_watches() {
    let text = format!("{:?}", Pool::builder().sentinel(Sentinel::new().panic()));
    assert!(text.contains("sentinel: Some(") && text.contains("Panic"), "{text}");
}

// Broke: with a carrier of the process, its key came to life under the watch of the first task.
#[test]
fn what_an_installed_carrier_touches_first_is_no_leak() {
    thread_local! { static ADOPTED: RefCell<String> = const { RefCell::new(String::new()) }; }
    let name = "pool::clean::what_an_installed_carrier_touches_first_is_no_leak";
    if !in_a_process_of_its_own(name) {
        return;
    }
    cleanslate::foreign::install(adopt(&ADOPTED)).unwrap();
    for workers in SHAPES {
        let pool = builder(workers, Sentinel::new().panic()).build().unwrap();
        for visited in pool.broadcast(|| ADOPTED.take()) {
            assert_eq!(visited, "");
        }
        assert_eq!(pool.submit(|| 1).join().map_err(|error| error.to_string()), Ok(1));
    }
}

// Once broke: what had panicked was given up in a watch of its own, with nothing in it.
#[test]
fn a_task_that_panics_is_looked_at_as_often_as_one_that_returns() {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    fn look() -> u64 {
        LOOKS.fetch_add(1, Ordering::SeqCst);
        0
    }
    quiet();
    let pool = pool(1, Sentinel::new().probe("nothing", look));
    let looks = |f: &dyn Fn() -> bool, goes_well: bool| {
        (0..2).for_each(|_| {
            LOOKS.store(0, Ordering::SeqCst);
            assert_eq!(f(), goes_well);
        });
        LOOKS.load(Ordering::SeqCst)
    };
    assert_eq!(looks(&|| pool.submit(|| ()).join().is_ok(), true), 2);
    assert_eq!(looks(&|| pool.submit(|| panic!("on purpose")).join().is_ok(), false), 2);
    let map = |broken: bool| {
        let items = (0..2).filter(move |n| !broken || *n != 1 || panic!("on purpose"));
        catch_unwind(AssertUnwindSafe(|| pool.map(items, |n| n))).is_ok()
    };
    // Three pulls and two items; two pulls, and the item of the first.
    assert_eq!((looks(&|| map(false), true), looks(&|| map(true), false)), (10, 6));
}

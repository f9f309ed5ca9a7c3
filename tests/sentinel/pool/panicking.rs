//! The action that makes a task fail.

use super::*;

#[test]
fn a_task_that_leaked_fails_with_the_table() {
    for workers in SHAPES {
        let pool = pool(workers, Sentinel::new().panic());
        let error = pool.named("billing").submit(dirty).join().unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.task_name(), Some("billing"));
        let table = error.message().unwrap();
        assert!(table.starts_with("1 thread-local was left changed:\n"), "{table}");
        assert!(table.contains("sentinel::pool::TENANT"), "{table}");
        let payload = error.into_panic().downcast::<String>().unwrap();
        assert!(payload.contains("sentinel::pool::TENANT"));
        assert_eq!(pool.submit(|| 3).join().unwrap(), 3);
        let stats = pool.stats();
        assert_eq!((stats.leaks, stats.panicked, stats.completed), (1, 1, 1));
    }
}

#[test]
fn the_result_of_a_task_that_leaked_is_dropped_before_the_failure_is_seen() {
    for workers in SHAPES {
        let census = Census::default();
        let pool = pool(workers, Sentinel::new().panic());
        let theirs = census.clone();
        let task = move || {
            dirty();
            theirs.token()
        };
        assert!(pool.submit(task).join().is_err());
        assert_eq!((census.made(), census.alive()), (1, 0));
    }
}

/// Panics when it is dropped, and wants a slot as it is before a task.
struct Particular(#[expect(dead_code, reason = "it fails when it is dropped")] Fails);

task_local! { static TOUCHED: bool = false; }

impl Drop for Particular {
    fn drop(&mut self) {
        assert!(!TOUCHED.replace(true), "a drop saw what the task left");
    }
}

// What has leaked there returns like any other, and fails afterwards.
#[test]
fn what_a_failing_task_returns_is_dropped_in_a_task_whose_panic_is_heard() {
    quiet();
    each_shape_of(
        |workers| {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let theirs = Arc::clone(&heard);
            let hears = move |error: TaskError| {
                theirs.lock().unwrap().push(error.message().unwrap_or("?").to_owned());
            };
            let pool = builder(workers, Sentinel::new().panic()).panic_hook(hears);
            (pool.build().unwrap(), heard)
        },
        |(pool, heard)| {
            let census = Census::default();
            let returned = || {
                dirty();
                TOUCHED.set(true);
                Particular(Fails::new(&census))
            };
            let items = || std::iter::once(0).map(|_| returned());
            let says = |way: &str, said: &str| {
                assert!(said.contains("sentinel::pool::TENANT"), "{way}: {said}");
                assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), ["a drop, on purpose"]);
                assert_eq!(census.alive(), 0, "{way}");
            };
            let error = pool.scope(|s| s.submit(returned).join().err().unwrap());
            says("submit", error.message().unwrap());
            says("map", &message_of(|| drop(pool.map(items(), drop))));
            says("map_results", &message_of(|| drop(pool.map_results(items(), drop))));
            says("for_each", &message_of(|| pool.for_each(items(), drop)));
            if pool.stats().workers == 1 {
                says("broadcast", &message_of(|| drop(pool.broadcast(returned))));
            }
        },
    );
}

#[test]
fn a_task_that_panics_by_itself_keeps_its_own_panic() {
    quiet();
    let pool = pool(1, Sentinel::new().panic());
    let task = || {
        dirty();
        panic!("on purpose");
    };
    assert_eq!(pool.submit(task).join().unwrap_err().message(), Some("on purpose"));
    assert_eq!(pool.stats().leaks, 1);
}

#[test]
fn a_map_panics_with_the_table_of_its_first_dirty_item() {
    each_shape_of(
        |workers| pool(workers, Sentinel::new().panic()),
        |pool| {
            let seventh = |n: usize| if n == 7 { dirty() } else { 0 };
            for text in [
                message_of(|| drop(pool.map(0..100, seventh))),
                message_of(|| drop(pool.map_range(0..100, seventh))),
                message_of(|| drop(pool.map_slice(&[7], |n| seventh(*n)))),
                message_of(|| drop(pool.try_map(0..100, |n| Ok::<_, ()>(seventh(n))))),
                // The panic of the leak takes precedence over the item's own error.
                message_of(|| drop(pool.try_map([7], |n| Err::<(), _>(seventh(n))))),
                message_of(|| drop(pool.broadcast(dirty))),
            ] {
                assert!(text.contains("sentinel::pool::TENANT"), "{text}");
            }
            assert_eq!(pool.map(0..10, |n| n).len(), 10);
        },
    );
}

#[test]
fn in_map_results_a_leak_costs_its_item_only() {
    each_shape_of(
        |workers| pool(workers, Sentinel::new().panic()),
        |pool| {
            let results = pool.map_results(0..1000, |n| if n % 10 == 3 { dirty() } else { n });
            for (n, result) in results.iter().enumerate() {
                match result {
                    Ok(value) => assert_eq!(*value, n as u64),
                    Err(error) => {
                        assert!(error.message().unwrap().contains("sentinel::pool::TENANT"));
                        assert_eq!((error.task_id(), n % 10), (n as u64, 3));
                    }
                }
            }
            assert_eq!(results.iter().filter(|result| result.is_err()).count(), 100);
        },
    );
}

#[test]
fn a_detached_task_that_leaked_goes_to_the_panic_hook() {
    let (tell, told) = mpsc::channel();
    let pool = builder(1, Sentinel::new().panic())
        .panic_hook(move |error| tell.send(error).unwrap())
        .build()
        .unwrap();
    drop(pool.named("lost").submit(dirty));
    let error = told.recv().unwrap();
    assert_eq!(error.task_name(), Some("lost"));
    assert!(error.message().unwrap().contains("sentinel::pool::TENANT"));
}

// Under a sentinel each item of a map is a task of its own, and goes another way.
#[test]
fn a_reduction_that_cannot_be_cleaned_up_says_all_that_failed() {
    task_local! { static SLOT: Option<Fails> = None; }
    quiet();
    each_shape_of(
        |workers| pool(workers, Sentinel::new().panic()),
        |pool| {
            let (census, reductions) = (Census::default(), AtomicUsize::new(0));
            let reduce = |_, _| {
                // Late enough to lie within a chunk.
                (reductions.fetch_add(1, Ordering::SeqCst) == 5_000).then(|| {
                    SLOT.set(Some(Fails::new(&census)));
                    Fails::new(&census)
                })
            };
            let said = panic_of(|| drop(pool.map_reduce(0..10_000, |_| None, || None, reduce)));
            assert_eq!(said.matches("a drop, on purpose").count(), 2, "{said}");
            let stats = pool.stats();
            assert_eq!((stats.failed, stats.panicked, stats.unobserved), (1, 0, 0));
            assert_eq!(census.alive(), 0);
        },
    );
}

#[test]
fn a_callback_that_cannot_be_dropped_costs_the_end_of_a_pool_nothing() {
    quiet();
    let census = Census::default();
    let fails = Fails::new(&census);
    drop(pool(1, Sentinel::new().report(move |_| fails.held())));
    assert_eq!(census.alive(), 0);
}

#[test]
fn each_call_of_a_callback_finds_its_slots_fresh() {
    let found = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&found);
    let looks = move |_: &Incident<'_>| theirs.lock().unwrap().push(TOUCHED.replace(true));
    let pool = pool(1, Sentinel::new().report(looks));
    for _ in 0..2 {
        pool.submit(dirty).join().unwrap();
    }
    assert_eq!(*found.lock().unwrap(), [false; 2]);
}

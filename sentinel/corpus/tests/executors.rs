//! The sentinel inside other executors, where others own the threads.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cleanslate_sentinel::{Report, watch};
use rayon::prelude::*;

thread_local! { static TENANT: Cell<u64> = const { Cell::new(0) }; }

fn names(report: &Report) -> Vec<&str> {
    report.leaks().iter().map(|leak| leak.path().expect("a named leak")).collect()
}

#[test]
fn in_items_on_rayon_each_leak_is_named_and_each_clean_item_is_clean() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let wrong: Vec<String> = pool.install(|| {
        (1..=2000_u64)
            .into_par_iter()
            .filter_map(|item| {
                let leaks = item % 2 == 0;
                let (_, report) = watch(|| {
                    if leaks {
                        TENANT.set(item);
                    }
                });
                let good =
                    if leaks { names(&report) == ["executors::TENANT"] } else { report.is_clean() };
                (!good).then(|| format!("item {item}: {report}"))
            })
            .collect()
    });
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nested_parallelism_inside_a_watched_rayon_task_is_no_leak() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for _ in 0..50 {
        let (sum, report) = pool.install(|| watch(|| (0..1000_u64).into_par_iter().sum::<u64>()));
        assert_eq!(sum, 499_500);
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn in_blocking_closures_on_tokio_each_leak_is_named() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .build()
        .unwrap();
    let found = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        let tasks: Vec<_> = (1..=200_u64)
            .map(|item| {
                let found = Arc::clone(&found);
                tokio::task::spawn_blocking(move || {
                    let (_, clean) = watch(|| item * 2);
                    assert!(clean.is_clean(), "{clean}");
                    let (_, report) = watch(|| TENANT.set(item));
                    assert_eq!(names(&report), ["executors::TENANT"]);
                    found.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(found.load(Ordering::Relaxed), 200);
}

#[test]
fn in_async_tasks_between_two_awaits() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        for item in 1..=50 {
            let task = tokio::spawn(async move {
                tokio::task::yield_now().await;
                let (_, report) = watch(|| TENANT.set(TENANT.get() + item));
                let named = names(&report) == ["executors::TENANT"];
                tokio::task::yield_now().await;
                named
            });
            assert!(task.await.unwrap());
        }
    });
}

#[test]
fn a_panic_in_a_watched_task_leaves_the_executor_and_the_sentinel_whole() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        pool.install(|| watch(|| std::panic::resume_unwind(Box::new("payload"))))
    }));
    assert_eq!(
        panicked.err().and_then(|it| it.downcast::<&str>().ok()).as_deref(),
        Some(&"payload")
    );
    let (_, report) = pool.install(|| watch(|| TENANT.set(TENANT.get() + 1)));
    assert_eq!(names(&report), ["executors::TENANT"]);
}

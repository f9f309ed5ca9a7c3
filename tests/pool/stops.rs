//! What still starts after a map has stopped, where items or pulls turn out to take much longer
//! than those before: a helper has claimed many of them then.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cleanslate::foreign::adopt;
use cleanslate::{Context, Pool};

use crate::support::{finishes, panic_of, quiet};

/// What a helper may start after a stop, as documented.
const BLOCK: usize = 256;
const HELPERS: usize = 2;
/// What may start here: a thread that is about to fail may have to wait for a processor, and then
/// for its panic to be caught.
const MOST: usize = 4 * HELPERS * BLOCK;

#[derive(Clone, Copy, Debug)]
enum Stop {
    Panic,
    Error,
    Shutdown,
}

/// Does nothing many times, and then takes its time: the first slow call stops the map, and those
/// that begin after that are counted.
struct Slow {
    quick: u32,
    first: AtomicBool,
    stopped: AtomicBool,
    late: AtomicUsize,
}

impl Slow {
    fn after(quick: u32) -> Self {
        let (first, stopped) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { quick, first, stopped, late: AtomicUsize::new(0) }
    }

    fn call(&self, n: u32, stop: impl FnOnce() -> Result<(), u32>) -> Result<(), u32> {
        if n < self.quick {
            return Ok(());
        }
        if self.stopped.load(Ordering::SeqCst) {
            self.late.fetch_add(1, Ordering::SeqCst);
        }
        if self.first.swap(false, Ordering::SeqCst) {
            // Until the others are among the slow ones as well.
            std::thread::sleep(Duration::from_millis(5));
            return stop();
        }
        std::thread::sleep(Duration::from_micros(200));
        Ok(())
    }
}

fn stop(pool: &Pool, how: Stop, stopped: &AtomicBool) -> Result<(), u32> {
    if let Stop::Shutdown = how {
        pool.shutdown_background_now();
    }
    stopped.store(true, Ordering::SeqCst);
    match how {
        Stop::Panic => panic!("on purpose"),
        Stop::Error => Err(0),
        Stop::Shutdown => Ok(()),
    }
}

#[test]
fn few_items_start_after_a_stop() {
    quiet();
    for how in [Stop::Panic, Stop::Error, Stop::Shutdown] {
        finishes(&format!("{how:?}"), move || {
            let pool = Pool::new(HELPERS).unwrap();
            let slow = Slow::after(2_000_000);
            let call = |n| slow.call(n, || stop(&pool, how, &slow.stopped));
            let numbers = 0..slow.quick + 30_000;
            let ended = catch_unwind(AssertUnwindSafe(|| match how {
                Stop::Error => pool.try_map(numbers, call).map(drop),
                _ => pool.map_range(numbers, call).into_iter().collect(),
            }));
            assert!(!matches!(ended, Ok(Ok(()))), "{how:?}");
            let late = slow.late.into_inner();
            assert!(late <= MOST, "{how:?}: {late} items");
        });
    }
}

#[test]
fn few_items_are_pulled_after_a_stop() {
    quiet();
    for how in [Stop::Panic, Stop::Error, Stop::Shutdown] {
        finishes(&format!("{how:?}"), move || {
            let pool = Pool::new(HELPERS).unwrap();
            let slow = Slow::after(2_000_000);
            // Another thread than the one that pulls stops the map.
            let asked = AtomicBool::new(false);
            let ask = || {
                asked.store(true, Ordering::SeqCst);
                Ok(())
            };
            let pull = |n: u32| slow.call(n, ask);
            let item = |n: u32| {
                if n >= slow.quick || asked.load(Ordering::SeqCst) {
                    return stop(&pool, how, &slow.stopped);
                }
                if !slow.first.load(Ordering::SeqCst) {
                    while !asked.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                }
                Ok(())
            };
            let numbers = (0..slow.quick + 30_000).inspect(|n| pull(*n).unwrap());
            let ended = catch_unwind(AssertUnwindSafe(|| pool.try_map(numbers, item).map(drop)));
            assert!(!matches!(ended, Ok(Ok(()))), "{how:?}");
            let late = slow.late.load(Ordering::SeqCst);
            assert!(late <= MOST, "{how:?}: {late} pulls");
        });
    }
}

#[test]
fn with_carriers_or_a_catch_for_each_item_none_starts_after_a_shutdown() {
    finishes("map_results", || {
        let pool = Pool::new(1).unwrap();
        let ran = AtomicUsize::new(0);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            pool.map_results(0..100_000, |n| {
                ran.fetch_add(1, Ordering::SeqCst);
                if n == 50_000 {
                    pool.shutdown_background_now();
                }
            })
        }));
        assert!(ended.is_err());
        assert_eq!(ran.into_inner(), 50_001);
    });
}

// Broke: the item with which such a map ended was not among those that ran there.
#[test]
fn what_ends_a_map_that_a_task_runs_is_counted_where_it_ran() {
    quiet();
    let context = Context::empty().carry(adopt(&VALUE));
    thread_local! { static VALUE: Cell<u8> = const { Cell::new(0) }; }
    for context in [Context::empty(), context] {
        finishes("one worker", move || {
            let pool = Pool::new(1).unwrap().in_context(&context);
            let inner = pool.clone();
            let counts = |ended: u64| {
                let stats = pool.stats();
                assert_eq!(stats.completed + stats.panicked, ended);
                stats.inline
            };
            let map = move || {
                let trying = |n| if n == 3 { Err(n) } else { Ok(()) };
                assert_eq!(inner.try_map(0..10, trying), Err(3));
                inner
            };
            let inner = pool.submit(map).join().unwrap();
            assert_eq!(counts(5), 4);
            let map = move || panic_of(|| drop(inner.map(0..10, |n| assert_ne!(n, 3))));
            pool.submit(map).join().unwrap();
            assert_eq!(counts(10), 8);
        });
    }
}

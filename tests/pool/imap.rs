//! `imap` and `imap_unordered`: lazy, bounded, cancelled when dropped, sound when forgotten.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use crate::support::{Census, Fails, each_shape, finishes, occupy, panic_of, quiet};
use cleanslate::{Context, Pool, task_local};

#[test]
fn imap_yields_in_order_and_unordered_yields_everything() {
    each_shape(|pool| {
        let expected: Vec<i32> = (0..2_000).map(|n| n * 2).collect();
        for buffer in [1, 2, 7, 5_000] {
            let ordered: Vec<_> = pool.imap(0..2_000, |n| n * 2).buffer(buffer).collect();
            assert_eq!(ordered, expected);
            let unordered = pool.imap_unordered(0..2_000, |n| n * 2).buffer(buffer);
            let mut unordered: Vec<_> = unordered.collect();
            unordered.sort_unstable();
            assert_eq!(unordered, expected);
        }
    });
}

#[test]
fn nothing_is_pulled_before_the_first_next_and_never_more_than_the_buffer() {
    each_shape(|pool| {
        for n in [0, 1, 3, 10] {
            let allowed = n.max(1);
            let pulled = Rc::new(Cell::new(0));
            // The consumer's iterator needs to be neither `Send` nor `'static`.
            let count = || {
                let pulled = Rc::clone(&pulled);
                (0..).inspect(move |_| pulled.set(pulled.get() + 1))
            };
            let mut results = pool.imap(count(), |n: u32| n).buffer(n);
            assert_eq!(pulled.get(), 0);
            for yielded in 0..50 {
                assert_eq!(results.next(), Some(yielded));
                let in_flight = pulled.get() - yielded as usize;
                assert_eq!(in_flight, allowed, "counting the one yielded just now");
            }
            drop(results);
            pulled.set(0);
            let mut results = pool.imap_unordered(count(), |n: u32| n).buffer(n);
            assert_eq!(pulled.get(), 0);
            for yielded in 0..50 {
                assert!(results.next().is_some());
                assert_eq!(pulled.get() - yielded, allowed);
            }
        }
        // Unless it is told otherwise, two per worker.
        let pulled = Rc::new(Cell::new(0));
        let count = Rc::clone(&pulled);
        let mut results = pool.imap((0..).inspect(move |_| count.set(count.get() + 1)), |n| n);
        assert_eq!((results.next(), pulled.get()), (Some(0), 2 * pool.workers()));
    });
}

#[test]
fn unordered_results_overtake() {
    finishes("overtaking", || {
        let pool = Pool::new(2).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let mut results = pool.imap_unordered(0..3, move |n| {
            if n == 0 {
                gate.lock().unwrap().recv().unwrap();
            }
            n
        });
        let mut early = [results.next().unwrap(), results.next().unwrap()];
        early.sort_unstable();
        assert_eq!(early, [1, 2]);
        go.send(()).unwrap();
        assert_eq!(results.next(), Some(0));
        assert_eq!(results.next(), None);
        assert_eq!(results.next(), None);
    });
}

#[test]
fn waits_with_a_limit_come_to_every_result_once_and_to_the_end() {
    each_shape(|pool| {
        let (mut ordered, mut unordered) =
            (pool.imap(0..50, |n| n), pool.imap_unordered(0..50, |n| n));
        let mut results = Vec::new();
        while let Poll::Ready(Some(n)) = ordered.next_timeout(Duration::MAX) {
            assert_eq!(n, results.len());
            results.push(n);
        }
        while let Poll::Ready(Some(n)) = unordered.next_timeout(Duration::MAX) {
            results.push(n);
        }
        results.sort_unstable();
        assert!(results.into_iter().eq((0..100).map(|n| n / 2)));
        assert_eq!(ordered.next_timeout(Duration::MAX), Poll::Ready(None));
        assert_eq!(unordered.next_timeout(Duration::MAX), Poll::Ready(None));
    });
}

#[test]
fn a_panic_resumes_in_its_place_and_the_rest_goes_on() {
    each_shape(|pool| {
        let mut results = pool.imap(0..6, |n| {
            assert_ne!(n, 2, "third");
            n
        });
        assert_eq!((results.next(), results.next()), (Some(0), Some(1)));
        assert!(panic_of(|| results.next()).contains("third"));
        assert_eq!(results.collect::<Vec<_>>(), [3, 4, 5]);
        let mut results = pool.imap(0..2, |n| assert_ne!(n, 0, "first"));
        assert!(panic_of(|| results.next_timeout(Duration::MAX)).contains("first"));
        assert_eq!(results.next(), Some(()));
        let mut results = pool.imap((0..3).chain([panic_later()].into_iter().flatten()), |n| n);
        assert_eq!(results.by_ref().count(), 3);
        assert_eq!(results.size_hint(), (0, Some(0)));
    });
}

fn panic_later() -> Option<i32> {
    None
}

#[test]
fn a_pull_that_cannot_be_cleaned_up_names_what_the_pool_names_its_tasks() {
    struct Throws;
    impl Drop for Throws {
        fn drop(&mut self) {
            std::panic::panic_any(7);
        }
    }
    task_local! { static LEFT: Option<Throws> = None; }
    let pool = Pool::new(1).unwrap();
    for (pool, name) in [(pool.clone(), "`pull of"), (pool.named("thumbs"), "`thumbs: pull of")] {
        let items = std::iter::from_fn(|| {
            LEFT.set(Some(Throws));
            None::<()>
        });
        let said = panic_of(|| pool.imap(items, drop).next());
        assert!(said.contains(name), "{said}");
    }
    struct Leaves;
    impl Iterator for Leaves {
        type Item = ();
        fn next(&mut self) -> Option<()> {
            None
        }
    }
    impl Drop for Leaves {
        fn drop(&mut self) {
            LEFT.set(Some(Throws));
        }
    }
    // Broke: the words were those of the slot's drop alone.
    let said = panic_of(|| drop(pool.imap_unordered(Leaves, drop)));
    assert!(said.contains("input of an imap") && said.contains("::LEFT"), "{said}");
}

#[test]
fn an_input_that_panics_or_ends_is_not_pulled_again() {
    each_shape(|pool| {
        let pulls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&pulls);
        let items = std::iter::from_fn(move || {
            let n = count.fetch_add(1, Ordering::SeqCst);
            assert_ne!(n, 3, "source");
            Some(n)
        });
        let mut results = pool.imap(items, |n| n).buffer(10);
        assert!(panic_of(|| results.next()).contains("source"));
        assert_eq!(results.size_hint(), (3, Some(3)), "what was pulled is all there is");
        assert_eq!(results.collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(pulls.load(Ordering::SeqCst), 4);
        let mut items = [Some(1), None, Some(2)].into_iter();
        let mut results = pool.imap(std::iter::from_fn(move || items.next()?), |n| n);
        assert_eq!([results.next(), results.next(), results.next()], [Some(1), None, None]);
    });
}

#[test]
fn dropping_the_iterator_cancels_what_has_not_started() {
    each_shape(|pool| {
        let census = Census::default();
        let runs = Arc::new(AtomicUsize::new(0));
        for unordered in [false, true] {
            let (tokens, count) = (census.clone(), Arc::clone(&runs));
            let items = (0..).map(move |n| (n, tokens.token()));
            let f = move |(n, _token): (u32, crate::support::Counted)| {
                count.fetch_add(1, Ordering::SeqCst);
                n
            };
            let started = runs.load(Ordering::SeqCst);
            if unordered {
                let mut results = pool.imap_unordered(items, f).buffer(100);
                assert!(results.next().is_some());
                while pool.stats().queued != 0 || pool.stats().running != 0 {
                    std::thread::yield_now();
                }
                let busy = occupy(pool);
                assert!(results.next().is_some());
                drop(results);
                assert_eq!(census.alive(), 0);
                drop(busy);
            } else {
                let mut results = pool.imap(items, f).buffer(100);
                assert_eq!(results.next(), Some(0));
                while pool.stats().queued != 0 || pool.stats().running != 0 {
                    std::thread::yield_now();
                }
                let busy = occupy(pool);
                assert_eq!(results.next(), Some(1));
                drop(results);
                assert_eq!(census.alive(), 0);
                drop(busy);
            }
            assert_eq!(runs.load(Ordering::SeqCst) - started, 100);
        }
        assert_eq!(pool.stats().cancelled, 2);
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "what the test is about")]
fn forgetting_the_iterator_leaves_the_pool_sound() {
    each_shape(|pool| {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let mut results =
            pool.imap(0..1_000, move |_| count.fetch_add(1, Ordering::SeqCst)).buffer(100);
        assert!(results.next().is_some());
        std::mem::forget(results);
        pool.shutdown().unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 100);
    });
}

#[test]
fn a_consumer_inside_a_task_works_on_its_own_items() {
    each_shape(|pool| {
        let sums = pool.map(0..20, |_| {
            let ordered: u32 = pool.imap(0..100_u32, |n| n).sum();
            let unordered: u32 = pool.imap_unordered(0..100_u32, |n| n).buffer(50).sum();
            (ordered, unordered)
        });
        assert!(sums.iter().all(|sum| *sum == (4950, 4950)));
    });
}

#[test]
fn after_a_shutdown_the_iterator_says_so() {
    each_shape(|pool| {
        let pulled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&pulled);
        let items = (0..).inspect(move |_| _ = count.fetch_add(1, Ordering::SeqCst));
        let mut results = pool.imap(items.clone(), |n| n).buffer(3);
        let mut unordered = pool.imap_unordered(items, |n| n).buffer(3);
        assert_eq!(results.next(), Some(0));
        assert!(unordered.next().is_some());
        pool.shutdown().unwrap();
        assert_eq!((results.next(), results.next()), (Some(1), Some(2)));
        assert!(unordered.next().is_some() && unordered.next().is_some());
        // Broke: each call pulled one more item, and lost it.
        for _ in 0..3 {
            assert_eq!(panic_of(|| results.next()), "the pool is shut down");
            assert_eq!(panic_of(|| unordered.next()), "the pool is shut down");
        }
        assert_eq!(pulled.load(Ordering::SeqCst), 2 * (3 + 1));
        assert_eq!(panic_of(|| drop(pool.imap(0..1, |n| n))), "the pool is shut down");
        assert_eq!(panic_of(|| drop(pool.imap_unordered(0..1, |n| n))), "the pool is shut down");
    });
}

// Broke: one more item was pulled, and lost.
#[test]
fn an_item_that_comes_after_a_shutdown_is_the_last_one_that_is_pulled() {
    each_shape(|pool| {
        let pulled = Arc::new(AtomicUsize::new(0));
        let (count, closes) = (Arc::clone(&pulled), pool.clone());
        let items = (0..).inspect(move |n| {
            count.fetch_add(1, Ordering::SeqCst);
            if *n == 1 {
                closes.clone().shutdown_background();
            }
        });
        let mut results = pool.imap(items, |n| n).buffer(3);
        assert_eq!(results.next(), Some(0));
        for _ in 0..3 {
            assert_eq!(panic_of(|| results.next()), "the pool is shut down");
        }
        assert_eq!(pulled.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn after_a_shutdown_an_input_whose_items_were_all_pulled_ends_as_usual() {
    each_shape(|pool| {
        let (mut results, mut unordered) =
            (pool.imap(0..3, |n| n).buffer(3), pool.imap_unordered(0..3, |n| n).buffer(3));
        assert_eq!(results.next(), Some(0));
        assert!(unordered.next().is_some());
        pool.shutdown().unwrap();
        assert_eq!(results.by_ref().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(unordered.by_ref().count(), 2);
        assert_eq!((results.next(), unordered.next()), (None, None));
    });
}

// Broke: a task that outlives the iterator drops the closure, while its own panic unwound, or while
// it returned a result whose drop panics, too: that ended the process.
#[test]
fn a_closure_that_a_task_drops_last_costs_no_second_panic() {
    quiet();
    for panics in [true, false] {
        each_shape(move |pool| {
            let census = Census::new();
            let (held, made) = (Fails::new(&census), census.clone());
            let (begins, begun) = mpsc::channel();
            let (open, gate) = mpsc::channel::<()>();
            let gate = Mutex::new(gate);
            let results = pool.imap(0..1, move |_| {
                held.held();
                begins.send(()).unwrap();
                assert!(gate.lock().unwrap().recv().is_err());
                assert!(!panics, "an item, on purpose");
                Fails::new(&made)
            });
            let mut results = results.buffer(1);
            assert!(results.next_timeout(Duration::ZERO).is_pending());
            begun.recv().unwrap();
            drop(results);
            drop(open);
            pool.wait_idle();
            assert_eq!((census.made(), census.alive()), (if panics { 1 } else { 2 }, 0));
            assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
        });
    }
}

task_local! {
    #[inherit]
    static TENANT: Option<Arc<()>> = None;
}

// Broke: it was held until the iterator was dropped.
#[test]
fn one_that_has_come_to_its_end_holds_nothing_that_it_has_captured() {
    quiet();
    let pool = Pool::new(1).unwrap();
    let tenant = Arc::new(());
    TENANT.scope(Some(Arc::clone(&tenant)), || {
        let (mut ordered, mut unordered) =
            (pool.imap(0..3, |n| n), pool.imap_unordered(0..3, |n| n));
        let mut panics = pool.imap((0..3).inspect(|n| assert!(*n < 2)), |n| n);
        // Broke: it kept the handle that it was made with, and that the context.
        let mut given = pool.in_context(&Context::capture()).imap(0..3, |n| n);
        TENANT.set(None);
        assert!(Arc::strong_count(&tenant) > 1);
        assert_eq!(ordered.by_ref().count() + unordered.by_ref().count(), 6);
        assert_eq!(given.by_ref().count(), 3);
        assert!(panic_of(|| panics.by_ref().for_each(drop)).contains("n < 2"));
        // The last job gives up its own before it is done, the worker's share of it soon after.
        pool.wait_idle();
        assert_eq!(Arc::strong_count(&tenant), 1);
        drop((ordered, unordered, given, panics));
    });
}

// Broke: the last handle waited for a task, and that for what a result beside it held.
#[test]
fn the_results_of_an_iterator_go_before_its_handle() {
    for is_ordered in [true, false] {
        finishes("the drop of the last handle", move || {
            let pool = Pool::new(1).unwrap();
            let (begin, begun) = mpsc::channel();
            let (held, let_go) = mpsc::channel::<()>();
            let ends = Mutex::new((Some(held), let_go, begin));
            let f = move |n| {
                let mut ends = ends.lock().unwrap();
                match n {
                    0 => None,
                    1 => ends.0.take(),
                    _ => {
                        ends.2.send(()).unwrap();
                        assert!(ends.1.recv().is_err(), "the result of the one before is gone");
                        None
                    }
                }
            };
            if is_ordered {
                let mut imap = pool.imap(0..3, f).buffer(3);
                drop(pool);
                assert!(imap.next().unwrap().is_none());
                begun.recv().unwrap();
            } else {
                let mut imap = pool.imap_unordered(0..3, f).buffer(3);
                drop(pool);
                assert!(imap.next().unwrap().is_none());
                begun.recv().unwrap();
            }
        });
    }
}

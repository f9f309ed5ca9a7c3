//! The map family: order, borrowing, balance, failures, and that nothing is lost or dropped twice.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use crate::support::{Census, OnDrop, SHAPES, each_shape, finishes, panic_of, pause, quiet};
use cleanslate::foreign::adopt;
use cleanslate::{Context, Isolation, Pool, task_local};

thread_local! { static FOREIGN: Cell<u32> = const { Cell::new(0) }; }

const SIZES: [usize; 8] = [0, 1, 2, 3, 10, 63, 1_000, 20_000];

#[test]
fn results_are_in_input_order_for_every_size() {
    each_shape(|pool| {
        for n in SIZES {
            let expected: Vec<usize> = (0..n).map(|i| i * 3).collect();
            let numbers: Vec<usize> = (0..n).collect();
            assert_eq!(pool.map(0..n, |i| i * 3), expected);
            assert_eq!(pool.map(&numbers, |i| i * 3), expected);
            assert_eq!(pool.map_slice(&numbers, |i| i * 3), expected);
            assert_eq!(pool.map_range(0..n, |i| i * 3), expected);
            // An iterator that promises nothing.
            assert_eq!(pool.map((0..n).filter(|_| true), |i| i * 3), expected);
        }
    });
}

#[test]
fn items_and_results_of_every_size_class_arrive_whole() {
    each_shape(|pool| {
        pool.map_range(0..5_000, |_| ()).into_iter().for_each(|()| ());
        let small = pool.map_range(0_u8..200, |n| n);
        let medium = pool.map_range(0..3_000_u64, |n| [n; 9]);
        let large = pool.map((0..300_u64).filter(|_| true), |n| vec![[n; 100]]);
        assert!(small.iter().enumerate().all(|(i, n)| i == usize::from(*n)));
        assert!(medium.iter().zip(0..).all(|(a, n)| *a == [n; 9]));
        assert!(large.iter().zip(0..).all(|(a, n)| a[0] == [n; 100]));
        // One is more than a chunk should have.
        assert_eq!(pool.map((0_u8..5).map(|n| [n; 33 << 10]), |item| item[0]), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn ranges_of_every_integer() {
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map_range(-3_i8..3, |n| n), [-3, -2, -1, 0, 1, 2]);
    assert_eq!(pool.map_range(i8::MIN..i8::MAX, |n| n).len(), 255);
    assert_eq!(pool.map_range(u64::MAX - 2..u64::MAX, |n| n), [u64::MAX - 2, u64::MAX - 1]);
    assert_eq!(pool.map_range(i128::MIN..i128::MIN + 1, |n| n), [i128::MIN]);
    let backwards = std::ops::Range { start: 5, end: 3 };
    assert_eq!(pool.map_range(backwards, |n: i32| n), []);
    assert!(panic_of(|| pool.map_range(0..u128::MAX, |_| ())).contains("longer than memory"));
    // Broke: it went on until there was no memory left, and then aborted.
    let text = panic_of(|| pool.map_range(0..usize::MAX, |_| -> u8 { unreachable!("begun") }));
    assert!(text.contains(&format!("no room for {} results", usize::MAX)), "{text}");
}

#[test]
fn an_iterator_that_promises_too_little_or_far_too_much_is_served() {
    struct Liar<I>(I, usize);
    impl<I: Iterator> Iterator for Liar<I> {
        type Item = I::Item;
        fn next(&mut self) -> Option<I::Item> {
            self.0.next()
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.1, None)
        }
    }
    each_shape(|pool| {
        let census = Census::default();
        for promised in [0, 7, 3_000, 5_000, usize::MAX] {
            let results = pool.map(Liar(0..5_000, promised), |n| (n, census.token()));
            assert!(results.iter().zip(0..).all(|((n, _), i)| *n == i));
            assert_eq!(results.len(), 5_000);
        }
        assert_eq!((census.alive(), census.made()), (0, 25_000));
    });
}

#[test]
fn items_and_closure_borrow() {
    each_shape(|pool| {
        let text = String::from("the quick brown fox");
        let seen = Mutex::new(Vec::new());
        let lengths = pool.map(text.split(' '), |word| {
            seen.lock().unwrap().push(word);
            word.len()
        });
        assert_eq!(lengths, [3, 5, 5, 3]);
        assert_eq!(seen.lock().unwrap().len(), 4);
    });
}

#[test]
fn every_input_and_output_is_counted_once() {
    each_shape(|pool| {
        let (inputs, outputs) = (Census::default(), Census::default());
        let tokens = (0..20_000).map(|_| inputs.token());
        let results = pool.map(tokens, |token| {
            drop(token);
            outputs.token()
        });
        assert_eq!((results.len(), outputs.alive(), inputs.alive()), (20_000, 20_000, 0));
        drop(results);
        assert_eq!(outputs.alive(), 0);
        assert_eq!(pool.stats().completed, 20_000);
    });
}

#[test]
fn after_a_panic_nothing_is_lost_and_the_panic_resumes() {
    each_shape(|pool| {
        for (n, at) in [(1, 0), (10, 3), (1_000, 0), (1_000, 999), (20_000, 12_345)] {
            let (inputs, outputs) = (Census::default(), Census::default());
            let runs = AtomicUsize::new(0);
            let tokens: Vec<_> = (0..n).map(|i| (i, inputs.token())).collect();
            let said = panic_of(|| {
                pool.map(tokens, |(i, _token)| {
                    runs.fetch_add(1, Ordering::SeqCst);
                    assert_ne!(i, at, "on purpose");
                    outputs.token()
                })
            });
            assert!(said.contains("on purpose"), "{said}");
            assert!(runs.load(Ordering::SeqCst) <= n);
            assert_eq!((inputs.alive(), outputs.alive()), (0, 0));
            // The same by index.
            let said = panic_of(|| {
                pool.map_range(0..n, |i| {
                    assert_ne!(i, at, "on purpose");
                    outputs.token()
                })
            });
            assert!(said.contains("on purpose"), "{said}");
            assert_eq!(outputs.alive(), 0);
        }
        assert_eq!(pool.map(0..3, |n| n), [0, 1, 2]);
    });
}

#[test]
fn no_item_starts_after_a_panic_on_the_same_worker() {
    finishes("one worker", || {
        let pool = Pool::new(1).unwrap();
        let runs = AtomicUsize::new(0);
        for n in [10, 1_000, 100_000] {
            runs.store(0, Ordering::SeqCst);
            let said = panic_of(|| {
                pool.map_range(0..n, |i| {
                    runs.fetch_add(1, Ordering::SeqCst);
                    assert_ne!(i, n / 2, "half way");
                })
            });
            assert!(said.contains("half way"));
            assert_eq!(runs.load(Ordering::SeqCst), n / 2 + 1);
        }
    });
}

#[test]
fn a_panic_in_the_iterator_ends_the_map() {
    each_shape(|pool| {
        for at in [0, 1, 500, 5_000] {
            let (inputs, outputs) = (Census::default(), Census::default());
            let items = (0..).map(|n| {
                assert!(n != at, "next {n}");
                inputs.token()
            });
            let said = panic_of(|| pool.map(items, |_token| outputs.token()));
            assert_eq!(said, format!("next {at}"));
            assert_eq!((inputs.alive(), outputs.alive()), (0, 0));
        }
    });
}

#[test]
fn panicking_drops_of_what_was_made_are_contained() {
    struct Bomb<'c>(&'c AtomicUsize);
    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("bomb");
        }
    }
    finishes("bombs", || {
        let pool = Pool::new(1).unwrap();
        let dropped = AtomicUsize::new(0);
        let said = panic_of(|| {
            pool.map_range(0..100, |n| {
                assert_ne!(n, 50, "fuse");
                Bomb(&dropped)
            })
        });
        assert!(said.contains("fuse"), "{said}");
        assert_eq!(dropped.load(Ordering::SeqCst), 50);
        assert_eq!(pool.stats().unobserved, 50);
    });
}

#[test]
fn two_items_of_a_large_map_can_meet() {
    // A static split would give both to one worker, and this would hang.
    for workers in [2, 5] {
        finishes("meeting", move || {
            let pool = Pool::new(workers).unwrap();
            let barrier = Barrier::new(2);
            let meet = |i: usize| {
                if i < 2 {
                    barrier.wait();
                }
            };
            for n in [2, 10, 1_000] {
                let met = pool.map_range(0..n, meet);
                assert_eq!(met.len(), n);
                let met = pool.map(0..n, meet);
                assert_eq!(met.len(), n);
            }
        });
    }
}

#[test]
fn slow_items_are_shared_one_by_one() {
    // Each round of items meets at a barrier as wide as the pool: no worker may hold two of them.
    // (The last one to come does not wait there, and would be quick.)
    for workers in [2, 5] {
        finishes("rounds", move || {
            let pool = Pool::new(workers).unwrap();
            let barrier = Barrier::new(workers);
            let ids = pool.map_range(0..workers * 20, |_| {
                pause();
                barrier.wait();
                std::thread::current().id()
            });
            assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), workers);
        });
    }
}

#[test]
fn try_map_returns_all_results_or_the_first_error_in_input_order() {
    each_shape(|pool| {
        let census = Census::default();
        let all = pool.try_map(0..1_000, |n| Ok::<_, ()>((n, census.token()))).unwrap();
        assert!(all.iter().zip(0..).all(|((n, _), i)| *n == i));
        drop(all);
        let error = pool.try_map(0..20_000, |n| if n == 777 { Err(n) } else { Ok(census.token()) });
        assert_eq!(error.unwrap_err(), 777);
        assert_eq!(census.alive(), 0);
    });
    finishes("both fail", || {
        // Both errors happen for certain; the earlier item's is returned, whichever came first.
        let pool = Pool::new(2).unwrap();
        for _ in 0..100 {
            let barrier = Barrier::new(2);
            let error = pool.try_map(0..2, |n| {
                barrier.wait();
                Err::<(), _>(n)
            });
            assert_eq!(error, Err(0));
        }
    });
}

#[test]
fn an_error_stops_an_endless_try_map() {
    each_shape(|pool| {
        let error = pool.try_map(0.., |n| if n == 10_000 { Err(n) } else { Ok(()) });
        assert_eq!(error, Err(10_000));
    });
}

#[test]
fn a_panic_takes_precedence_over_an_error() {
    finishes("precedence", || {
        let pool = Pool::new(2).unwrap();
        let barrier = Barrier::new(2);
        let said = panic_of(|| {
            pool.try_map(0..2, |n| {
                barrier.wait();
                if n == 0 { Err(()) } else { panic!("louder") }
            })
            .map(|results: Vec<()>| results)
        });
        assert_eq!(said, "louder");
    });
}

#[test]
fn map_results_loses_only_the_items_that_panic() {
    each_shape(|pool| {
        let (inputs, outputs) = (Census::default(), Census::default());
        let tokens = (0..5_000).map(|n| (n, inputs.token()));
        let results = pool.map_results(tokens, |(n, _token)| {
            assert!(n % 7 != 0, "item {n}");
            (n, outputs.token())
        });
        for (i, result) in results.iter().enumerate() {
            match result {
                Ok((n, _)) => assert!(*n == i && i % 7 != 0),
                Err(error) => {
                    assert_eq!(error.message(), Some(&*format!("item {i}")));
                    assert_eq!(error.task_id(), i as u64);
                }
            }
        }
        assert_eq!((results.len(), inputs.alive()), (5_000, 0));
        assert_eq!(outputs.alive(), results.iter().filter(|r| r.is_ok()).count());
        drop(results);
        assert_eq!(outputs.alive(), 0);
    });
}

// Broke: they looked like those of tasks with these numbers.
#[test]
fn errors_of_items_say_that_they_are_of_items() {
    quiet();
    let pool = Pool::new(2).unwrap();
    let said = |pool: &Pool| {
        let mut results = pool.map_results(0..3, |n| assert!(n != 2, "two"));
        results.remove(2).unwrap_err().to_string()
    };
    assert_eq!(said(&pool.named("rows")), "item 2 of task `rows` panicked: two");
    let unnamed = said(&pool);
    assert!(unnamed.starts_with("item 2 of the task submitted at tests"), "{unnamed}");
    assert!(unnamed.ends_with(" panicked: two"), "{unnamed}");
}

#[test]
fn leaky_pools_map_as_well() {
    for workers in SHAPES {
        finishes("leaky", move || {
            let pool =
                Pool::builder().workers(workers).isolation(Isolation::Leaky).build().unwrap();
            assert_eq!(pool.map(0..1_000, |n| n + 1), (1..1_001).collect::<Vec<_>>());
            assert_eq!(panic_of(|| pool.map_slice(&[1], |_| panic!("leaky"))), "leaky");
            assert_eq!(pool.submit(|| 3).join().unwrap(), 3);
        });
    }
}

#[test]
fn an_iterator_may_use_the_pool_that_pulls_it() {
    each_shape(|pool| {
        let items = (0..50).map(|n| {
            // From inside `next`, on a worker: a nested map, a broadcast, and a join.
            let nested: i32 = pool.map(0..n, |m| m).into_iter().sum();
            pool.broadcast(|| ());
            nested + pool.submit(move || n).join().unwrap()
        });
        let sums = pool.map(items, |n| n);
        assert!(sums.iter().zip(0..).all(|(sum, n)| *sum == n * (n - 1) / 2 + n));
    });
}

#[test]
fn items_need_not_be_send() {
    let pool = Pool::new(2).unwrap();
    let items = (0..100).map(std::rc::Rc::new);
    assert_eq!(pool.map(items, |n| *n).len(), 100);
}

// Broke: an item whose failure is its result was counted as one that returned, and as no failure;
// one that returned the error of a `try_map` was not counted at all.
#[test]
fn items_are_counted_by_how_they_ended() {
    task_local! { static UNTIDY: OnDrop = OnDrop::new(|| panic!("left behind")); }
    each_shape(|pool| {
        let item = |n: usize| match n % 4 {
            0 => panic!("on purpose"),
            1 => UNTIDY.with(|_| ()),
            _ => (),
        };
        quiet();
        drop(pool.map_results(0..100, item));
        let stats = pool.stats();
        assert_eq!((stats.panicked, stats.failed, stats.completed), (25, 25, 50));
    });
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let (returned, has_begun) = (AtomicUsize::new(0), AtomicBool::new(false));
        let item = |n| {
            if n == 3 {
                has_begun.store(true, Ordering::SeqCst);
            }
            // Or another error might stop the map before the first one happens.
            while n % 4 == 3 && !has_begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            returned.fetch_add(1, Ordering::SeqCst);
            if n % 4 == 3 { Err(n) } else { Ok(n) }
        };
        assert_eq!(pool.try_map(0..100, item), Err(3));
        assert_eq!(pool.stats().completed, returned.load(Ordering::SeqCst) as u64);
        let carrying = Context::empty().carry(adopt(&FOREIGN));
        has_begun.store(false, Ordering::SeqCst);
        assert_eq!(pool.in_context(&carrying).try_map(0..100, item), Err(3));
        assert_eq!(pool.stats().completed, returned.into_inner() as u64);
    }
    // Broke: the item whose error stops the map was counted as one that returned before it was
    // over.
    each_shape(|pool| {
        quiet();
        let carrying = Context::empty().carry(adopt(&FOREIGN));
        for pool in [pool, &pool.in_context(&carrying)] {
            let before = pool.stats();
            let said = panic_of(|| pool.try_map([7], |n| UNTIDY.with(|_| Err::<(), _>(n))));
            assert!(said.contains("UNTIDY"), "{said}");
            let stats = pool.stats();
            assert_eq!((stats.completed, stats.failed), (before.completed, before.failed + 1));
        }
    });
}

#[test]
fn helpers_are_counted_while_they_run_and_the_items_that_their_owner_runs() {
    quiet();
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.map([()], |()| pool.stats().running), [1]);
    assert_eq!(pool.stats().inline, 0);
    // The only worker is the owner.
    let (inner, begun) = (pool.clone(), AtomicUsize::new(0));
    let map = || {
        inner.map_range(0..1_000, |n| {
            begun.fetch_add(1, Ordering::SeqCst);
            assert_ne!(n, 500, "on purpose");
        })
    };
    assert!(pool.scope(|s| s.submit(|| panic_of(map)).join()).unwrap().contains("on purpose"));
    let stats = pool.stats();
    assert_eq!((stats.inline, stats.running), (begun.into_inner() as u64, 0));
}

// The calling thread stays awake for a moment at first, and calls one worker only.
#[test]
fn items_that_wait_for_each_other_meet_also_after_many_quick_maps() {
    finishes("two items", || {
        let pool = Pool::new(2).unwrap();
        for _ in 0..200 {
            for _ in 0..50 {
                assert_eq!(pool.map_range(0..1, |n| n), [0]);
            }
            let barrier = Barrier::new(2);
            pool.map_range(0..2, |_| barrier.wait().is_leader());
        }
    });
}

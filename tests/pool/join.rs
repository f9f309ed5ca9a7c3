//! `join`: two tasks at a time, and recursions that halve their work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use crate::support::{Bomb, Census, SHAPES, each_shape, finishes, occupy, panic_of, quiet};
use cleanslate::{Context, Pool, task_local};

task_local! {
    static SEEN: bool = false;
    #[inherit]
    static TENANT: u32 = 0;
}

struct Explodes;

impl Drop for Explodes {
    fn drop(&mut self) {
        Bomb::explode();
    }
}

fn sum(pool: &Pool, numbers: &[u64]) -> u64 {
    if let [number] = numbers {
        return *number;
    }
    assert!(!SEEN.replace(true));
    let (left, right) = numbers.split_at(numbers.len() / 2);
    let (left, right) = pool.join(|| sum(pool, left), || sum(pool, right));
    assert!(SEEN.get());
    left + right
}

#[test]
fn a_recursion_halves_its_work_on_a_plain_thread_and_in_tasks() {
    let numbers: Vec<u64> = (0..3_000).collect();
    each_shape(move |pool| {
        SEEN.set(false);
        assert_eq!(sum(pool, &numbers), 2_999 * 1_500);
        pool.for_each(0..3, |_| assert_eq!(sum(pool, &numbers), 2_999 * 1_500));
    });
}

#[test]
fn both_results_come_back_in_their_places_and_everything_is_dropped_once() {
    each_shape(|pool| {
        let census = Census::new();
        for _ in 0..500 {
            let (a, b) = (census.one("a"), census.one("b"));
            let (a, b) = pool.join(move || (1, a), move || ("two", b));
            assert_eq!(((a.0, a.1.name), (b.0, b.1.name)), ((1, "a"), ("two", "b")));
        }
        assert_eq!((census.made(), census.alive()), (1_000, 0));
    });
}

#[test]
fn with_two_workers_both_run_at_the_same_time() {
    for workers in [2, 5] {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            let meet = Barrier::new(2);
            for _ in 0..200 {
                pool.join(|| meet.wait(), || meet.wait());
                pool.for_each(0..1, |_| {
                    pool.join(|| meet.wait(), || meet.wait());
                });
            }
        });
    }
}

#[test]
fn the_first_one_runs_on_the_thread_of_the_task_that_calls() {
    each_shape(|pool| {
        pool.for_each(0..100, |_| {
            let here = std::thread::current().id();
            for _ in 0..20 {
                let (a, _b) = pool.join(|| std::thread::current().id(), || ());
                assert_eq!(a, here);
            }
        });
    });
}

#[test]
fn a_task_runs_both_itself_where_nobody_else_does_the_first_one_first() {
    finishes("1 worker", || {
        let pool = Pool::new(1).unwrap();
        let order = Mutex::new(Vec::new());
        let note = |what| order.lock().unwrap().push(what);
        pool.for_each(0..1, |_| {
            pool.join(|| note("a"), || note("b"));
        });
        pool.join(|| note("a"), || note("b"));
        assert_eq!(*order.lock().unwrap(), ["a", "b", "a", "b"]);
        assert_eq!(pool.stats().inline, 2);
    });
}

#[test]
fn both_inherit_what_surrounds_the_call_or_what_the_handle_gives() {
    each_shape(|pool| {
        TENANT.set(7);
        assert_eq!(pool.join(|| TENANT.replace(1), || TENANT.replace(2)), (7, 7));
        assert_eq!(pool.detached().join(|| TENANT.get(), || TENANT.get()), (0, 0));
        let eight = TENANT.scope(8, Context::capture);
        assert_eq!(pool.in_context(&eight).join(|| TENANT.get(), || TENANT.get()), (8, 8));
    });
}

#[test]
fn the_first_panic_resumes_when_both_have_ended_and_the_other_result_is_dropped() {
    each_shape(|pool| {
        let (census, ran) = (Census::new(), AtomicUsize::new(0));
        let good = || {
            ran.fetch_add(1, Ordering::SeqCst);
            census.token()
        };
        let both = || {
            let bad = |what: &'static str| panic!("{what}, on purpose");
            assert_eq!(panic_of(|| pool.join(|| bad("a"), good)), "a, on purpose");
            assert_eq!(panic_of(|| pool.join(good, || bad("b"))), "b, on purpose");
            assert_eq!(panic_of(|| pool.join(|| bad("a"), || bad("b"))), "a, on purpose");
            assert_eq!(panic_of(|| pool.join(|| bad("a"), || Bomb::explode())), "a, on purpose");
        };
        both();
        pool.for_each(0..1, |_| both());
        assert_eq!((ran.load(Ordering::SeqCst), census.alive()), (4, 0));
        assert_eq!(pool.join(|| 1, || 2), (1, 2));
    });
}

#[test]
fn results_that_explode_when_they_are_dropped_cost_one_panic() {
    each_shape(|pool| {
        let before = pool.stats().unobserved;
        let said = panic_of(|| pool.join(|| panic!("a, on purpose"), || Explodes));
        assert_eq!((&*said, pool.stats().unobserved - before), ("a, on purpose", 1));
        // Refused, with two closures that explode.
        pool.shutdown().unwrap();
        let (a, b) = (Explodes, Explodes);
        let said = panic_of(|| pool.join(move || drop(a), move || drop(b)));
        assert!(said.contains("shut down"), "{said}");
    });
}

// Broke: as that of task #0, whichever that was.
#[test]
fn what_the_drop_of_a_result_throws_is_reported_under_the_number_of_its_task() {
    quiet();
    for (workers, caller_helps) in [(1, false), (2, false), (1, true)] {
        let (tell, told) = std::sync::mpsc::channel();
        let pool = Pool::builder()
            .workers(workers)
            .caller_helps(caller_helps)
            .panic_hook(move |error| tell.send(error.task_id()).unwrap())
            .build()
            .unwrap();
        (0..5).for_each(|_| pool.submit(|| ()).join().unwrap());
        panic_of(|| pool.join(|| Explodes, || panic!("b, on purpose")));
        panic_of(|| pool.join(|| panic!("a, on purpose"), || Explodes));
        // In a task, `b` comes in first.
        let inside = pool.clone();
        let join = move || inside.join(|| Explodes, || panic!("b, on purpose"));
        assert!(pool.submit(move || drop(join())).join().is_err());
        drop(pool);
        let numbers = if caller_helps { [6, 7, 11] } else { [5, 8, 11] };
        assert_eq!(told.iter().collect::<Vec<_>>(), numbers);
    }
}

#[test]
fn beyond_the_depth_it_panics_and_the_pool_goes_on() {
    fn deeper(pool: &Pool) {
        pool.join(|| deeper(pool), || ());
    }
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            let said = panic_of(|| deeper(&pool));
            assert!(said.contains("on top of"), "{said}");
            assert_eq!(pool.join(|| 1, || 2), (1, 2));
        });
    }
}

#[test]
fn what_a_shutdown_cancels_is_dropped_and_the_join_panics() {
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            let census = Census::new();
            let busy = occupy(&pool);
            std::thread::scope(|s| {
                let (a, b) = (census.token(), census.token());
                let joins = s.spawn(|| panic_of(|| pool.join(move || drop(a), move || drop(b))));
                while pool.stats().queued < 2 {
                    std::thread::yield_now();
                }
                pool.shutdown_background_now();
                let said = joins.join().unwrap();
                assert!(said.contains("shut down"), "{said}");
            });
            assert_eq!(census.alive(), 0);
            drop(busy);
            assert!(panic_of(|| pool.join(|| 1, || 2)).contains("shut down"));
        });
    }
}

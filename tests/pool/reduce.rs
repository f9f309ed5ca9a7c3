//! `for_each`, `reduce`, `map_reduce` and `map_init`.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Bomb, Census, Counted, SHAPES, each_shape, finishes, panic_of};
use cleanslate::foreign::adopt;
use cleanslate::{Context, Pool, task_local};

task_local! {
    static SEEN: bool = false;
    static KEPT: Option<Counted> = None;
    static BOMB: Option<Bomb> = None;
}

thread_local! { static PLAIN: Cell<u32> = const { Cell::new(0) }; }

/// Runs `test` on a plain thread and inside a task.
fn everywhere(test: impl Fn(&Pool) + Send + Sync + 'static) {
    each_shape(move |pool| {
        test(pool);
        pool.for_each(0..1, |_| test(pool));
    });
}

#[test]
fn for_each_visits_every_item_once_also_mutably_and_in_chunks() {
    everywhere(|pool| {
        let mut numbers: Vec<usize> = (0..10_000).collect();
        pool.for_each(&mut numbers, |n| *n += 1);
        pool.for_each(numbers.chunks_mut(7), |chunk| chunk.reverse());
        let sum = AtomicUsize::new(0);
        pool.for_each(&numbers, |n| {
            sum.fetch_add(*n, Ordering::SeqCst);
        });
        assert_eq!(sum.into_inner(), 10_000 * 10_001 / 2);
        assert_eq!(numbers[..8], [7, 6, 5, 4, 3, 2, 1, 14]);
        let said = panic_of(|| pool.for_each(0..100, |n| assert_ne!(n, 40, "on purpose")));
        assert!(said.contains("on purpose"), "{said}");
    });
}

#[test]
fn a_reduction_keeps_the_order_of_the_items() {
    everywhere(|pool| {
        for n in [0, 1, 2, 3, 100, 5_000] {
            let expected: String = (0..n).map(|i| format!("{i},")).collect();
            let put_together = |a: String, b: String| a + &b;
            let reduced = pool.map_reduce(0..n, |i| format!("{i},"), String::new, put_together);
            assert_eq!(reduced, expected, "{n} items");
            // Without a promise of how many there are.
            let items = (0..).take_while(|i| *i < n).map(|i| format!("{i},"));
            assert_eq!(pool.reduce(items, String::new, put_together), expected, "{n} items");
        }
    });
}

// As slow items do: each chunk is one of them, and every other one is another helper's.
#[test]
fn a_reduction_whose_helpers_take_turns_keeps_the_order() {
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            let f = |i: u32| {
                std::thread::yield_now();
                vec![i]
            };
            let reduced = pool.named("slow").in_context(&one_by_one()).map_reduce(
                0..300,
                f,
                Vec::new,
                |mut a, mut b| {
                    a.append(&mut b);
                    a
                },
            );
            assert_eq!(reduced, Vec::from_iter(0..300));
        });
    }
}

/// A context with a carrier: items are claimed one by one then.
fn one_by_one() -> Context {
    Context::empty().carry(adopt(&PLAIN))
}

#[test]
fn each_call_of_a_reduction_is_a_task() {
    everywhere(|pool| {
        let dirty = AtomicUsize::new(0);
        let call = || {
            let was = SEEN.replace(true);
            dirty.fetch_add(usize::from(was), Ordering::SeqCst);
        };
        for pool in [pool.clone(), pool.in_context(&one_by_one())] {
            let sum = pool.map_reduce(0..2_000, |n| (call(), n).1, || 0, |a, b| (call(), a + b).1);
            assert_eq!(sum, 1_999 * 1_000);
        }
        // With a carrier what it adopts is clean, too.
        let call = || assert_eq!(PLAIN.replace(1), 0);
        let adopted = pool.in_context(&one_by_one());
        let sum = adopted.map_reduce(0..500, |n| (call(), n).1, || 0, |a, b| (call(), a + b).1);
        assert_eq!((sum, PLAIN.get()), (499 * 250, 0));
        let identity = || usize::from(SEEN.replace(true));
        assert_eq!(pool.map_reduce(0..0, |_| 5, identity, |a, b| a + b), 0);
        assert_eq!(dirty.into_inner(), 0);
    });
}

// Slots of the items, not of the reduction.
#[test]
fn what_an_item_left_is_dropped_before_its_result_is_reduced() {
    each_shape(|pool| {
        let census = Census::new();
        let max = pool.map_reduce(
            0..3_000,
            |_| {
                KEPT.set(Some(census.token()));
                census.alive()
            },
            || 0,
            |a, b| a.max(b).max(census.alive()),
        );
        assert!(max <= pool.workers(), "{max}");
        assert_eq!(census.alive(), 0);
    });
}

#[test]
fn of_a_reduction_only_a_few_parts_exist_at_a_time() {
    each_shape(|pool| {
        let census = Census::new();
        let most = AtomicUsize::new(0);
        let part = |_| {
            let part = census.token();
            most.fetch_max(census.alive(), Ordering::SeqCst);
            Some(part)
        };
        let whole = pool.map_reduce(0..20_000, part, || None, |a, b| (a, drop(b)).0);
        assert_eq!((census.made(), census.alive()), (20_000, 1));
        drop(whole);
        let limit = 3 * pool.workers() + 1;
        assert!(most.load(Ordering::SeqCst) <= limit, "{most:?} of {limit}");
    });
}

#[test]
fn a_panic_of_any_closure_of_a_reduction_resumes_and_parts_are_dropped_one_by_one() {
    everywhere(|pool| {
        let census = Census::new();
        let before = pool.stats().unobserved;
        let said = panic_of(|| {
            pool.map_reduce(
                0..1_000,
                |n| {
                    assert_ne!(n, 700, "an item, on purpose");
                    Explodes::of(&census)
                },
                || Explodes::of(&census),
                |a, b| {
                    b.defuse();
                    a
                },
            )
        });
        assert!(said.contains("an item, on purpose"), "{said}");
        assert_eq!(census.alive(), 0);
        assert!(pool.stats().unobserved > before, "parts exploded, contained");
        let said = panic_of(|| {
            pool.reduce(
                0..1_000,
                || 0,
                |a, b| {
                    assert!(b < 500, "on purpose");
                    a.max(b)
                },
            )
        });
        assert!(said.contains("on purpose"), "{said}");
        let said = panic_of(|| pool.reduce(0..0, || panic!("no items, on purpose"), |a, _| a));
        assert_eq!(said, "no items, on purpose");
        assert_eq!(pool.reduce(0..4, || 0, |a, b| a + b), 6);
    });
}

#[test]
fn a_reduction_of_which_a_call_cannot_be_cleaned_up_fails_and_what_was_made_is_dropped() {
    everywhere(|pool| {
        let census = Census::new();
        for pool in [pool.clone(), pool.in_context(&one_by_one())] {
            for (in_item, in_reduce) in [(true, false), (false, true)] {
                let item = |n| {
                    if in_item && n == 700 {
                        BOMB.set(Some(Bomb(1)));
                    }
                    Some((n, census.token()))
                };
                let reduce = |a: Option<_>, b: Option<(i32, Counted)>| {
                    if in_reduce && b.as_ref().is_some_and(|b| b.0 == 700) {
                        BOMB.set(Some(Bomb(1)));
                    }
                    a.or(b)
                };
                let said = fails(&pool, || drop(pool.map_reduce(0..1_000, item, || None, reduce)));
                assert!(said.contains("BOMB"), "{said}");
                assert_eq!(census.alive(), 0);
            }
            // Each item is a chunk here, so that the only call reduces two chunks.
            let reduce = |a: Option<i32>, _| {
                BOMB.set(Some(Bomb(1)));
                a
            };
            let said = fails(&pool, || _ = pool.map_reduce(0..2, Some, || None, reduce));
            assert!(said.contains("BOMB"), "{said}");
            // What the item has made may explode as well.
            let item = |n| {
                (n == 700).then(|| {
                    BOMB.set(Some(Bomb(1)));
                    Explodes::of(&census)
                })
            };
            let said = fails(&pool, || drop(pool.map_reduce(0..1_000, item, || None, Option::or)));
            assert!(said.contains("BOMB"), "{said}");
            assert_eq!(census.alive(), 0);
        }
    });
}

#[test]
fn scratch_of_which_the_making_cannot_be_cleaned_up_fails_the_map() {
    everywhere(|pool| {
        for pool in [pool.clone(), pool.in_context(&one_by_one())] {
            let init = || BOMB.set(Some(Bomb(1)));
            let said = fails(&pool, || drop(pool.map_init(0..10, init, |(), n| n)));
            assert!(said.contains("BOMB"), "{said}");
        }
    });
}

/// Calls `f`, which fails because something cannot be cleaned up, and returns what it says.
///
/// Broke: where the item's closures are several, this was counted and reported as a panic.
fn fails(pool: &Pool, f: impl FnOnce()) -> String {
    let before = pool.stats();
    let said = panic_of(f);
    let now = pool.stats();
    // Of two that fail at the same time the later one is reported.
    assert_eq!(now.panicked, before.panicked, "{said}");
    assert!(now.failed > before.failed && said.contains("could not be cleaned up"), "{said}");
    said
}

/// Explodes when it is dropped, unless it was defused.
struct Explodes {
    armed: bool,
    _counted: Counted,
}

impl Explodes {
    fn of(census: &Census) -> Self {
        Self { armed: true, _counted: census.token() }
    }

    fn defuse(mut self) {
        self.armed = false;
    }
}

impl Drop for Explodes {
    fn drop(&mut self) {
        if self.armed {
            Bomb::explode();
        }
    }
}

/// Scratch that may not leave its thread.
struct Scratch<'c> {
    uses: Cell<usize>,
    made: &'c AtomicUsize,
    _alive: Counted,
    _not_send: std::marker::PhantomData<*mut ()>,
}

#[test]
fn scratch_stays_with_the_helper_and_slots_with_the_item() {
    everywhere(|pool| {
        let (census, made) = (Census::new(), AtomicUsize::new(0));
        let init = || {
            assert!(!SEEN.replace(true), "`init` is a task");
            made.fetch_add(1, Ordering::SeqCst);
            Scratch {
                uses: Cell::new(0),
                made: &made,
                _alive: census.token(),
                _not_send: std::marker::PhantomData,
            }
        };
        let uses = pool.map_init(0..20_000_usize, init, |scratch, n| {
            assert!(!SEEN.replace(true), "each item is a task");
            assert!(scratch.made.load(Ordering::SeqCst) > 0);
            scratch.uses.set(scratch.uses.get() + 1);
            (n, scratch.uses.get())
        });
        assert!(uses.iter().enumerate().all(|(i, (n, _))| i == *n));
        // One use each, and one more for every scratch after its first.
        let firsts = uses.iter().filter(|(_, uses)| *uses == 1).count();
        assert_eq!(firsts, made.load(Ordering::SeqCst));
        assert!(firsts < 2_000, "{firsts} of 20,000 items made scratch");
        assert_eq!(census.alive(), 0, "gone before the map returns");
        assert_eq!(pool.map_init(0..0, || panic!("no items"), |(), n: u8| n), []);
    });
}

#[test]
fn a_panic_of_init_or_of_the_drop_of_scratch_is_the_maps() {
    everywhere(|pool| {
        let said = panic_of(|| pool.map_init(0..100, || panic!("init, on purpose"), |(), n| n));
        assert_eq!(said, "init, on purpose");
        let census = Census::new();
        let exploded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.map_init(0..100, || Explodes::of(&census), |_, n| n)
        }));
        let Err(payload) = exploded else { panic!("it returned") };
        payload.downcast::<Bomb>().unwrap().0 = 0;
        let said = panic_of(|| {
            pool.map_init(0..100, || census.token(), |_, n| assert_ne!(n, 9, "an item, on purpose"))
        });
        assert!(said.contains("an item, on purpose"), "{said}");
        assert_eq!(census.alive(), 0);
        assert_eq!(pool.map_init(0..3, || 1, |one, n| n + *one), [1, 2, 3]);
    });
}

// Broke: the second of two closures whose drops panic was dropped while the first one's unwound.
#[test]
fn closures_that_explode_when_they_are_dropped_cost_one_panic() {
    everywhere(|pool| {
        let census = Census::new();
        let bomb = || Explodes::of(&census);
        let blast = |f: &dyn Fn()| {
            let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) else {
                panic!("it returned")
            };
            payload.downcast::<Bomb>().unwrap().0 = 0;
            assert_eq!(census.alive(), 0);
        };
        let holds = |_: &Explodes| ();
        blast(&|| {
            let (init, f) = (bomb(), bomb());
            drop(pool.map_init(0..3, move || holds(&init), move |(), _| holds(&f)));
        });
        blast(&|| {
            let (f, identity, reduce) = (bomb(), bomb(), bomb());
            let add = move |(), ()| holds(&reduce);
            pool.map_reduce(0..3, move |_| holds(&f), move || holds(&identity), add);
        });
        blast(&|| {
            let (items, f) = (bomb(), bomb());
            let items = (0..3).inspect(move |_| holds(&items));
            pool.for_each(items, move |_| holds(&f));
        });
    });
}

#[test]
fn init_runs_where_the_item_does_with_its_carriers() {
    each_shape(|pool| {
        let pool = pool.in_context(&one_by_one());
        let threads = Mutex::new(Vec::new());
        let found = pool.map_init(
            0..100,
            || {
                threads.lock().unwrap().push(std::thread::current().id());
                PLAIN.replace(9)
            },
            |scratch, _| (*scratch, PLAIN.replace(9)),
        );
        assert_eq!(found, [(0, 0); 100]);
        assert!(!threads.into_inner().unwrap().contains(&std::thread::current().id()));
    });
}

#[test]
fn after_a_shutdown_all_of_them_panic_and_drop_what_they_were_given() {
    each_shape(|pool| {
        pool.shutdown().unwrap();
        let census = Census::new();
        let items = || (0..5).map(|_| census.token());
        for said in [
            panic_of(|| pool.for_each(items(), drop)),
            panic_of(|| drop(pool.reduce(items(), || census.token(), |a, _| a))),
            panic_of(|| drop(pool.map_reduce(items(), |one| one, || census.token(), |a, _| a))),
            panic_of(|| drop(pool.map_init(items(), || census.token(), |_, one| one))),
        ] {
            assert!(said.contains("shut down"), "{said}");
        }
        assert_eq!(census.alive(), 0);
    });
}

/// Marks the task that it is dropped in.
struct Marks;

impl Marks {
    /// Makes a closure own it.
    fn held(&self) {}
}

impl Drop for Marks {
    fn drop(&mut self) {
        SEEN.set(true);
    }
}

// Broke: the identity of a reduction, and the closure and the items of an imap, were dropped in the
// caller's task, which saw what that left in slots.
#[test]
fn what_was_given_is_dropped_in_no_task_of_the_caller() {
    everywhere(|pool| {
        crate::support::quiet();
        let clean = |what: &str| assert!(!SEEN.get(), "{what}");
        let marks = || Marks;
        for n in [0, 3] {
            let (m, i, r) = (marks(), marks(), marks());
            let identity = move || {
                i.held();
                0
            };
            let map = move |n| {
                m.held();
                n
            };
            let put_together = move |a: i32, b: i32| {
                r.held();
                a + b
            };
            assert_eq!(pool.map_reduce(0..n, map, identity, put_together), n * (n - 1) / 2);
            clean("a reduction");
        }
        let kept = marks();
        let identity = move || {
            kept.held();
            Marks
        };
        let reduces = || pool.reduce([Marks, Marks], identity, |_, _| panic!("on purpose"));
        panic_of(|| drop(reduces()));
        clean("a reduction that fails");
        let (init, lent) = (marks(), marks());
        let make = move || {
            init.held();
            Marks
        };
        let lend = move |_: &mut Marks, n: i32| {
            lent.held();
            n
        };
        pool.map_init(0..3, make, lend);
        clean("what is kept");
        for pulled in [0, 1] {
            let held = marks();
            let f = move |n: i32| {
                held.held();
                n
            };
            let mut results = pool.imap(0..3, f);
            assert_eq!(results.by_ref().take(pulled).count(), pulled);
            drop(results);
            let held = marks();
            let items = (0..3).inspect(move |_| held.held());
            drop(pool.imap_unordered(items, |n: i32| n));
            clean("an imap");
        }
    });
}

#[test]
fn an_identity_whose_drop_panics_costs_one_panic_and_no_result() {
    let census = Census::new();
    crate::support::quiet();
    let pool = Pool::new(2).unwrap();
    for fails in [false, true] {
        let bomb = crate::support::Fails::new(&census);
        let identity = move || {
            bomb.held();
            None
        };
        let item = |n: u32| {
            assert!(!fails || n != 7, "an item, on purpose");
            Some(census.token())
        };
        let said = panic_of(|| drop(pool.map_reduce(0..20, item, identity, |a, _| a)));
        assert!(said.contains(if fails { "an item" } else { "a drop" }), "{said}");
        assert_eq!(census.alive(), 0);
    }
}

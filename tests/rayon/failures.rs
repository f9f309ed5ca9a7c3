//! Several failures at a time: the first panic resumes, everything else is dropped once and costs
//! nothing more. Where one of these drops unwound through rayon, the process would abort.

use crate::support::{Census, Counted, Inert, finishes, message};
use cleanslate::rayon::{self as tasks, ParallelIteratorExt, RayonPool};
use cleanslate::sync::Event;
use cleanslate::task_local;
use rayon::prelude::*;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;

task_local! {
    static VALUE: Option<Grumpy> = None;
    #[inherit]
    static COPIED: Option<Copied> = None;
    static TOUCHED: bool = false;
}

/// Panics when it is dropped, and is counted. It touches a slot, which tells whether that was in
/// the caller's task.
#[derive(Debug)]
struct Grumpy(&'static str, #[expect(dead_code, reason = "counts itself")] Counted);

impl Drop for Grumpy {
    fn drop(&mut self) {
        TOUCHED.set(true);
        panic!("{}", self.0);
    }
}

/// Makes such values.
#[derive(Clone, Default)]
struct Makes(Census);

impl Makes {
    fn one(&self, what: &'static str) -> Grumpy {
        Grumpy(what, self.0.one(what))
    }

    /// Panics with one.
    fn panic<R>(&self, what: &'static str) -> R {
        panic_any(self.one(what))
    }
}

/// What `f` panics with. By then everything that was made is dropped but the payload, in tasks of
/// their own.
#[track_caller]
fn first<R>(makes: &Makes, f: impl FnOnce() -> R) -> &'static str {
    TOUCHED.take();
    let what = first_here(makes, f);
    assert!(!TOUCHED.is_set(), "something was dropped in the caller's task");
    what
}

/// The same, where the caller has something to drop itself.
#[track_caller]
fn first_here<R>(makes: &Makes, f: impl FnOnce() -> R) -> &'static str {
    let payload = match catch_unwind(AssertUnwindSafe(|| drop(f()))) {
        Ok(()) => panic!("it returned"),
        Err(payload) => payload,
    };
    match payload.downcast::<Grumpy>() {
        Ok(grumpy) => {
            assert_eq!(makes.0.alive(), 1, "besides the payload");
            let what = grumpy.0;
            let dropped =
                cleanslate::isolated(|| catch_unwind(AssertUnwindSafe(|| drop(grumpy))))();
            assert!(dropped.is_err());
            what
        }
        Err(payload) => {
            assert_eq!(makes.0.alive(), 0);
            message(&*payload).leak()
        }
    }
}

/// Runs over pools of 1, 2 and 4 threads, from outside and from within.
fn each_pool(test: impl Fn(&RayonPool) + Sync) {
    for threads in [1, 2, 4] {
        let pool = RayonPool::new(threads).unwrap();
        test(&pool);
        let inside = RayonPool::global();
        pool.install(|| test(&inside));
        // Nobody has died.
        assert_eq!(pool.broadcast(|| TOUCHED.replace(true)), vec![false; threads]);
    }
}

#[test]
fn of_two_panics_in_join_the_first_resumes() {
    each_pool(|pool| {
        let makes = Makes::default();
        let both = || pool.join(|| makes.panic::<()>("a"), || makes.panic::<()>("b"));
        assert_eq!(first(&makes, both), "a");
        let left = || pool.join(|| makes.panic::<()>("a"), || makes.one("result"));
        assert_eq!(first(&makes, left), "a");
        let right = || pool.join(|| makes.one("result"), || makes.panic::<()>("b"));
        assert_eq!(first(&makes, right), "b");
    });
}

#[test]
fn a_value_and_a_result_whose_drops_panic_are_one_failure() {
    each_pool(|pool| {
        let makes = Makes::default();
        let fails = || {
            VALUE.set(Some(makes.one("value")));
            makes.one("result")
        };
        assert_eq!(first(&makes, || pool.install(fails)), "value");
        assert_eq!(first(&makes, || pool.join(fails, fails)), "value");
        assert_eq!(first(&makes, || pool.broadcast(fails)), "value");
        assert_eq!(first(&makes, || pool.scope(|_| fails())), "value");
        assert_eq!(first(&makes, || pool.scope(|s| s.spawn(|_| drop(fails())))), "result");
        assert_eq!(first(&makes, || pool.map_range(0..40, |_| fails())), "value");
        let panics = || {
            VALUE.set(Some(makes.one("value")));
            makes.panic::<()>("panic")
        };
        assert_eq!(first(&makes, || pool.join(panics, panics)), "panic");
        assert_eq!(first(&makes, || pool.map_range(0..40, |_| panics())), "panic");
        let carrying = pool.in_context(&cleanslate::Context::empty().carry(Inert(())));
        assert_eq!(first(&makes, || carrying.map_range(0..40, |_| fails())), "value");
        assert_eq!(first(&makes, || carrying.map_range(0..40, |_| panics())), "panic");
    });
}

#[test]
fn a_value_and_a_result_whose_drops_panic_are_one_failure_in_a_chain() {
    use cleanslate::rayon::ParallelIteratorExt;
    use rayon::prelude::*;
    each_pool(|pool| {
        let makes = Makes::default();
        let fails = |_| {
            VALUE.set(Some(makes.one("value")));
            makes.one("result")
        };
        // A single item, since rayon drops the others' payloads and results itself.
        let chain = || (0..1).into_par_iter().isolated();
        assert_eq!(
            first(&makes, || pool.install(|| chain().map(fails).collect::<Vec<_>>())),
            "value"
        );
        let fold = || chain().fold(|| None, |_, n| Some(fails(n))).collect::<Vec<_>>();
        assert_eq!(first(&makes, || pool.install(fold)), "value");
    });
}

#[test]
fn of_several_panics_in_a_scope_the_first_resumes() {
    each_pool(|pool| {
        let makes = Makes::default();
        let several = || pool.scope(|s| (0..9).for_each(|_| s.spawn(|_| makes.panic("spawned"))));
        assert_eq!(first(&makes, several), "spawned");
        let nested = || {
            pool.scope_fifo(|s| {
                s.spawn_fifo(|s| {
                    s.spawn_fifo(|_| makes.panic("inner"));
                    s.spawn_broadcast(|_, _| makes.panic("inner"));
                });
                makes.one("result")
            })
        };
        assert_eq!(first(&makes, nested), "inner");
        let in_place = || {
            pool.in_place_scope(|s| {
                (0..9).for_each(|_| s.spawn(|_| makes.panic("spawned")));
                makes.one("result")
            })
        };
        assert_eq!(first(&makes, in_place), "spawned");
        let body = || pool.in_place_scope_fifo(|_| makes.panic::<()>("body"));
        assert_eq!(first(&makes, body), "body");
    });
}

/// Only its copies panic when they are dropped.
struct Copied(Makes, #[expect(dead_code, reason = "is dropped")] Option<Grumpy>);

impl Clone for Copied {
    fn clone(&self) -> Self {
        Self(self.0.clone(), Some(self.0.one("copied")))
    }
}

#[test]
fn a_copy_whose_drop_panics_costs_nothing() {
    each_pool(|pool| {
        let makes = Makes::default();
        let inheriting = |spawn: &mut dyn FnMut()| {
            COPIED.scope(Some(Copied(makes.clone(), None)), spawn);
            assert_eq!(makes.0.alive(), 1, "the task has it alone");
        };
        pool.in_place_scope(|s| {
            let (open, gate) = channel::<()>();
            let mut task = Some(move || assert!(gate.recv().is_err()));
            inheriting(&mut || {
                let task = task.take().unwrap();
                s.spawn(move |_| task());
            });
            drop(open);
        });
        assert_eq!(makes.0.alive(), 0);
        let (open, gate) = channel::<()>();
        let mut task = Some(move || assert!(gate.recv().is_err()));
        inheriting(&mut || pool.spawn(task.take().unwrap()));
        drop(open);
        while makes.0.alive() > 0 {
            if rayon::yield_now().is_none() {
                std::thread::yield_now();
            }
        }
    });
}

// Broke: it was the chain's panic, and its results were lost.
#[test]
fn a_copy_whose_drop_panics_costs_a_chain_nothing() {
    each_pool(|pool| {
        let makes = Makes::default();
        let chain = |n: i32| {
            COPIED.scope(Some(Copied(makes.clone(), None)), || {
                (0..n).into_par_iter().isolated().map(|n| n + 1).filter(|n| *n > 0)
            })
        };
        let chained = chain(9);
        assert_eq!(makes.0.alive(), 1, "the chain has it alone");
        assert_eq!(pool.install(|| chained.collect::<Vec<_>>()).len(), 9);
        drop(chain(1));
        assert_eq!((makes.0.made(), makes.0.alive()), (2, 0));
    });
}

#[test]
fn what_is_lost_to_the_first_panic_may_run_the_next_task_that_panics() {
    struct Yields;
    impl Drop for Yields {
        fn drop(&mut self) {
            rayon::yield_now();
        }
    }
    finishes("three panics", || {
        let pool = RayonPool::new(1).unwrap();
        let scope = || pool.scope(|s| (0..3).for_each(|_| s.spawn(|_| panic_any(Yields))));
        assert!(catch_unwind(AssertUnwindSafe(scope)).unwrap_err().is::<Yields>());
    });
}

#[test]
fn the_first_panic_is_the_first_in_time() {
    let pool = RayonPool::new(1).unwrap();
    let in_order =
        || pool.scope_fifo(|s| (0..3_usize).for_each(|n| s.spawn_fifo(move |_| panic_any(n))));
    let backwards = || pool.scope(|s| (0..3_usize).for_each(|n| s.spawn(move |_| panic_any(n))));
    let number = |f: &(dyn Fn() + Sync)| {
        *catch_unwind(AssertUnwindSafe(f)).unwrap_err().downcast::<usize>().unwrap()
    };
    assert_eq!((number(&in_order), number(&backwards)), (0, 2));
    assert_eq!(number(&|| drop(pool.map_range(0..9, |n| if n < 3 { n } else { panic_any(n) }))), 3);
    // The second task begins when the first one has ended.
    let before_the_body = || {
        let (tell, told) = channel();
        pool.in_place_scope(|s| {
            s.spawn(|_| panic_any(0_usize));
            s.spawn(move |_| tell.send(()).unwrap());
            told.recv().unwrap();
            panic_any(1_usize)
        })
    };
    let before_the_fifo_body = || {
        let (tell, told) = channel();
        pool.in_place_scope_fifo(|s| {
            s.spawn_fifo(|_| panic_any(0_usize));
            s.spawn_fifo(move |_| tell.send(()).unwrap());
            told.recv().unwrap();
            panic_any(1_usize)
        })
    };
    assert_eq!((number(&before_the_body), number(&before_the_fifo_body)), (0, 0));
}

#[test]
fn of_several_panics_in_a_broadcast_the_first_resumes() {
    each_pool(|pool| {
        let makes = Makes::default();
        assert_eq!(first(&makes, || pool.broadcast(|| makes.panic::<()>("visit"))), "visit");
        let one = || {
            pool.broadcast(|| match rayon::current_thread_index() {
                Some(0) => makes.panic("visit"),
                _ => makes.one("result"),
            })
        };
        assert_eq!(first(&makes, one), "visit");
    });
}

/// A closure that owns a value whose drop panics.
fn owns<A, R>(owned: Grumpy, f: impl Fn(A) -> R) -> impl Fn(A) -> R {
    move |a| {
        let _owned = &owned;
        f(a)
    }
}

#[test]
fn what_a_closure_owns_is_not_dropped_while_a_panic_unwinds() {
    each_pool(|pool| {
        let makes = Makes::default();
        let broadcast = |f: &(dyn Fn() -> Grumpy + Sync)| {
            let f = owns(makes.one("owned"), |()| f());
            pool.broadcast(move || f(()))
        };
        assert_eq!(first_here(&makes, || broadcast(&|| makes.panic("visit"))), "visit");
        assert_eq!(first_here(&makes, || broadcast(&|| makes.one("result"))), "owned");
        let map = |f: &(dyn Fn(usize) -> Grumpy + Sync)| {
            pool.map_range(0..40, owns(makes.one("owned"), f))
        };
        assert_eq!(first_here(&makes, || map(&|_| makes.panic("item"))), "item");
        assert_eq!(first_here(&makes, || map(&|_| makes.one("result"))), "owned");
        let visits = |makes: &Makes| {
            let owned = makes.one("owned");
            pool.scope(|s| {
                s.spawn_broadcast(move |_, _| {
                    let _owned = &owned;
                    makes.panic("visit")
                })
            })
        };
        assert_eq!(first(&makes, || visits(&makes)), "visit");
    });
}

#[test]
fn a_map_that_panics_drops_inputs_and_results_once_each() {
    each_pool(|pool| {
        let makes = Makes::default();
        let ran = AtomicUsize::new(0);
        let item = |(n, input): (usize, Grumpy)| {
            ran.fetch_add(1, SeqCst);
            if n == 10 { panic_any(input) } else { input }
        };
        let items = || Vec::from_iter((0..100).map(|n| (n, makes.one("input"))));
        assert_eq!(first(&makes, || pool.map(items(), item)), "input");
        if pool.workers() == 1 {
            assert_eq!(ran.into_inner(), 11, "started after the panic");
        }
    });
}

#[test]
fn an_iterator_that_panics_is_dropped_with_what_it_gave() {
    each_pool(|pool| {
        let makes = Makes::default();
        let ran = AtomicUsize::new(0);
        let run = |input: Grumpy| (ran.fetch_add(1, SeqCst), input);
        let pulls = |n: u32| if n == 7 { makes.panic("pull") } else { makes.one("input") };
        assert_eq!(first(&makes, || pool.map((0..9).map(pulls), run)), "pull");
        assert_eq!(ran.load(SeqCst), 0);
        // It is the caller's, and dropped in the caller's task.
        let owns = || (0..9).map(owns(makes.one("iterator"), |_| makes.one("input")));
        assert_eq!(first_here(&makes, || pool.map(owns(), run)), "iterator");
        let both = || (0..9).map(self::owns(makes.one("iterator"), pulls));
        assert_eq!(first_here(&makes, || pool.map(both(), run)), "pull");
        assert_eq!(ran.into_inner(), 0);
    });
}

// The last call is no item.
#[test]
fn what_an_iterator_left_at_its_end_fails_the_map() {
    each_pool(|pool| {
        let makes = Makes::default();
        let none = || {
            VALUE.set(Some(makes.one("value")));
            None::<u32>
        };
        let carrying = pool.in_context(&cleanslate::Context::empty().carry(Inert(())));
        for pool in [pool, &carrying] {
            assert_eq!(first(&makes, || pool.map(std::iter::from_fn(none), |n| n)), "value");
        }
    });
}

#[test]
fn what_does_not_become_an_iterator_costs_one_panic() {
    struct Panics<'m>(&'m Makes);
    impl IntoIterator for Panics<'_> {
        type Item = u32;
        type IntoIter = std::vec::IntoIter<u32>;
        fn into_iter(self) -> Self::IntoIter {
            self.0.panic("items")
        }
    }
    each_pool(|pool| {
        let makes = Makes::default();
        let map = || pool.map(Panics(&makes), owns(makes.one("owned"), |n| n));
        assert_eq!(first_here(&makes, map), "items");
    });
}

#[test]
fn what_nobody_waits_for_costs_the_pool_nothing() {
    let (tell, told) = channel();
    let builder = rayon::ThreadPoolBuilder::new().num_threads(2);
    let pool =
        builder.panic_handler(move |payload| tell.send(what(payload)).unwrap()).build().unwrap();
    let pool = RayonPool::from(pool);
    let makes = Makes::default();
    let broadcast = {
        let (makes, owned) = (makes.clone(), makes.one("owned"));
        move || {
            let _owned = &owned;
            makes.panic("visit")
        }
    };
    pool.spawn_broadcast(broadcast);
    assert_eq!([told.recv(), told.recv()], [Ok("visit"); 2]);
    let spawned = makes.clone();
    pool.spawn(move || {
        VALUE.set(Some(spawned.one("value")));
        spawned.panic("spawned")
    });
    assert_eq!(told.recv(), Ok("spawned"));
    pool.broadcast(|| ());
    assert_eq!(makes.0.alive(), 0);
    assert_eq!(tasks::install(&rayon::ThreadPoolBuilder::new().build().unwrap(), || 1), 1);
}

fn what(payload: Box<dyn Any + Send>) -> &'static str {
    let grumpy = payload.downcast::<Grumpy>().unwrap();
    let what = grumpy.0;
    let _dropped = catch_unwind(AssertUnwindSafe(|| drop(grumpy)));
    what
}

// Broke: of a broadcast that nobody waits for, the closure was dropped while the panic of its
// context's drop unwound; its own ended the process.
#[test]
fn the_context_and_the_closure_of_a_spawned_broadcast_cost_no_second_panic() {
    /// Panics when the last one is dropped.
    #[derive(Clone)]
    struct Last(std::sync::Arc<Grumpy>);
    task_local! { #[inherit] static LAST: Option<Last> = None; }
    each_pool(|pool| {
        let makes = Makes::default();
        let last = Last(std::sync::Arc::new(makes.one("context")));
        assert_eq!(std::sync::Arc::strong_count(&last.0), 1);
        let given = cleanslate::Context::empty().with(&LAST, Some(last));
        let owned = makes.one("owned");
        let given_pool = pool.in_context(&given);
        drop(given);
        let go = std::sync::Arc::new(Event::new());
        let gate = std::sync::Arc::clone(&go);
        given_pool.spawn_broadcast(move || {
            let _owned = &owned;
            gate.wait();
        });
        // Before the last visit, or the context would be dropped here.
        drop(given_pool);
        go.set();
        while makes.0.alive() > 0 {
            if rayon::yield_now().is_none() {
                std::thread::yield_now();
            }
        }
    });
}

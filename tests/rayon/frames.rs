//! What the user gave is dropped in no task, and before rayon has it to drop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::support::{in_a_process_of_its_own, message, quiet};
use cleanslate::foreign::{self, BoxError, Carrier};
use cleanslate::rayon::{self as tasks, ParallelIteratorExt, RayonPool};
use cleanslate::{Context, isolated, task_local};
use rayon::prelude::*;

task_local! {
    static MARK: &'static str = "fresh";
    #[inherit]
    static TENANT: Option<Arc<()>> = None;
    #[inherit]
    static FAILS: Option<FailsToDrop> = None;
}

/// Touches a slot in its drop.
struct Marks;

impl Drop for Marks {
    fn drop(&mut self) {
        MARK.set("dropped");
    }
}

struct MarksPulled(u32, Marks);

impl Iterator for MarksPulled {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0 = self.0.checked_sub(1)?;
        Some(self.0)
    }
}

#[derive(Clone)]
struct FailsToDrop;

impl Drop for FailsToDrop {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

// Broke: the outer task found its slots changed.
#[test]
fn what_a_pool_of_rayons_was_given_is_dropped_in_no_task() {
    let pool = RayonPool::new(2).unwrap();
    let ways: [(&str, &dyn Fn(Marks)); 6] = [
        ("map", &|marks| drop(pool.map(MarksPulled(3, marks), |_| ()))),
        ("map's closure", &|marks| {
            drop(pool.map(0..3, move |_| {
                let _ = &marks;
            }))
        }),
        ("map_slice", &|marks| {
            drop(pool.map_slice(&[1, 2], move |_| {
                let _ = &marks;
            }))
        }),
        ("map_range", &|marks| {
            drop(pool.map_range(0..2, move |_| {
                let _ = &marks;
            }))
        }),
        ("broadcast", &|marks| {
            drop(pool.broadcast(move || {
                let _ = &marks;
            }))
        }),
        ("visits", &|marks| {
            pool.scope(move |s| {
                s.spawn_broadcast(move |_, _| {
                    let _ = &marks;
                })
            })
        }),
    ];
    let outer = || {
        for (way, call) in ways {
            MARK.set("outer");
            call(Marks);
            assert_eq!(MARK.get(), "outer", "{way}");
        }
    };
    outer();
    isolated(outer)();
}

// Nobody gets them, since the closure fails to drop.
#[test]
fn results_that_a_pool_of_rayons_loses_are_dropped_in_no_task() {
    quiet();
    let pool = RayonPool::new(2).unwrap();
    let outer = || {
        MARK.set("outer");
        let fails = FailsToDrop;
        let lost = || {
            pool.map_range(0..2, move |_| {
                let _ = &fails;
                Marks
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(lost)).is_err());
        assert_eq!(MARK.get(), "outer");
    };
    outer();
    isolated(outer)();
}

// Broke: as above, for a result that is lost to a copy which fails to drop.
#[test]
fn a_result_that_a_wrapped_closure_loses_is_dropped_in_no_task() {
    quiet();
    isolated(|| {
        MARK.set("outer");
        let context = Context::empty().with(&FAILS, Some(FailsToDrop));
        let wrapped = context.wrap(|| Marks);
        assert!(catch_unwind(AssertUnwindSafe(wrapped)).is_err());
        assert_eq!(MARK.get(), "outer");
    })();
}

// Broke: rayon dropped it, with the context, when the scope was over.
#[test]
fn the_visits_of_a_scope_keep_nothing_beyond_it() {
    let pool = RayonPool::new(2).unwrap();
    for _ in 0..500 {
        let tenant = Arc::new(());
        let context = Context::empty().with(&TENANT, Some(Arc::clone(&tenant)));
        let pool = pool.clone().in_context(&context);
        drop(context);
        pool.in_place_scope(|s| s.spawn_broadcast(|_, _| ()));
        drop(pool);
        assert_eq!(Arc::strong_count(&tenant), 1);
    }
}

// Broke: nobody heard of it.
#[test]
fn a_scope_tells_of_visits_whose_closure_fails_to_drop() {
    quiet();
    let pool = RayonPool::new(2).unwrap();
    let fails = FailsToDrop;
    let scope = || {
        pool.scope(|s| {
            s.spawn_broadcast(move |_, _| {
                let _ = &fails;
            })
        })
    };
    let payload = catch_unwind(AssertUnwindSafe(scope)).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
}

/// Captures what fails to be dropped.
struct CapturesWhatFails;

impl Carrier for CapturesWhatFails {
    type Captured = FailsToDrop;
    type Attached = ();

    fn name(&self) -> &str {
        "captures what fails"
    }

    fn capture(&self) -> Result<FailsToDrop, BoxError> {
        Ok(FailsToDrop)
    }

    fn attach(&self, _: &FailsToDrop) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn a_context_whose_drop_fails_costs_nothing() {
    if !in_a_process_of_its_own("frames::a_context_whose_drop_fails_costs_nothing") {
        return;
    }
    quiet();
    foreign::install(CapturesWhatFails).unwrap();
    let [ours, rayons] = [(); 2].map(|()| rayon::ThreadPoolBuilder::new().num_threads(2));
    let (pool, rayons) = (RayonPool::from(ours.build().unwrap()), rayons.build().unwrap());
    type Way<'a> = &'a dyn Fn(&(dyn Fn() + Sync));
    let ways: [(&str, Way<'_>); 13] = [
        ("join", &|f| _ = pool.join(f, f)),
        ("join_context", &|f| _ = tasks::join_context(|_| f(), |_| f())),
        ("install", &|f| pool.install(f)),
        ("install on rayon's", &|f| tasks::install(&rayons, f)),
        ("broadcast", &|f| drop(pool.broadcast(f))),
        ("scope", &|f| pool.scope(|_| f())),
        ("scope_fifo", &|f| pool.scope_fifo(|_| f())),
        ("spawn in a scope", &|f| pool.in_place_scope(|s| s.spawn(|_| f()))),
        ("visits of a scope", &|f| pool.in_place_scope(|s| s.spawn_broadcast(|_, _| f()))),
        ("map", &|f| drop(pool.map(0..3, |_| f()))),
        ("map_slice", &|f| drop(pool.map_slice(&[1, 2], |_| f()))),
        ("map_range", &|f| drop(pool.map_range(0..3, |_| f()))),
        ("a chain", &|f| (0..3).into_par_iter().isolated().for_each(|_| f())),
    ];
    for (way, call) in ways {
        call(&|| ());
        let failed = catch_unwind(AssertUnwindSafe(|| call(&|| panic!("the task, on purpose"))));
        assert_eq!(message(&*failed.unwrap_err()), "the task, on purpose", "{way}");
    }
}

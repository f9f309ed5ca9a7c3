//! What a task inherits.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{
    FailsAsCopy, OnDrop, SHAPES, exits_in_a_process_of_its_own, on_a_thread, panic_of, quiet,
};
use cleanslate::{Context, Pool, task_local};

task_local! {
    #[inherit]
    static TENANT: String = "nobody".to_owned();
    #[inherit(with = |depth| depth + 1)]
    static DEPTH: u64 = 0;
    static FRESH: u32 = 1;
}

/// What the tasks of every way into the pool find in `TENANT` and `DEPTH`.
fn found_by_all_ways(pool: &Pool) -> Vec<(&'static str, String, u64)> {
    let look = || (TENANT.get(), DEPTH.get());
    let mut found = vec![("submit", pool.submit(look).join().unwrap())];
    found.push(("try_submit", pool.try_submit(look).unwrap().join().unwrap()));
    found.push(("scope", pool.scope(|s| s.submit(look).join().unwrap())));
    found.extend(pool.map(0..3, |_| look()).into_iter().map(|f| ("map", f)));
    found.extend(pool.map_slice(&[0; 3], |_| look()).into_iter().map(|f| ("map_slice", f)));
    found.extend(pool.map_range(0..3, |_| look()).into_iter().map(|f| ("map_range", f)));
    let tried = pool.try_map(0..3, |_| Ok::<_, ()>(look())).unwrap();
    found.extend(tried.into_iter().map(|f| ("try_map", f)));
    let results = pool.map_results(0..3, |_| look());
    found.extend(results.into_iter().map(|f| ("map_results", f.unwrap())));
    found.extend(pool.imap(0..3, move |_| look()).map(|f| ("imap", f)));
    found.extend(pool.imap_unordered(0..3, move |_| look()).map(|f| ("imap_unordered", f)));
    found.extend(pool.broadcast(look).into_iter().map(|f| ("broadcast", f)));
    found.into_iter().map(|(way, (tenant, depth))| (way, tenant, depth)).collect()
}

#[test]
fn every_way_into_a_pool_hands_the_submitters_values_down() {
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        TENANT.set("acme".to_owned());
        DEPTH.set(4);
        for (way, tenant, depth) in found_by_all_ways(&pool) {
            assert_eq!((tenant.as_str(), depth), ("acme", 5), "{way}, {workers} workers");
        }
        let detached = pool.detached().submit(|| (TENANT.get(), DEPTH.get())).join().unwrap();
        assert_eq!(detached, ("nobody".to_owned(), 0));
        let empty = Context::empty();
        let given = pool.in_context(&empty).map([()], |()| TENANT.get());
        assert_eq!(given, ["nobody"]);
    }
}

#[test]
fn nothing_is_inherited_where_nothing_was_set() {
    on_a_thread(|| {
        let pool = Pool::new(2).unwrap();
        for (way, tenant, depth) in found_by_all_ways(&pool) {
            assert_eq!((tenant.as_str(), depth), ("nobody", 0), "{way}");
        }
    });
}

#[test]
fn grandchildren_inherit_what_their_parents_never_touched() {
    for workers in SHAPES {
        let pool = Arc::new(Pool::new(workers).unwrap());
        TENANT.set("acme".to_owned());
        DEPTH.set(10);
        let inner = Arc::clone(&pool);
        let found = pool.submit(move || {
            let inmost = Arc::clone(&inner);
            inner.submit(move || inmost.map([()], |()| (TENANT.get(), DEPTH.get()))).join().unwrap()
        });
        assert_eq!(found.join().unwrap(), [("acme".to_owned(), 13)]);
    }
}

#[test]
fn changes_after_submit_are_seen_by_nobody_else() {
    let pool = Pool::new(1).unwrap();
    TENANT.set("at submit".to_owned());
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let task = pool.submit(move || {
        gate.recv().unwrap();
        TENANT.replace("the task's".to_owned())
    });
    TENANT.set("after submit".to_owned());
    go.send(()).unwrap();
    assert_eq!(task.join().unwrap(), "at submit");
    assert_eq!(TENANT.get(), "after submit");
}

#[test]
fn the_submitters_value_counts_not_the_workers() {
    let pool = Pool::new(1).unwrap();
    TENANT.set("submitter".to_owned());
    // Prepared on one thread, submitted on another: what counts is the thread of the submit.
    let found = on_a_thread(|| {
        TENANT.set("other".to_owned());
        pool.submit(|| TENANT.get()).join().unwrap()
    });
    assert_eq!(found, "other");
}

#[test]
fn workers_that_start_inside_a_scope_inherit_nothing() {
    for workers in SHAPES {
        let pool = TENANT.scope("builder".to_owned(), || Pool::new(workers).unwrap());
        assert_eq!(pool.detached().broadcast(|| TENANT.get()), vec!["nobody"; workers]);
        TENANT.take();
        assert_eq!(pool.broadcast(|| TENANT.get()), vec!["nobody"; workers]);
    }
}

#[test]
fn an_inherited_value_is_set_until_it_is_taken() {
    TENANT.set("acme".to_owned());
    Context::capture().run(|| {
        assert!(TENANT.is_set());
        assert_eq!(TENANT.take().as_deref(), Some("acme"));
        assert!(!TENANT.is_set());
        assert_eq!(TENANT.get(), "nobody");
    });
    Context::capture().run(|| {
        TENANT.take();
        // Taken is not inherited either.
        Context::capture().run(|| assert_eq!(TENANT.get(), "nobody"));
    });
}

#[test]
fn a_change_is_handed_down_also_at_the_first_touch_and_after_a_capture() {
    let changes: [(&str, fn()); 7] = [
        ("with_mut", || TENANT.with_mut(|tenant| tenant.push_str("'s"))),
        ("try_with_mut", || TENANT.try_with_mut(|tenant| tenant.push_str("'s")).unwrap()),
        ("set", || TENANT.set("acme's".to_owned())),
        ("try_set", || TENANT.try_set("acme's".to_owned()).unwrap()),
        ("replace", || drop(TENANT.replace("acme's".to_owned()))),
        ("try_replace", || drop(TENANT.try_replace("acme's".to_owned()).unwrap())),
        ("take", || drop(TENANT.take())),
    ];
    let context = Context::empty().with(&TENANT, "acme".to_owned());
    for (way, change) in changes {
        for is_captured in [false, true] {
            let seen = context.run(|| {
                if is_captured {
                    TENANT.set("acme".to_owned());
                    drop(Context::capture());
                }
                change();
                Context::capture().run(|| TENANT.get())
            });
            let expected = if way == "take" { "nobody" } else { "acme's" };
            assert_eq!(seen, expected, "{way}, captured before: {is_captured}");
        }
    }
}

#[test]
fn a_scope_hands_down_its_value_and_its_end_takes_it_back() {
    TENANT.set("outer".to_owned());
    let before = Context::capture();
    let inside = TENANT.scope("inner".to_owned(), Context::capture);
    let after = Context::capture();
    let seen = [before, inside, after].map(|context| context.run(|| TENANT.get()));
    assert_eq!(seen, ["outer", "inner", "outer"]);
}

// Broke: a task that had taken a `with = f` value could not capture; the engine panicked.
#[test]
fn a_derived_value_that_was_taken_is_not_derived_again() {
    DEPTH.set(1);
    let grandchild = Context::capture().run(|| {
        assert_eq!(DEPTH.take(), Some(2));
        Context::capture().run(|| DEPTH.get())
    });
    assert_eq!(grandchild, 0, "the initialiser's");
}

struct Fragile(u32);

static FRAGILE_CLONES: AtomicUsize = AtomicUsize::new(0);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        // The first clone is the snapshot's, the second one the task's.
        if FRAGILE_CLONES.fetch_add(1, Ordering::SeqCst) == 1 {
            panic!("a clone that fails on purpose");
        }
        Self(self.0)
    }
}

task_local! {
    #[inherit]
    static FRAGILE: Fragile = Fragile(0);
}

// Broke: whoever caught the panic of an inherited value's clone found the declared default then,
// that is somebody else's tenant.
#[test]
fn a_clone_that_panics_does_not_turn_the_inherited_value_into_the_default() {
    FRAGILE.set(Fragile(7));
    let context = Context::capture();
    context.run(|| {
        assert!(panic_of(|| FRAGILE.with(|f| f.0)).contains("on purpose"));
        assert!(FRAGILE.is_set());
        let child = Context::capture();
        assert_eq!(FRAGILE.with(|f| f.0), 7);
        assert_eq!(child.run(|| FRAGILE.with(|f| f.0)), 7);
    });
}

struct Brittle(u32);

impl Clone for Brittle {
    fn clone(&self) -> Self {
        if self.0 == 99 {
            panic!("a clone that fails on purpose");
        }
        Self(self.0)
    }
}

/// Uses the engine in its clone: runs tasks, one of which captures, and touches another slot.
struct Busy(u64);

impl Clone for Busy {
    fn clone(&self) -> Self {
        let elsewhere = Context::empty().run(|| LATE.scope(40, Context::capture));
        assert_eq!(elsewhere.run(|| LATE.replace(1)), 40);
        LATE.set(self.0);
        Self(self.0 + 1)
    }
}

task_local! {
    #[inherit]
    static BUSY: Busy = Busy(0);
    #[inherit]
    static LATE: u64 = 0;
}

// What a task inherits is borrowed while a clone is made of it, and the list of slots grows under
// the capture that walks it.
#[test]
fn a_clone_may_run_tasks_and_touch_slots() {
    for _ in 0..2 {
        let context =
            on_a_thread(|| Context::empty().run(|| BUSY.scope(Busy(1), Context::capture)));
        let seen = context.run(|| {
            let own = BUSY.with(|busy| busy.0);
            let again = Context::capture();
            (own, LATE.get(), again.run(|| BUSY.with(|busy| busy.0)))
        });
        assert_eq!(seen, (3, 3, 5), "cloned once for each snapshot and once for each task");
    }
}

task_local! {
    #[inherit(with = |b| match b.0 {
        13 => panic!("a derivation that fails on purpose"),
        n => Brittle(n + 1),
    })]
    static BRITTLE: Brittle = Brittle(0);
}

#[test]
fn a_derivation_that_panics_costs_its_task_only() {
    let pool = Pool::new(1).unwrap();
    quiet();
    BRITTLE.set(Brittle(12));
    let first = pool.submit(|| BRITTLE.with(|b| b.0));
    assert_eq!(first.join().unwrap(), 13);
    BRITTLE.set(Brittle(13));
    let second = pool.submit(|| BRITTLE.with(|b| b.0));
    assert_eq!(second.join().unwrap_err().message(), Some("a derivation that fails on purpose"));
    BRITTLE.set(Brittle(20));
    assert_eq!(pool.submit(|| BRITTLE.with(|b| b.0)).join().unwrap(), 21);
    BRITTLE.set(Brittle(99));
    assert!(panic_of(|| pool.submit(|| ())).contains("a clone"), "the context's copy");
}

#[test]
fn capture_inside_the_slots_own_with_mut_is_an_error_that_names_it() {
    let pool = Pool::new(1).unwrap();
    TENANT.set("acme".to_owned());
    TENANT.with_mut(|_| {
        let error = Context::try_capture().unwrap_err();
        assert_eq!(error.slot(), "context::inherit::TENANT");
        assert!(error.to_string().contains("inherit::TENANT"));
        assert!(panic_of(Context::capture).contains("inherit::TENANT"));
        assert!(panic_of(|| pool.submit(|| ())).contains("inherit::TENANT"));
        assert!(panic_of(|| pool.map([()], |()| ())).contains("inherit::TENANT"));
        // A scope on top has a value of its own, which is not borrowed.
        let context = TENANT.scope("scoped".to_owned(), Context::capture);
        assert_eq!(context.run(|| TENANT.get()), "scoped");
        // So has a task.
        context.run(|| Context::capture().run(|| assert_eq!(TENANT.get(), "scoped")));
        pool.detached().submit(|| ()).join().unwrap();
    });
    TENANT.with(|_| assert!(Context::try_capture().is_ok(), "reading does not hinder"));
}

// Broke: a copy that had been made by then failed in its drop, and the capture panicked.
#[test]
fn copies_that_fail_in_their_drop_do_not_hide_why_a_capture_is_refused() {
    task_local! {
        #[inherit]
        static FAILS: FailsAsCopy = FailsAsCopy::default();
        #[inherit]
        static BORROWED: u32 = 0;
    }
    quiet();
    Context::empty().run(|| {
        FAILS.set(FailsAsCopy::default());
        let refused = BORROWED.with_mut(|_| Context::try_capture().unwrap_err().to_string());
        assert!(refused.contains("BORROWED`"), "{refused}");
    });
}

#[test]
fn a_chain_of_derived_generations_does_not_grow() {
    const GENERATIONS: u64 = 100_000;
    DEPTH.set(0);
    let mut context = Context::capture();
    for generation in 1..=GENERATIONS {
        // No task touches the slot, and each captures in turn; the one before is gone by then.
        context = context.run(Context::capture);
        if generation % 20_000 == 0 {
            assert_eq!(context.run(|| DEPTH.get()), generation + 1);
        }
    }
    assert_eq!(context.run(|| DEPTH.get()), GENERATIONS + 1);
}

/// Captures when a clone is made of it, if it is to.
struct Capturing(u32);

static CAPTURED: Mutex<Option<Context>> = Mutex::new(None);

impl Clone for Capturing {
    fn clone(&self) -> Self {
        if WATCHED.get() {
            *CAPTURED.lock().unwrap() = Some(Context::capture());
        }
        Self(self.0)
    }
}

fn captures_and_adds(n: &u32) -> u32 {
    *CAPTURED.lock().unwrap() = Some(Context::capture());
    n + 1
}

task_local! {
    static WATCHED: bool = false;
    #[inherit]
    static CHANGED: u32 = 0;
    #[inherit]
    static CAPTURING: Capturing = Capturing(0);
    #[inherit(with = captures_and_adds)]
    static DERIVING: u32 = 0;
}

// Broke: the slot was missing in what was captured then, and in every later capture of the task.
#[test]
fn a_capture_while_an_inherited_value_is_made_has_what_it_is_made_of() {
    let context = on_a_thread(|| {
        CAPTURING.set(Capturing(7));
        Context::capture()
    });
    context.run(|| {
        CHANGED.set(1);
        WATCHED.set(true);
        assert_eq!(CAPTURING.with(|c| c.0), 7);
        WATCHED.set(false);
        let then = CAPTURED.lock().unwrap().take().unwrap();
        for captured in [then, Context::capture()] {
            assert_eq!(captured.run(|| (CAPTURING.with(|c| c.0), CHANGED.get())), (7, 1));
        }
        CAPTURING.take();
        assert_eq!(Context::capture().run(|| CAPTURING.with(|c| c.0)), 0, "taken is taken");
    });
    let context = on_a_thread(|| {
        DERIVING.set(7);
        CHANGED.set(1);
        Context::capture()
    });
    context.run(|| {
        assert_eq!(DERIVING.get(), 8);
        let then = CAPTURED.lock().unwrap().take().unwrap();
        assert_eq!(then.run(|| DERIVING.get()), 8, "made of the same");
        assert_eq!(Context::capture().run(|| DERIVING.get()), 9);
    });
}

// Broke: they inherited what the task did.
#[test]
fn a_threads_own_values_see_nothing_of_the_task_that_exits() {
    task_local! { static LAST: Option<OnDrop> = None; }
    let name = "inherit::a_threads_own_values_see_nothing_of_the_task_that_exits";
    exits_in_a_process_of_its_own(name, &["inherited", "captured"], |case| {
        let inherited = match case {
            "inherited" => TENANT.scope("task".to_owned(), Context::capture),
            _ => Context::empty(),
        };
        TENANT.set("thread".to_owned());
        drop(Context::capture());
        LAST.set(Some(OnDrop::new(|| {
            if Context::capture().run(|| TENANT.get()) == "task" {
                std::process::abort();
            }
        })));
        inherited.run(|| {
            if case == "captured" {
                TENANT.set("task".to_owned());
                drop(Context::capture());
            }
            std::process::exit(0);
        })
    });
}

#[test]
fn the_values_of_a_task_that_exits_still_inherit_and_nobody_does_after_them() {
    task_local! { static HELD: Option<OnDrop> = None; }
    // Used first, so it ends after the slots.
    thread_local! { static LATE: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    let name = "inherit::the_values_of_a_task_that_exits_still_inherit_and_nobody_does_after_them";
    exits_in_a_process_of_its_own(name, &["exits"], |_| {
        LATE.with_borrow(|_| ());
        let inherited = TENANT.scope("task".to_owned(), Context::capture);
        let seen = Arc::new(Mutex::new(None));
        let tell = Arc::clone(&seen);
        LATE.set(Some(OnDrop::new(move || {
            let late = Context::capture();
            let late = on_a_thread(|| late.run(|| TENANT.get()));
            if (seen.lock().unwrap().as_deref(), &*late) != (Some("task"), "nobody") {
                std::process::abort();
            }
        })));
        inherited.run(|| {
            HELD.set(Some(OnDrop::new(move || *tell.lock().unwrap() = Some(TENANT.get()))));
            std::process::exit(0);
        })
    });
}

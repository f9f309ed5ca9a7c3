//! What a task inherits, and what the snapshot costs those who keep it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Census, Counted, OnDrop, SHAPES, on_a_thread, panic_of};
use cleanslate::future::FutureExt;
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
    crate::support::quiet();
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

static LINKS: AtomicUsize = AtomicUsize::new(0);

struct Link(u64);

impl Link {
    fn new(n: u64) -> Self {
        LINKS.fetch_add(1, Ordering::SeqCst);
        Self(n)
    }
}

impl Clone for Link {
    fn clone(&self) -> Self {
        Self::new(self.0)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        LINKS.fetch_sub(1, Ordering::SeqCst);
    }
}

task_local! {
    #[inherit(with = |link| Link::new(link.0 + 1))]
    static LINK: Link = Link::new(0);
}

#[test]
fn a_chain_keeps_the_last_generations_value_only() {
    on_a_thread(|| {
        LINK.set(Link::new(0));
        let mut context = Context::capture();
        let mut most = 0;
        for _ in 0..100_000 {
            context = context.run(Context::capture);
            most = most.max(LINKS.load(Ordering::SeqCst));
        }
        assert!(most <= 4, "{most} values were alive at a time");
        assert_eq!(context.run(|| LINK.with(|link| link.0)), 100_001);
        drop(context);
    });
    assert_eq!(LINKS.load(Ordering::SeqCst), 0);
}

task_local! {
    #[inherit]
    static SHARED: Option<Arc<Counted>> = None;
}

/// Sets the slot, hands the census' only value down through `f`, and says how many are left after
/// the submitter forgot its own.
fn pinned_after(f: impl FnOnce()) -> usize {
    let census = Census::new();
    SHARED.set(Some(Arc::new(census.one("value"))));
    f();
    SHARED.set(None);
    assert_eq!(census.cloned(), 0, "it is behind an Arc");
    census.alive()
}

#[test]
fn nothing_pins_a_snapshot_after_run_cancel_shutdown_or_drop() {
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        assert_eq!(
            pinned_after(|| pool.submit(|| assert!(SHARED.get().is_some())).join().unwrap()),
            0
        );
        assert_eq!(pinned_after(|| drop(pool.map(0..100, |_| SHARED.get().is_some()))), 0);
        assert_eq!(pinned_after(|| drop(pool.broadcast(|| SHARED.get().is_some()))), 0);
        assert_eq!(
            // To the end: a task that runs while the iterator is dropped still holds its own.
            pinned_after(|| assert!(pool.imap(0..9, |_| SHARED.get().is_some()).all(|set| set))),
            0
        );
        assert_eq!(pinned_after(|| drop(Context::capture().wrap(|| ()))), 0);
        assert_eq!(pinned_after(|| Context::capture().wrap(|| ())()), 0);

        // A finished task whose handle nobody joins.
        let mut unjoined = None;
        let kept = pinned_after(|| {
            let handle = pool.submit(|| SHARED.with(|_| ()));
            while !handle.is_finished() {
                std::thread::yield_now();
            }
            unjoined = Some(handle);
        });
        assert_eq!(kept, 0, "a handle keeps a result, not a context");

        // Cancelled behind busy workers, with the handle kept.
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let (tell, started) = std::sync::mpsc::channel();
        let busy: Vec<_> = (0..workers)
            .map(|_| (Arc::clone(&gate), tell.clone()))
            .map(|(gate, tell)| {
                pool.detached().submit(move || {
                    tell.send(()).unwrap();
                    gate.lock().unwrap().recv().is_ok()
                })
            })
            .collect();
        for _ in 0..workers {
            started.recv().unwrap();
        }
        let mut cancelled = None;
        let kept = pinned_after(|| {
            let handle = pool.submit(|| SHARED.with(|_| ()));
            assert!(handle.cancel());
            cancelled = Some(handle);
        });
        assert_eq!(kept, 0);
        // Cancelled by the shutdown, which waits for the busy ones.
        let mut queued = None;
        let kept = pinned_after(|| {
            queued = Some(pool.submit(|| SHARED.with(|_| ())));
            drop(go);
            pool.shutdown_now().unwrap();
        });
        assert_eq!(kept, 0);
        assert!(cancelled.unwrap().join().unwrap_err().is_cancelled());
        for handle in busy {
            assert!(!handle.join().unwrap());
        }
        drop((unjoined, queued));
    }
}

#[test]
fn a_detached_submission_pins_nothing_while_it_runs() {
    let pool = Pool::new(1).unwrap();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let mut long_lived = None;
    let kept =
        pinned_after(|| long_lived = Some(pool.detached().submit(move || gate.recv().is_err())));
    assert_eq!(kept, 0);
    drop(go);
    assert!(long_lived.unwrap().join().unwrap());
}

#[test]
fn ten_thousand_tasks_share_a_large_value_without_a_copy() {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    struct Large(Box<[u8]>);
    impl Clone for Large {
        fn clone(&self) -> Self {
            COPIES.fetch_add(1, Ordering::SeqCst);
            Self(self.0.clone())
        }
    }
    task_local! {
        #[inherit]
        static LARGE: Option<Arc<Large>> = None;
    }
    let large = Arc::new(Large(vec![7; 1 << 20].into_boxed_slice()));
    let address = Arc::as_ptr(&large).addr();
    LARGE.set(Some(large));
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let found = pool.map_range(0..10_000_usize, |n| {
            LARGE.with(|large| {
                let large = large.as_ref().unwrap();
                (Arc::as_ptr(large).addr(), large.0[n])
            })
        });
        assert!(found.iter().all(|found| *found == (address, 7)));
    }
    assert_eq!(COPIES.load(Ordering::SeqCst), 0);
    assert_eq!(Arc::strong_count(&LARGE.take().unwrap().unwrap()), 1, "after the cache let go");
}

#[test]
fn a_value_is_copied_once_per_change_and_once_per_task_that_touches_it() {
    task_local! {
        #[inherit]
        static VALUE: Option<Counted> = None;
    }
    let census = Census::new();
    VALUE.set(Some(census.one("v")));
    let contexts: Vec<_> = (0..10).map(|_| Context::capture()).collect();
    assert_eq!(census.cloned(), 1, "the captures share one copy");
    for context in &contexts {
        context.run(|| ());
    }
    assert_eq!(census.cloned(), 1, "nobody touched it");
    contexts[0].run(|| VALUE.with(|_| VALUE.with(|_| ())));
    assert_eq!((census.cloned(), census.alive()), (2, 2));
    VALUE.with_mut(|_| ());
    drop(contexts);
    assert_eq!(census.alive(), 1, "a change drops the cached copy");
    Context::capture().run(|| FRESH.with(|_| ()));
    assert_eq!(census.cloned(), 3);
    VALUE.scope(None, || assert_eq!(census.alive(), 1, "so does a scope"));
    drop(Context::capture());
    assert_eq!(census.alive(), 2);
    VALUE.take();
    assert_eq!(census.alive(), 0);
}

task_local! {
    #[inherit]
    static LEVEL: Option<(u32, Counted)> = None;
}

/// What a capture that is made now hands down, and how many copies making it takes.
fn level_captured(census: &Census) -> (Option<u32>, usize) {
    let before = census.cloned();
    let context = Context::capture();
    let copies = census.cloned() - before;
    (context.run(|| LEVEL.with(|level| level.as_ref().map(|(n, _)| *n))), copies)
}

/// Captures in a task, in tasks of several kinds on top of it, and again after each.
fn capture_at(depth: u32, census: &Census) {
    LEVEL.set(Some((depth, census.one("level"))));
    let mine = Some(depth);
    assert_eq!(level_captured(census), (mine, 1));
    if depth == 0 {
        return;
    }
    let below = depth - 1;
    let kept = (mine, 0);
    Context::empty().run(|| capture_at(below, census));
    assert_eq!(level_captured(census), kept, "after a task");
    let words = panic_of(|| {
        Context::capture().run(|| {
            capture_at(below, census);
            panic!("on purpose")
        })
    });
    assert_eq!((words.as_str(), level_captured(census)), ("on purpose", kept));
    let mut polled = Box::pin(
        async {
            assert_eq!(level_captured(census).0, mine);
            capture_at(below, census);
            futures_lite::future::yield_now().await;
            let now = LEVEL.with(|level| level.as_ref().map(|(n, _)| *n));
            assert_eq!(level_captured(census), (now, 1), "each poll captures for itself");
            capture_at(below, census);
        }
        .isolated(),
    );
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(polled.as_mut().poll(&mut cx).is_pending());
    assert_eq!(level_captured(census), kept, "after a poll");
    assert!(polled.as_mut().poll(&mut cx).is_ready());
    assert_eq!(level_captured(census), kept, "after the last poll");
    LEVEL.set(Some((depth + 100, census.one("change"))));
    assert_eq!(level_captured(census), (Some(depth + 100), 1), "after a change");
}

#[test]
fn each_open_task_keeps_its_own_capture() {
    let census = Census::new();
    on_a_thread(|| {
        capture_at(3, &census);
        Context::empty().run(|| capture_at(2, &census));
        let _left_at_the_end_of_the_thread = Context::capture();
    });
    assert_eq!(census.alive(), 0);
}

task_local! {
    static LATE: Option<OnDrop> = None;
    static LATER: Option<OnDrop> = None;
}

#[test]
fn a_value_that_captures_while_it_ends_pins_nothing() {
    let census = Census::new();
    let task = || {
        SHARED.set(Some(Arc::new(census.one("value"))));
        // Touched later, so dropped while the other one is there.
        LATE.set(Some(OnDrop::new(|| drop(Context::capture()))));
    };
    on_a_thread(|| {
        Context::empty().run(task);
        assert_eq!(census.alive(), 0, "after a task");
        for workers in SHAPES {
            let pool = Pool::new(workers).unwrap();
            pool.map_range(0..100, |_| task());
            assert_eq!(census.alive(), 0, "{workers} workers");
            let inside = Context::empty().run(|| {
                pool.map(0..100, |_| task());
                census.alive()
            });
            assert_eq!(inside, 0, "{workers} workers, from a task");
        }
    });
}

// Broke: what one value's end captured was handed down by the next one's, though its slot had ended
// meanwhile.
#[test]
fn a_capture_during_the_clean_up_has_what_is_left_then() {
    static SEEN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let look = || SEEN.lock().unwrap().push(Context::capture().run(|| TENANT.get()));
    Context::empty().run(|| {
        LATE.set(Some(OnDrop::new(look)));
        TENANT.set("acme".to_owned());
        LATER.set(Some(OnDrop::new(look)));
    });
    assert_eq!(*SEEN.lock().unwrap(), ["acme", "nobody"]);
}

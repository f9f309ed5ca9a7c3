//! Carriers around the items of a map, each of which is a task: attached anew only where an item
//! has left something.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;

use crate::support::{Census, Counted, OnDrop, SHAPES, finishes, panic_of, quiet};
use cleanslate::foreign::{BoxError, Carrier, Scoped, ScopedCarrier, adopt_with};
use cleanslate::{Context, Pool, task_local};

thread_local! { static USER: Cell<&'static str> = const { Cell::new("nobody") }; }

task_local! {
    static TOUCHED: u32 = 0;
    static KEPT: Option<Counted> = None;
    #[inherit]
    static TENANT: u32 = 0;
}

#[derive(Default)]
struct Counts {
    attached: AtomicUsize,
    detached: AtomicUsize,
    reattached: AtomicUsize,
}

impl Counts {
    fn take(&self) -> [usize; 3] {
        [&self.attached, &self.detached, &self.reattached].map(|n| n.swap(0, Ordering::SeqCst))
    }
}

/// Carries the user, and can tell whether a task has changed it.
#[derive(Clone, Default)]
struct User(Arc<Counts>);

impl Carrier for User {
    type Captured = &'static str;
    type Attached = &'static str;

    fn name(&self) -> &str {
        "user"
    }

    fn capture(&self) -> Result<&'static str, BoxError> {
        Ok(USER.get())
    }

    fn attach(&self, user: &&'static str) -> Result<&'static str, BoxError> {
        self.0.attached.fetch_add(1, Ordering::SeqCst);
        Ok(USER.replace(user))
    }

    fn detach(&self, before: &'static str) -> Result<(), BoxError> {
        self.0.detached.fetch_add(1, Ordering::SeqCst);
        match USER.replace(before) {
            "stuck" => Err("stuck, on purpose".into()),
            _ => Ok(()),
        }
    }

    fn reattach(&self, user: &&'static str, _: &mut &'static str) -> bool {
        self.0.reattached.fetch_add(1, Ordering::SeqCst);
        TOUCHED.set(9);
        assert!(USER.get() != "panic", "reattach panicked on purpose");
        USER.get() == *user
    }
}

const ITEMS: usize = 2_000;

/// Runs a map in every form that has carriers attached around several items.
fn maps(pool: &Pool, f: impl Fn(usize) -> &'static str + Sync) {
    let items: Vec<_> = (0..ITEMS).collect();
    assert_eq!(pool.map(0..ITEMS, &f), ["alice"; ITEMS]);
    assert_eq!(pool.map_range(0..ITEMS, &f), ["alice"; ITEMS]);
    assert_eq!(pool.map_slice(&items, |n| f(*n)), ["alice"; ITEMS]);
    let tried = pool.try_map(0..ITEMS, |n| Ok::<_, ()>(f(n)));
    assert_eq!(tried.unwrap(), ["alice"; ITEMS]);
}

#[test]
fn items_that_leave_nothing_share_what_is_attached() {
    for workers in SHAPES {
        let user = User::default();
        USER.set("alice");
        let context = Context::empty().carry(user.clone());
        USER.set("nobody");
        let pool = Pool::new(workers).unwrap().in_context(&context);
        maps(&pool, |_| {
            assert_eq!(TOUCHED.replace(7), 0, "of each item, and of what carriers do");
            USER.get()
        });
        let [attached, detached, reattached] = user.0.take();
        assert_eq!(attached, detached);
        assert_eq!(attached + reattached, 4 * ITEMS, "one of the two before each item");
        // How many share it depends on how fast they are.
        assert!(reattached > 0, "{attached}");
    }
}

#[test]
fn no_item_finds_what_another_one_left_on_its_thread() {
    quiet();
    for workers in SHAPES {
        let user = User::default();
        USER.set("alice");
        let context = Context::empty().carry(user.clone());
        USER.set("nobody");
        let pool = Pool::new(workers).unwrap().in_context(&context);
        maps(&pool, |n| {
            let found = USER.get();
            match n % 100 {
                1..40 => USER.set("mallory"),
                55 => USER.set("panic"),
                _ => {}
            }
            found
        });
        let [attached, detached, _] = user.0.take();
        assert_eq!(attached, detached);
        assert!(attached >= 4 * ITEMS / 100 * 40, "{attached}");
        assert_eq!(pool.broadcast(|| USER.get()), vec!["alice"; workers]);
        assert_eq!(pool.detached().broadcast(|| USER.get()), vec!["nobody"; workers]);
    }
}

#[test]
fn an_item_that_cannot_be_detached_fails_the_map_and_loses_no_result() {
    quiet();
    for workers in SHAPES {
        let census = Census::new();
        let user = User::default();
        let pool = Pool::builder().workers(workers).carry(user.clone()).build().unwrap();
        let failed = panic_of(|| {
            pool.map(0..ITEMS, |n| {
                KEPT.set(Some(census.one("slot")));
                if n == 70 {
                    USER.set("stuck");
                }
                census.one("result")
            })
        });
        assert!(failed.contains("stuck, on purpose"), "{failed}");
        assert_eq!(census.alive(), 0);
        assert_eq!(pool.map(0..ITEMS, |_| USER.get()), ["nobody"; ITEMS]);
        assert_eq!(pool.stats().workers, workers);
        let [attached, detached, _] = user.0.take();
        assert_eq!(attached, detached);
    }
}

#[test]
fn one_that_must_be_attached_for_each_item_is_and_the_others_with_it() {
    struct Plain;
    impl ScopedCarrier for Plain {
        type Captured = ();
        fn name(&self) -> &str {
            "plain"
        }
        fn capture(&self) -> Result<(), BoxError> {
            Ok(())
        }
        fn around<R>(&self, (): &(), body: impl FnOnce() -> R) -> Result<R, BoxError> {
            Ok(body())
        }
    }
    let user = User::default();
    let both = Context::empty().carry(user.clone()).carry(Scoped(Plain));
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap().in_context(&both);
        pool.map(0..ITEMS, |_| ());
        assert_eq!(user.0.take()[..2], [ITEMS; 2]);
    }
}

#[test]
fn an_adopted_number_is_fresh_for_every_item() {
    thread_local! { static LEVEL: Cell<u32> = const { Cell::new(0) }; }
    let context = Context::empty().carry(adopt_with(&LEVEL, || 3));
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap().in_context(&context);
        assert_eq!(pool.map(0..ITEMS, |_| LEVEL.replace(8)), [3; ITEMS]);
        assert_eq!(pool.detached().broadcast(|| LEVEL.get()), vec![0; workers]);
    }
}

/// Can be told how many more times it can be detached.
#[derive(Clone)]
struct Detaches(Arc<Mutex<usize>>);

impl Carrier for Detaches {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "detaches"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        let mut left = self.0.lock().unwrap();
        *left = left.checked_sub(1).ok_or("not any more, on purpose")?;
        Ok(())
    }

    fn reattach(&self, (): &(), (): &mut ()) -> bool {
        true
    }
}

// Broke: the chunk whose last item was over was joined with its neighbour on the worker on which
// the carrier had stayed attached.
#[test]
fn nothing_is_reduced_where_a_carrier_has_stayed_attached() {
    quiet();
    // One worker: another one's chunk could take what is left of the detaches.
    let pool = Pool::new(1).unwrap();
    let detaches = Detaches(Arc::new(Mutex::new(usize::MAX)));
    let context = Context::empty().carry(detaches.clone());
    let pool = pool.in_context(&context);
    let reduced = AtomicUsize::new(0);
    let map = |n: usize| {
        if n == 1 {
            // That of the closure, and not that of the chunk.
            *detaches.0.lock().unwrap() = 1;
        }
        n
    };
    let reduce = |a, b| {
        if *detaches.0.lock().unwrap() == 0 {
            reduced.fetch_add(1, Ordering::SeqCst);
        }
        a + b
    };
    let said = panic_of(|| pool.map_reduce(0..2_usize, map, || 0, reduce));
    assert!(said.contains("not any more"), "{said}");
    assert_eq!(reduced.into_inner(), 0);
}

// Broke: an item whose carrier could not be detached counted as completed and as failed.
#[test]
fn an_item_after_which_a_carrier_stays_attached_counts_once() {
    quiet();
    for workers in SHAPES {
        for left in [0, 1, 7] {
            let pool = Pool::new(workers).unwrap();
            let detaches = Detaches(Arc::new(Mutex::new(left)));
            let pool = pool.in_context(&Context::empty().carry(detaches));
            let ran = AtomicUsize::new(0);
            let said = panic_of(|| {
                for items in [10_000; 20] {
                    pool.for_each(0..items, |_| _ = ran.fetch_add(1, Ordering::SeqCst));
                }
            });
            assert!(said.contains("not any more"), "{said}");
            let stats = pool.stats();
            assert!(stats.failed >= 1);
            assert_eq!(stats.completed + stats.failed, ran.into_inner() as u64, "{stats:?}");
        }
    }
}

// Broke: the same, where the item was the one that stopped the others.
#[test]
fn an_item_with_an_error_after_which_a_carrier_stays_attached_counts_once() {
    quiet();
    for workers in SHAPES {
        for left in [0, 1] {
            let pool = Pool::new(workers).unwrap();
            let detaches = Detaches(Arc::new(Mutex::new(left)));
            let there = pool.in_context(&Context::empty().carry(detaches));
            let ran = AtomicUsize::new(0);
            let stops = |_| {
                ran.fetch_add(1, Ordering::SeqCst);
                Err::<(), _>("on purpose")
            };
            for _ in 0..left {
                assert_eq!(there.try_map(0..1, stops), Err("on purpose"));
            }
            let said = panic_of(|| there.try_map(0..1, stops));
            assert!(said.contains("not any more"), "{said}");
            let stats = pool.stats();
            assert_eq!((stats.completed, stats.failed), (left as u64, 1), "{stats:?}");
            assert_eq!(ran.into_inner(), left + 1);
        }
    }
}

/// Is attached on a second thread only when its map has stopped, and cannot be detached there.
#[derive(Clone, Default)]
struct Late {
    first: Arc<OnceLock<ThreadId>>,
    is_attaching: Arc<AtomicBool>,
    has_stopped: Arc<AtomicBool>,
}

impl Carrier for Late {
    type Captured = ();
    type Attached = bool;

    fn name(&self) -> &str {
        "late"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<bool, BoxError> {
        let here = std::thread::current().id();
        if *self.first.get_or_init(|| here) == here {
            return Ok(true);
        }
        self.is_attaching.store(true, Ordering::SeqCst);
        while !self.has_stopped.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(false)
    }

    fn detach(&self, is_first: bool) -> Result<(), BoxError> {
        if is_first { Ok(()) } else { Err("too late, on purpose".into()) }
    }
}

// Broke: a worker that had run no item counted one.
#[test]
fn a_carrier_that_stays_attached_where_no_item_has_run_counts_none() {
    quiet();
    for workers in [2, 5] {
        finishes(&format!("{workers} workers"), move || counts_none(workers));
    }
}

fn counts_none(workers: usize) {
    let late = Late::default();
    let pool = Pool::new(workers).unwrap();
    let there = pool.in_context(&Context::empty().carry(late.clone()));
    let ran = AtomicUsize::new(0);
    // What is made for a worker's items goes when its part of the map has ended.
    let made = || {
        let has_stopped = Arc::clone(&late.has_stopped);
        OnDrop::new(move || has_stopped.store(true, Ordering::SeqCst))
    };
    let panics = |_: &mut OnDrop, _| {
        ran.fetch_add(1, Ordering::SeqCst);
        while !late.is_attaching.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        panic!("an item, on purpose");
    };
    let said = panic_of(|| drop(there.map_init(0..2, made, panics)));
    assert_eq!(said, "an item, on purpose");
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked, stats.failed), (0, 1, 0), "{stats:?}");
    assert_eq!(ran.into_inner(), 1);
}

#[test]
fn a_carrier_in_an_arc_is_attached_anew_where_an_item_has_left_something() {
    let user = User::default();
    USER.set("alice");
    let context = Context::empty().carry(Arc::new(user.clone()));
    USER.set("nobody");
    let pool = Pool::new(2).unwrap().in_context(&context);
    maps(&pool, |n| USER.replace(if n % 10 == 0 { "mallory" } else { "alice" }));
    let [attached, detached, reattached] = user.0.take();
    assert!(attached == detached && reattached > 0, "{attached}, {detached}, {reattached}");
}

#[test]
fn the_pulls_of_a_map_with_carriers_inherit_what_its_items_do() {
    for workers in SHAPES {
        let pool = Pool::builder().workers(workers).carry(User::default()).build().unwrap();
        let inherited = Context::empty().run(|| {
            TENANT.set(7);
            pool.map((0..100).map(|_| TENANT.replace(8)), |pulled| (pulled, TENANT.replace(9)))
        });
        assert_eq!(inherited, [(7, 7); 100]);
    }
}

#[test]
fn a_reduction_that_panics_fails_a_map_with_carriers_whenever_it_does() {
    quiet();
    let pool = Pool::builder().workers(1).carry(User::default()).build().unwrap();
    let calls = AtomicUsize::new(0);
    let reduce_but = |fails: usize| {
        calls.store(0, Ordering::SeqCst);
        let reduce = |a: usize, b: usize| {
            assert!(calls.fetch_add(1, Ordering::SeqCst) != fails, "a call, on purpose");
            a + b
        };
        pool.map_reduce(0..300, |n| n, || 0, reduce)
    };
    assert_eq!(reduce_but(usize::MAX), 300 * 299 / 2);
    for fails in 0..calls.load(Ordering::SeqCst) {
        assert_eq!(panic_of(|| reduce_but(fails)), "a call, on purpose");
    }
}

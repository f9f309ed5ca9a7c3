//! What maps and reductions were given, and what they have made of it: how that is dropped.

#![expect(clippy::mem_forget, reason = "values whose drop panics")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{
    Census, Fails, HAS_FAILED, OnDrop, Refuses, SHAPES, each_shape, occupy, panic_of, quiet,
    while_unwinding,
};
use cleanslate::Pool;

/// When it is dropped, submits to a pool and asks for its end.
struct Uses {
    what: &'static str,
    pool: Pool,
    said: Arc<Mutex<Vec<String>>>,
}

impl Uses {
    /// Makes a closure own it.
    fn held(&self) {}
}

impl Drop for Uses {
    fn drop(&mut self) {
        let ran = self.pool.submit(|| ()).join().is_ok();
        let ended = self.pool.shutdown().is_ok();
        self.said.lock().unwrap().push(format!("{}: {ran} {ended}", self.what));
    }
}

// Broke: the identity of a reduction, and the parts of one that fails, were dropped when the pool
// did not wait for that any more: their tasks were refused.
#[test]
fn what_a_reduction_drops_keeps_a_pool_open_that_is_closing() {
    const LAST: u32 = 2_999;
    quiet();
    for fails in [false, true] {
        each_shape(move |pool| {
            let said = Arc::default();
            let uses = |what| Uses { what, pool: pool.clone(), said: Arc::clone(&said) };
            let [its, fs, identitys, reduces] = ["the items", "f", "identity", "reduce"].map(uses);
            let part = Mutex::new(fails.then(|| uses("a part")));
            let item = move |n| {
                fs.held();
                fs.pool.shutdown_background();
                assert!(!fails || n != LAST, "on purpose");
                (1, part.lock().unwrap().take())
            };
            let nothing = move || {
                identitys.held();
                (0, None)
            };
            let put_together = move |a: (u32, Option<Uses>), b: (u32, Option<Uses>)| {
                reduces.held();
                (a.0 + b.0, a.1.or(b.1))
            };
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let items = (0..=LAST).inspect(move |_| its.held());
                pool.map_reduce(items, item, nothing, put_together).0
            }));
            assert_eq!(ended.ok(), (!fails).then_some(LAST + 1));
            let said = std::mem::take(&mut *said.lock().unwrap());
            assert_eq!(said.len(), 4 + usize::from(fails), "{said:?}");
            assert!(said.iter().all(|said| said.ends_with(": true false")), "{said:?}");
        });
    }
}

// Broke: nothing was put together by a task for which the pool had to be open still.
#[test]
fn a_reduction_of_nothing_has_its_result_also_if_the_pool_closes_meanwhile() {
    each_shape(|pool| {
        let closes = std::iter::from_fn(|| {
            pool.shutdown_background();
            None
        });
        assert_eq!(pool.reduce(closes, || 5, |a, b| a + b), 5);
    });
}

/// When it is dropped, waits for a task that no worker is free to run.
struct Waits {
    pool: Pool,
    ran_here: Arc<Mutex<Vec<bool>>>,
}

impl Waits {
    /// Makes a closure own it.
    fn held(&self) {}
}

impl Drop for Waits {
    fn drop(&mut self) {
        let busy = occupy(&self.pool);
        let id = || std::thread::current().id();
        let ran_here = self.pool.submit(id).join().unwrap() == id();
        self.ran_here.lock().unwrap().push(ran_here);
        drop(busy);
    }
}

#[test]
fn what_was_given_may_wait_for_tasks_when_it_is_dropped() {
    quiet();
    each_shape(|pool| {
        let ran_here = Arc::default();
        let waits = || Waits { pool: pool.clone(), ran_here: Arc::clone(&ran_here) };
        let identity = || {
            let waits = waits();
            move || {
                waits.held();
                0
            }
        };
        let (of_map, of_visits) = (waits(), waits());
        pool.map(0..3, move |_| of_map.held());
        pool.broadcast(move || of_visits.held());
        assert_eq!(pool.reduce([1, 2], identity(), |a, b| a + b), 3);
        panic_of(|| pool.reduce([1, 2], identity(), |_, _| panic!("on purpose")));
        assert_eq!(*ran_here.lock().unwrap(), [true; 4]);
    });
}

#[test]
fn a_result_whose_drop_panics_does_not_hide_that_of_the_identity() {
    let pool = Pool::new(1).unwrap();
    let own = Mutex::new(OnDrop::new(|| panic!("the identity's drop, on purpose")));
    let identity = move || {
        let _owns = &own;
        None
    };
    let item = |()| Some(OnDrop::new(|| panic!("a result's drop, on purpose")));
    let said = panic_of(|| drop(pool.map_reduce([()], item, identity, |one, _| one)));
    assert_eq!((said.as_str(), pool.stats().unobserved), ("the identity's drop, on purpose", 1));
}

// Both would be dropped by one drop, that of the closure that takes them.
#[test]
fn two_results_that_are_not_put_together_are_dropped_each_for_itself() {
    const LAST: u32 = 2_999;
    /// Whether the carrier is refused: when the last item has run.
    static REFUSES: AtomicBool = AtomicBool::new(false);
    quiet();
    let census = Census::new();
    let pool = Pool::builder()
        .workers(1)
        .carry(Refuses(|| REFUSES.load(Ordering::SeqCst)))
        .build()
        .unwrap();
    let item = |n| {
        REFUSES.store(n == LAST, Ordering::SeqCst);
        Some(Fails::new(&census))
    };
    let keeps_one = |one, other| {
        std::mem::forget::<Option<Fails>>(other);
        one
    };
    let said = panic_of(|| drop(pool.map_reduce(0..=LAST, item, || None, keeps_one)));
    assert!(said.contains("refuses") && said.contains("on purpose"), "{said}");
    assert_eq!(census.dropped(), 2);
}

/// A way into the pool, and how many things it is given that fail to be dropped.
type Entry = (usize, fn(&Pool, &dyn Fn() -> Fails));

const ENTRIES: [Entry; 5] = [
    (2, |pool, fails| {
        let (items, f) = (fails(), fails());
        pool.map((0..3).inspect(move |_| items.held()), move |_| f.held());
    }),
    (1, |pool, fails| {
        let f = fails();
        pool.map_slice(&[1, 2], move |_| f.held());
    }),
    (3, |pool, fails| {
        let (items, init, f) = (fails(), fails(), fails());
        let items = (0..3).inspect(move |_| items.held());
        pool.map_init(items, move || init.held(), move |(), _| f.held());
    }),
    (2, |pool, fails| {
        let (identity, f) = (fails(), fails());
        pool.reduce([(), ()], move || identity.held(), move |(), ()| f.held());
    }),
    (4, |pool, fails| {
        let (items, f, identity, reduce) = (fails(), fails(), fails(), fails());
        let items = (0..3).inspect(move |_| items.held());
        let (f, reduce) = (move |_| f.held(), move |(), ()| reduce.held());
        pool.map_reduce(items, f, move || identity.held(), reduce);
    }),
];

// Broke: of several closures of one map that fail to be dropped the hook heard of one, and where
// the caller unwound the map did not fail, and nobody heard of any.
#[test]
fn each_closure_whose_drop_panics_is_heard_of() {
    quiet();
    for workers in SHAPES {
        let heard = Arc::new(Mutex::new(0));
        let theirs = Arc::clone(&heard);
        let hook = move |_| *theirs.lock().unwrap() += 1;
        let pool = Pool::builder().workers(workers).panic_hook(hook).build().unwrap();
        for (n, &(given, entry)) in ENTRIES.iter().enumerate() {
            for unwinds in [false, true] {
                let census = Census::new();
                let call = || panic_of(|| entry(&pool, &|| Fails::new(&census)));
                let said = if unwinds { while_unwinding(call) } else { call() };
                assert_eq!(said, "a drop, on purpose", "{n}, {unwinds}");
                assert_eq!(
                    std::mem::take(&mut *heard.lock().unwrap()),
                    given - 1,
                    "{n}, {unwinds}"
                );
                assert_eq!(census.alive(), 0);
                assert!(!HAS_FAILED.get(), "{n}: a drop has left a slot");
            }
        }
    }
}

//! `Isolation::Leaky` reproduces the classic pool, on purpose and exactly.

use std::sync::{Arc, Barrier};

use crate::support::{Census, Counted, SHAPES, panic_of, quiet};
use cleanslate::{Context, Isolation, Pool, task_local};

task_local! {
    static SLOT: Option<u32> = None;
    static COUNTED: Option<Counted> = None;
    #[inherit]
    static TENANT: u32 = 0;
}

fn leaky(workers: usize) -> Pool {
    Pool::builder().workers(workers).isolation(Isolation::Leaky).build().unwrap()
}

#[test]
fn every_task_but_a_workers_first_finds_what_the_last_one_left() {
    for workers in SHAPES {
        let pool = leaky(workers);
        let fresh = |found: &[Option<u32>]| found.iter().filter(|found| found.is_none()).count();
        let found = pool.map(0..20_000, |n| SLOT.replace(Some(n)));
        let first = fresh(&found);
        assert!((1..=workers).contains(&first), "{first} of {workers}");
        pool.broadcast(|| SLOT.set(Some(7)));
        assert_eq!(fresh(&pool.map_range(0..20_000, |n| SLOT.replace(Some(n)))), 0);
        assert_eq!(fresh(&pool.map_slice(&[1; 999], |n| SLOT.replace(Some(*n)))), 0);
        let joined: Vec<_> = (0..999).map(|n| pool.submit(move || SLOT.replace(Some(n)))).collect();
        let joined: Vec<_> = joined.into_iter().map(|handle| handle.join().unwrap()).collect();
        assert_eq!(fresh(&joined), 0);
        let results = pool.map_results(0..999, |n| SLOT.replace(Some(n)));
        assert_eq!(
            results.into_iter().filter(|found| found.as_ref().unwrap().is_none()).count(),
            0
        );
        assert_eq!(fresh(&pool.imap(0..999, |n| SLOT.replace(Some(n))).collect::<Vec<_>>()), 0);
        assert_eq!(pool.scope(|s| s.submit(|| fresh(&[SLOT.get()])).join().unwrap()), 0);
        assert_eq!(fresh(&pool.broadcast(|| SLOT.get())), 0);
    }
}

#[test]
fn on_one_worker_each_task_finds_exactly_its_predecessors_value() {
    let pool = leaky(1);
    let found = pool.map(0..20_000, |n| SLOT.replace(Some(n)));
    let expected: Vec<_> = (0..20_000_u32).map(|n| n.checked_sub(1)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_task_run_inline_shares_its_waiters_cells() {
    let pool = Arc::new(leaky(1));
    let inner = Arc::clone(&pool);
    let task = pool.submit(move || {
        SLOT.set(Some(1));
        let found = inner.submit(|| SLOT.replace(Some(2))).join().unwrap();
        let borrowed = SLOT.with_mut(|_| {
            inner.submit(|| SLOT.try_with(|_| ()).unwrap_err().is_borrowed()).join().unwrap()
        });
        let mapped = inner.map(0..1, |n| SLOT.replace(Some(n)));
        (found, SLOT.get(), borrowed, mapped)
    });
    assert_eq!(task.join().unwrap(), (Some(1), Some(0), true, vec![Some(2)]));
}

#[test]
fn values_live_as_long_as_the_worker() {
    for workers in SHAPES {
        let census = Census::new();
        let pool = leaky(workers);
        let all_in = Barrier::new(workers);
        pool.broadcast(|| {
            all_in.wait();
            COUNTED.set(Some(census.one("value")));
        });
        pool.map(0..1000, |_| COUNTED.with(|counted| assert!(counted.is_some())));
        assert_eq!(census.alive(), workers);
        pool.shutdown().unwrap();
        assert_eq!(census.alive(), 0);
    }
}

#[test]
fn nothing_is_inherited_or_carried() {
    thread_local! { static FOREIGN: std::cell::Cell<u32> = const { std::cell::Cell::new(0) }; }
    TENANT.set(5);
    let pool = Pool::builder()
        .workers(2)
        .isolation(Isolation::Leaky)
        .carry(cleanslate::foreign::adopt(&FOREIGN))
        .build()
        .unwrap();
    assert!(pool.broadcast(|| (TENANT.get(), FOREIGN.replace(3))).iter().all(|f| *f == (0, 0)));
    assert_eq!(pool.broadcast(|| FOREIGN.get()), [3, 3]);
    let context = Context::capture();
    assert_eq!(pool.in_context(&context).submit(|| TENANT.get()).join().unwrap(), 0);
    // On the pool's worker, an explicit task is one all the same.
    let nested = pool.submit(move || {
        SLOT.set(Some(1));
        (context.run(|| (SLOT.get(), TENANT.get())), SLOT.get())
    });
    assert_eq!(nested.join().unwrap(), ((None, 5), Some(1)));
}

#[test]
fn panics_are_contained_all_the_same() {
    quiet();
    for workers in SHAPES {
        let pool = leaky(workers);
        let failed = pool.submit(|| {
            SLOT.set(Some(1));
            panic!("on purpose")
        });
        assert!(failed.join().unwrap_err().is_panic());
        assert!(panic_of(|| pool.map(0..10, |_| panic!("on purpose"))).contains("on purpose"));
        assert_eq!(pool.map(0..100, |n| n).len(), 100);
        assert_eq!(pool.stats().workers, workers);
    }
    let pool = leaky(1);
    let _failed = pool.submit(|| {
        SLOT.set(Some(1));
        panic!("on purpose")
    });
    assert_eq!(
        pool.submit(|| SLOT.get()).join().unwrap(),
        Some(1),
        "a panic resets nothing either"
    );
}

#[test]
fn joins_reductions_and_scratch_share_the_workers_slots() {
    quiet();
    for workers in SHAPES {
        let pool = leaky(workers);
        pool.broadcast(|| SLOT.set(Some(7)));
        let dirty = || usize::from(SLOT.get() == Some(7));
        assert_eq!(pool.join(dirty, dirty), (1, 1));
        assert_eq!(pool.map_init(0..999, dirty, |init, _| *init + dirty()), [2; 999]);
        assert_eq!(pool.map_reduce(0..999, |_| dirty(), || 0, |a, b| a + b * dirty()), 999);
        pool.for_each(0..999, |_| assert_eq!(dirty(), 1));
        let item = |n| assert_ne!(n, 50, "on purpose");
        let said = panic_of(|| pool.map_reduce(0..99, item, || (), |(), ()| ()));
        assert!(said.contains("on purpose"), "{said}");
        pool.wait_idle();
        assert_eq!(pool.stats().running, 0);
    }
}

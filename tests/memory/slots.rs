//! What slots allocate, and that nothing of it stays behind.

use std::cell::Cell;

use crate::support::{OnDrop, on_a_thread};
use crate::{allocations, alone, growth, least};
use cleanslate::future::FutureExt;
use cleanslate::{Context, OwnedLocal, OwnedWorkerLocal, Pool, task_local, worker_local};

task_local! {
    static NUMBER: u64 = 1;
    static ARRAY: [u64; 8] = [0; 8];
    static EMPTY: String = String::new();
    #[inherit]
    static TENANT: u32 = 0;
}

worker_local! { static WORKER: u64 = 0; }

#[test]
fn the_steady_state_of_touched_slots_allocates_nothing() {
    let _alone = alone();
    let owned = OwnedLocal::new(String::new);
    let context = Context::empty();
    let one = || {
        NUMBER.set(NUMBER.get() + 1);
        ARRAY.with_mut(|array| array[0] += 1);
        EMPTY.with_mut(String::clear);
        owned.with_mut(String::clear);
        NUMBER.scope(3, || ());
        WORKER.with(|n| *n += 1);
    };
    let plain = || {
        NUMBER.set(NUMBER.get() + 1);
        ARRAY.with_mut(|array| array[0] += 1);
    };
    let nested = || {
        plain();
        context.run(plain);
    };
    context.run(one);
    context.run(nested);
    assert_eq!(least(|| allocations(|| (0..1000).for_each(|_| context.run(one)))), 0);
    assert_eq!(least(|| allocations(|| (0..1000).for_each(|_| context.run(nested)))), 0);
    // A cell keeps one spare box, so a second level of values with drop glue takes one each.
    let two_levels = || {
        EMPTY.with_mut(String::clear);
        context.run(|| EMPTY.with_mut(String::clear));
    };
    assert!(least(|| allocations(|| (0..1000).for_each(|_| context.run(two_levels)))) <= 1000);

    let pool = Pool::new(1).unwrap();
    let numbers: Vec<u64> = (0..1000).collect();
    let map = || drop(pool.map_slice(&numbers, |_| one()));
    map();
    assert!(least(|| allocations(map)) < 20, "a map of 1,000 items allocates for the map only");
    let clean = least(|| allocations(|| (0..100).for_each(|_| pool.submit(|| ()).join().unwrap())));
    let touched = least(|| {
        allocations(|| {
            (0..100).for_each(|_| pool.submit(|| NUMBER.set(NUMBER.get() + 1)).join().unwrap());
        })
    });
    assert!(touched <= clean + 10, "{touched} allocations with a slot, {clean} without");
}

#[test]
fn an_unchanged_capture_and_the_polls_of_a_future_allocate_nothing() {
    let _alone = alone();
    TENANT.set(4);
    drop(Context::capture());
    assert_eq!(least(|| allocations(|| (0..1000).for_each(|_| drop(Context::capture())))), 0);

    let mut future = Box::pin(
        async {
            NUMBER.set(2);
            EMPTY.with(|_| ());
            loop {
                futures_lite::future::yield_now().await;
                NUMBER.with_mut(|n| *n += 1);
            }
        }
        .isolated(),
    );
    let mut polls = std::task::Context::from_waker(std::task::Waker::noop());
    let mut poll = |times: usize| {
        for _ in 0..times {
            let _: std::task::Poll<()> = future.as_mut().poll(&mut polls);
        }
    };
    poll(3);
    assert_eq!(least(|| allocations(|| poll(1000))), 0);
}

#[test]
fn owners_that_come_and_go_leave_no_memory_behind() {
    let _alone = alone();
    let come_and_go = || {
        for n in 0..2_000_u64 {
            let owner = OwnedLocal::new(move || vec![n; 16]);
            owner.with_mut(|values| values.push(n));
            Context::empty().run(|| owner.with_mut(Vec::clear));
        }
    };
    come_and_go();
    let left = least(|| growth(come_and_go));
    assert!(left < 1024, "{left} bytes of 2,000 owners on one thread");

    let left = least(|| growth(|| Context::empty().run(come_and_go)));
    assert!(left < 1024, "{left} bytes of 2,000 owners in one task");

    let pool = Pool::new(3).unwrap();
    let used_by_workers = || {
        for n in 0..500_u64 {
            let owner = OwnedLocal::new(move || vec![n; 16]);
            pool.map_range(0..4_u64, |m| owner.with_mut(|values| values.push(m)));
            let worker = OwnedWorkerLocal::new(move || vec![n; 16]);
            pool.map_range(0..4_u64, |m| worker.with(|values| values.push(m)));
        }
    };
    (0..3).for_each(|_| used_by_workers());
    let left = least(|| growth(used_by_workers));
    assert!(left < 16 * 1024, "{left} bytes of 1,000 owners that other threads used");

    // Two thousand at a time, then none.
    let many = || {
        let owners: Vec<_> = (0..2_000_u64).map(|n| OwnedLocal::new(move || vec![n])).collect();
        pool.map_slice(&owners, |owner| owner.with_mut(|values| values.push(1)));
        owners.iter().for_each(|owner| owner.with_mut(|values| values.push(1)));
    };
    (0..2).for_each(|_| many());
    let left = least(|| {
        growth(|| {
            many();
            used_by_workers()
        })
    });
    assert!(left < 64 * 1024, "{left} bytes of 2,000 owners");
}

// What a poll has touched is taken off the trail, and its cell is not kept for it any more.
#[test]
fn owners_that_come_and_go_in_futures_leave_no_memory_behind() {
    let _alone = alone();
    let come_and_go = || {
        for n in 0..2_000_u64 {
            let owner = OwnedLocal::new(move || vec![n; 16]);
            let task = async {
                loop {
                    owner.with_mut(|values| values.push(n));
                    futures_lite::future::yield_now().await;
                }
            };
            let mut future = Box::pin(task.isolated());
            let mut polls = std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..2 {
                let _: std::task::Poll<()> = future.as_mut().poll(&mut polls);
            }
        }
    };
    come_and_go();
    let left = least(|| growth(come_and_go));
    assert!(left < 1024, "{left} bytes of 2,000 owners in as many futures");
}

// Broke: what a thread kept for owners that were gone stayed until as many more had come.
#[test]
fn a_peak_of_owners_leaves_little_behind_once_another_has_come() {
    let _alone = alone();
    let left = growth(|| {
        let owners: Vec<_> = (0..20_000_u64).map(|n| OwnedLocal::new(move || n)).collect();
        Context::empty().run(|| owners.iter().for_each(|owner| owner.set(1)));
        drop(owners);
        OwnedLocal::new(|| 0_u64).set(1);
    });
    // What remains is the room on the thread's trail for as many entries.
    assert!(left < 1024 * 1024, "{left} bytes of 20,000 owners");
}

#[test]
fn threads_that_come_and_go_leave_no_memory_behind() {
    let _alone = alone();
    let owned = OwnedLocal::new(|| vec![1_u64; 16]);
    let worker = OwnedWorkerLocal::new(|| vec![1_u64; 16]);
    let churn = || {
        for n in 0..100 {
            // Which waits for the destructors, too.
            on_a_thread(|| {
                owned.with_mut(|values| values.push(n));
                worker.with(|values| values.push(n));
                EMPTY.set("not empty".to_owned());
                ARRAY.set([n; 8]);
                TENANT.set(3);
                Context::capture()
                    .run(|| (owned.set(vec![]), WORKER.with(|w| *w = 1), TENANT.get()));
            });
        }
    };
    churn();
    let left = least(|| growth(churn));
    assert!(left < 2048, "{left} bytes of 100 threads");
}

#[test]
fn an_owner_that_is_used_after_the_end_of_a_threads_slots_leaves_no_memory_behind() {
    thread_local! { static LATE: Cell<Option<OnDrop>> = const { Cell::new(None) }; }
    let _alone = alone();
    let round = || {
        on_a_thread(|| {
            // Used before the slots, so it ends after them.
            LATE.set(Some(OnDrop::new(|| {
                let owner = OwnedLocal::new(|| 0_u64);
                assert!(owner.try_get().is_err());
            })));
            NUMBER.set(1);
        });
    };
    (0..100).for_each(|_| round());
    let left = least(|| growth(|| (0..100).for_each(|_| round())));
    // There each thread leaves a small block behind that is made so late.
    assert!(left < 2048 || cfg!(cleanslate_keyed), "{left} bytes of 100 threads");
}

#[test]
fn pools_that_come_and_go_leave_no_memory_behind() {
    let _alone = alone();
    let churn = || {
        for workers in [1, 2, 5] {
            let pool = Pool::new(workers).unwrap();
            TENANT.set(1);
            pool.map_range(0..100_u64, |n| (ARRAY.set([n; 8]), WORKER.with(|w| *w = n)));
            drop((0..100).map(|_| pool.submit(|| EMPTY.set("x".to_owned()))).collect::<Vec<_>>());
        }
    };
    churn();
    let left = least(|| growth(churn));
    assert!(left < 2048, "{left} bytes of three pools");
}

// The box of a value that ends its own owner belongs to a cell that nobody looks at any more.
#[test]
fn a_value_that_ends_its_owner_leaves_no_box_behind() {
    type Owner = OwnedLocal<Option<std::sync::Arc<dyn Send + Sync>>>;
    let _alone = alone();
    let round = || {
        let owner = std::sync::Arc::new(Owner::new(|| None));
        Context::empty().run(move || {
            let again = std::sync::Arc::clone(&owner);
            owner.set(Some(again));
            drop(owner);
        });
    };
    (0..100).for_each(|_| round());
    let grown = growth(|| (0..5_000).for_each(|_| round()));
    assert!(grown < 20_000, "{grown} bytes");
}

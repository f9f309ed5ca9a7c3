//! What `docs/rayon.md` says to those who come from rayon.

use super::probe::in_pool;
use crate::support::{SHAPES, each_shape, finishes, panic_of};
use cleanslate::rayon::{self as tasks, ParallelIteratorExt};
use cleanslate::{Pool, task_local};
use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex, TryLockError};

thread_local! {
    /// How many items are on this thread's stack.
    static STACKED: Cell<usize> = const { Cell::new(0) };
    static PLAIN: RefCell<u64> = const { RefCell::new(0) };
}

task_local! { static SLOT: u64 = 0; }

/// The most items on one thread's stack.
#[derive(Default)]
struct Deepest(AtomicUsize);

impl Deepest {
    fn within<R>(&self, f: impl FnOnce(usize) -> R) -> R {
        let depth = STACKED.get() + 1;
        self.0.fetch_max(depth, SeqCst);
        STACKED.set(depth);
        let result = f(depth);
        STACKED.set(depth - 1);
        result
    }
}

#[test]
fn a_lock_held_across_nested_parallelism_cannot_deadlock_on_a_pool() {
    each_shape(|pool| {
        let sum = Mutex::new(0);
        pool.map_range(0..50, |i| {
            let mut sum = sum.lock().unwrap();
            *sum += pool.map_range(0..8, |j| i * j).into_iter().sum::<usize>();
        });
        assert_eq!(sum.into_inner().unwrap(), 49 * 50 / 2 * 28);
    });
}

#[test]
fn a_thread_local_borrowed_across_nested_parallelism_is_free_for_every_other_task_of_a_pool() {
    each_shape(|pool| {
        pool.map_range(0..200, |i| {
            PLAIN.with(|plain| {
                let mut held = plain.try_borrow_mut().expect("no other task is on this stack");
                *held = i as u64;
                pool.map_range(0..8, |_| ());
                assert_eq!(*held, i as u64);
            });
        });
    });
}

/// What an item finds that begins while another one, on the same thread, waits for half of its own
/// work.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// The lock that the other one holds. To wait for it would be to wait for ever.
    locked: bool,
    /// The other one's value in a thread-local, and in a slot.
    plain: u64,
    slot: u64,
}

/// Declares a function that makes one item wait and has another one begin, with either crate's
/// `scope` and `join`: their types differ.
macro_rules! second_item {
    ($name:ident, $scope:path, $join:path) => {
        fn $name() -> Found {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
            let (lock, found) = (Mutex::new(()), Mutex::new(Found::default()));
            let (other_half_begun, second_begun) = (Barrier::new(2), Barrier::new(2));
            let second = || {
                *found.lock().unwrap() = Found {
                    locked: matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
                    plain: PLAIN.with(|plain| *plain.borrow()),
                    slot: SLOT.get(),
                };
                second_begun.wait();
            };
            let second = &second;
            pool.install(|| {
                $scope(|s| {
                    let _held = lock.lock().unwrap();
                    PLAIN.with(|plain| *plain.borrow_mut() = 7);
                    SLOT.set(7);
                    // The other thread takes the second half, and keeps it until the second item
                    // has begun. So only this thread can run that one.
                    $join(
                        || {
                            other_half_begun.wait();
                            s.spawn(move |_| second());
                        },
                        || {
                            other_half_begun.wait();
                            second_begun.wait();
                        },
                    );
                    PLAIN.with(|plain| *plain.borrow_mut() = 0);
                    SLOT.take();
                });
            });
            found.into_inner().unwrap()
        }
    };
}

second_item!(on_bare_rayon, rayon::scope, rayon::join);
second_item!(on_the_adapter, tasks::scope, tasks::join);

#[test]
fn rayon_runs_an_item_on_the_stack_of_one_that_holds_a_lock() {
    finishes("bare", || {
        assert_eq!(on_bare_rayon(), Found { locked: true, plain: 7, slot: 7 });
    });
}

#[test]
fn the_adapter_keeps_slots_apart_there_and_nothing_else() {
    finishes("isolated", || {
        assert_eq!(on_the_adapter(), Found { locked: true, plain: 7, slot: 0 });
    });
}

const ITEMS: usize = 300;

/// How many items pile up on one stack while they wait for another pool, which is busy until all of
/// them do.
fn piled_up(items: impl Fn(&(dyn Fn() + Sync)) + Sync) -> usize {
    let deepest = Deepest::default();
    let (release, released) = channel::<()>();
    let (release, released) = (Mutex::new(Some(release)), Mutex::new(released));
    let there = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    items(&|| {
        deepest.within(|depth| {
            if depth == ITEMS {
                release.lock().unwrap().take();
            }
            there.install(|| assert!(released.lock().unwrap().recv().is_err()));
        });
    });
    deepest.0.into_inner()
}

#[test]
fn items_of_two_rayon_pools_pile_up_on_one_stack_isolated_or_not() {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(64 << 20);
    let here = builder.build().unwrap();
    let all = || (0..ITEMS).into_par_iter().with_max_len(1);
    assert_eq!(piled_up(|item| here.install(|| all().for_each(|_| item()))), ITEMS);
    assert_eq!(piled_up(|item| here.install(|| all().isolated().for_each(|_| item()))), ITEMS);
}

#[test]
fn items_of_two_pools_that_call_each_other_do_not() {
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let (here, there) = (Pool::new(workers).unwrap(), Pool::new(workers).unwrap());
            let deepest = Deepest::default();
            here.map_range(0..ITEMS, |_| {
                deepest.within(|_| there.map_range(0..4, |_| here.map_range(0..2, |_| ())).len());
            });
            assert_eq!(deepest.0.into_inner(), 1);
        });
    }
}

#[test]
fn the_message_of_a_borrowed_slot_hints_at_what_is_not_isolated() {
    let nested = || (0..1).into_par_iter();
    let bare = || SLOT.with(|_| nested().for_each(|n| SLOT.with_mut(|slot| *slot = n)));
    let on_rayon =
        panic_of(|| in_pool(1, || (0..1).into_par_iter().isolated().for_each(|_| bare())));
    assert!(
        on_rayon.contains("SLOT` is borrowed by an enclosing with (on a rayon thread"),
        "{on_rayon}"
    );
    let elsewhere = panic_of(|| SLOT.with_mut(|_| SLOT.get()));
    assert!(elsewhere.ends_with("by an enclosing with_mut"), "{elsewhere}");
    let isolated =
        || SLOT.with(|_| nested().isolated().for_each(|n| SLOT.with_mut(|slot| *slot = n)));
    in_pool(1, || (0..1).into_par_iter().isolated().for_each(|_| isolated()));
}

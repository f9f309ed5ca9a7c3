//! What `docs/from-rayon.md` says to those who come from rayon.

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
    // Broke: the thread that showed the error decided.
    let error = || SLOT.with_mut(|_| SLOT.try_with(|_| ()).unwrap_err());
    let (made_there, made_here) = (in_pool(1, error), error());
    assert!(made_there.to_string().contains("on a rayon thread"), "{made_there}");
    assert_eq!(in_pool(1, move || made_here.to_string()), elsewhere);
    let isolated =
        || SLOT.with(|_| nested().isolated().for_each(|n| SLOT.with_mut(|slot| *slot = n)));
    in_pool(1, || (0..1).into_par_iter().isolated().for_each(|_| isolated()));
}

#[test]
fn a_bare_nested_iterator_shares_its_tasks_slots_and_an_isolated_one_does_not() {
    // One thread: nothing is stolen, so a bare one runs in its task all the time.
    let dirty = |isolates: bool| {
        let nested = || {
            SLOT.set(1);
            let items = (0..10).into_par_iter();
            match isolates {
                true => items.isolated().filter(|_| SLOT.replace(1) == 1).count(),
                false => items.filter(|_| SLOT.replace(1) == 1).count(),
            }
        };
        in_pool(1, || (0..10).into_par_iter().isolated().map(|_| nested()).sum::<usize>())
    };
    assert_eq!(dirty(false), 100);
    assert_eq!(dirty(true), 0);
}

#[test]
fn what_stands_for_what_gives_the_same() {
    each_shape(|pool| {
        let v: Vec<u32> = (0..1_000).collect();
        let double = |n: &u32| 2 * n;
        assert_eq!(pool.map_slice(&v, double), v.par_iter().map(double).collect::<Vec<_>>());
        assert_eq!(pool.map(&v, double), v.par_iter().map(double).collect::<Vec<_>>());
        let (mut ours, mut theirs) = (v.clone(), v.clone());
        pool.for_each(&mut ours, |n| *n += 1);
        theirs.par_iter_mut().for_each(|n| *n += 1);
        pool.for_each(ours.chunks_mut(3), |chunk| chunk.reverse());
        theirs.par_chunks_mut(3).for_each(|chunk| chunk.reverse());
        assert_eq!(ours, theirs);
        let len = |chunk: &[u32]| chunk.len();
        assert_eq!(pool.map(v.chunks(7), len), v.par_chunks(7).map(len).collect::<Vec<_>>());
        let add = |a: u32, b: u32| a + b;
        assert_eq!(
            pool.map_reduce(&v, double, || 0, add),
            v.par_iter().map(double).reduce(|| 0, add)
        );
        assert_eq!(pool.reduce(v.clone(), || 0, add), v.par_iter().sum::<u32>());
        let scratch = |scratch: &mut Vec<u32>, n: &u32| {
            scratch.clear();
            scratch.extend(0..*n % 10);
            scratch.len()
        };
        assert_eq!(
            pool.map_init(&v, Vec::new, scratch),
            v.par_iter().map_init(Vec::new, scratch).collect::<Vec<_>>()
        );
        let check = |n: &u32| if *n < 2_000 { Ok(*n) } else { Err(*n) };
        assert_eq!(pool.try_map(&v, check), v.par_iter().map(check).collect::<Result<_, _>>());
        assert_eq!(pool.try_map([5_000], |n| check(&n)), Err(5_000));
        assert_eq!(pool.join(|| 1, || "two"), rayon::join(|| 1, || "two"));
        let (mut left, mut right) = (0, 0);
        pool.scope(|s| {
            s.submit(|| left += 1);
            s.submit(|| right += 2);
        });
        assert_eq!((left, right), (1, 2));
        assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
        let workers: Vec<_> = (0..pool.workers()).map(Some).collect();
        assert_eq!(pool.broadcast(|| pool.worker_index()), workers);
    });
}

/// As a user's module that has imported the adapter under the crate's name.
mod imported_as_rayon {
    use ::rayon::prelude::*;
    use cleanslate::rayon::{self, ParallelIteratorExt as _};

    pub(super) fn both() -> (u32, usize) {
        let sum = || (0..9).into_par_iter().isolated().map(|n| n + 1).sum();
        rayon::join(sum, ::rayon::current_num_threads)
    }
}

#[test]
fn the_module_can_be_imported_as_rayon_where_the_crate_is_named_by_its_root() {
    assert_eq!(imported_as_rayon::both(), (45, rayon::current_num_threads()));
}

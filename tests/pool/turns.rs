//! R17: whoever waits for its turn at an iterator whose `next` blocks keeps no worker.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, mpsc};
use std::time::Duration;

use cleanslate::foreign::adopt;
use cleanslate::{Context, Pool};

use crate::support::{SHAPES, finishes};

/// A map of any kind.
type Way = fn(&Pool, Box<dyn Iterator<Item = usize> + Send>, &(dyn Fn(usize) -> usize + Sync));

const WAYS: &[(&str, Way)] = &[
    ("map", |pool, items, f| drop(pool.map(items, f))),
    ("for_each", |pool, items, f| pool.for_each(items, |item| _ = f(item))),
    ("try_map", |pool, items, f| drop(pool.try_map(items, |item| Ok::<_, ()>(f(item))))),
    ("map_results", |pool, items, f| drop(pool.map_results(items, f))),
    ("map_reduce", |pool, items, f| _ = pool.map_reduce(items, f, || 0, |a, b| a + b)),
    // Made in no time, so the helper does not stay for it.
    ("map_init", |pool, items, f| drop(pool.map_init(items, || (), |(), item| f(item)))),
    // It stays, for a tenth of a second.
    ("slow map_init", |pool, items, f| {
        let init = || std::thread::sleep(Duration::from_millis(20));
        drop(pool.map_init(items, init, |(), item| f(item)));
    }),
];

/// Runs a map whose helpers all come to an iterator that blocks, until `meanwhile` sends the number
/// of a later item, which is at least that of the workers.
fn blocked(
    pool: &Pool,
    way: Way,
    later: impl Fn() + Sync,
    meanwhile: impl FnOnce(&Pool, &mpsc::Sender<usize>) + Send,
) {
    let workers = pool.workers();
    let (send, receive) = mpsc::channel();
    let (all_are_in, ended) = (Barrier::new(workers), AtomicUsize::new(0));
    let (is_blocked, blocks) = mpsc::channel();
    let mut first = 0..workers;
    let items = std::iter::from_fn(move || {
        first.next().or_else(|| {
            let _once = is_blocked.send(());
            receive.recv().ok()
        })
    });
    let seen = Mutex::new(Vec::new());
    let item = |n| {
        // Long enough to be claimed one by one.
        std::thread::sleep(Duration::from_micros(100));
        if n < workers {
            let _leader = all_are_in.wait();
        } else {
            later();
        }
        seen.lock().unwrap().push(n);
        ended.fetch_add(1, Ordering::SeqCst);
        n
    };
    std::thread::scope(|s| {
        let ended = &ended;
        s.spawn(move || {
            blocks.recv().unwrap();
            while ended.load(Ordering::SeqCst) < workers {
                std::thread::yield_now();
            }
            meanwhile(pool, &send);
        });
        way(pool, Box::new(items), &item);
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..seen.len()).collect::<Vec<_>>(), "every item once");
}

// Broke: once it had stayed for long enough it left each time that it waited, and made it anew.
#[test]
fn a_helper_whose_thread_nobody_needs_keeps_what_it_has_made() {
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            let made = AtomicUsize::new(0);
            let init = || {
                std::thread::sleep(Duration::from_millis(30));
                made.fetch_add(1, Ordering::SeqCst);
            };
            let items = (0..150).inspect(|_| std::thread::sleep(Duration::from_millis(2)));
            assert_eq!(pool.map_init(items, init, |(), n| n).len(), 150);
            assert!(made.load(Ordering::SeqCst) <= workers);
        });
    }
}

/// Checks each kind of map, with and without a carrier, on pools of several workers.
fn each_way(check: fn(&Pool, Way)) {
    thread_local! { static VALUE: Cell<u8> = const { Cell::new(0) }; }
    for workers in SHAPES.into_iter().filter(|&workers| workers > 1) {
        for &(name, way) in WAYS {
            finishes(&format!("{name} on {workers}"), move || {
                let pool = Pool::new(workers).unwrap();
                check(&pool, way);
                check(&pool.in_context(&Context::empty().carry(adopt(&VALUE))), way);
            });
        }
    }
}

// Broke: all workers waited for `next`, which waited for a task.
#[test]
fn a_task_sends_what_the_iterator_of_a_map_waits_for() {
    each_way(|pool, way| {
        blocked(
            pool,
            way,
            || (),
            |pool, send| {
                for n in (pool.workers()..).take(10) {
                    let send = send.clone();
                    pool.submit(move || send.send(n).unwrap()).join().unwrap();
                }
            },
        );
    });
}

#[test]
fn who_has_left_a_map_comes_back_when_its_iterator_goes_on() {
    each_way(|pool, way| {
        let two = Barrier::new(2);
        let later = || {
            let _leader = two.wait();
        };
        blocked(pool, way, later, |pool, send| {
            for pair in 0..20 {
                if pair % 5 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let first = pool.workers() + 2 * pair;
                send.send(first).unwrap();
                send.send(first + 1).unwrap();
            }
        });
    });
}

// The owner of a map gives way to nobody, so it runs the visit while it waits for its turn.
#[test]
fn an_iterator_may_broadcast_while_the_owner_of_its_map_waits_for_its_turn() {
    finishes("the broadcast", || {
        let pool = Pool::new(2).unwrap();
        let inner = pool.clone();
        let map = move || {
            let owner = std::thread::current().id();
            let mut visited = None;
            let items = std::iter::from_fn(|| {
                if visited.is_none() && std::thread::current().id() != owner {
                    visited = Some(inner.broadcast(|| ()).len());
                }
                visited.is_none().then_some(())
            });
            inner.for_each(items, |()| std::thread::yield_now());
            visited
        };
        assert_eq!(pool.submit(map).join().unwrap(), Some(2));
    });
}

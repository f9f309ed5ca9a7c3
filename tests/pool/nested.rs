//! Tasks that wait for tasks: with one worker, to any depth, across pools, in every combination.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::support::{OnDrop, SHAPES, each_shape, finishes, occupy, quiet};
use cleanslate::{JoinHandle, Pool, worker_local};

#[derive(Clone, Copy, Debug)]
enum Way {
    Map,
    MapRange,
    TryMap,
    MapResults,
    Scope,
    ScopeUnjoined,
    Join,
    Imap,
    ImapUnordered,
    Broadcast,
}

const WAYS: [Way; 10] = [
    Way::Map,
    Way::MapRange,
    Way::TryMap,
    Way::MapResults,
    Way::Scope,
    Way::ScopeUnjoined,
    Way::Join,
    Way::Imap,
    Way::ImapUnordered,
    Way::Broadcast,
];

/// Descends `depth` levels, one task waiting for the next; returns how deep it got. Level `n` goes
/// to pool `n` modulo their number, in way `ways[n]` modulo their number.
fn descend(pools: &Arc<[Pool]>, ways: &Arc<[Way]>, depth: usize, level: usize) -> usize {
    if level == depth {
        return level;
    }
    let pool = &pools[level % pools.len()];
    let next = || descend(pools, ways, depth, level + 1);
    let owned = || {
        let (pools, ways) = (Arc::clone(pools), Arc::clone(ways));
        move |_: ()| descend(&pools, &ways, depth, level + 1)
    };
    let all = match ways[level % ways.len()] {
        Way::Map => pool.map([()], |()| next()),
        Way::MapRange => pool.map_range(0..1, |_| next()),
        Way::TryMap => pool.try_map([()], |()| Ok::<_, ()>(next())).unwrap(),
        Way::MapResults => {
            pool.map_results([()], |()| next()).into_iter().map(Result::unwrap).collect()
        }
        Way::Scope => pool.scope(|s| vec![s.submit(next).join().unwrap()]),
        Way::ScopeUnjoined => {
            let deepest = AtomicUsize::new(0);
            pool.scope(|s| {
                s.submit(|| deepest.store(next(), Ordering::SeqCst));
            });
            vec![deepest.into_inner()]
        }
        Way::Join => {
            let f = owned();
            vec![pool.submit(move || f(())).join().unwrap()]
        }
        Way::Imap => pool.imap([()], owned()).collect(),
        Way::ImapUnordered => pool.imap_unordered([()], owned()).collect(),
        // One visit descends; the others only show up.
        Way::Broadcast => {
            let first = AtomicUsize::new(0);
            let visits = pool.broadcast(|| match first.fetch_add(1, Ordering::SeqCst) {
                0 => next(),
                _ => 0,
            });
            vec![visits.into_iter().max().unwrap()]
        }
    };
    assert_eq!(all.len(), 1);
    all[0]
}

fn pools(workers: &[usize]) -> Arc<[Pool]> {
    workers.iter().map(|&workers| Pool::new(workers).unwrap()).collect()
}

#[test]
fn every_pair_of_ways_nests_to_depth_64() {
    for workers in SHAPES {
        for a in WAYS {
            for b in WAYS {
                finishes(&format!("{a:?} in {b:?}, {workers} workers"), move || {
                    let pools = pools(&[workers]);
                    let ways: Arc<[Way]> = Arc::new([a, b]);
                    assert_eq!(descend(&pools, &ways, 64, 0), 64);
                });
            }
        }
    }
}

#[test]
fn pools_that_call_each_other_in_a_ring_do_not_deadlock() {
    for ring in [&[1, 1][..], &[1, 1, 1], &[2, 1], &[1, 2, 5]] {
        for way in WAYS {
            let name = format!("{way:?} around {ring:?}");
            finishes(&name, move || {
                let pools = pools(ring);
                let mixed: Arc<[Way]> = Arc::new([way, Way::Join, Way::Map, Way::Scope]);
                assert_eq!(descend(&pools, &mixed, 64, 0), 64);
                // Several chains at once, from several plain threads, started in different pools.
                std::thread::scope(|s| {
                    for start in 0..4 {
                        let (pools, ways) = (Arc::clone(&pools), Arc::new([way]) as Arc<[Way]>);
                        s.spawn(move || assert_eq!(descend(&pools, &ways, 24, start), 24));
                    }
                });
            });
        }
    }
}

#[test]
fn workers_that_broadcast_to_each_other_do_not_deadlock() {
    each_shape(|pool| {
        let visits = AtomicUsize::new(0);
        let each = pool
            .map_range(0..50, |_| pool.broadcast(|| visits.fetch_add(1, Ordering::SeqCst)).len());
        assert!(each.iter().all(|n| *n == pool.workers()));
        assert_eq!(visits.load(Ordering::SeqCst), 50 * pool.workers());
    });
}

#[test]
fn a_worker_that_waits_runs_visits_but_nothing_unrelated() {
    finishes("own work only", || {
        let pool = Pool::new(2).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        pool.scope(|s| {
            let blocked = s.submit(move || {
                tell.send(()).unwrap();
                gate.recv().unwrap();
            });
            told.recv().unwrap();
            // The other worker waits for the blocked one.
            let (waits, waiting) = mpsc::channel();
            let waiter = s.submit(move || {
                waits.send(std::thread::current().id()).unwrap();
                blocked.join().unwrap();
                std::thread::current().id()
            });
            let id = waiting.recv().unwrap();
            let unrelated = pool.submit(|| std::thread::current().id());
            // Both workers are taken, so the unrelated task stays where it is, however long we wait
            // for it; a task that was run on top of the waiter would be done.
            assert_eq!(pool.stats().running, 2);
            let mut unrelated = unrelated;
            let early = unrelated.join_timeout(std::time::Duration::from_millis(20));
            assert!(early.is_none());
            go.send(()).unwrap();
            assert_eq!(waiter.join().unwrap(), id);
            unrelated.join().unwrap();
        });
    });
}

#[test]
fn fork_join_recursion_computes() {
    fn fib(pool: &Pool, n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        pool.scope(|s| {
            let right = s.submit(move || fib(pool, n - 2));
            fib(pool, n - 1) + right.join().unwrap()
        })
    }
    each_shape(|pool| {
        assert_eq!(fib(pool, 16), 987);
        assert_eq!(pool.submit(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn nested_maps_multiply() {
    each_shape(|pool| {
        let sums = pool.map(0..20_u64, |a| {
            pool.map(0..20, |b| pool.map_range(0..20, |c| a * b * c).into_iter().sum::<u64>())
                .into_iter()
                .sum::<u64>()
        });
        assert_eq!(sums.into_iter().sum::<u64>(), 190 * 190 * 190);
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.running, stats.queued), (20 + 400 + 8_000, 0, 0));
    });
}

/// Has all workers of `pool` wait for the end of the other one.
fn all_wait_for_the_end_of(ending: &Pool, pool: &Pool) -> Vec<JoinHandle<()>> {
    let (tell, told) = mpsc::channel();
    let wait = |_| {
        let (ending, tell) = (ending.clone(), tell.clone());
        pool.submit(move || {
            tell.send(()).unwrap();
            ending.shutdown().unwrap();
        })
    };
    let waiting: Vec<_> = (0..pool.workers()).map(wait).collect();
    waiting.iter().for_each(|_| told.recv().unwrap());
    waiting
}

// Broke: a plain thread that drops what a pool waits for (the closure of a task that it cancels, of
// its map, of its broadcast) waited there for a task that nobody was left to run.
#[test]
fn a_plain_thread_runs_what_a_drop_waits_for_if_a_pool_waits_for_the_drop() {
    for workers in SHAPES {
        for way in ["cancel", "map", "broadcast"] {
            finishes(way, move || {
                let (ending, pool) = (Pool::new(1).unwrap(), Pool::new(workers).unwrap());
                let theirs = pool.clone();
                let waits = Mutex::new(OnDrop::new(move || {
                    let here = std::thread::current().id();
                    assert_eq!(theirs.submit(|| std::thread::current().id()).join().unwrap(), here);
                    assert_eq!(theirs.map(0..3, |n| n), [0, 1, 2]);
                }));
                if way == "cancel" {
                    let busy = occupy(&ending);
                    let cancelled = ending.submit(move || drop(waits));
                    let waiting = all_wait_for_the_end_of(&ending, &pool);
                    assert!(cancelled.cancel());
                    drop(busy);
                    return waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
                }
                let ((go, gate), (tell, told)) = (mpsc::channel::<()>(), mpsc::channel());
                let gate = Mutex::new(gate);
                let task = move || {
                    let _waits = &waits;
                    tell.send(()).unwrap();
                    let _open = gate.lock().unwrap().recv();
                };
                std::thread::scope(|s| {
                    let theirs = &ending;
                    s.spawn(move || match way {
                        "map" => drop(theirs.map([()], move |()| task())),
                        _ => drop(theirs.broadcast(task)),
                    });
                    told.recv().unwrap();
                    let waiting = all_wait_for_the_end_of(&ending, &pool);
                    drop(go);
                    waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
                });
            });
        }
    }
}

// The same for results of chunks that were over when the map failed.
#[test]
fn a_plain_thread_runs_what_the_drop_of_a_failed_maps_result_waits_for() {
    const ITEMS: usize = 10_000;
    quiet();
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let (ending, pool) = (Pool::new(1).unwrap(), Pool::new(workers).unwrap());
            let ((go, gate), (tell, told)) = (mpsc::channel::<()>(), mpsc::channel());
            let (theirs, ends) = (pool.clone(), ending.clone());
            let map = std::thread::spawn(move || {
                let gate = Mutex::new(gate);
                ends.map_range(0..ITEMS, |n| {
                    if n == ITEMS - 1 {
                        tell.send(()).unwrap();
                        let _open = gate.lock().unwrap().recv();
                        panic!("on purpose");
                    }
                    let theirs = theirs.clone();
                    (n == 0)
                        .then(|| OnDrop::new(move || assert_eq!(theirs.map(0..3, |n| n).len(), 3)))
                })
            });
            told.recv().unwrap();
            let waiting = all_wait_for_the_end_of(&ending, &pool);
            drop(go);
            assert!(map.join().is_err());
            waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        });
    }
}

worker_local! { static AT_THE_WORKERS_END: Option<OnDrop> = None; }

thread_local! { static AT_THE_THREADS_END: Cell<Option<OnDrop>> = const { Cell::new(None) }; }

// Broke: a worker that ended with its pool waited as a plain thread does.
#[test]
fn what_ends_with_a_worker_may_wait_for_a_pool_all_of_which_waits_for_its_end() {
    for workers in SHAPES {
        for is_worker_local in [true, false] {
            finishes(&format!("worker-local: {is_worker_local}"), move || {
                let (ending, pool) = (Pool::new(1).unwrap(), Pool::new(workers).unwrap());
                let (theirs, (tell, told)) = (pool.clone(), mpsc::channel());
                let waits = OnDrop::new(move || {
                    let here = std::thread::current().id();
                    assert_eq!(theirs.submit(|| std::thread::current().id()).join().unwrap(), here);
                    assert_eq!(theirs.map(0..3, |n| n), [0, 1, 2]);
                    tell.send(()).unwrap();
                });
                let kept = ending.submit(move || match is_worker_local {
                    true => AT_THE_WORKERS_END.with(|place| *place = Some(waits)),
                    false => AT_THE_THREADS_END.set(Some(waits)),
                });
                kept.join().unwrap();
                let busy = occupy(&ending);
                let waiting = all_wait_for_the_end_of(&ending, &pool);
                drop(busy);
                waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
                told.recv().unwrap();
            });
        }
    }
}

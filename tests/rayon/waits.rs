//! Pools and rayon that wait for each other, on few threads.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use cleanslate::rayon::{self as tasks, ParallelIteratorExt, RayonPool};
use cleanslate::{Context, Isolation, Pool, task_local};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::support::{SHAPES, finishes, in_a_process_of_its_own};

task_local! { static TOUCHED: usize = 0; }

/// What the outer ones call with the numbers up to [`WIDTH`], in whatever way.
type Inner<'a> = &'a (dyn Fn(usize) -> usize + Sync);

/// Those of an outer one.
type Ways<O> = [(&'static str, fn(&O, Inner<'_>) -> usize); 6];

const WIDTH: usize = 4;

/// Ways to wait for a pool.
const ON_POOL: Ways<Pool> = [
    ("map", |pool, f| pool.map(0..WIDTH, f).into_iter().sum()),
    ("map_slice", |pool, f| pool.map_slice(&[0, 1, 2, 3], |n| f(*n)).into_iter().sum()),
    ("map_reduce", |pool, f| pool.map_reduce(0..WIDTH, f, || 0, |a, b| a + b)),
    ("join", |pool, f| {
        let (a, b) = pool.join(|| f(0) + f(1), || f(2) + f(3));
        a + b
    }),
    ("scope", |pool, f| {
        let sum = AtomicUsize::new(0);
        pool.scope(|scope| {
            for n in 0..WIDTH {
                let sum = &sum;
                drop(scope.submit(move || sum.fetch_add(f(n), SeqCst)));
            }
        });
        sum.into_inner()
    }),
    ("handles", |pool, f| {
        pool.scope(|scope| {
            let handles: Vec<_> = (0..WIDTH).map(|n| scope.submit(move || f(n))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).sum()
        })
    }),
];

/// Ways to wait for rayon.
const ON_RAYON: Ways<ThreadPool> = [
    ("bare", |rayon, f| rayon.install(|| (0..WIDTH).into_par_iter().map(f).sum())),
    ("isolated", |rayon, f| rayon.install(|| (0..WIDTH).into_par_iter().isolated().map(f).sum())),
    ("bare join", |rayon, f| {
        let (a, b) = rayon.join(|| f(0) + f(1), || f(2) + f(3));
        a + b
    }),
    ("join", |rayon, f| {
        let (a, b) = rayon.install(|| tasks::join(|| f(0) + f(1), || f(2) + f(3)));
        a + b
    }),
    ("bare scope", |rayon, f| {
        let sum = AtomicUsize::new(0);
        rayon.scope(|scope| {
            for n in 0..WIDTH {
                let sum = &sum;
                scope.spawn(move |_| {
                    sum.fetch_add(f(n), SeqCst);
                });
            }
        });
        sum.into_inner()
    }),
    ("sequential", |rayon, f| rayon.install(|| (0..WIDTH).map(f).sum())),
];

fn rayon_pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// A leaf, which has something to reset.
fn leaf(n: usize) -> usize {
    assert_eq!(TOUCHED.replace(n + 1), 0);
    n
}

/// In a frame of its own, also where nothing around it is isolated.
fn fresh_leaf(n: usize) -> usize {
    Context::empty().run(|| leaf(n))
}

// Broke: with all threads of one waiting for the other, nobody was left to run what these waited
// for: for ever.
#[test]
fn pools_and_rayon_may_wait_for_each_other_in_any_way() {
    let sum = 6 * WIDTH * WIDTH;
    for workers in SHAPES {
        for threads in [1, 2] {
            let pool = Arc::new(Pool::new(workers).unwrap());
            let rayon = Arc::new(rayon_pool(threads));
            for (pool_way, on_pool) in ON_POOL {
                for (rayon_way, on_rayon) in ON_RAYON {
                    let (pool, rayon) = (Arc::clone(&pool), Arc::clone(&rayon));
                    let ways = format!("{pool_way}, {rayon_way}, {workers} and {threads}");
                    finishes(&ways, move || {
                        let inner = |_| on_pool(&pool, &fresh_leaf);
                        assert_eq!(on_pool(&pool, &|_| on_rayon(&rayon, &inner)), sum);
                        let inner = |_| on_rayon(&rayon, &fresh_leaf);
                        assert_eq!(on_rayon(&rayon, &|_| on_pool(&pool, &inner)), sum);
                    });
                }
            }
        }
    }
}

/// Calls the two in turns, each inside the other, `depth` times.
fn deeper(pool: &Pool, rayon: &ThreadPool, depth: usize) -> usize {
    let Some(left) = depth.checked_sub(1) else { return fresh_leaf(1) };
    let inner = |_| deeper(pool, rayon, left);
    if depth % 2 == 0 {
        ON_POOL[depth / 2 % ON_POOL.len()].1(pool, &inner)
    } else {
        ON_RAYON[depth / 2 % ON_RAYON.len()].1(rayon, &inner)
    }
}

#[test]
fn they_may_wait_for_each_other_several_times_over() {
    for workers in SHAPES {
        for threads in [1, 2] {
            for depth in [5, 6] {
                finishes(&format!("{workers} and {threads}, {depth} deep"), move || {
                    let (pool, rayon) = (Pool::new(workers).unwrap(), rayon_pool(threads));
                    assert_eq!(deeper(&pool, &rayon, depth), WIDTH.pow(depth as u32));
                });
            }
        }
    }
}

#[test]
fn a_future_that_is_polled_on_rayon_runs_the_task_that_it_waits_for() {
    finishes("polls", || {
        let (pool, rayon) = (Pool::new(1).unwrap(), RayonPool::new(1).unwrap());
        let (outer, inner) = (pool.clone(), pool);
        let task = outer.submit(move || {
            rayon.map(0..1, move |_| futures_lite::future::block_on(inner.submit(|| 4)).unwrap())
        });
        assert_eq!(task.join().unwrap(), [4]);
    });
}

// A pool whose last handle goes on one of rayon's threads drains, as on any plain thread.
#[test]
fn a_pool_that_ends_on_rayon_may_drain_by_means_of_that_thread() {
    let ends: [fn(Pool); 3] = [drop, |pool| pool.shutdown().unwrap(), |pool| pool.wait_idle()];
    for end in ends {
        finishes("the end", move || {
            let (pool, rayon) = (Pool::new(1).unwrap(), RayonPool::new(1).unwrap());
            let inner = rayon.clone();
            let (tell, told) = mpsc::channel();
            rayon.install(move || {
                drop(pool.submit(move || inner.install(move || tell.send(5).unwrap())));
                end(pool);
                assert_eq!(told.try_recv(), Ok(5), "it was waited for");
            });
        });
    }
}

// What an iterator does in a turn may wait for rayon, and a thread of rayon for that turn.
#[test]
fn a_turn_may_wait_for_rayon() {
    for threads in [1, 2] {
        finishes(&format!("{threads} threads"), move || {
            let (pool, rayon) = (Pool::new(2).unwrap(), rayon_pool(threads));
            let items = (0..50).map(|n| {
                thread::sleep(Duration::from_micros(100));
                rayon.install(|| (0..2).into_par_iter().map(|m| n + m).sum::<usize>())
            });
            let sum: usize = rayon.install(|| pool.map(items, |n| n)).into_iter().sum();
            assert_eq!(sum, 2 * (49 * 50 / 2) + 50);
        });
    }
}

// Elsewhere rayon's threads only wait, as plain threads do.
#[test]
fn a_thread_of_rayon_runs_no_task_that_needs_its_worker() {
    let rayon = rayon_pool(1);
    let builder = || Pool::builder().workers(1);
    let runs_there = |pool: Pool| {
        let name = || thread::current().name().map(str::to_owned);
        rayon.install(|| pool.map(0..1, |_| name()) == [name()])
    };
    assert!(!runs_there(builder().on_worker_start(|_| ()).build().unwrap()));
    assert!(!runs_there(builder().isolation(Isolation::Leaky).build().unwrap()));
    #[cfg(feature = "sentinel")]
    if let Ok(pool) = builder().sentinel(cleanslate::sentinel::Sentinel::new()).build() {
        assert!(!runs_there(pool));
    }
}

// Where one of rayon's threads is not waiting for a pool, none takes up anything: it may hold a
// lock that others want.
#[test]
fn a_thread_of_rayon_that_waits_leaves_what_others_can_do() {
    // Alone, since those that wait are counted in the whole process.
    let name = "waits::a_thread_of_rayon_that_waits_leaves_what_others_can_do";
    if !in_a_process_of_its_own(name) {
        return;
    }
    finishes("a lock", || {
        let (pool, rayon) = (Pool::new(1).unwrap(), rayon_pool(2));
        let lock = Mutex::new(());
        rayon.scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|_| {
                    // Taken by whoever comes next on top of this, it would never be free.
                    let _held = lock.lock().unwrap();
                    let (tell, told) = mpsc::channel();
                    let long = pool.submit(move || {
                        tell.send(()).unwrap();
                        thread::sleep(Duration::from_millis(40));
                    });
                    told.recv().unwrap();
                    long.join().unwrap();
                });
            }
        });
    });
}

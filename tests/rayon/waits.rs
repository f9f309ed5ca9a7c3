//! Pools and rayon that call each other: what `docs/from-rayon.md` says of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use cleanslate::rayon::{self as tasks, ParallelIteratorExt};
use cleanslate::{Context, Pool, task_local};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::support::{SHAPES, finishes};

task_local! { static TOUCHED: usize = 0; }

/// What the outer ones call with the numbers up to [`WIDTH`], in whatever way.
type Inner<'a> = &'a (dyn Fn(usize) -> usize + Sync);

/// Those of an outer one.
type Ways<O> = [(&'static str, fn(&O, Inner<'_>) -> usize); 6];

const WIDTH: usize = 4;

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

/// In a frame of its own, also where nothing around it is isolated, and with something to reset.
fn leaf(n: usize) -> usize {
    Context::empty().run(|| {
        assert_eq!(TOUCHED.replace(n + 1), 0);
        n
    })
}

fn rayon_pool(threads: usize) -> Arc<ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

// Without `caller_helps` each of them hangs, once all workers wait for rayon.
#[test]
fn where_callers_help_tasks_may_call_rayon_and_its_closures_the_same_pool() {
    for workers in SHAPES {
        for threads in [1, 2] {
            let builder = Pool::builder().workers(workers).caller_helps(true);
            let pool = Arc::new(builder.build().unwrap());
            let rayon = rayon_pool(threads);
            for (outer, on_outer) in ON_POOL {
                for (rayon_way, on_rayon) in ON_RAYON {
                    for (inner, on_inner) in ON_POOL {
                        let (pool, rayon) = (Arc::clone(&pool), Arc::clone(&rayon));
                        let ways = [outer, rayon_way, inner].join(", ");
                        finishes(&format!("{ways}, {workers} and {threads}"), move || {
                            let inner = |_| on_inner(&pool, &leaf);
                            let sum = on_outer(&pool, &|_| on_rayon(&rayon, &inner));
                            assert_eq!(sum, 6 * WIDTH * WIDTH);
                        });
                    }
                }
            }
        }
    }
}

// With the outer one's rayon pool in the place of the inner one's they hang, as with one `Pool` in
// place of two.
#[test]
fn what_lies_inside_may_call_a_pool_of_its_own() {
    for workers in SHAPES {
        for threads in [1, 2] {
            let pools = [(); 2].map(|()| Arc::new(Pool::new(workers).unwrap()));
            let rayons = [(); 2].map(|()| rayon_pool(threads));
            for (pool_way, on_pool) in ON_POOL {
                for (rayon_way, on_rayon) in ON_RAYON {
                    let (pools, rayons) = (pools.clone(), rayons.clone());
                    let ways = format!("{pool_way}, {rayon_way}, {workers} and {threads}");
                    finishes(&ways, move || {
                        let sum = 6 * WIDTH * WIDTH;
                        let inner = |_| on_rayon(&rayons[1], &leaf);
                        assert_eq!(on_rayon(&rayons[0], &|_| on_pool(&pools[0], &inner)), sum);
                        assert_eq!(on_pool(&pools[1], &|_| on_pool(&pools[0], &inner)), sum);
                        let inner = |_| on_pool(&pools[1], &leaf);
                        assert_eq!(on_pool(&pools[0], &|_| on_rayon(&rayons[0], &inner)), sum);
                    });
                }
            }
        }
    }
}

//! Submitting single tasks, beside other pools: a flood that nobody waits for, and a round trip.
//!
//! The budget: at most 1.0 of the best of the others in each.
//!
//! Besides criterion's figures it prints medians that were taken in turns, so that whatever else
//! the machine does affects all of them.

mod turns;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use cleanslate::Pool;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_lite::future::block_on;

use self::turns::{Way, patience, turns};

const WORKERS: usize = 2;
/// How many tasks a flood has.
const FLOOD: usize = 10_000;

struct Pools {
    cleanslate: Pool,
    rayon: rayon::ThreadPool,
    threadpool: threadpool::ThreadPool,
    rusty: rusty_pool::ThreadPool,
    tokio: tokio::runtime::Runtime,
    affinity: affinitypool::Threadpool,
}

impl Pools {
    fn new() -> Self {
        let mut tokio = tokio::runtime::Builder::new_multi_thread();
        Self {
            cleanslate: Pool::new(WORKERS).unwrap(),
            rayon: rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().unwrap(),
            threadpool: threadpool::ThreadPool::new(WORKERS),
            rusty: rusty_pool::Builder::new().core_size(WORKERS).max_size(WORKERS).build(),
            tokio: tokio.worker_threads(1).max_blocking_threads(WORKERS).build().unwrap(),
            affinity: affinitypool::Builder::new().worker_threads(WORKERS).build(),
        }
    }
}

/// What a task of a flood does: it counts itself.
#[derive(Clone)]
struct Tick(Arc<AtomicUsize>);

impl Tick {
    fn run(self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// A flood that `submit` starts, given what each task does; it is over when all tasks have counted
/// themselves.
fn flood_of<'a>(submit: impl Fn(&Tick) + 'a) -> Box<dyn Fn() + 'a> {
    let tick = Tick(Arc::new(AtomicUsize::new(0)));
    Box::new(move || {
        submit(&tick);
        while tick.0.load(Ordering::Acquire) != FLOOD {
            std::thread::yield_now();
        }
        tick.0.store(0, Ordering::Release);
    })
}

/// A flood whose tasks are submitted one by one and forgotten.
fn each<'a>(submit: impl Fn(Tick) + 'a) -> Box<dyn Fn() + 'a> {
    flood_of(move |tick| (0..FLOOD).for_each(|_| submit(tick.clone())))
}

fn flood(pools: &Pools) -> Vec<Way<'_>> {
    vec![
        ("cleanslate", each(|tick| drop(pools.cleanslate.submit(|| tick.run())))),
        ("rayon", each(|tick| pools.rayon.spawn(|| tick.run()))),
        ("threadpool", each(|tick| pools.threadpool.execute(|| tick.run()))),
        ("rusty_pool", each(|tick| pools.rusty.execute(|| tick.run()))),
        ("tokio", each(|tick| drop(pools.tokio.spawn_blocking(|| tick.run())))),
        (
            "affinitypool",
            // Its futures wait when they are dropped, so they are kept until all are done.
            flood_of(|tick| {
                let tasks: Vec<_> = (0..FLOOD)
                    .map(|_| {
                        let tick = tick.clone();
                        pools.affinity.spawn(|| tick.run())
                    })
                    .collect();
                tasks.into_iter().for_each(block_on);
            }),
        ),
        ("blocking", each(|tick| blocking::unblock(|| tick.run()).detach())),
    ]
}

fn round_trip(pools: &Pools) -> Vec<Way<'_>> {
    fn answer(send: impl FnOnce(mpsc::Sender<u32>)) {
        let (tell, told) = mpsc::channel();
        send(tell);
        black_box(told.recv().unwrap());
    }
    vec![
        ("cleanslate", Box::new(|| drop(black_box(pools.cleanslate.submit(|| 1).join())))),
        ("rayon", Box::new(|| _ = black_box(pools.rayon.install(|| 1)))),
        (
            "threadpool",
            Box::new(|| answer(|tell| pools.threadpool.execute(move || tell.send(1).unwrap()))),
        ),
        ("rusty_pool", Box::new(|| _ = black_box(pools.rusty.evaluate(|| 1).await_complete()))),
        (
            "tokio",
            Box::new(|| {
                answer(|tell| drop(pools.tokio.spawn_blocking(move || tell.send(1).unwrap())));
            }),
        ),
        ("affinitypool", Box::new(|| _ = black_box(block_on(pools.affinity.spawn(|| 1))))),
        ("blocking", Box::new(|| _ = black_box(block_on(blocking::unblock(|| 1))))),
    ]
}

/// Prints the median of each way, taken in turns, and the median of the first way's ratios to the
/// best of the others.
fn compare(what: &str, ways: &[Way<'_>], per: usize) {
    let (medians, ratios) = turns(ways, per, 4 * patience());
    print!("{what}:");
    for ((name, _), median) in ways.iter().zip(&medians) {
        print!("  {name} {median:.0} ns");
    }
    println!("  over the best: {:.2}", ratios[ratios.len() / 2]);
}

fn bench(c: &mut Criterion, what: &str, ways: &[Way<'_>]) {
    let mut group = c.benchmark_group(format!("submit/{what}"));
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(500));
    for (name, run) in ways {
        group.bench_function(*name, |b| b.iter(run));
    }
    group.finish();
}

fn single_tasks(c: &mut Criterion) {
    let pools = Pools::new();
    let ways = flood(&pools);
    compare("flood", &ways, FLOOD);
    bench(c, "flood", &ways);
    let ways = round_trip(&pools);
    compare("round trip", &ways, 1);
    bench(c, "round_trip", &ways);
}

criterion_group!(benches, single_tasks);
criterion_main!(benches);

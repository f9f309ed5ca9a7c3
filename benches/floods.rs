//! Floods of submitted tasks, beside other pools, and a round trip.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use cleanslate::Pool;
use futures_lite::future::block_on;

use crate::{heading, row};

/// How many tasks a flood has.
const FLOOD: usize = 10_000;
/// How many floods follow each other in a turn: one, for which sleeping workers are woken, or
/// several, most of which find them at work.
const FLOODS: [(usize, &str); 2] = [(1, "after a pause"), (8, "eight in a row")];

/// A side that does this `n` times.
fn times<'a>(n: usize, flood: impl Fn() + 'a) -> Box<dyn Fn() + 'a> {
    Box::new(move || (0..n).for_each(|_| flood()))
}

fn threads(n: usize) -> String {
    if n == 1 { "one thread".into() } else { format!("{n} threads") }
}

/// Calls `produce` on `n` threads, this one among them.
fn by_threads(n: usize, produce: &(dyn Fn() + Sync)) {
    std::thread::scope(|s| {
        for _ in 1..n {
            s.spawn(produce);
        }
        produce();
    });
}

/// Floods in which every producer keeps the handles and then takes the results.
fn with_results<'a, H>(
    floods: usize,
    producers: usize,
    submit: impl Fn() -> H + Sync + 'a,
    join_all: impl Fn(Vec<H>) + Sync + 'a,
) -> Box<dyn Fn() + 'a> {
    times(floods, move || {
        by_threads(producers, &|| {
            join_all((0..FLOOD / producers).map(|_| submit()).collect());
        });
    })
}

/// Takes the results one by one.
fn each<H>(join: impl Fn(H) -> i32) -> impl Fn(Vec<H>) {
    move |tasks| tasks.into_iter().for_each(|task| _ = black_box(join(task)))
}

/// Awaits the results one by one.
async fn await_all<H: Future>(tasks: Vec<H>) {
    for task in tasks {
        black_box(task.await);
    }
}

/// The same with a pool that has no handles: the results come through a channel for each producer,
/// as threadpool's documentation shows it.
fn by_channel<'a>(
    floods: usize,
    producers: usize,
    submit: impl Fn(mpsc::Sender<i32>) + Sync + 'a,
) -> Box<dyn Fn() + 'a> {
    times(floods, move || {
        by_threads(producers, &|| {
            let (tell, told) = mpsc::channel();
            (0..FLOOD / producers).for_each(|_| submit(tell.clone()));
            drop(tell);
            told.iter().for_each(|result| _ = black_box(result));
        });
    })
}

/// Prints the rows.
pub(crate) fn rows() {
    heading("Submitting, two workers");
    let pool = Pool::new(2).unwrap();
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let threadpool = threadpool::ThreadPool::new(2);
    let rusty = rusty_pool::Builder::new().core_size(2).max_size(2).build();
    let mut tokio = tokio::runtime::Builder::new_multi_thread();
    let tokio = tokio.worker_threads(1).max_blocking_threads(2).build().unwrap();
    let affinity = affinitypool::Builder::new().worker_threads(2).build();
    let done = Arc::new(AtomicUsize::new(0));
    let tick = |done: Arc<AtomicUsize>| _ = done.fetch_add(1, Ordering::Release);
    let kinds = [1, 2, 4, 8].map(|producers| FLOODS.map(|(floods, how)| (producers, floods, how)));
    for (producers, floods, how) in kinds.into_iter().flatten() {
        let flood = |submit: &(dyn Fn(Arc<AtomicUsize>) + Sync)| {
            by_threads(producers, &|| {
                (0..FLOOD / producers).for_each(|_| submit(Arc::clone(&done)));
            });
            while done.load(Ordering::Acquire) != FLOOD {
                std::thread::yield_now();
            }
            done.store(0, Ordering::Release);
        };
        row(
            &format!("a flood by {}, {how}, per task", threads(producers)),
            "1.0",
            floods * FLOOD,
            &[
                ("", times(floods, || flood(&|done| drop(pool.submit(move || tick(done)))))),
                ("rayon", times(floods, || flood(&|done| rayon.spawn(move || tick(done))))),
                (
                    "threadpool",
                    times(floods, || flood(&|done| threadpool.execute(move || tick(done)))),
                ),
                ("rusty_pool", times(floods, || flood(&|done| rusty.execute(move || tick(done))))),
                (
                    "tokio",
                    times(floods, || flood(&|done| drop(tokio.spawn_blocking(move || tick(done))))),
                ),
            ],
        );
    }
    for (producers, floods, how) in kinds.into_iter().flatten() {
        row(
            &format!("the same with results, by {}, {how}", threads(producers)),
            "1.0",
            floods * FLOOD,
            &[
                (
                    "",
                    with_results(
                        floods,
                        producers,
                        || pool.submit(|| black_box(1)),
                        each(|task: cleanslate::JoinHandle<_>| task.join().unwrap()),
                    ),
                ),
                (
                    "rusty_pool",
                    with_results(
                        floods,
                        producers,
                        || rusty.evaluate(|| black_box(1)),
                        each(rusty_pool::JoinHandle::await_complete),
                    ),
                ),
                (
                    "tokio",
                    with_results(
                        floods,
                        producers,
                        || tokio.spawn_blocking(|| black_box(1)),
                        |tasks| tokio.block_on(await_all(tasks)),
                    ),
                ),
                (
                    "affinitypool",
                    with_results(
                        floods,
                        producers,
                        || affinity.spawn(|| black_box(1)),
                        |tasks| block_on(await_all(tasks)),
                    ),
                ),
                (
                    "rayon, a channel",
                    by_channel(floods, producers, |tell| {
                        rayon.spawn(move || tell.send(black_box(1)).unwrap());
                    }),
                ),
                (
                    "threadpool, a channel",
                    by_channel(floods, producers, |tell| {
                        threadpool.execute(move || tell.send(black_box(1)).unwrap());
                    }),
                ),
            ],
        );
    }
    row(
        "a round trip, `submit` and `join`",
        "1.0",
        1,
        &[
            ("", Box::new(|| _ = black_box(pool.submit(|| black_box(1)).join().unwrap()))),
            ("rayon", Box::new(|| _ = black_box(rayon.install(|| black_box(1))))),
            ("rusty_pool", Box::new(|| _ = rusty.evaluate(|| black_box(1)).await_complete())),
            (
                "tokio",
                Box::new(|| _ = tokio.block_on(tokio.spawn_blocking(|| black_box(1))).unwrap()),
            ),
            ("affinitypool", Box::new(|| _ = block_on(affinity.spawn(|| black_box(1))))),
            (
                "threadpool, a channel",
                Box::new(|| {
                    let (tell, told) = mpsc::channel();
                    threadpool.execute(move || tell.send(black_box(1)).unwrap());
                    black_box(told.recv().unwrap());
                }),
            ),
        ],
    );
}

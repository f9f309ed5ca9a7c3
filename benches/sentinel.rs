//! What does watching a task cost, by the size of the thread-locals that are watched; and what does
//! a sentinel cost a pool, with each action?
//!
//! The baselines are the same loop without a sentinel, and a pool without one. The thread-locals of
//! this program stand for those of an application: rules allow all but those of the size in
//! question.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use cleanslate::Pool;
use cleanslate::sentinel::{Sentinel, Watcher, watch};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

thread_local! {
    static BYTES_256: Cell<[u64; 32]> = const { Cell::new([0; 32]) };
    static BYTES_1K: Cell<[u64; 128]> = const { Cell::new([0; 128]) };
    static BYTES_4K: Cell<[u64; 512]> = const { Cell::new([0; 512]) };
    static BYTES_16K: Cell<[u64; 2048]> = const { Cell::new([0; 2048]) };
}

struct Size {
    bytes: usize,
    pattern: &'static str,
    write: fn(u64),
}

const SIZES: [Size; 4] = [
    Size { bytes: 256, pattern: "*::BYTES_256", write: |it| BYTES_256.with(|to| write(to, it)) },
    Size { bytes: 1024, pattern: "*::BYTES_1K", write: |it| BYTES_1K.with(|to| write(to, it)) },
    Size { bytes: 4096, pattern: "*::BYTES_4K", write: |it| BYTES_4K.with(|to| write(to, it)) },
    Size { bytes: 16384, pattern: "*::BYTES_16K", write: |it| BYTES_16K.with(|to| write(to, it)) },
];

/// Writes the last word, which is found last.
fn write<const N: usize>(array: &Cell<[u64; N]>, value: u64) {
    let words: &Cell<[u64]> = array;
    // A thread-local that nobody reads is optimised away.
    black_box(words.as_slice_of_cells())[N - 1].set(value);
}

/// A sentinel that watches one of the arrays and nothing else.
fn sentinel_of(size: usize) -> Sentinel {
    let mut sentinel = Sentinel::new();
    for other in SIZES {
        if other.bytes != size {
            sentinel = sentinel.allow(other.pattern);
        }
    }
    // What the crates that the benchmark is built with keep per thread.
    for kept in ["cleanslate*", "criterion", "rayon_core", "regex_automata", "crossbeam*"] {
        sentinel = sentinel.allow(kept);
    }
    sentinel
}

fn watcher_of(size: usize) -> Watcher {
    let watcher = sentinel_of(size).watcher().expect("Linux with glibc");
    // This includes what rules look at byte by byte, and the padding before an array, which the
    // linker decides.
    assert!(watcher.watched_bytes() >= size);
    watcher
}

fn per_task(c: &mut Criterion) {
    let mut group = c.benchmark_group("sentinel");
    group.bench_function("baseline", |b| b.iter(|| black_box(1)));
    for Size { bytes: size, write, .. } in SIZES {
        let mut watcher = watcher_of(size);
        let size = watcher.watched_bytes();
        group.bench_function(BenchmarkId::new("clean", size), |b| {
            b.iter(|| {
                watcher.begin();
                black_box(1);
                assert!(watcher.finish().is_none());
            });
        });
        let mut value = 0;
        group.bench_function(BenchmarkId::new("dirty", size), |b| {
            b.iter(|| {
                watcher.begin();
                value += 1;
                write(value);
                watcher.finish().expect("the last word changed")
            });
        });
    }
    // All of the arrays at once, with the way to the thread's idle watcher.
    group.bench_function("watch_all", |b| b.iter(|| watch(|| black_box(1))));
    group.bench_function("new_watcher", |b| b.iter(|| Sentinel::new().watcher()));
    group.finish();
}

/// How many bytes of thread-locals the pools below watch.
const WATCHED: usize = 1024;
/// Tasks in a flood, and items in a map.
const MANY: usize = 10_000;

/// The name of a case, the pool's sentinel, and what each task does.
type Case = (&'static str, Option<Sentinel>, fn());

fn clean() {
    black_box(1);
}

/// Never leaves what it found.
fn dirty() {
    BYTES_1K.with(|array| {
        let words: &Cell<[u64]> = array;
        let last = &words.as_slice_of_cells()[WATCHED / 8 - 1];
        last.set(black_box(last.get()) + 1);
    });
}

fn pool(workers: usize, sentinel: Option<Sentinel>) -> Pool {
    let builder = Pool::builder().workers(workers);
    match sentinel {
        Some(sentinel) => builder.sentinel(sentinel),
        None => builder,
    }
    .build()
    .expect("Linux with glibc")
}

fn flood(pool: &Pool, tasks: usize, task: fn()) {
    let handles: Vec<_> = (0..tasks).map(|_| pool.submit(task)).collect();
    for handle in handles {
        handle.join().expect("no task panics");
    }
}

/// Counting, in a pool of two workers.
fn in_a_pool(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool");
    group.throughput(Throughput::Elements(MANY as u64));
    let watching = || Some(sentinel_of(WATCHED));
    let cases: [Case; 3] =
        [("off", None, clean), ("clean", watching(), clean), ("dirty", watching(), dirty)];
    for (name, sentinel, task) in cases {
        let pool = pool(2, sentinel);
        group.bench_function(BenchmarkId::new("flood", name), |b| {
            b.iter(|| flood(&pool, MANY, task));
        });
        group.bench_function(BenchmarkId::new("map_range", name), |b| {
            b.iter(|| pool.map_range(0..MANY, |_| task()));
        });
    }
    group.finish();
}

/// One task after the other, each of which needs a thread of its own, or not.
fn renewing(c: &mut Criterion) {
    const TASKS: usize = 100;
    let mut group = c.benchmark_group("renewal");
    group.throughput(Throughput::Elements(TASKS as u64));
    let on_leak = || Some(sentinel_of(WATCHED).renew(u32::MAX, Duration::from_secs(1)));
    let always = || Some(Sentinel::new().renew_always());
    let cases: [Case; 4] = [
        ("off", None, clean),
        ("on_leak_clean", on_leak(), clean),
        ("on_leak_dirty", on_leak(), dirty),
        ("always", always(), clean),
    ];
    for (name, sentinel, task) in cases {
        for workers in [1, 2] {
            let pool = pool(workers, sentinel.clone());
            let id = |what: &str| BenchmarkId::new(format!("{what}_{workers}"), name);
            group.bench_function(id("join_each"), |b| {
                b.iter(|| {
                    for _ in 0..TASKS {
                        pool.submit(task).join().expect("no task panics");
                    }
                });
            });
            group.bench_function(id("flood"), |b| b.iter(|| flood(&pool, TASKS, task)));
            group.bench_function(id("map_range"), |b| {
                b.iter(|| pool.map_range(0..TASKS, |_| task()));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = per_task, in_a_pool, renewing
}
criterion_main!(benches);

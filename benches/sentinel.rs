//! What does watching a task cost, by the size of the thread-locals that are watched?
//!
//! The baseline is the same loop without a sentinel. The thread-locals of this program stand for
//! those of an application: rules allow all but those of the size in question.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use cleanslate::sentinel::{Sentinel, Watcher, watch};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

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

/// A watcher that watches one of the arrays and nothing else.
fn watcher_of(size: usize) -> Watcher {
    let mut sentinel = Sentinel::new();
    for other in SIZES {
        if other.bytes != size {
            sentinel = sentinel.allow(other.pattern);
        }
    }
    // What the benchmark's own crates keep per thread, and padding.
    let sentinel = sentinel.allow("criterion").allow("rayon_core").allow("crossbeam_epoch");
    let watcher = sentinel.watcher().expect("Linux with glibc");
    let watched = watcher.watched_bytes();
    assert!((size..size + 128).contains(&watched), "watches {watched} bytes instead of {size}");
    watcher
}

fn per_task(c: &mut Criterion) {
    let mut group = c.benchmark_group("sentinel");
    group.bench_function("baseline", |b| b.iter(|| black_box(1)));
    for Size { bytes: size, write, .. } in SIZES {
        let mut watcher = watcher_of(size);
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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = per_task
}
criterion_main!(benches);

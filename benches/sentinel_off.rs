//! Does the feature `sentinel` cost a pool without a sentinel anything?
//!
//! Run it with and without the feature and compare: the program is the same.
//!
//! ```text
//! cargo bench -p benches --bench sentinel_off -- --save-baseline without
//! cargo bench -p benches --bench sentinel_off --features sentinel -- --baseline without
//! ```

use std::hint::black_box;
use std::time::Duration;

use cleanslate::Pool;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TASKS: usize = 10_000;
const ITEMS: usize = 1_000_000;

fn off(c: &mut Criterion) {
    // One worker: with two, this would measure how they share the machine.
    let pool = Pool::new(1).expect("a worker");
    let mut group = c.benchmark_group("sentinel_off");
    group.throughput(Throughput::Elements(TASKS as u64));
    group.bench_function("flood", |b| {
        b.iter(|| {
            let handles: Vec<_> = (0..TASKS).map(|n| pool.submit(move || black_box(n))).collect();
            handles.into_iter().map(|handle| handle.join().expect("no panic")).sum::<usize>()
        });
    });
    group.bench_function("inline", |b| {
        // On the worker itself, so that nobody has to be woken.
        b.iter(|| {
            pool.scope(|s| {
                s.submit(|| {
                    for n in 0..TASKS {
                        pool.submit(move || black_box(n)).join().expect("no panic");
                    }
                });
            });
        });
    });
    group.throughput(Throughput::Elements(ITEMS as u64));
    group.bench_function("map_range", |b| b.iter(|| pool.map_range(0..ITEMS, black_box)));
    group.bench_function("map", |b| b.iter(|| pool.map(0..ITEMS, black_box)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = off
}
criterion_main!(benches);

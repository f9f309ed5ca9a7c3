//! What do captures, carriers and isolated futures cost?

mod countdown;

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cleanslate::foreign::{BoxError, Carrier};
use cleanslate::future::FutureExt;
use cleanslate::{Context, task_local};
use criterion::{Criterion, criterion_group, criterion_main};

use self::countdown::{Countdown, drive};

macro_rules! inheritable {
    ($($index:literal $name:ident)*) => {
        task_local! { $(#[inherit] static $name: u64 = 0;)* }
        fn set_heirs(n: u64) {
            $(if $index < n { $name.set(n); })*
        }
    };
}

inheritable! {
    0 H0 1 H1 2 H2 3 H3 4 H4 5 H5 6 H6 7 H7 8 H8 9 H9 10 H10 11 H11 12 H12 13 H13 14 H14 15 H15
    16 H16 17 H17 18 H18 19 H19 20 H20 21 H21 22 H22 23 H23 24 H24 25 H25 26 H26 27 H27 28 H28
    29 H29 30 H30 31 H31
}

task_local! { static PLAIN: u64 = 0; }

/// How many captures are kept at a time: few enough for the cache.
const KEPT: usize = 1_000;

fn capture(c: &mut Criterion) {
    for n in [1, 8, 32] {
        let mut group = c.benchmark_group(format!("capture, {n} inherited slots"));
        Context::empty().run(|| {
            set_heirs(n);
            // Without the release: each context is stored in a place that is there already, and all
            // are dropped outside the measurement, a thousand at a time.
            group.bench_function("unchanged", |b| {
                let mut kept = Vec::with_capacity(KEPT);
                b.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    let mut left = iterations as usize;
                    while left > 0 {
                        let now = left.min(KEPT);
                        let start = Instant::now();
                        for _ in 0..now {
                            kept.push(Context::capture());
                        }
                        total += start.elapsed();
                        kept.clear();
                        left -= now;
                    }
                    total
                });
            });
            group.bench_function("unchanged, with its release", |b| {
                b.iter(|| drop(black_box(Context::capture())));
            });
            group.bench_function("after a change", |b| {
                b.iter(|| {
                    H0.set(black_box(1));
                    drop(black_box(Context::capture()));
                });
            });
        });
        group.finish();
    }
    let mut group = c.benchmark_group("first touch in a task");
    group.bench_function("fresh", |b| b.iter(|| Context::empty().run(|| black_box(PLAIN.get()))));
    Context::empty().run(|| {
        set_heirs(32);
        let context = Context::capture();
        group.bench_function("inherited, 1 of 32", |b| {
            b.iter(|| context.run(|| black_box(H31.get())))
        });
    });
    group.finish();
}

thread_local! { static FOREIGN: Cell<u64> = const { Cell::new(0) }; }

/// The cheapest carrier there is: it exchanges a word.
struct Word;

impl Carrier for Word {
    type Captured = ();
    type Attached = u64;
    fn name(&self) -> &str {
        "word"
    }
    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }
    fn attach(&self, (): &()) -> Result<u64, BoxError> {
        Ok(FOREIGN.replace(0))
    }
    fn detach(&self, before: u64) -> Result<(), BoxError> {
        FOREIGN.set(before);
        Ok(())
    }
}

fn carriers(c: &mut Criterion) {
    let mut group = c.benchmark_group("a task with carriers");
    for n in [0, 1, 8] {
        let context = (0..n).fold(Context::empty(), |context, _| context.carry(Word));
        group.bench_function(format!("{n}"), |b| b.iter(|| context.run(|| black_box(1))));
    }
    group.finish();
}

tokio::task_local! { static TOKIO: u64; }

fn futures(c: &mut Criterion) {
    /// Polls per future; criterion reports the time of all.
    const POLLS: u32 = 1_000;
    let mut group = c.benchmark_group("1,000 polls");
    let work = async |read: fn() -> u64| {
        for _ in 0..POLLS {
            black_box(read());
            Countdown(1).await;
        }
    };
    group.bench_function("bare", |b| b.iter(|| drive(work(|| 1))));
    group.bench_function("tokio::task_local!, one slot", |b| {
        b.iter(|| drive(TOKIO.scope(1, work(|| TOKIO.get()))));
    });
    group.bench_function("isolated, no slot", |b| b.iter(|| drive(work(|| 1).isolated())));
    group.bench_function("isolated, one slot", |b| {
        b.iter(|| drive(work(|| PLAIN.get()).isolated()))
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000));
    targets = capture, carriers, futures
}
criterion_main!(benches);

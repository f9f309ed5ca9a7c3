//! What does a clean slate cost? Each row against the same work on a plain `thread_local!`.
//!
//! All rows run on one worker of a pool through `map_range`, so that the loop between two tasks is
//! the one that applications get; `Leaky` runs the same loop without the reset. Figures are per
//! task: criterion divides by `TASKS`.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::time::Duration;

use cleanslate::{Context, Isolation, Pool, task_local};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Tasks per measured map: enough to hide the wake-up of the worker. Nothing is measured without
/// optimisation.
const TASKS: u64 = if cfg!(debug_assertions) { 1_000 } else { 1_000_000 };

/// Declares slots, a plain thread-local for each, and functions that use the first `n`.
macro_rules! slots {
    ($($index:literal $number:ident $text:ident $plain:ident $plain_text:ident)*) => {
        $(task_local! { static $number: u64 = 0; static $text: String = String::new(); })*
        $(thread_local! {
            static $plain: Cell<u64> = const { Cell::new(0) };
            static $plain_text: RefCell<String> = const { RefCell::new(String::new()) };
        })*
        #[inline]
        fn touch_numbers(n: usize, value: u64) {
            $(if $index < n { $number.set(black_box(value)); })*
        }
        #[inline]
        fn touch_plain_numbers(n: usize, value: u64) {
            $(if $index < n { $plain.set(black_box(value)); })*
        }
        #[inline]
        fn touch_texts(n: usize) {
            $(if $index < n { $text.set(black_box(String::new())); })*
        }
        #[inline]
        fn touch_plain_texts(n: usize) {
            $(if $index < n { $plain_text.set(black_box(String::new())); })*
        }
    };
}

slots! {
    0 N0 T0 P0 Q0  1 N1 T1 P1 Q1  2 N2 T2 P2 Q2  3 N3 T3 P3 Q3
    4 N4 T4 P4 Q4  5 N5 T5 P5 Q5  6 N6 T6 P6 Q6  7 N7 T7 P7 Q7
    8 N8 T8 P8 Q8  9 N9 T9 P9 Q9  10 N10 T10 P10 Q10  11 N11 T11 P11 Q11
    12 N12 T12 P12 Q12  13 N13 T13 P13 Q13  14 N14 T14 P14 Q14  15 N15 T15 P15 Q15
    16 N16 T16 P16 Q16  17 N17 T17 P17 Q17  18 N18 T18 P18 Q18  19 N19 T19 P19 Q19
    20 N20 T20 P20 Q20  21 N21 T21 P21 Q21  22 N22 T22 P22 Q22  23 N23 T23 P23 Q23
    24 N24 T24 P24 Q24  25 N25 T25 P25 Q25  26 N26 T26 P26 Q26  27 N27 T27 P27 Q27
    28 N28 T28 P28 Q28  29 N29 T29 P29 Q29  30 N30 T30 P30 Q30  31 N31 T31 P31 Q31
    32 N32 T32 P32 Q32  33 N33 T33 P33 Q33  34 N34 T34 P34 Q34  35 N35 T35 P35 Q35
    36 N36 T36 P36 Q36  37 N37 T37 P37 Q37  38 N38 T38 P38 Q38  39 N39 T39 P39 Q39
    40 N40 T40 P40 Q40  41 N41 T41 P41 Q41  42 N42 T42 P42 Q42  43 N43 T43 P43 Q43
    44 N44 T44 P44 Q44  45 N45 T45 P45 Q45  46 N46 T46 P46 Q46  47 N47 T47 P47 Q47
    48 N48 T48 P48 Q48  49 N49 T49 P49 Q49  50 N50 T50 P50 Q50  51 N51 T51 P51 Q51
    52 N52 T52 P52 Q52  53 N53 T53 P53 Q53  54 N54 T54 P54 Q54  55 N55 T55 P55 Q55
    56 N56 T56 P56 Q56  57 N57 T57 P57 Q57  58 N58 T58 P58 Q58  59 N59 T59 P59 Q59
    60 N60 T60 P60 Q60  61 N61 T61 P61 Q61  62 N62 T62 P62 Q62  63 N63 T63 P63 Q63
}

/// A thousand slots that are touched once on each thread, and by no measured task.
mod crowd {
    macro_rules! crowd {
        ($($ten:ident)*) => {
            $(mod $ten {
                cleanslate::task_local! {
                    static A: u64 = 0; static B: u64 = 0; static C: u64 = 0; static D: u64 = 0;
                    static E: u64 = 0; static F: u64 = 0; static G: u64 = 0; static H: u64 = 0;
                    static I: u64 = 0; static J: u64 = 0;
                }
                pub(super) fn touch() -> u64 {
                    A.get() + B.get() + C.get() + D.get() + E.get()
                        + F.get() + G.get() + H.get() + I.get() + J.get()
                }
            })*
            pub(crate) fn touch() -> u64 { 0 $(+ $ten::touch())* }
        };
    }
    crowd! {
        a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7 b8 b9
        c0 c1 c2 c3 c4 c5 c6 c7 c8 c9 d0 d1 d2 d3 d4 d5 d6 d7 d8 d9
        e0 e1 e2 e3 e4 e5 e6 e7 e8 e9 f0 f1 f2 f3 f4 f5 f6 f7 f8 f9
        g0 g1 g2 g3 g4 g5 g6 g7 g8 g9 h0 h1 h2 h3 h4 h5 h6 h7 h8 h9
        i0 i1 i2 i3 i4 i5 i6 i7 i8 i9 j0 j1 j2 j3 j4 j5 j6 j7 j8 j9
    }
}

fn pool(isolation: Isolation) -> Pool {
    Pool::builder().workers(1).isolation(isolation).build().expect("one thread")
}

/// One row: `task` for every number, on one worker.
fn row(c: &mut Criterion, group: &str, name: &str, pool: &Pool, task: impl Fn(u64) + Sync) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(TASKS));
    group.bench_function(name, |b| b.iter(|| pool.map_range(0..TASKS, &task)));
    group.finish();
}

fn clean(c: &mut Criterion) {
    let (reset, leaky) = (pool(Isolation::Reset), pool(Isolation::Leaky));
    let items: Vec<u64> = (0..TASKS).collect();
    // About 1 ns an item, and nothing that the compiler may not vectorise.
    let work = |n: &u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7) ^ n;
    let mut group = c.benchmark_group("clean task");
    group.throughput(Throughput::Elements(TASKS));
    group.bench_function("leaky", |b| b.iter(|| leaky.map_slice(&items, work)));
    group.bench_function("reset", |b| b.iter(|| reset.map_slice(&items, work)));
    group.bench_function("leaky opaque", |b| b.iter(|| leaky.map_slice(&items, |n| black_box(*n))));
    group.bench_function("reset opaque", |b| b.iter(|| reset.map_slice(&items, |n| black_box(*n))));
    group.bench_function("empty loop", |b| {
        b.iter(|| {
            items.iter().for_each(|n| {
                black_box(*n);
            })
        })
    });
    group.finish();
}

fn one_slot(c: &mut Criterion) {
    let (reset, leaky) = (pool(Isolation::Reset), pool(Isolation::Leaky));
    let plain = |n| {
        P0.set(black_box(n));
        black_box(P0.get());
    };
    let slot = |n| {
        N0.set(black_box(n));
        black_box(N0.get());
    };
    row(c, "set + get + reset of u64", "plain", &leaky, plain);
    row(c, "set + get + reset of u64", "slot", &reset, slot);
    row(c, "set + get + reset of u64", "slot, leaky", &leaky, slot);
    reset.broadcast(crowd::touch);
    row(c, "set + get + reset of u64", "slot, 1,000 more declared", &reset, slot);
    row(c, "set + reset of String", "plain", &leaky, |_| Q0.set(black_box(String::new())));
    row(c, "set + reset of String", "slot", &reset, |_| T0.set(black_box(String::new())));
}

fn many_slots(c: &mut Criterion) {
    let (reset, leaky) = (pool(Isolation::Reset), pool(Isolation::Leaky));
    for n in [1, 8, 64] {
        let group = format!("{n} slots of u64");
        row(c, &group, "plain", &leaky, |value| touch_plain_numbers(n, value));
        row(c, &group, "slot", &reset, |value| touch_numbers(n, value));
        let group = format!("{n} slots of String");
        row(c, &group, "plain", &leaky, |_| touch_plain_texts(n));
        row(c, &group, "slot", &reset, |_| touch_texts(n));
    }
}

fn access(c: &mut Criterion) {
    /// Accesses per measured call.
    const N: u64 = 10_000;
    let mut group = c.benchmark_group("access to a held value");
    group.throughput(Throughput::Elements(N));
    group.bench_function("plain get", |b| {
        b.iter(|| {
            (0..N).for_each(|_| {
                black_box(P0.get());
            })
        })
    });
    Context::empty().run(|| {
        N0.set(1);
        group.bench_function("slot get", |b| {
            b.iter(|| {
                (0..N).for_each(|_| {
                    black_box(N0.get());
                })
            })
        });
    });
    group.bench_function("plain set", |b| b.iter(|| (0..N).for_each(|n| P0.set(black_box(n)))));
    Context::empty().run(|| {
        N0.set(1);
        group.bench_function("slot set", |b| b.iter(|| (0..N).for_each(|n| N0.set(black_box(n)))));
    });
    group.finish();
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames");
    let context = Context::empty();
    group.bench_function("catch_unwind alone", |b| {
        b.iter(|| std::panic::catch_unwind(|| black_box(1)));
    });
    group.bench_function("outermost, clean", |b| b.iter(|| context.run(|| black_box(1))));
    context.run(|| {
        N0.set(1);
        group.bench_function("nested, clean", |b| b.iter(|| context.run(|| black_box(1))));
        group.bench_function("nested, one u64", |b| {
            b.iter(|| context.run(|| N0.set(black_box(1))));
        });
        group.bench_function("scope of u64", |b| b.iter(|| N0.scope(2, || black_box(N0.get()))));
    });
    group.bench_function("64 deep, one u64 each", |b| {
        fn go(depth: u32, context: &Context) {
            N0.set(u64::from(depth));
            if depth > 0 {
                context.run(|| go(depth - 1, context));
            }
        }
        b.iter(|| go(64, &context));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500));
    targets = clean, one_slot, many_slots, access, frames
}
criterion_main!(benches);

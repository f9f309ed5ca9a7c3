//! What isolating a rayon iterator costs, beside bare rayon and beside clearing by hand.
//!
//! The budgets: `.isolated().map(f)` takes at most 1.3 of bare rayon at 10 ns an item and 1.03 at
//! 100 ns; with one `u64` slot touched, 5 at 1 ns.

mod turns;
mod work;

use std::cell::Cell;
use std::hint::black_box;

use cleanslate::rayon::{ParallelIteratorExt, RayonPool};
use cleanslate::{Pool, task_local};
use rayon::ThreadPool;
use rayon::prelude::*;

use self::turns::{Way, patience, turns};
use self::work::work;

task_local! { static SLOT: u64 = 0; }
thread_local! { static PLAIN: Cell<u64> = const { Cell::new(0) }; }

/// About this many nanoseconds of work, and at least a multiplication: the same code in every way.
#[inline]
fn item(seed: u64, nanos: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ if nanos == 0 { 0 } else { work(nanos) }
}

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    items: usize,
    nanos: fn(u64) -> u64,
}

const LOADS: [Load; 5] = [
    Load { name: "1 ns", items: 200_000, nanos: |_| 0 },
    Load { name: "10 ns", items: 100_000, nanos: |_| 10 },
    Load { name: "100 ns", items: 20_000, nanos: |_| 100 },
    Load { name: "10 µs", items: 400, nanos: |_| 10_000 },
    Load { name: "uneven", items: 20_000, nanos: |i| if i % 1000 == 0 { 10_000 } else { 30 } },
];

/// Runs it, and keeps the compiler from leaving it out.
fn run<'a, R>(way: impl Fn() -> R + 'a) -> Box<dyn Fn() + 'a> {
    Box::new(move || drop(black_box(way())))
}

/// The ways to compare. The first is the baseline, except for `isolated_` ones that have a `bare_`
/// one of the same name.
fn ways<'a>(
    load: Load,
    input: &'a [u64],
    pool: &'a RayonPool,
    ours: &'a Pool,
    bare: &'a ThreadPool,
) -> Vec<Way<'a>> {
    let nanos = load.nanos;
    let item = move |i: &u64| item(*i, nanos(*i));
    let by_hand = move |i: &u64| {
        PLAIN.set(*i);
        let result = item(i);
        PLAIN.set(0);
        result
    };
    let touch = move |i: &u64| {
        SLOT.set(*i);
        item(i)
    };
    vec![
        ("bare", run(move || bare.install(|| input.par_iter().map(item).collect::<Vec<_>>()))),
        (
            "set_and_clear",
            run(move || bare.install(|| input.par_iter().map(by_hand).collect::<Vec<_>>())),
        ),
        (
            "isolated",
            run(move || bare.install(|| input.par_iter().isolated().map(item).collect::<Vec<_>>())),
        ),
        (
            "isolated_touch",
            run(move || {
                bare.install(|| input.par_iter().isolated().map(touch).collect::<Vec<_>>())
            }),
        ),
        ("rayon_pool_map", run(move || pool.map(input, item))),
        ("rayon_pool_map_slice", run(move || pool.map_slice(input, item))),
        ("pool_map", run(move || ours.map(input, item))),
        ("pool_map_slice", run(move || ours.map_slice(input, item))),
        (
            "bare_reduce",
            run(move || {
                bare.install(|| input.par_iter().map(item).reduce(|| 0, u64::wrapping_add))
            }),
        ),
        (
            "isolated_reduce",
            run(move || {
                bare.install(|| {
                    input.par_iter().isolated().map(item).reduce(|| 0, u64::wrapping_add)
                })
            }),
        ),
        (
            "bare_pulled",
            run(move || bare.install(|| input.par_iter().map(item).rev().collect::<Vec<_>>())),
        ),
        (
            "isolated_pulled",
            run(move || {
                bare.install(|| input.par_iter().isolated().map(item).rev().collect::<Vec<_>>())
            }),
        ),
    ]
}

/// Returns the median of a way's ratios to its baseline, which takes turns with it.
fn ratio(way: &Way<'_>, ways: &[Way<'_>]) -> f64 {
    let of_that_name = |base: &&Way<'_>| {
        let name = base.0.strip_prefix("bare_");
        name.is_some() && name == way.0.strip_prefix("isolated_")
    };
    let base = ways.iter().find(of_that_name).unwrap_or(&ways[0]);
    let pair: [Way<'_>; 2] = [("", Box::new(|| way.1())), ("bare", Box::new(|| base.1()))];
    let (_, ratios) = turns(&pair, 1, patience());
    ratios[ratios.len() / 2]
}

/// Prints a table: each way beside bare rayon, with items of each length.
fn main() {
    let bare = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let pool = RayonPool::new(2).unwrap();
    let ours = Pool::new(2).unwrap();
    let mut rows: Vec<String> = Vec::new();
    for load in LOADS {
        // Nothing is measured without optimisation.
        let items = if cfg!(debug_assertions) { load.items / 20 } else { load.items };
        let input: Vec<u64> = (0..items as u64).collect();
        let ways = ways(load, &input, &pool, &ours, &bare);
        rows.resize_with(ways.len(), String::new);
        for (row, way) in rows.iter_mut().zip(&ways) {
            if row.is_empty() {
                *row = format!("| `{}` |", way.0);
            }
            row.push_str(&format!(" {:.2} |", ratio(way, &ways)));
        }
    }
    println!("| way |{}", LOADS.map(|load| format!(" {} |", load.name)).concat());
    println!("|---|{}", "---|".repeat(LOADS.len()));
    println!("{}", rows.join("\n"));
}

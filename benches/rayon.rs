//! What isolating a rayon iterator costs, beside bare rayon and beside clearing by hand.
//!
//! The budgets: `.isolated().map(f)` takes at most 1.3 of bare rayon at 10 ns an item and 1.03 at
//! 100 ns; with one `u64` slot touched, 5 at 1 ns.

use cleanslate::rayon::{ParallelIteratorExt, RayonPool};
use cleanslate::{Pool, task_local};
use rayon::ThreadPool;
use rayon::prelude::*;
use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

task_local! { static SLOT: u64 = 0; }
thread_local! { static PLAIN: Cell<u64> = const { Cell::new(0) }; }

/// One multiplication, or a call of that many dependent ones: the same code in every way.
#[inline]
fn work(seed: u64, rounds: u64) -> u64 {
    if rounds == 0 { seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { repeat(seed, rounds) }
}

#[inline(never)]
fn repeat(seed: u64, rounds: u64) -> u64 {
    // Registers only: a round through memory takes twice the time if the stack happens to lie
    // badly.
    (0..rounds).fold(seed, |x, _| x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (x >> 29))
}

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    items: usize,
    rounds: fn(u64) -> u64,
}

const LOADS: [Load; 5] = [
    Load { name: "1 ns", items: 200_000, rounds: |_| 0 },
    Load { name: "10 ns", items: 100_000, rounds: |_| 20 },
    Load { name: "100 ns", items: 20_000, rounds: |_| 100 },
    Load { name: "10 µs", items: 400, rounds: |_| 7_000 },
    Load { name: "uneven", items: 20_000, rounds: |i| if i % 1000 == 0 { 7_000 } else { 30 } },
];

/// One way to map all items of a load. Its sum is returned so that nothing is optimised away.
type Way<'a> = (&'static str, Box<dyn Fn() -> u64 + 'a>);

fn first(results: &[u64]) -> u64 {
    results[results.len() / 2]
}

/// The ways to compare. The first is the baseline, but for the `isolated_` ones that have a `bare_`
/// one of the same name.
fn ways<'a>(
    load: Load,
    input: &'a [u64],
    pool: &'a RayonPool,
    ours: &'a Pool,
    bare: &'a ThreadPool,
) -> Vec<Way<'a>> {
    let rounds = load.rounds;
    let item = move |i: &u64| work(*i, rounds(*i));
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
    let vec = |run: Box<dyn Fn() -> Vec<u64> + 'a>| -> Box<dyn Fn() -> u64 + 'a> {
        Box::new(move || first(&run()))
    };
    vec![
        ("bare", vec(Box::new(move || bare.install(|| input.par_iter().map(item).collect())))),
        (
            "set_and_clear",
            vec(Box::new(move || bare.install(|| input.par_iter().map(by_hand).collect()))),
        ),
        (
            "isolated",
            vec(Box::new(move || bare.install(|| input.par_iter().isolated().map(item).collect()))),
        ),
        (
            "isolated_touch",
            vec(Box::new(move || {
                bare.install(|| input.par_iter().isolated().map(touch).collect())
            })),
        ),
        ("rayon_pool_map", vec(Box::new(move || pool.map(input, item)))),
        ("rayon_pool_map_slice", vec(Box::new(move || pool.map_slice(input, item)))),
        ("pool_map", vec(Box::new(move || ours.map(input, item)))),
        ("pool_map_slice", vec(Box::new(move || ours.map_slice(input, item)))),
        (
            "bare_reduce",
            Box::new(move || {
                bare.install(|| input.par_iter().map(item).reduce(|| 0, u64::wrapping_add))
            }),
        ),
        (
            "isolated_reduce",
            Box::new(move || {
                bare.install(|| {
                    input.par_iter().isolated().map(item).reduce(|| 0, u64::wrapping_add)
                })
            }),
        ),
        (
            "bare_pulled",
            vec(Box::new(move || bare.install(|| input.par_iter().map(item).rev().collect()))),
        ),
        (
            "isolated_pulled",
            vec(Box::new(move || {
                bare.install(|| input.par_iter().isolated().map(item).rev().collect())
            })),
        ),
    ]
}

/// Medians of ratios whose two sides ran one right after the other, so that what else the machine
/// does weighs on both.
fn ratios(ways: &[Way<'_>], patience: Duration) -> Vec<f64> {
    let time = |way: &Way<'_>| {
        let start = Instant::now();
        black_box(way.1());
        start.elapsed().as_secs_f64()
    };
    let mut columns = vec![Vec::new(); ways.len()];
    let start = Instant::now();
    while columns[0].is_empty() || start.elapsed() < patience {
        for (column, way) in columns.iter_mut().zip(ways) {
            let of_that_name = |base: &&Way<'_>| {
                let name = base.0.strip_prefix("bare_");
                name.is_some() && name == way.0.strip_prefix("isolated_")
            };
            let base = ways.iter().find(of_that_name).unwrap_or(&ways[0]);
            let before = time(base);
            let own = time(way);
            column.push(own / (before + time(base)) * 2.0);
        }
    }
    let median = |column: &mut Vec<f64>| {
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    };
    columns.iter_mut().map(median).collect()
}

/// Prints a table: each way beside bare rayon, with items of each length.
fn main() {
    let short = std::env::args().any(|argument| argument == "--test");
    let patience = if short { Duration::ZERO } else { Duration::from_secs(4) };
    let bare = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let pool = RayonPool::new(2).unwrap();
    let ours = Pool::new(2).unwrap();
    let mut rows: Vec<String> = Vec::new();
    for load in LOADS {
        let input: Vec<u64> = (0..load.items as u64).collect();
        let ways = ways(load, &input, &pool, &ours, &bare);
        rows.resize_with(ways.len(), String::new);
        for ((row, way), ratio) in rows.iter_mut().zip(&ways).zip(ratios(&ways, patience)) {
            if row.is_empty() {
                *row = format!("| `{}` |", way.0);
            }
            row.push_str(&format!(" {ratio:.2} |"));
        }
    }
    println!("| way |{}", LOADS.map(|load| format!(" {} |", load.name)).concat());
    println!("|---|{}", "---|".repeat(LOADS.len()));
    println!("{}", rows.join("\n"));
}

//! The map family beside bare rayon, over sizes and costs of an item.
//!
//! The budgets: `map_slice` takes at most 1.0 of rayon's `install(par_iter().map().collect())`
//! everywhere; `map`, whose input may be any iterator, 1.5 at a nanosecond an item and 1.0 from 100
//! ns on; and `map_slice` with the reset 1.02 of the same without (`Isolation::Leaky`).
//!
//! The sides of a ratio run in turns, so that whatever else the machine does affects all of them.

mod turns;
mod work;

use std::hint::black_box;
use std::time::Duration;

use cleanslate::{Isolation, Pool};
use rayon::prelude::*;

use self::turns::{Way, patience, turns};
use self::work::work;

fn one_ns(i: &u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7)
}

const SIZES: [usize; 5] = [1, 10, 1_000, 100_000, 1_000_000];

struct Pools {
    reset: Pool,
    leaky: Pool,
    rayon: rayon::ThreadPool,
}

fn ways<'a>(
    pools: &'a Pools,
    data: &'a [u64],
    f: impl Fn(&u64) -> u64 + Copy + Sync + Send + 'a,
) -> Vec<Way<'a>> {
    let Pools { reset, leaky, rayon } = pools;
    let end = data.len() as u64;
    let collect = move || data.par_iter().map(f).collect::<Vec<u64>>();
    vec![
        ("rayon", Box::new(move || drop(black_box(rayon.install(collect))))),
        ("map_slice", Box::new(move || drop(black_box(reset.map_slice(data, f))))),
        ("leaky_slice", Box::new(move || drop(black_box(leaky.map_slice(data, f))))),
        ("map_range", Box::new(move || drop(black_box(reset.map_range(0..end, |i| f(&i)))))),
        ("map", Box::new(move || drop(black_box(reset.map(data, f))))),
    ]
}

/// Prints the median of the first one, taken in turns with the others, and theirs over it.
fn ratios(cost: &str, n: usize, ways: &[Way<'_>]) {
    let (medians, _) = turns(ways, 1, patience());
    print!("{cost:>7} x {n:<8} rayon {:>10.1} us", medians[0] / 1e3);
    for ((name, _), median) in ways.iter().zip(&medians).skip(1) {
        print!("  {name} {:.2}", median / medians[0]);
    }
    println!("  reset/leaky {:.3}", medians[1] / medians[2]);
}

fn main() {
    let short = patience() < Duration::from_millis(100);
    let pools = Pools {
        reset: Pool::new(2).unwrap(),
        leaky: Pool::builder().workers(2).isolation(Isolation::Leaky).build().unwrap(),
        rayon: rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap(),
    };
    for cost in ["1ns", "100ns", "10us", "uneven"] {
        for n in SIZES {
            // A second of work is enough; as a test, a hundredth.
            let most = if short { 1_000 } else { 1_000_000 };
            if n > if cost == "10us" { most / 10 } else { most } {
                continue;
            }
            let data: Vec<u64> = (0..n as u64).collect();
            let ways = match cost {
                "1ns" => ways(&pools, &data, one_ns),
                "100ns" => ways(&pools, &data, |i| i ^ work(100)),
                "10us" => ways(&pools, &data, |i| i ^ work(10_000)),
                _ => ways(&pools, &data, |i| if i % 64 == 0 { work(1_500) } else { *i }),
            };
            ratios(cost, n, &ways);
        }
    }
}

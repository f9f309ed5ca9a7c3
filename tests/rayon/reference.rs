//! Rayon is the reference: an isolated chain gives what the bare one gives.

use cleanslate::rayon::{Isolated, ParallelIteratorExt};
use cleanslate::task_local;
use proptest::prelude::*;
use rayon::prelude::*;

task_local! {
    static SUM: u64 = 0;
}

/// A source, an adapter above the isolation and one below it, a terminal, and how to split.
#[derive(Clone, Copy, Debug)]
struct Chain {
    len: usize,
    up: u8,
    down: u8,
    terminal: u8,
    n: usize,
    max_len: usize,
}

fn chain() -> impl Strategy<Value = Chain> {
    (0..300_usize, 0..4_u8, 0..11_u8, 0..3_u8, 1..9_usize, 1..40_usize).prop_map(
        |(len, up, down, terminal, n, max_len)| Chain { len, up, down, terminal, n, max_len },
    )
}

/// Gives the value back if the slot is fresh.
fn fresh(value: u64) -> u64 {
    SUM.with_mut(|sum| {
        *sum += value;
        *sum
    })
}

fn start(chain: Chain, isolated: bool) -> Vec<u64> {
    let n = chain.n;
    let items = (0..chain.len).into_par_iter().with_max_len(chain.max_len).map(|i| i as u64);
    match chain.up {
        0 => isolate(items.map(|i| i * 3), chain, isolated),
        1 => isolate(items.rev().zip(others()).map(|(a, b)| a * b), chain, isolated),
        2 => isolate(items.skip(n).step_by(n), chain, isolated),
        _ => isolate(items.chunks(n).map(|c| c.iter().sum()).chain(others()), chain, isolated),
    }
}

fn others() -> impl IndexedParallelIterator<Item = u64> {
    (1000..1040_usize).into_par_iter().map(|i| i as u64)
}

fn isolate(
    items: impl IndexedParallelIterator<Item = u64>,
    chain: Chain,
    isolated: bool,
) -> Vec<u64> {
    if isolated { own(items.isolated(), chain) } else { rayons(items, chain) }
}

/// Declares the part of the chain that is isolated or bare: the same text in two functions, since
/// one that is generic over the two would not call the isolated iterator's own methods.
macro_rules! down {
    ($name:ident, $type:ty, $touch:expr) => {
        fn $name(items: $type, chain: Chain) -> Vec<u64> {
            let (n, touch) = (chain.n, $touch);
            match chain.down {
                0 => finish!(items.rev().map(touch), chain, touch),
                1 => finish!(items.enumerate().map(|(n, i)| touch(n as u64 ^ i)), chain, touch),
                2 => finish!(items.skip(n).map(touch), chain, touch),
                3 => finish!(items.step_by(n).map(touch), chain, touch),
                4 => finish!(items.chunks(n).map(|c| touch(c.iter().sum())), chain, touch),
                5 => finish!(items.zip(others()).map(|(a, b)| touch(a ^ b)), chain, touch),
                6 => finish!(items.chain(others()).map(touch), chain, touch),
                7 => finish!(items.interleave(others()).map(touch), chain, touch),
                8 => finish!(items.take(n * 9).map(touch), chain, touch),
                9 => finish!(items.map(touch).with_min_len(n), chain, touch),
                _ => finish!(items.map(touch).rev(), chain, touch),
            }
        }
    };
}

/// Deterministic terminals only.
macro_rules! finish {
    ($items:expr, $chain:expr, $touch:expr) => {
        match $chain.terminal {
            0 => $items.map($touch).collect(),
            1 => $items.filter(|i| $touch(*i) % 3 == 0).flat_map_iter(|i| [i, $touch(i)]).collect(),
            _ => $items.find_first(|i| $touch(*i) % 7 == 6).into_iter().collect(),
        }
    };
}

down!(own, Isolated<impl IndexedParallelIterator<Item = u64>>, fresh);
down!(rayons, impl IndexedParallelIterator<Item = u64>, |i: u64| i);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn isolated_chains_give_what_bare_ones_give(chain in chain(), threads in 1..5_usize) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let expected = pool.install(|| start(chain, false));
        prop_assert_eq!(pool.install(|| start(chain, true)), expected);
        // From outside of the pool, so on the global one.
        prop_assert_eq!(start(chain, true), start(chain, false));
    }
}

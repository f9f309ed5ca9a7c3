//! Rayon is the reference: an isolated chain gives what the bare one gives.

use cleanslate::rayon::ParallelIteratorExt;
use cleanslate::{TaskLocal, task_local};
use proptest::prelude::*;
use rayon::prelude::*;

task_local! {
    static ABOVE: u64 = 0;
    static BELOW: u64 = 0;
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
fn fresh(slot: &TaskLocal<u64>, value: u64) -> u64 {
    slot.with_mut(|sum| {
        *sum += value;
        *sum
    })
}

fn start(chain: Chain, isolated: bool) -> Vec<u64> {
    let n = chain.n;
    let items = (0..chain.len).into_par_iter().with_max_len(chain.max_len).map(|i| i as u64);
    let other = || (1000..1040_usize).into_par_iter().map(|i| i as u64);
    match chain.up {
        0 => isolate(
            items.map(|i| if isolated { fresh(&ABOVE, i * 3) } else { i * 3 }),
            chain,
            isolated,
        ),
        1 => isolate(items.rev().zip(other()).map(|(a, b)| a * b), chain, isolated),
        2 => isolate(items.skip(n).step_by(n), chain, isolated),
        _ => isolate(items.chunks(n).map(|c| c.iter().sum()).chain(other()), chain, isolated),
    }
}

fn isolate(
    items: impl IndexedParallelIterator<Item = u64>,
    chain: Chain,
    isolated: bool,
) -> Vec<u64> {
    if isolated { own(items.isolated(), chain) } else { down(items, chain) }
}

/// The adapters that the isolated iterator has itself.
fn own<I>(items: cleanslate::rayon::Isolated<I>, chain: Chain) -> Vec<u64>
where
    I: IndexedParallelIterator<Item = u64>,
{
    let (n, other) = (chain.n, || (1000..1040_usize).into_par_iter().map(|i| i as u64));
    match chain.down {
        0 => finish(items.rev().map(|i| fresh(&BELOW, i)), chain),
        1 => finish(items.enumerate().map(|(n, i)| fresh(&BELOW, n as u64 ^ i)), chain),
        2 => finish(items.skip(n).map(|i| fresh(&BELOW, i)), chain),
        3 => finish(items.step_by(n).map(|i| fresh(&BELOW, i)), chain),
        4 => finish(items.chunks(n).map(|c| fresh(&BELOW, c.iter().sum())), chain),
        5 => finish(items.zip(other()).map(|(a, b)| fresh(&BELOW, a ^ b)), chain),
        6 => finish(items.chain(other()).map(|i| fresh(&BELOW, i)), chain),
        7 => finish(items.interleave(other()).map(|i| fresh(&BELOW, i)), chain),
        8 => finish(items.take(n * 9).map(|i| fresh(&BELOW, i)), chain),
        9 => finish(items.map(|i| fresh(&BELOW, i + 1)).with_min_len(n), chain),
        _ => finish(items.map(|i| fresh(&BELOW, i + 1)).rev(), chain),
    }
}

/// Rayon's own.
fn down(items: impl IndexedParallelIterator<Item = u64>, chain: Chain) -> Vec<u64> {
    let (n, other) = (chain.n, || (1000..1040_usize).into_par_iter().map(|i| i as u64));
    match chain.down {
        0 => finish(items.rev(), chain),
        1 => finish(items.enumerate().map(|(n, i)| n as u64 ^ i), chain),
        2 => finish(items.skip(n), chain),
        3 => finish(items.step_by(n), chain),
        4 => finish(items.chunks(n).map(|c| c.iter().sum()), chain),
        5 => finish(items.zip(other()).map(|(a, b)| a ^ b), chain),
        6 => finish(items.chain(other()), chain),
        7 => finish(items.interleave(other()), chain),
        8 => finish(items.take(n * 9), chain),
        9 => finish(items.map(|i| i + 1).with_min_len(n), chain),
        _ => finish(items.map(|i| i + 1).rev(), chain),
    }
}

/// Deterministic terminals only. Their closures use no slot, since some of them are pulled.
fn finish(items: impl IndexedParallelIterator<Item = u64>, chain: Chain) -> Vec<u64> {
    match chain.terminal {
        0 => items.collect(),
        1 => items.filter(|i| i % 3 == 0).flat_map_iter(|i| [i, i + 1]).collect(),
        _ => items.find_first(|i| i % 7 == 6).into_iter().collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn isolated_chains_give_what_bare_ones_give(chain in chain(), threads in 1..5_usize) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let expected = pool.install(|| start(chain, false));
        prop_assert_eq!(pool.install(|| start(chain, true)), expected);
        // From outside of the pool, so on the global one.
        prop_assert_eq!(start(chain, true), start(chain, false));
    }
}

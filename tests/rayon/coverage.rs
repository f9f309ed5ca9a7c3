//! Every method of rayon's two traits, one by one: those that call a closure make a task of each
//! call, and those that return an iterator keep the chain isolated.

use super::probe::{Probe, compare};
use cleanslate::rayon::{Isolated, ParallelIteratorExt};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

const N: u64 = 200;

fn numbers(from: u64, to: u64) -> impl IndexedParallelIterator<Item = u64> {
    (from as usize..to as usize).into_par_iter().map(|i| i as u64)
}

fn bare_items() -> impl IndexedParallelIterator<Item = u64> {
    numbers(0, N)
}

fn isolated_items() -> Isolated<impl IndexedParallelIterator<Item = u64>> {
    bare_items().isolated()
}

fn bare_words(words: &[String]) -> impl IndexedParallelIterator<Item = &String> {
    words.into_par_iter()
}

fn isolated_words(words: &[String]) -> Isolated<impl IndexedParallelIterator<Item = &String>> {
    bare_words(words).isolated()
}

fn words() -> Vec<String> {
    (0..N).map(|i| i.to_string()).collect()
}

fn collected<I: ParallelIterator>(iter: I) -> Vec<I::Item> {
    iter.collect()
}

/// The sum, where the number of items is rayon's affair.
fn total(iter: impl ParallelIterator<Item = u64>) -> u64 {
    iter.sum()
}

/// Declares a test for each method. Its chain is compiled twice: for an isolated iterator, where
/// rayon's traits are out of scope, so that it can only be a method of its own; and for a bare one.
macro_rules! methods {
    ($($name:ident: |$p:ident| $chain:expr;)+) => {
        const OWN: &[&str] = &[$(stringify!($name)),+];

        mod isolated {
            use super::{Arc, N, Probe, collected, numbers, total, words};
            use super::{isolated_items as items, isolated_words as refs};
            $(pub(super) fn $name($p: &Arc<Probe>) -> String { format!("{:?}", $chain) })+
        }

        mod bare {
            use super::{Arc, N, Probe, collected, numbers, total, words};
            use super::{bare_items as items, bare_words as refs};
            use rayon::prelude::*;
            $(pub(super) fn $name($p: &Arc<Probe>) -> String { format!("{:?}", $chain) })+
        }

        mod tests {
            $(#[test] fn $name() { super::compare(super::isolated::$name, super::bare::$name) })+
        }
    };
}

// Adaptors that call a closure.
methods! {
    map: |p| collected(items().map(|i| p.pass(i)).map(|i| p.pass(i)));
    map_with: |p| collected(items().map_with(1, |one, i| p.pass(i * *one)).map(|i| p.pass(i)));
    map_init: |p|
        collected(items().map_init(|| p.pass(1), |one, i| p.pass(i * *one)).map(|i| p.pass(i)));
    inspect: |p| collected(items().inspect(|_| p.mark()).map(|i| p.pass(i)));
    update: |p| collected(items().update(|i| *i += p.pass(1)).map(|i| p.pass(i)));
    filter: |p| collected(items().filter(|i| p.pass(i % 3 == 0)).map(|i| p.pass(i)));
    filter_map: |p|
        collected(items().filter_map(|i| p.pass((i % 3 == 0).then_some(i))).map(|i| p.pass(i)));
    flat_map: |p| collected(items().flat_map(|i| p.pass([i, i + 1])).map(|i| p.pass(i)));
    flat_map_iter: |p| collected(items().flat_map_iter(|i| p.pass(0..i % 3)).map(|i| p.pass(i)));
    fold: |p| total(items().fold(|| p.pass(0), |sum, i| p.pass(sum + i)).map(|i| p.pass(i)));
    fold_with: |p| total(items().fold_with(0, |sum, i| p.pass(sum + i)).map(|i| p.pass(i)));
    try_fold: |p|
        total(
            items()
                .try_fold(|| p.pass(0), |sum, i| p.pass(Some(sum + i)))
                .map(|i| p.pass(i.unwrap())),
        );
    try_fold_with: |p|
        total(
            items()
                .try_fold_with(0, |sum, i| p.pass(Ok::<_, ()>(sum + i)))
                .map(|i| p.pass(i.unwrap())),
        );
    take_any_while: |p| collected(items().take_any_while(|_| p.pass(true)).map(|i| p.pass(i)));
    skip_any_while: |p| collected(items().skip_any_while(|_| p.pass(false)).map(|i| p.pass(i)));
    fold_chunks: |p|
        collected(
            items().fold_chunks(3, || p.pass(0), |sum, i| p.pass(sum + i)).map(|i| p.pass(i)),
        );
    fold_chunks_with: |p|
        collected(items().fold_chunks_with(3, 0, |sum, i| p.pass(sum + i)).map(|i| p.pass(i)));
    positions: |p| collected(items().positions(|i| p.pass(i % 3 == 0)).map(|i| p.pass(i)));

    // Adaptors that call none.
    cloned: |p| collected(refs(&words()).cloned().map(|word| p.pass(word)));
    copied: |p|
        collected(
            refs(&words()).map(|word| p.pass(&word[..1])).map(|_| &7).copied().map(|i| p.pass(i)),
        );
    flatten: |p| collected(items().map(|i| p.pass([i, i + 1])).flatten().map(|i| p.pass(i)));
    flatten_iter: |p|
        collected(items().map(|i| p.pass([i, i + 1])).flatten_iter().map(|i| p.pass(i)));
    chain: |p| collected(items().chain(numbers(N, N + 9)).map(|i| p.pass(i)));
    while_some: |p| collected(items().map(|i| p.pass(Some(i))).while_some().map(|i| p.pass(i)));
    panic_fuse: |p| collected(items().panic_fuse().map(|i| p.pass(i)));
    intersperse: |p| collected(items().intersperse(7).map(|i| p.pass(i)));
    take_any: |p| collected(items().take_any(N as usize).map(|i| p.pass(i)));
    skip_any: |p| collected(items().skip_any(0).map(|i| p.pass(i)));
    by_exponential_blocks: |p| collected(items().by_exponential_blocks().map(|i| p.pass(i)));
    by_uniform_blocks: |p| collected(items().by_uniform_blocks(13).map(|i| p.pass(i)));
    zip: |p| collected(items().zip(numbers(7, 99)).map(|(a, b)| p.pass(a * b)));
    zip_eq: |p| collected(items().zip_eq(numbers(7, N + 7)).map(|(a, b)| p.pass(a * b)));
    interleave: |p| collected(items().interleave(numbers(7, 99)).map(|i| p.pass(i)));
    interleave_shortest: |p|
        collected(items().interleave_shortest(numbers(7, 99)).map(|i| p.pass(i)));
    chunks: |p| collected(items().chunks(3).map(|chunk| p.pass(chunk)));
    enumerate: |p| collected(items().enumerate().map(|(at, i)| p.pass(at as u64 * i)));
    step_by: |p| collected(items().map(|i| p.pass(i)).step_by(3).map(|i| p.pass(i)));
    skip: |p| collected(items().map(|i| p.pass(i)).skip(50).map(|i| p.pass(i)));
    take: |p| collected(items().take(50).map(|i| p.pass(i)));
    rev: |p| collected(items().map(|i| p.pass(i)).rev().map(|i| p.pass(i)));
    with_min_len: |p| collected(items().with_min_len(20).map(|i| p.pass(i)));
    with_max_len: |p| collected(items().with_max_len(1).map(|i| p.pass(i)));

    // Methods that end the chain and call a closure.
    for_each: |p| items().for_each(|_| p.mark());
    for_each_with: |p| items().for_each_with(Arc::clone(p), |p, _| p.mark());
    for_each_init: |p| items().for_each_init(|| p.mark(), |(), _| p.mark());
    try_for_each: |p| items().try_for_each(|i| p.pass(if i < N { Ok(()) } else { Err(i) }));
    try_for_each_with: |p|
        items().try_for_each_with(Arc::clone(p), |p, i| p.pass((i < N).then_some(())));
    try_for_each_init: |p|
        items().try_for_each_init(|| p.mark(), |(), i| p.pass(if i < N { Ok(()) } else { Err(i) }));
    reduce: |p| items().reduce(|| p.pass(0), |a, b| p.pass(a + b));
    reduce_with: |p| items().reduce_with(|a, b| p.pass(a + b));
    try_reduce: |p| items().map(Some).try_reduce(|| p.pass(0), |a, b| p.pass(Some(a + b)));
    try_reduce_with: |p| items().map(Ok::<_, ()>).try_reduce_with(|a, b| p.pass(Ok(a + b)));
    min_by: |p| items().min_by(|a, b| p.pass(b.cmp(a)));
    min_by_key: |p| items().min_by_key(|i| p.pass(N - i));
    max_by: |p| items().max_by(|a, b| p.pass(b.cmp(a)));
    max_by_key: |p| items().max_by_key(|i| p.pass(N - i));
    find_any: |p| items().find_any(|i| p.pass(*i == N - 1));
    find_first: |p| items().find_first(|i| p.pass(i % 50 == 49));
    find_last: |p| items().find_last(|i| p.pass(i % 50 == 7));
    find: |p| {
        #[expect(deprecated, reason = "it is there all the same")]
        items().find(|i| p.pass(*i == N - 1))
    };
    find_map_any: |p| items().find_map_any(|i| p.pass((i == N - 1).then_some(i)));
    find_map_first: |p| items().find_map_first(|i| p.pass((i % 50 == 49).then_some(i)));
    find_map_last: |p| items().find_map_last(|i| p.pass((i % 50 == 7).then_some(i)));
    any: |p| items().any(|i| p.pass(i == N - 1));
    all: |p| items().all(|i| p.pass(i < N));
    partition: |p| items().partition::<Vec<_>, Vec<_>, _>(|i| p.pass(i % 3 == 0));
    partition_map: |p| items().partition_map::<Vec<_>, Vec<_>, _, _, _>(|i| {
        use rayon::iter::Either::{Left, Right};
        p.pass(if i % 3 == 0 { Left(i) } else { Right(()) })
    });
    position_any: |p| items().position_any(|i| p.pass(i == N - 1));
    position_first: |p| items().position_first(|i| p.pass(i % 50 == 49));
    position_last: |p| items().position_last(|i| p.pass(i % 50 == 7));
    position: |p| {
        #[expect(deprecated, reason = "it is there all the same")]
        items().position(|i| p.pass(i == N - 1))
    };
}

/// Methods that end the chain and call no closure are rayon's own.
const RAYONS: &[&str] = &[
    "collect",
    "collect_into_vec",
    "collect_vec_list",
    "count",
    "max",
    "min",
    "product",
    "sum",
    "unzip",
    "unzip_into_vecs",
    "cmp",
    "eq",
    "ge",
    "gt",
    "le",
    "lt",
    "ne",
    "partial_cmp",
    "drive",
    "drive_unindexed",
    "len",
    "opt_len",
    "with_producer",
];

/// The text of the version of rayon that this was compiled against.
fn rayons_traits() -> String {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--all-features"])
        // What other platforms need would be downloaded.
        .args(["--filter-platform", "host-tuple", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata = String::from_utf8(metadata.stdout).unwrap();
    let package = metadata.split_once(r#"{"name":"rayon","version":"#).unwrap().1;
    let manifest = package.split_once(r#""manifest_path":""#).unwrap().1.split('"').next().unwrap();
    std::fs::read_to_string(manifest.replace("Cargo.toml", "src/iter/mod.rs")).unwrap()
}

/// The names of a trait's methods.
fn methods_of<'t>(source: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let body = source.split_once(&format!("\npub trait {name}: ")).unwrap().1;
    let body = body.split_once("\n}\n").unwrap().0;
    body.lines().filter_map(|line| line.strip_prefix("    fn ")?.split(['<', '(']).next())
}

#[test]
fn every_method_of_rayons_traits_is_listed() {
    let source = rayons_traits();
    let theirs: BTreeSet<_> = ["ParallelIterator", "IndexedParallelIterator"]
        .into_iter()
        .flat_map(|name| methods_of(&source, name))
        .collect();
    let listed: BTreeSet<_> = OWN.iter().chain(RAYONS).copied().collect();
    assert_eq!(listed, theirs);
    assert_eq!(listed.len(), OWN.len() + RAYONS.len(), "one is listed twice");
}

//! Chains of several kinds, over 1 to 8 threads: every call of a closure after the isolation is a
//! task.

use super::probe::{Probe, compare, in_pool};
use cleanslate::rayon::ParallelIteratorExt;
use cleanslate::task_local;
use rayon::iter::Either;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

const N: u64 = 200;

fn range(from: u64, to: u64) -> impl IndexedParallelIterator<Item = u64> {
    (from as usize..to as usize).into_par_iter().map(|i| i as u64)
}

fn items() -> impl IndexedParallelIterator<Item = u64> {
    range(0, N)
}

/// `.iso()` isolates.
mod isolated {
    use cleanslate::rayon::{Isolated, ParallelIteratorExt};
    use rayon::iter::ParallelIterator;

    pub(crate) trait Iso: ParallelIterator {
        fn iso(self) -> Isolated<Self> {
            self.isolated()
        }
    }
    impl<I: ParallelIterator> Iso for I {}
}

/// `.iso()` does nothing.
mod bare {
    use rayon::iter::ParallelIterator;

    pub(crate) trait Iso: ParallelIterator {
        fn iso(self) -> Self {
            self
        }
    }
    impl<I: ParallelIterator> Iso for I {}
}

/// Declares one test per chain, in which `.iso()` stands for the isolation.
macro_rules! chains {
    ($($(#[$attr:meta])* $name:ident: |$p:ident| $body:expr;)+) => {$(
        $(#[$attr])*
        #[test]
        fn $name() {
            compare(
                |$p: &Arc<Probe>| { use isolated::Iso as _; $body },
                |$p: &Arc<Probe>| { use bare::Iso as _; $body },
            );
        }
    )+};
}

// Several closures for each item, and rayon's own ends.
chains! {
    two_maps_and_a_fold: |p|
        items().iso().map(|i| p.pass(i)).map(|i| p.pass(i))
            .fold(|| p.pass(0), |sum, i| p.pass(sum + i)).map(|i| p.pass(i)).sum::<u64>();
    filters_that_reject_all: |p| items().iso().filter(|_| p.pass(false)).map(|i| p.pass(i)).count();
    everything_pulled: |p|
        items().iso().map(|i| p.pass(i)).rev().map(|i| p.pass(i)).enumerate()
            .map(|(_, i)| p.pass(i)).chunks(7).map(|c| p.pass(c)).skip(2).map(|c| p.pass(c))
            .step_by(3).map(|c| p.pass(c)).collect::<Vec<_>>();
    reduce_pulled: |p|
        items().iso().map(|i| p.pass(i)).rev().reduce(|| p.pass(0), |a, b| p.pass(a + b));
    into_a_vec: |p| {
        let mut v = vec![];
        items().iso().map(|i| p.pass(i)).collect_into_vec(&mut v);
        v
    };
    into_two_vecs: |p| {
        let (mut v, mut w) = (vec![], vec![]);
        items().iso().map(|i| p.pass((i, i))).unzip_into_vecs(&mut v, &mut w);
        (v, w)
    };
    into_a_list: |p|
        items().iso().map(|i| p.pass(i)).collect_vec_list().into_iter().flatten().count();
    into_an_option: |p| items().iso().map(|i| p.pass(Some(i))).collect::<Option<Vec<_>>>();
    unzipped: |p| items().iso().map(|i| p.pass((i, i * 2))).unzip::<_, _, Vec<_>, Vec<_>>();
    compared: |p| items().iso().map(|i| p.pass(i)).cmp(items().iso().map(|i| p.pass(i)));
    found_equal: |p| items().iso().map(|i| p.pass(i)).eq(items());
    extended: |p| { let mut v = vec![1]; v.par_extend(items().iso().map(|i| p.pass(i))); v };
    isolated_twice: |p|
        items().iso().map(|i| p.pass(i)).iso().map(|i| p.pass(i)).collect::<Vec<_>>();
}

/// Puts eight closures on a chain.
macro_rules! eight {
    ($p:ident, $chain:expr) => {
        $chain
            .map(|i| $p.pass(i))
            .inspect(|_| $p.mark())
            .map_with(1, |one, i| $p.pass(i * *one))
            .update(|i| *i += $p.pass(1))
            .map_init(|| $p.pass(1), |one, i| $p.pass(i * *one))
            .map(|i| $p.pass(i))
            .map(|i| $p.pass(i))
    };
}

// Broke: every closure doubled the time that the compiler took, twenty cost minutes.
chains! {
    many_closures: |p| eight!(p, eight!(p, eight!(p, items().iso()))).rev().collect::<Vec<_>>();
}

// Two chains in one.
chains! {
    zip_isolated: |p|
        items().iso().map(|i| p.pass(i)).zip(items().iso().map(|i| p.pass(i)))
            .map(|(a, b)| p.pass(a + b)).collect::<Vec<_>>();
    chain_isolated: |p|
        items().iso().map(|i| p.pass(i)).chain(range(N, N + 50).iso().map(|i| p.pass(i))).rev()
            .map(|i| p.pass(i)).collect::<Vec<_>>();
    interleave_isolated: |p|
        items().iso().map(|i| p.pass(i)).interleave(range(N, N + 50).iso().map(|i| p.pass(i)))
            .map(|i| p.pass(i)).collect::<Vec<_>>();
    zip_second: |p| items().zip(items().iso().map(|i| p.pass(i))).collect::<Vec<_>>();
    flat_map_isolated: |p|
        items().iso()
            .flat_map(|i| p.pass((0..3_u64).into_par_iter().iso().map(move |j| p.pass(i * j))))
            .map(|i| p.pass(i)).collect::<Vec<_>>();
    // Broke: pulled backwards, the longer side skips items first, which all ran in the task of the
    // first.
    zip_of_unequal_lengths_backwards: |p|
        items().iso().map(|i| p.pass(i)).zip(range(0, N + 50).iso().map(|i| p.pass(i))).rev()
            .map(|(a, b)| p.pass(a + b)).collect::<Vec<_>>();
    zip_of_unequal_lengths_backwards_swapped: |p|
        range(0, N + 50).iso().map(|i| p.pass(i)).zip(items().iso().map(|i| p.pass(i))).rev()
            .map(|(a, b)| p.pass(a + b)).collect::<Vec<_>>();
}

fn halves(range: Range<u64>) -> (Range<u64>, Option<Range<u64>>) {
    let middle = range.start.midpoint(range.end);
    if range.end - range.start > 4 {
        (range.start..middle, Some(middle..range.end))
    } else {
        (range, None)
    }
}

// Sources of every kind.
chains! {
    mapped_before: |p| items().map(|i| i + 1).iso().map(|i| p.pass(i)).collect::<Vec<_>>();
    filtered_before: |p|
        items().filter(|i| i % 3 == 0).iso().map(|i| p.pass(i)).collect::<Vec<_>>();
    folded_before: |p|
        items().fold(|| 0, |sum, i| sum + i).iso().map(|i| p.pass(i))
            .reduce(|| p.pass(0), |a, b| p.pass(a + b));
    par_bridge: |p| (0..N).par_bridge().iso().map(|i| p.pass(i)).sum::<u64>();
    par_chunks: |p| {
        let v: Vec<_> = (0..N).collect();
        v.par_chunks(7).iso().map(|c| p.pass(c.len())).collect::<Vec<_>>()
    };
    par_windows: |p| {
        let v: Vec<_> = (0..N).collect();
        v.par_windows(3).iso().map(|w| p.pass(w[2])).collect::<Vec<_>>()
    };
    mutable: |p| {
        let mut v: Vec<_> = (0..N).collect();
        v.par_iter_mut().iso().for_each(|i| *i = p.pass(*i + 1));
        v
    };
    drained: |p| {
        let mut v: Vec<_> = (0..N).collect();
        v.par_drain(7..99).iso().map(|i| p.pass(i)).sum::<u64>()
    };
    walk_tree: |p|
        rayon::iter::walk_tree(1_u64, |n| [2 * n, 2 * n + 1].into_iter().filter(|n| *n < 64))
            .iso().map(|i| p.pass(i)).sum::<u64>();
    split: |p|
        rayon::iter::split(0..N, halves).iso().map(|range| p.pass(range.count())).sum::<usize>();
}

task_local! {
    static SEEN: bool = false;
}

/// Whether the slot was touched in this task.
fn seen(_: u64) -> bool {
    SEEN.replace(true)
}

// The three kinds of closures that stay bare, as the documentation says.
#[test]
fn closures_that_no_method_of_the_isolated_iterator_takes_are_bare() {
    fn generic(items: impl ParallelIterator<Item = u64>) -> usize {
        items.map(seen).filter(|seen| *seen).count()
    }
    in_pool(1, || {
        let in_generic_code = generic(items().isolated());
        SEEN.take();
        let upstream = items().map(seen).isolated().filter(|seen| *seen).count();
        SEEN.take();
        let inner = |_| range(0, 9).map(seen);
        let returned = items().isolated().flat_map(inner).filter(|seen| *seen).count();
        let all = N as usize;
        assert_eq!((in_generic_code, upstream, returned), (all - 1, all - 1, 9 * all - 1));
    });
}

#[test]
fn what_has_an_isolated_iterator_in_it_is_bare_until_it_is_isolated() {
    fn either<T>(left: T) -> Either<T, T> {
        Either::Left(left)
    }
    fn first<A, B>(pair: (A, B)) -> A {
        pair.0
    }
    let isolated = || items().isolated();
    let dirty = |item: &u64| seen(*item);
    in_pool(1, || {
        let mut counts = vec![];
        let mut count = |dirty: usize| {
            SEEN.take();
            counts.push(dirty);
        };
        count(either(isolated()).filter(dirty).count());
        count((isolated(), isolated()).into_par_iter().map(first).filter(dirty).count());
        count(items().zip(isolated()).map(first).filter(dirty).count());
        count(either(isolated()).isolated().filter(dirty).count());
        count(items().zip(isolated()).isolated().map(first).filter(dirty).count());
        assert_eq!(counts, [N as usize - 1, N as usize - 1, N as usize - 1, 0, 0]);
    });
}

#[test]
fn what_a_closure_leaves_the_next_one_does_not_see() {
    let chain = items().isolated().map(|i| (i, SEEN.replace(true)));
    let chain = chain.map(|(i, first)| first || SEEN.replace(true) || i > N);
    assert!(!chain.any(|before| before || SEEN.replace(true)));
}

#[test]
fn a_chain_can_be_cloned_with_closures_that_keep_it_indexed() {
    let all = N as usize;
    let chain = (0..all)
        .into_par_iter()
        .isolated()
        .map(|i| i + 1)
        .inspect(|i| assert!(*i > 0))
        .map_with(2, |two, i| i * *two)
        .update(|i| *i += 1)
        .map_init(|| 3, |three, i| i * *three);
    assert!(format!("{chain:?}").starts_with("Isolated { base: MapInit { base: Update {"));
    let expected: Vec<_> = (0..all).map(|i| ((i + 1) * 2 + 1) * 3).collect();
    assert_eq!(chain.clone().collect::<Vec<_>>(), expected);
    assert_eq!(chain.rev().collect::<Vec<_>>(), Vec::from_iter(expected.into_iter().rev()));
}

#[test]
fn it_is_indexed_and_of_known_length_if_its_source_is() {
    fn length(iter: &impl IndexedParallelIterator) -> (usize, Option<usize>) {
        (iter.len(), iter.opt_len())
    }
    let all = N as usize;
    assert_eq!(length(&items().isolated().map(seen).rev().enumerate()), (all, Some(all)));
    assert_eq!(items().isolated().filter(|_| true).opt_len(), None);
}

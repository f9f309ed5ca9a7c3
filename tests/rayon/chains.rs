//! Chains one by one, over 1 to 8 threads: every closure runs in the task of its item.

use crate::probe::{Probe, THREADS, in_pool};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

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

/// Runs a chain isolated and bare: same result, nothing shared, nothing left; and the bare one
/// shares, so the probe sees what there is to see.
fn compare<R: PartialEq + std::fmt::Debug + Send>(
    isolated: impl Fn(&Arc<Probe>) -> R + Sync,
    bare: impl Fn(&Arc<Probe>) -> R + Sync,
) {
    let dirty = Arc::new(Probe::default());
    let expected = in_pool(1, || bare(&dirty));
    assert!(dirty.marks() > 1 && dirty.shared() > 0, "the probe sees nothing: {dirty:?}");
    for threads in THREADS {
        let probe = Arc::new(Probe::default());
        let result = in_pool(threads, || {
            let result = isolated(&probe);
            // Before anybody can see that the chain has ended.
            assert_eq!(Arc::strong_count(&probe), 1, "{threads} threads: values are left");
            result
        });
        assert_eq!(result, expected, "{threads} threads");
        assert_eq!(probe.shared(), 0, "{threads} threads: {probe:?}");
        assert!(probe.marks() > 1);
    }
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

// Downstream of the isolation, pushed.
chains! {
    map: |p| items().iso().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    map_sum: |p| items().iso().map(|i| { p.mark(i); i }).sum::<u64>();
    map_twice: |p| items().iso().map(|i| { p.mark(i); i }).map(|i| { p.mark(i); i }).sum::<u64>();
    inspect: |p| items().iso().inspect(|i| p.mark(*i)).count();
    filter: |p| items().iso().filter(|i| { p.mark(*i); i % 3 == 0 }).collect::<Vec<_>>();
    filter_map: |p| items().iso().filter_map(|i| { p.mark(i); (i % 3 == 0).then_some(i) }).sum::<u64>();
    update: |p| items().iso().update(|i| p.mark(*i)).sum::<u64>();
    flat_map_iter: |p| items().iso().flat_map_iter(|i| { p.mark(i); (0..3).map(move |j| { p.mark(i); i * j }) }).sum::<u64>();
    while_some: |p| items().iso().map(|i| { p.mark(i); Some(i) }).while_some().sum::<u64>();
    panic_fuse: |p| items().iso().map(|i| { p.mark(i); i }).panic_fuse().sum::<u64>();
    map_with: |p| items().iso().map_with(1, |one, i| { p.mark(i); i * *one }).sum::<u64>();
    map_init: |p| items().iso().map_init(|| { p.mark(N); 1 }, |one, i| { p.mark(i); i * *one }).sum::<u64>();
    fold: |p| items().iso().fold(|| { p.mark(N); 0 }, |sum, i| { p.mark(i); sum + i }).sum::<u64>();
    fold_with: |p| items().iso().fold_with(0, |sum, i| { p.mark(i); sum + i }).sum::<u64>();
    fold_then_map: |p| items().iso().fold(|| 0, |sum, i| { p.mark(i); sum + i }).map(|s| { p.mark(N + 1); s }).sum::<u64>();
    try_fold: |p| items().iso().try_fold(|| 0, |sum, i| { p.mark(i); Some(sum + i) }).map(Option::unwrap).sum::<u64>();
    reduce: |p| items().iso().map(|i| { p.mark(i); i }).reduce(|| 0, |a, b| a + b);
    reduce_with: |p| items().iso().map(|i| { p.mark(i); i }).reduce_with(u64::max);
    try_reduce: |p| items().iso().map(|i| { p.mark(i); Some(i) }).try_reduce(|| 0, |a, b| Some(a + b));
    min_by: |p| items().iso().inspect(|i| p.mark(*i)).min_by(|a, b| a.cmp(b));
    max_by_key: |p| items().iso().max_by_key(|i| { p.mark(*i); *i });
    for_each: |p| { let n = AtomicUsize::new(0); items().iso().for_each(|i| { p.mark(i); n.fetch_add(1, SeqCst); }); n.into_inner() };
    for_each_with: |p| items().iso().for_each_with(p.clone(), |p, i| p.mark(i));
    try_for_each: |p| items().iso().try_for_each(|i| { p.mark(i); Ok::<_, ()>(()) });
    partition: |p| items().iso().partition::<Vec<_>, Vec<_>, _>(|i| { p.mark(*i); i % 2 == 0 });
    unzip: |p| items().iso().map(|i| { p.mark(i); (i, i * 2) }).unzip::<_, _, Vec<_>, Vec<_>>();
    find_first: |p| items().iso().find_first(|i| { p.mark(*i); *i == 77 });
    find_last: |p| items().iso().find_last(|i| { p.mark(*i); *i == 77 });
    find_any: |p| items().iso().find_any(|i| { p.mark(*i); *i == 77 });
    any: |p| items().iso().any(|i| { p.mark(i); i == N - 1 });
    all: |p| items().iso().all(|i| { p.mark(i); i < N });
    position_first: |p| items().iso().position_first(|i| { p.mark(i); i == 50 });
    collect_into_vec: |p| { let mut v = vec![]; items().iso().map(|i| { p.mark(i); i }).collect_into_vec(&mut v); v };
    collect_option: |p| items().iso().map(|i| { p.mark(i); Some(i) }).collect::<Option<Vec<_>>>();
    collect_list: |p| items().iso().map(|i| { p.mark(i); i }).collect_vec_list().into_iter().flatten().count();
    intersperse: |p| items().iso().map(|i| { p.mark(i); i }).intersperse(9).sum::<u64>();
    take_any: |p| items().iso().map(|i| { p.mark(i); i }).take_any(N as usize).sum::<u64>();
}

// Upstream of the isolation.
chains! {
    upstream_map: |p| items().map(|i| { p.mark(i); i }).iso().sum::<u64>();
    upstream_and_downstream: |p| items().map(|i| { p.mark(i); i }).iso().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    upstream_inspect: |p| items().inspect(|i| p.mark(*i)).iso().count();
    upstream_filter: |p| items().filter(|i| { p.mark(*i); i % 3 == 0 }).iso().collect::<Vec<_>>();
    upstream_filter_rejects_all: |p| items().filter(|i| { p.mark(*i); false }).iso().count();
    upstream_filter_map: |p| items().filter_map(|i| { p.mark(i); (i % 3 == 0).then_some(i) }).iso().sum::<u64>();
    upstream_update: |p| items().update(|i| p.mark(*i)).iso().sum::<u64>();
    upstream_cloned: |p| { let v: Vec<_> = (0..N).collect(); v.par_iter().inspect(|i| p.mark(**i)).cloned().iso().sum::<u64>() };
    upstream_map_with: |p| items().map_with(1, |one, i| { p.mark(i); i * *one }).iso().sum::<u64>();
    upstream_flat_map_iter: |p| items().flat_map_iter(|i| (0..3).map(move |j| { p.mark(i * 3 + j); i * j })).iso().sum::<u64>();
    upstream_par_bridge: |p| (0..N).par_bridge().map(|i| { p.mark(i); i }).iso().map(|i| { p.mark(i); i }).sum::<u64>();
    upstream_par_bridge_source: |p| (0..N).inspect(|i| p.mark(*i)).par_bridge().iso().map(|i| { p.mark(i); i }).sum::<u64>();
    upstream_fold: |p| items().fold(|| 0, |sum, i| sum + i).iso().map(|s| { p.mark(s); s }).sum::<u64>();
    upstream_par_chunks: |p| { let v: Vec<_> = (0..N).collect(); v.par_chunks(7).iso().map(|c| { p.mark(c[0]); c.len() }).collect::<Vec<_>>() };
    upstream_windows: |p| { let v: Vec<_> = (0..N).collect(); v.par_windows(3).iso().map(|w| { p.mark(w[0]); w[2] }).collect::<Vec<_>>() };
    upstream_chunks: |p| items().chunks(7).iso().map(|c| { p.mark(c[0]); c.len() }).collect::<Vec<_>>();
    upstream_zip: |p| items().map(|i| { p.mark(i); i }).zip(items().map(|i| { p.mark(i); i })).iso().map(|(a, b)| { p.mark(a); b }).sum::<u64>();
    upstream_chain: |p| items().map(|i| { p.mark(i); i }).chain(range(N, 2 * N).map(|i| { p.mark(i); i })).iso().sum::<u64>();
    upstream_interleave: |p| items().map(|i| { p.mark(i); i }).interleave(range(N, N + 9).map(|i| { p.mark(i); i })).iso().collect::<Vec<_>>();
    upstream_enumerate: |p| items().map(|i| { p.mark(i); i }).enumerate().iso().map(|(n, i)| { p.mark(i); n }).collect::<Vec<_>>();
    upstream_rev: |p| items().map(|i| { p.mark(i); i }).rev().iso().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    upstream_take: |p| items().map(|i| { p.mark(i); i }).take(50).iso().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    walk_tree: |p| rayon::iter::walk_tree(1_u64, |n| (2 * n < 64).then_some([2 * n, 2 * n + 1]).into_iter().flatten()).iso().map(|i| { p.mark(i); i }).sum::<u64>();
}

// Downstream of the isolation, pulled: the adapters that `Isolated` has itself.
chains! {
    enumerate: |p| items().map(|i| { p.mark(i); i }).iso().enumerate().map(|(n, i)| { p.mark(i); n }).collect::<Vec<_>>();
    enumerate_fold: |p| items().iso().enumerate().fold(|| { p.mark(N); 0 }, |s, (_, i)| { p.mark(i); s + i }).map(|s| { p.mark(N + 1); s }).sum::<u64>();
    rev: |p| items().map(|i| { p.mark(i); i }).iso().rev().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    zip: |p| items().map(|i| { p.mark(i); i }).iso().zip(items().map(|i| { p.mark(i); i })).map(|(a, b)| { p.mark(a); b }).collect::<Vec<_>>();
    zip_eq: |p| items().iso().zip_eq(items().map(|i| { p.mark(i); i })).map(|(a, b)| { p.mark(a); b }).collect::<Vec<_>>();
    zip_isolated: |p| items().map(|i| { p.mark(i); i }).iso().zip(items().map(|i| { p.mark(i + 10); i }).iso()).map(|(a, b)| { p.mark(b + 10); a + b }).collect::<Vec<_>>();
    interleave: |p| items().map(|i| { p.mark(i); i }).iso().interleave(range(N, N + 50).map(|i| { p.mark(i); i })).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    interleave_shortest: |p| items().iso().interleave_shortest(range(N, N + 50).map(|i| { p.mark(i); i })).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    chain: |p| items().map(|i| { p.mark(i); i }).iso().chain(range(N, N + 50).map(|i| { p.mark(i); i })).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    chunks: |p| items().map(|i| { p.mark(i); i }).iso().chunks(3).map(|c| { p.mark(c[0] + N); c }).collect::<Vec<_>>();
    chunks_fold: |p| items().map(|i| { p.mark(i); i }).iso().chunks(3).fold(|| { p.mark(3 * N); 0 }, |s, c| { p.mark(c[0] + N); s + c.len() }).sum::<usize>();
    fold_chunks: |p| items().iso().fold_chunks(3, || 0, |s, i| { p.mark(i); s + i }).map(|s| { p.mark(s + N); s }).collect::<Vec<_>>();
    fold_chunks_with: |p| items().iso().fold_chunks_with(3, 0, |s, i| { p.mark(i); s + i }).map(|s| { p.mark(s + N); s }).collect::<Vec<_>>();
    skip: |p| items().map(|i| { p.mark(i); i }).iso().skip(50).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    step_by: |p| items().map(|i| { p.mark(i); i }).iso().step_by(3).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    take: |p| items().map(|i| { p.mark(i); i }).iso().take(50).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    with_min_len: |p| items().map(|i| { p.mark(i); i }).iso().with_min_len(20).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    with_max_len: |p| items().map(|i| { p.mark(i); i }).iso().with_max_len(1).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    uniform_blocks: |p| items().map(|i| { p.mark(i); i }).iso().by_uniform_blocks(13).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    exponential_blocks: |p| items().map(|i| { p.mark(i); i }).iso().by_exponential_blocks().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    flat_map: |p| items().iso().flat_map(|i| { p.mark(i + 9 * N); (0..3_u64).into_par_iter().map(move |j| { p.mark(i * 3 + j); i * j }) }).map(|i| i).collect::<Vec<_>>();
    flatten: |p| vec![(0..N).collect::<Vec<_>>(); 2].into_par_iter().iso().flatten().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    isolated_twice: |p| items().map(|i| { p.mark(i); i }).iso().map(|i| { p.mark(i); i }).iso().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
}

// Downstream of the isolation, pulled by rayon's own adapters: item closures are covered.
chains! {
    pulled_enumerate: |p| items().map(|i| { p.mark(i); i }).iso().map(|i| { p.mark(i); i }).enumerate().map(|(n, i)| { p.mark(i); n }).collect::<Vec<_>>();
    pulled_rev: |p| items().iso().map(|i| { p.mark(i); i }).rev().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    pulled_take: |p| items().iso().map(|i| { p.mark(i); i }).take(50).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    pulled_skip: |p| items().iso().map(|i| { p.mark(i); i }).skip(50).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    pulled_step_by: |p| items().map(|i| { p.mark(i); i }).iso().map(|i| i).step_by(3).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    pulled_zip: |p| items().iso().map(|i| { p.mark(i); i }).zip(items()).map(|(a, b)| { p.mark(a); b }).collect::<Vec<_>>();
    pulled_zip_second: |p| items().zip(items().map(|i| { p.mark(i); i }).iso()).map(|(a, b)| { p.mark(a); b }).collect::<Vec<_>>();
    pulled_zip_two_isolated: |p| items().iso().map(|i| { p.mark(i); i }).zip(items().map(|i| { p.mark(i + 10); i }).iso()).map(|(a, b)| { p.mark(b + 10); a }).collect::<Vec<_>>();
    pulled_chain_second_isolated: |p| items().iso().map(|i| { p.mark(i); i }).chain(range(N, N + 50).iso().map(|i| { p.mark(i); i })).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    pulled_interleave_two_isolated: |p| items().iso().map(|i| { p.mark(i); i }).interleave(range(N, N + 50).iso().map(|i| { p.mark(i); i })).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    pulled_min_len: |p| items().iso().map(|i| { p.mark(i); i }).with_min_len(20).map(|i| { p.mark(i); i }).collect::<Vec<_>>();
    pulled_positions: |p| items().iso().map(|i| { p.mark(i); i }).positions(|i| { p.mark(i); i % 7 == 0 }).collect::<Vec<_>>();
    pulled_cmp: |p| items().iso().map(|i| { p.mark(i); i }).eq(items());
    pulled_map_init: |p| items().map_init(|| 1, |one, i| { p.mark(i); i * *one }).iso().map(|i| i).rev().map(|i| { p.mark(i); i }).collect::<Vec<_>>();
}

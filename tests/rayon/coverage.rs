//! Keeps the table of `docs/rayon.md` true: each row is not covered in the way that it says, and its
//! remedy is.

use crate::probe::{Probe, in_pool};
use cleanslate::rayon::ParallelIteratorExt;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const N: u64 = 60;

type Chain = fn(&Arc<Probe>);

struct Case {
    name: &'static str,
    uncovered: Chain,
    remedy: Option<Chain>,
}

fn range(from: u64, to: u64) -> impl IndexedParallelIterator<Item = u64> {
    (from as usize..to as usize).into_par_iter().map(|i| i as u64)
}

fn items() -> impl IndexedParallelIterator<Item = u64> {
    range(0, N)
}

fn marked(probe: &Arc<Probe>) -> impl IndexedParallelIterator<Item = u64> {
    range(N, 2 * N).map(|i| mark(probe, i))
}

fn mark(probe: &Arc<Probe>, id: u64) -> u64 {
    probe.mark(id);
    id
}

/// For a closure that belongs to no item: it shares with everybody, also with itself.
fn belongs_to_none(probe: &Arc<Probe>) -> u64 {
    mark(probe, 1000 + probe.marks() as u64)
}

fn id(i: u64) -> u64 {
    i
}

macro_rules! cases {
    ($($name:ident: |$p:ident| $uncovered:expr, $remedy:expr;)+) => {
        [$(Case { name: stringify!($name), uncovered: |$p| _ = $uncovered, remedy: Some(|$p| _ = $remedy) }),+]
    };
}

fn cases() -> Vec<Case> {
    let mut all = Vec::from(cases! {
        chunks_pulled: |p|
            items().isolated().map(id).chunks(4).map(|c| mark(p, c[0])).sum::<u64>(),
            items().map(id).isolated().chunks(4).map(|c| mark(p, c[0])).sum::<u64>();
        fold_chunks_pulled: |p|
            items().isolated().map(id).fold_chunks(4, || 0, |a, b| a + b).map(|s| mark(p, s)).sum::<u64>(),
            items().map(id).isolated().fold_chunks(4, || 0, |a, b| a + b).map(|s| mark(p, s)).sum::<u64>();
        chain_other: |p|
            items().isolated().map(id).chain(marked(p)).sum::<u64>(),
            items().map(id).chain(marked(p)).isolated().sum::<u64>();
        interleave_other: |p|
            items().isolated().map(|i| mark(p, i)).interleave(marked(p)).sum::<u64>(),
            items().map(|i| mark(p, i)).interleave(marked(p)).isolated().sum::<u64>();
        chain_other_pulled: |p|
            items().isolated().map(id).chain(marked(p)).rev().sum::<u64>(),
            items().map(id).chain(marked(p)).isolated().rev().sum::<u64>();
        zip_first: |p|
            marked(p).zip(items().isolated()).count(),
            marked(p).zip(items()).isolated().count();
        step_by_upstream: |p|
            marked(p).step_by(2).isolated().sum::<u64>(),
            marked(p).isolated().step_by(2).sum::<u64>();
        skip_upstream: |p|
            marked(p).skip(9).isolated().sum::<u64>(),
            marked(p).isolated().skip(9).sum::<u64>();
        skip_any_upstream: |p|
            marked(p).skip_any(9).isolated().sum::<u64>(),
            marked(p).isolated().skip_any(9).sum::<u64>();
        flat_map_inner: |p|
            items().isolated().map(id).flat_map(|_| marked(p)).sum::<u64>(),
            items().isolated().flat_map(|_| marked(p)).sum::<u64>();
        flat_map_outer: |p|
            items().flat_map(|i| [mark(p, i)]).isolated().sum::<u64>(),
            items().isolated().flat_map(|i| [mark(p, i)]).sum::<u64>();
        fold_identity_pulled: |p|
            items().isolated().map(id).rev().fold(|| belongs_to_none(p), |a, b| a + mark(p, b)).sum::<u64>(),
            items().map(id).isolated().rev().fold(|| belongs_to_none(p), |a, b| a + mark(p, b)).sum::<u64>();
        map_init_pulled: |p|
            items().isolated().map(id).rev().map_init(|| belongs_to_none(p), |_, b| mark(p, b)).sum::<u64>(),
            items().map(id).isolated().rev().map_init(|| belongs_to_none(p), |_, b| mark(p, b)).sum::<u64>();
        after_fold_pulled: |p|
            items().isolated().map(id).rev().fold(|| 0, |a, b| a + b).map(|s| mark(p, s)).sum::<u64>(),
            items().map(id).isolated().rev().fold(|| 0, |a, b| a + b).map(|s| mark(p, s)).sum::<u64>();
        reduce_pulled: |p|
            items().isolated().map(id).rev().with_max_len(1).map(|i| (i, i)).reduce(|| (0, 0), |a, b| (mark(p, a.0.max(b.0) * N + b.0), 0)),
            items().map(id).isolated().rev().with_max_len(1).map(|i| (i, i)).reduce(|| (0, 0), |a, b| { mark(p, a.0.max(b.0) * N + b.0); (b.0, 0) });
    });
    all.push(Case {
        name: "split_closure",
        uncovered: |p| {
            let halves = |(from, to): (u64, u64)| {
                mark(p, from * N + to);
                let middle = from.midpoint(to);
                if to - from > 4 {
                    ((from, middle), Some((middle, to)))
                } else {
                    ((from, to), None)
                }
            };
            rayon::iter::split((0, N), halves).isolated().for_each(drop);
        },
        remedy: None,
    });
    all
}

/// The table's rows: name and what happens.
fn documented() -> BTreeMap<String, String> {
    let page = include_str!("../../docs/rayon.md");
    let table = page.lines().skip_while(|line| !line.starts_with("| case |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        // A pipe of a closure is escaped in the page.
        let row = row.replace("\\|", "/");
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), cells[3].to_owned())
    })
    .collect()
}

#[test]
fn the_table_lists_what_is_not_covered() {
    let documented = documented();
    let names: Vec<_> = documented.keys().map(String::as_str).collect();
    let mut tested: Vec<_> = cases().iter().map(|case| case.name).collect();
    tested.sort_unstable();
    assert_eq!(names, tested);
    for Case { name, uncovered, .. } in cases() {
        let probe = Arc::new(Probe::default());
        let outcome = in_pool(1, || catch_unwind(AssertUnwindSafe(|| uncovered(&probe))));
        let reported = match outcome {
            Ok(()) => false,
            Err(payload) => {
                let text = payload.downcast_ref::<String>().expect(name);
                assert!(text.contains("rayon::probe::MARK` was touched beside"), "{name}: {text}");
                true
            }
        };
        match documented[name].as_str() {
            // The report exists in debug builds only; without it the closures share a frame.
            "reported" if cfg!(debug_assertions) => assert!(reported, "{name}: {probe:?}"),
            happens @ ("reported" | "shared" | "bare") => {
                assert!(!reported, "{name}");
                let alone = happens == "reported" && probe.marks() == 1;
                assert!(alone || probe.shared() > 0, "{name} is covered: {probe:?}");
            }
            other => panic!("{name}: what is {other:?}?"),
        }
    }
}

#[test]
fn the_remedies_cover_everything() {
    for Case { name, remedy, .. } in cases() {
        let Some(remedy) = remedy else { continue };
        for threads in crate::probe::THREADS {
            let probe = Arc::new(Probe::default());
            in_pool(threads, || remedy(&probe));
            assert!(probe.marks() > 1, "{name}");
            assert_eq!(probe.shared(), 0, "{name}, {threads} threads");
        }
    }
}

#[test]
fn a_panicking_report_does_not_abort_while_unwinding() {
    /// Touches a slot beside the items when it is dropped.
    struct Toucher(Arc<Probe>);
    impl Drop for Toucher {
        fn drop(&mut self) {
            self.0.mark(1);
        }
    }
    let probe = Arc::new(Probe::default());
    let outcome = in_pool(1, || {
        catch_unwind(AssertUnwindSafe(|| {
            items()
                .isolated()
                .map(id)
                .rev()
                .fold(|| Toucher(Arc::clone(&probe)), |_, _| panic!("the first panic"))
                .for_each(drop);
        }))
    });
    assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "the first panic");
}

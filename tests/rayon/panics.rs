//! Panics in closures, and in the drops of what items leave behind.

use cleanslate::rayon::ParallelIteratorExt;
use cleanslate::task_local;
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(self.0.fetch_sub(1, SeqCst) > 0, "dropped twice");
    }
}

task_local! {
    static COUNTED: Option<Counted> = None;
}

/// Panics in one closure of a chain, wherever it is, and drops every value all the same.
#[test]
fn a_panic_in_any_closure_leaves_nothing_behind() {
    let places = ["identity", "fold", "down", "reduce", "enumerate", "pulled", "chunk"];
    for threads in [1, 2, 4] {
        for place in places {
            let alive = Arc::new(AtomicUsize::new(0));
            let boom = |here: &str, id: usize| {
                COUNTED.set(Some(Counted::new(&alive)));
                assert!(here != place || id != 60, "boom in {here}");
            };
            let run = || {
                let pushed = (0..100_usize)
                    .into_par_iter()
                    .isolated()
                    .enumerate()
                    .map(|(n, i)| (boom("enumerate", n), i).1)
                    .fold(|| (boom("identity", 60), 0).1, |s, i| (boom("fold", i), s + i).1)
                    .map(|s| (boom("down", 60), s).1)
                    .reduce(|| 0, |a, b| (boom("reduce", 60), a + b).1);
                let pulled = (0..100_usize)
                    .into_par_iter()
                    .isolated()
                    .map(|i| (boom("pulled", i), i).1)
                    .rev()
                    .chunks(7)
                    .map(|c| (boom("chunk", if c.contains(&60) { 60 } else { 0 }), c.len()).1)
                    .sum::<usize>();
                (pushed, pulled)
            };
            let outcome = in_pool(threads, || {
                let outcome = catch_unwind(AssertUnwindSafe(run));
                assert_eq!(alive.load(SeqCst), 0, "{place}: values are left");
                outcome
            });
            let reduces = place != "reduce" || threads > 1;
            if reduces {
                let payload = outcome.expect_err(place);
                let text = payload.downcast_ref::<String>().unwrap();
                assert_eq!(text, &format!("boom in {place}"));
            }
            assert_eq!(Arc::strong_count(&alive), 1);
        }
    }
}

struct Grumpy;

impl Drop for Grumpy {
    fn drop(&mut self) {
        panic!("grumpy");
    }
}

task_local! {
    static GRUMPY: Option<Grumpy> = None;
}

#[test]
fn a_failed_clean_up_is_the_items_panic() {
    let text = |outcome: Result<(), Box<dyn std::any::Any + Send>>| {
        *outcome.unwrap_err().downcast::<&'static str>().unwrap()
    };
    let grumpy = |i: usize| {
        if i == 33 {
            GRUMPY.set(Some(Grumpy));
        }
        i
    };
    for threads in [1, 2] {
        in_pool(threads, || {
            let items = || (0..64_usize).into_par_iter();
            let chains: [&(dyn Fn() + Sync); 4] = [
                &|| items().isolated().for_each(|i| _ = grumpy(i)),
                &|| items().isolated().map(grumpy).collect::<Vec<_>>().clear(),
                &|| items().isolated().map(grumpy).rev().for_each(|_| ()),
                // The item that fails is skipped by the longer side of the pair.
                &|| items().isolated().map(grumpy).zip(0..9).rev().for_each(|_| ()),
            ];
            for chain in chains {
                assert_eq!(text(catch_unwind(AssertUnwindSafe(chain))), "grumpy");
                assert!(!GRUMPY.is_set());
            }
        });
    }
}

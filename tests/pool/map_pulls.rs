//! How a map pulls from its iterator: each pull is a task of its own, and its promises are not
//! believed.

use std::sync::atomic::{AtomicUsize, Ordering};

use cleanslate::{Context, Isolation, Pool, task_local};

use crate::support::{Census, Counted, each_shape, finishes, panic_of, quiet};

task_local! {
    static LEFT: Option<usize> = None;
    static VALUE: Option<Counted> = None;
    #[inherit]
    static TENANT: usize = 0;
}

/// Runs over sizes that make one chunk and many.
const SIZES: [usize; 3] = [1, 50, 10_000];

/// Leaves something in a slot with every call of `next`, the last included; counts those that found
/// something there. Promises no end, so that items are pulled together with it.
fn leaving(n: usize, found: &AtomicUsize) -> impl Iterator<Item = usize> + Send {
    let mut items = 0..n;
    std::iter::from_fn(move || {
        found.fetch_add(usize::from(LEFT.is_set()), Ordering::SeqCst);
        LEFT.set(Some(items.start));
        items.next()
    })
}

#[test]
fn no_pull_sees_what_another_one_left_and_no_item_what_a_pull_left() {
    each_shape(|pool| {
        for n in SIZES {
            let (pulls, items) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let item = |i: usize| {
                items.fetch_add(usize::from(LEFT.is_set()), Ordering::SeqCst);
                LEFT.set(Some(i));
                i
            };
            assert_eq!(pool.map(leaving(n, &pulls), item).len(), n);
            assert_eq!(pool.map_results(leaving(n, &pulls), item).len(), n);
            assert_eq!(
                pool.try_map(leaving(n, &pulls), |i| Ok::<_, ()>(item(i))).unwrap().len(),
                n
            );
            let nested = pool.submit(|| LEFT.set(Some(1)));
            nested.join().unwrap();
            assert_eq!((pulls.into_inner(), items.into_inner()), (0, 0), "{n} items");
        }
    });
}

#[test]
fn what_a_pull_leaves_is_dropped_before_the_next_one() {
    each_shape(|pool| {
        let census = Census::new();
        let most = AtomicUsize::new(0);
        let items = (0..1_000).map(|_| {
            most.fetch_max(census.alive(), Ordering::SeqCst);
            VALUE.set(Some(census.token()));
        });
        pool.map(items, |()| ());
        assert_eq!((census.made(), census.alive(), most.load(Ordering::SeqCst)), (1_000, 0, 0));
    });
}

#[test]
fn pulls_inherit_what_the_items_do() {
    each_shape(|pool| {
        Context::empty().run(|| {
            TENANT.set(7);
            let pulls = || (0..100).map(|_| TENANT.replace(8));
            assert!(
                pool.map(pulls(), |pulled| (pulled, TENANT.get())).iter().all(|t| *t == (7, 7))
            );
            let results = pool.map_results(pulls(), |pulled| (pulled, TENANT.get()));
            assert!(results.iter().all(|t| *t.as_ref().unwrap() == (7, 7)));
        });
    });
}

#[test]
fn in_a_leaky_pool_pulls_and_items_share_the_slots_of_their_worker() {
    finishes("leaky", || {
        let pool = Pool::builder().workers(1).isolation(Isolation::Leaky).build().unwrap();
        let found = AtomicUsize::new(0);
        let items = || leaving(10, &found);
        let set = pool.map(items(), |_| LEFT.is_set());
        assert_eq!((set, found.swap(0, Ordering::SeqCst)), (vec![true; 10], 10));
        let set = pool.map_results(items(), |_| LEFT.is_set());
        assert!(set.iter().all(|set| *set.as_ref().unwrap()));
        assert_eq!(found.into_inner(), 11);
    });
}

/// An iterator that says what it is told to about its size.
struct Liar<I>(I, (usize, Option<usize>));

impl<I: Iterator> Iterator for Liar<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.1
    }
}

#[test]
fn whatever_an_iterator_says_about_its_size_nothing_is_lost() {
    each_shape(|pool| {
        let census = Census::new();
        let huge = usize::MAX;
        for n in [0, 1, 5, 5_000] {
            for hint in [
                (0, Some(0)),
                (0, None),
                (1, Some(1)),
                (7, Some(7)),
                (3_000, Some(3_000)),
                (huge, None),
                (huge, Some(huge)),
                (0, Some(huge)),
                (9, Some(3)),
            ] {
                let results = pool.map(Liar(0..n, hint), |i| (i, census.token()));
                assert!(results.iter().map(|(i, _)| *i).eq(0..n), "{n} items, hint {hint:?}");
                let results = pool.map_results(Liar(0..n, hint), |i| i);
                assert!(
                    results.into_iter().map(Result::unwrap).eq(0..n),
                    "{n} items, hint {hint:?}"
                );
                let results = pool.try_map(Liar(0..n, hint), Ok::<_, ()>).unwrap();
                assert!(results.into_iter().eq(0..n), "{n} items, hint {hint:?}");
            }
        }
        assert_eq!(census.alive(), 0);
    });
}

#[test]
fn an_iterator_is_not_called_again_after_its_end() {
    each_shape(|pool| {
        for n in [0_usize, 1, 100, 5_000] {
            let (mut left, mut ended) = (n, false);
            let items = std::iter::from_fn(|| {
                assert!(!ended, "called again");
                ended = left == 0;
                left = left.checked_sub(1)?;
                Some(left)
            });
            assert_eq!(pool.map(items, |i| i).len(), n);
        }
    });
}

// Whoever has the next turn does not know yet that the map has failed.
#[test]
fn an_iterator_that_has_panicked_is_not_called_again() {
    quiet();
    each_shape(|pool| {
        for _ in 0..200 {
            let (mut left, calls_after) = (20, AtomicUsize::new(0));
            let items = std::iter::from_fn(|| {
                calls_after.fetch_add(usize::from(left == 0), Ordering::SeqCst);
                left -= usize::from(left != 0);
                assert!(left != 0, "a pull, on purpose");
                Some(left)
            });
            assert_eq!(panic_of(|| pool.for_each(items, |_| ())), "a pull, on purpose");
            assert_eq!(calls_after.into_inner(), 0);
        }
    });
}

#[test]
fn an_imap_is_as_long_as_its_input_promises_with_what_was_pulled() {
    each_shape(|pool| {
        let mut results = pool.imap(0..50, |n| n);
        let words = |ahead, pulled| format!("{{ buffer: {ahead}, pulled: {pulled}, .. }}");
        let ahead = 2 * pool.workers();
        assert!(format!("{results:?}").ends_with(&words(ahead, 0)), "{results:?}");
        for left in (0..50).rev() {
            assert_eq!(results.next(), Some(49 - left));
            assert_eq!(results.len(), left);
        }
        for (hint, promised) in [
            ((usize::MAX, None), (usize::MAX, None)),
            ((3, Some(usize::MAX)), (6, None)),
            ((3, Some(7)), (6, Some(10))),
        ] {
            let mut results = pool.imap(Liar(0.., hint), |n| n).buffer(4);
            assert_eq!((results.next(), results.size_hint()), (Some(0), promised));
            assert!(format!("{results:?}").ends_with(&words(4, 3)), "{results:?}");
        }
    });
}

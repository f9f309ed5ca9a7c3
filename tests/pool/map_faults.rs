//! User code that panics in a map, wherever that calls it: nothing is lost or dropped twice, the
//! first panic resumes, the pool hears of the others, and it goes on working.
//!
//! Everything here explodes in its drop, with a payload whose drop panics with another one, and so
//! on.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use cleanslate::{Pool, task_local};

use crate::support::{
    Bomb, Census, Counted, OnDrop, SHAPES, finishes, message, panic_of, quiet, retiring,
};

task_local! {
    static SLOT: Option<Explosive> = None;
}

/// A value whose drop panics, with a payload whose drop does. Counted all the same.
struct Explosive {
    armed: bool,
    _counted: Counted,
}

impl Explosive {
    fn of(census: &Census) -> Self {
        Self { armed: true, _counted: census.token() }
    }

    /// Drops it, for once without a panic.
    fn defuse(mut self) {
        self.armed = false;
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        if self.armed {
            panic_any(Bomb(2));
        }
    }
}

/// Runs `test` on a plain thread and inside a task, in pools of one worker, two and more. Nothing
/// runs afterwards, and the pool still works.
fn everywhere(test: impl Fn(&Pool) + Send + Sync + 'static) {
    quiet();
    let test = Arc::new(test);
    for workers in SHAPES {
        for in_task in [false, true] {
            let test = Arc::clone(&test);
            finishes(&format!("{workers} workers, in a task: {in_task}"), move || {
                let pool = Pool::new(workers).unwrap();
                match in_task {
                    false => test(&pool),
                    true => pool.scope(|s| s.submit(|| test(&pool)).join()).unwrap(),
                }
                assert_eq!(pool.map(0..100, |n| n), (0..100).collect::<Vec<_>>());
                assert_eq!(pool.stats().running, 0);
            });
        }
    }
}

/// What `f` panics with. A bomb is defused; its name is "bomb".
fn blast_of<R>(f: impl FnOnce() -> R) -> String {
    // An explosive result would hide that there is one.
    let Err(payload) = catch_unwind(AssertUnwindSafe(|| std::mem::ManuallyDrop::new(f()))) else {
        panic!("it did not panic");
    };
    match payload.downcast::<Bomb>() {
        Ok(mut bomb) => {
            bomb.0 = 0;
            "bomb".to_owned()
        }
        Err(payload) => message(&*payload),
    }
}

#[test]
fn items_that_do_not_start_are_dropped_one_by_one() {
    everywhere(|pool| {
        for (n, at) in [(1, 0), (100, 0), (100, 99), (20_000, 5_000)] {
            let census = Census::new();
            let (pulled, started) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let items = (0..n).map(|i| {
                pulled.fetch_add(1, Ordering::SeqCst);
                (i, Explosive::of(&census))
            });
            let before = pool.stats().unobserved;
            let said = blast_of(|| {
                pool.map(items, |(i, item)| {
                    started.fetch_add(1, Ordering::SeqCst);
                    item.defuse();
                    assert_ne!(i, at, "on purpose");
                })
            });
            assert!(said.contains("on purpose"), "{said}");
            assert_eq!(census.alive(), 0);
            let unstarted = pulled.into_inner() - started.into_inner();
            assert_eq!(pool.stats().unobserved - before, unstarted as u64);
        }
    });
}

#[test]
fn results_of_a_map_that_fails_are_dropped_one_by_one() {
    everywhere(|pool| {
        for (n, at) in [(1, 0), (100, 99), (5_000, 4_000)] {
            let census = Census::new();
            let before = pool.stats().unobserved;
            let item = |i| {
                assert_ne!(i, at, "on purpose");
                Explosive::of(&census)
            };
            for said in [
                blast_of(|| pool.map_range(0..n, item)),
                blast_of(|| pool.map(0..n, item)),
                blast_of(|| pool.map((0..).take_while(|i| *i < n), item)),
            ] {
                assert!(said.contains("on purpose"), "{said}");
            }
            assert_eq!(
                (census.alive(), pool.stats().unobserved - before),
                (0, census.made() as u64)
            );
        }
    });
}

#[test]
fn results_of_a_map_that_an_error_stops_are_dropped_one_by_one() {
    everywhere(|pool| {
        let census = Census::new();
        let before = pool.stats().unobserved;
        let error = pool
            .try_map(0..5_000, |i| if i == 4_000 { Err(i) } else { Ok(Explosive::of(&census)) });
        assert!(matches!(error, Err(4_000)));
        assert_eq!((census.alive(), pool.stats().unobserved - before), (0, census.made() as u64));
    });
}

#[test]
fn the_error_that_is_not_returned_is_dropped_contained() {
    quiet();
    for workers in [2, 5] {
        finishes("errors", move || {
            let pool = Pool::new(workers).unwrap();
            let census = Census::new();
            let barrier = Barrier::new(2);
            let error = pool.try_map(0..2, |i| {
                barrier.wait();
                Err::<(), _>((i, Explosive::of(&census)))
            });
            let (position, explosive) = error.unwrap_err();
            assert_eq!((position, census.made(), census.alive()), (0, 2, 1));
            explosive.defuse();
            assert_eq!(pool.stats().unobserved, 1);
        });
    }
}

#[test]
fn an_error_whose_task_cannot_be_cleaned_up_is_dropped_and_the_map_fails() {
    everywhere(|pool| {
        let census = Census::new();
        let said = blast_of(|| {
            pool.try_map(0..50, |i| {
                if i != 20 {
                    return Ok(());
                }
                SLOT.set(Some(Explosive::of(&census)));
                Err(Explosive::of(&census))
            })
            .map_err(Explosive::defuse)
        });
        assert!(said.contains("SLOT"), "{said}");
        assert_eq!((census.made(), census.alive()), (2, 0));
    });
}

#[test]
fn a_result_whose_task_cannot_be_cleaned_up_is_dropped_and_the_map_fails() {
    everywhere(|pool| {
        let census = Census::new();
        let item = |i| {
            if i == 20 {
                SLOT.set(Some(Explosive::of(&census)));
            }
            Explosive::of(&census)
        };
        for said in [blast_of(|| pool.map(0..50, item)), blast_of(|| pool.map_range(0..50, item))] {
            assert!(said.contains("SLOT"), "{said}");
        }
        assert_eq!(census.alive(), 0);
        // Where each item is caught for itself, only that one is lost.
        let results = pool.map_results(0..50, item);
        let failed: Vec<_> = (0..50).filter(|i| results[*i].is_err()).collect();
        assert_eq!(failed, [20]);
        assert!(results[20].as_ref().is_err_and(cleanslate::TaskError::is_cleanup));
        assert_eq!(census.alive(), 49);
        results.into_iter().flatten().for_each(Explosive::defuse);
    });
}

#[test]
fn map_results_returns_whatever_its_items_do() {
    everywhere(|pool| {
        let census = Census::new();
        let results = pool.map_results(0..300, |i| {
            let item = Explosive::of(&census);
            match i % 3 {
                0 => drop(item),
                1 => SLOT.set(Some(item)),
                _ => {
                    item.defuse();
                    panic_any(Bomb(3));
                }
            }
        });
        assert!(results.iter().all(Result::is_err));
        assert_eq!((census.made(), census.alive()), (300, 0));
    });
}

#[test]
fn a_failed_map_whose_items_panic_with_bombs_resumes_the_first() {
    quiet();
    for workers in [2, 5] {
        finishes("both", move || {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let hook = Arc::clone(&heard);
            let pool = Pool::builder()
                .workers(workers)
                .panic_hook(move |error| {
                    hook.lock().unwrap().push(error.to_string());
                    panic_any(Bomb(2));
                })
                .build()
                .unwrap();
            let barrier = Barrier::new(2);
            let said = blast_of(|| {
                pool.named("pair").map(0..2, |_| -> () {
                    barrier.wait();
                    panic_any(Bomb(2));
                })
            });
            assert_eq!((&*said, pool.stats().panicked, pool.stats().unobserved), ("bomb", 2, 1));
            let heard = heard.lock().unwrap();
            assert!(heard.len() == 1 && heard[0].contains("`pair`"), "{heard:?}");
        });
    }
}

/// An iterator that panics where it is told to.
struct Faulty<'c> {
    census: &'c Census,
    left: usize,
    /// Panics instead of the item before which so many are left.
    next_panics: Option<usize>,
    hint_panics: bool,
    drop_panics: bool,
    dropped: &'c AtomicBool,
}

impl<'c> Faulty<'c> {
    fn new(census: &'c Census, left: usize, dropped: &'c AtomicBool) -> Self {
        Self { census, left, next_panics: None, hint_panics: false, drop_panics: false, dropped }
    }
}

impl Iterator for Faulty<'_> {
    type Item = Explosive;

    fn next(&mut self) -> Option<Explosive> {
        if self.next_panics == Some(self.left) {
            panic_any(Bomb(2));
        }
        self.left = self.left.checked_sub(1)?;
        Some(Explosive::of(self.census))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        assert!(!self.hint_panics, "the hint, on purpose");
        (self.left, Some(self.left))
    }
}

impl Drop for Faulty<'_> {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
        if self.drop_panics {
            panic_any(Bomb(2));
        }
    }
}

#[test]
fn an_iterator_that_panics_fails_the_map_and_loses_nothing() {
    everywhere(|pool| {
        for drop_panics in [false, true] {
            for left in [3_000, 2_999, 1] {
                let (census, dropped) = (Census::new(), AtomicBool::new(false));
                let mut items = Faulty::new(&census, 3_000, &dropped);
                (items.next_panics, items.drop_panics) = (Some(left), drop_panics);
                let started = AtomicUsize::new(0);
                let before = pool.stats().unobserved;
                let said = blast_of(|| {
                    pool.map(items, |item| {
                        started.fetch_add(1, Ordering::SeqCst);
                        item.defuse();
                    })
                });
                assert_eq!(said, "bomb");
                assert!(dropped.into_inner());
                assert_eq!(census.made(), 3_000 - left);
                assert_eq!(census.alive(), 0);
                let unstarted = census.made() - started.into_inner();
                let reported = unstarted + usize::from(drop_panics);
                assert_eq!(pool.stats().unobserved - before, reported as u64);
            }
        }
    });
}

#[test]
fn a_size_hint_that_panics_fails_the_map() {
    everywhere(|pool| {
        for drop_panics in [false, true] {
            let (census, dropped) = (Census::new(), AtomicBool::new(false));
            let mut items = Faulty::new(&census, 10, &dropped);
            (items.hint_panics, items.drop_panics) = (true, drop_panics);
            let said = panic_of(|| pool.map(items, |_item| ()));
            assert!(said.contains("the hint"), "{said}");
            assert!(dropped.into_inner());
            assert_eq!(census.made(), 0);
        }
    });
}

#[test]
fn an_iterator_whose_drop_panics_fails_a_map_that_is_done() {
    everywhere(|pool| {
        let (census, results, dropped) = (Census::new(), Census::new(), AtomicBool::new(false));
        let mut items = Faulty::new(&census, 100, &dropped);
        items.drop_panics = true;
        let said = blast_of(|| {
            pool.map(items, |item| {
                item.defuse();
                Explosive::of(&results)
            })
        });
        assert_eq!(said, "bomb");
        assert_eq!((results.made(), results.alive()), (100, 0));
        let mut items = Faulty::new(&census, 100, &dropped);
        items.drop_panics = true;
        let said = blast_of(|| {
            pool.try_map(items, |item| {
                item.defuse();
                Err::<(), _>(Explosive::of(&results))
            })
            .map_err(Explosive::defuse)
        });
        assert_eq!(
            (&*said, results.alive()),
            ("bomb", 0),
            "a panic takes precedence over an error"
        );
    });
}

#[test]
fn a_closure_whose_drop_panics_fails_a_map_that_is_done() {
    everywhere(|pool| {
        let (captures, results) = (Census::new(), Census::new());
        let item = || {
            let capture = Explosive::of(&captures);
            let results = &results;
            move |_| {
                let _ = &capture;
                Explosive::of(results)
            }
        };
        let said = blast_of(|| pool.map(0..10, item()));
        assert_eq!((&*said, results.made(), results.alive()), ("bomb", 10, 0));
        let said = blast_of(|| pool.map_range(0..3, item()));
        assert_eq!((&*said, results.made(), results.alive()), ("bomb", 13, 0));
        // It comes before an error that the map would have returned.
        let capture = Explosive::of(&captures);
        let before = pool.stats().unobserved;
        let errors = &results;
        let item = move |_| {
            let _ = &capture;
            Err::<(), _>(Explosive::of(errors))
        };
        let said = blast_of(|| pool.try_map(0..1, item));
        assert_eq!((&*said, results.made(), results.alive()), ("bomb", 14, 0));
        assert_eq!(pool.stats().unobserved - before, 1);
        assert_eq!((captures.made(), captures.alive()), (3, 0));
        // After a failure it is the second one.
        let capture = Explosive::of(&captures);
        let before = pool.stats().unobserved;
        let said = panic_of(|| {
            pool.map_range(0..1, move |_| -> () {
                let _ = &capture;
                panic!("first, on purpose");
            })
        });
        assert!(said.contains("first"), "{said}");
        assert_eq!((captures.alive(), pool.stats().unobserved - before), (0, 1));
    });
}

#[test]
fn a_pull_whose_task_cannot_be_cleaned_up_fails_the_map_and_its_item_is_dropped() {
    everywhere(|pool| {
        let census = Census::new();
        let items = || {
            (0..2_000).map(|i| {
                if i == 1_000 {
                    SLOT.set(Some(Explosive::of(&census)));
                    return Some(Explosive::of(&census));
                }
                None
            })
        };
        let said = blast_of(|| pool.map(items(), |item| assert!(item.is_none())));
        assert!(said.contains("SLOT"), "{said}");
        let said = blast_of(|| pool.map_results(items(), |item| assert!(item.is_none())));
        assert!(said.contains("SLOT"), "{said}");
        // The last pull, which yields nothing, is one too.
        let mut left = 10;
        let items = std::iter::from_fn(|| {
            if left == 0 {
                SLOT.set(Some(Explosive::of(&census)));
            }
            left -= 1;
            (left >= 0).then_some(())
        });
        let said = blast_of(|| pool.map(items, |()| ()));
        assert!(said.contains("SLOT"), "{said}");
        assert_eq!((census.made(), census.alive()), (5, 0));
    });
}

// A worker that is to be replaced leaves the rest of a map to others, but not of its own.
#[test]
fn an_owner_that_is_to_be_replaced_works_its_own_map_to_the_end() {
    quiet();
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            let inner = pool.in_context(&retiring());
            let results = pool.submit(move || inner.map_results(0..20, |n| n)).join();
            // The task fails as well, since it leaves what the items have left on its thread.
            match results {
                Ok(results) => assert!(results.len() == 20 && results.iter().all(Result::is_err)),
                Err(error) => assert!(!error.is_panic(), "{error}"),
            }
        });
    }
}

/// Where a value's drop panics, the slot is worth more than the payload, which is dropped: not
/// among the caller's slots.
#[test]
fn a_drop_that_panics_unwinds_in_words_that_name_its_slot() {
    task_local! {
        static LEFT: Option<OnDrop> = None;
        static OURS: u32 = 0;
    }
    struct Looks;
    impl Drop for Looks {
        fn drop(&mut self) {
            OURS.with_mut(|ours| LOOKS.lock().unwrap().push(std::mem::replace(ours, 9)));
        }
    }
    static LOOKS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    everywhere(|pool| {
        OURS.set(7);
        let leave = || LEFT.set(Some(OnDrop::new(|| panic_any(Looks))));
        let said = [
            panic_of(|| pool.map(0..1, |_| leave())),
            panic_of(|| pool.broadcast(leave)),
            panic_of(|| pool.join(leave, || ())),
            panic_of(|| pool.imap(0..1, move |_| leave()).next()),
            panic_of(|| pool.imap_unordered(0..1, move |_| leave()).next()),
        ];
        assert!(said.iter().all(|words| words.contains("LEFT")), "{said:?}");
        assert_eq!(OURS.get(), 7);
        let looks = std::mem::take(&mut *LOOKS.lock().unwrap());
        assert!(looks.len() >= said.len() && looks.iter().all(|look| *look == 0), "{looks:?}");
        let error = pool.map_results(0..1, |_| leave()).remove(0).unwrap_err();
        assert!(error.try_into_payload().unwrap().is::<Looks>());
        LOOKS.lock().unwrap().clear();
    });
}

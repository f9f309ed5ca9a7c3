//! Panics beside the one that resumes: the pool's hook hears of each.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{self, Wake, Waker};

use cleanslate::{Context, JoinHandle, OwnedWorkerLocal, Pool, task_local, worker_local};

use crate::support::{
    Census, Fails, FailsAsCopy, Inert, Refuses, SHAPES, finishes, occupy, panic_of, quiet,
};

task_local! { static SLOT: Option<Fails> = None; }

type Heard = Arc<Mutex<Vec<String>>>;

fn each_shape(test: impl Fn(&Pool, &dyn Fn() -> Vec<String>) + Send + Sync + 'static) {
    quiet();
    let test = Arc::new(test);
    for workers in SHAPES {
        let test = Arc::clone(&test);
        finishes(&format!("{workers} workers"), move || {
            let heard = Heard::default();
            let theirs = Arc::clone(&heard);
            let pool = Pool::builder()
                .workers(workers)
                .panic_hook(move |error| theirs.lock().unwrap().push(error.to_string()))
                .build()
                .unwrap();
            let before = std::cell::Cell::new(0);
            test(&pool, &|| {
                let words = std::mem::take(&mut *heard.lock().unwrap());
                let unobserved = pool.stats().unobserved;
                assert_eq!(unobserved - before.replace(unobserved), words.len() as u64);
                words
            });
        });
    }
}

#[test]
fn of_a_broadcast_the_hook_hears_of_every_visit_but_the_first() {
    each_shape(|pool, heard| {
        assert_eq!(panic_of(|| pool.broadcast(|| panic!("a visit"))), "a visit");
        let heard = heard();
        assert_eq!(heard.len(), pool.workers() - 1);
        assert!(heard.iter().all(|words| words.ends_with("panicked: a visit")), "{heard:?}");
    });
}

#[test]
fn of_a_join_the_hook_hears_of_the_second_panic() {
    each_shape(|pool, heard| {
        let join = || {
            let bad = |what: &'static str| panic!("{what}");
            assert_eq!(panic_of(|| pool.join(|| bad("a"), || bad("b"))), "a");
        };
        join();
        let words = heard();
        assert!(words.len() == 1 && words[0].ends_with("panicked: b"), "{words:?}");
        pool.for_each(0..1, |_| join());
        assert_eq!(heard().len(), 1, "in a task");
        panic_of(|| pool.join(|| panic!("a"), || 1));
        assert_eq!(heard(), Vec::<String>::new());
    });
}

#[test]
fn of_map_results_that_has_none_the_hook_hears_of_every_item_that_failed() {
    each_shape(|pool, heard| {
        let odd = |n: usize| {
            if n % 2 == 1 {
                panic!("item {n}")
            }
        };
        let pulled = (0..10).inspect(|n| assert_ne!(*n, 9, "no more"));
        assert!(panic_of(|| pool.map_results(pulled, odd)).contains("no more"));
        // How far the items before it have come is not known.
        for words in heard() {
            assert!(words.contains("panicked: item "), "{words}");
        }
        let held = Fails::new(&Census::new());
        let words = panic_of(|| {
            pool.map_results(0..10, move |n| {
                held.held();
                odd(n);
            })
        });
        assert_eq!(words, "a drop, on purpose");
        let mut items = heard();
        items.sort();
        assert_eq!(items.len(), 5);
        for (words, n) in items.iter().zip([1, 3, 5, 7, 9]) {
            let named = words.starts_with(&format!("item {n} of the task submitted at "));
            assert!(named && words.ends_with(&format!("panicked: item {n}")), "{words}");
        }
    });
}

#[test]
fn of_an_imap_the_hook_hears_of_the_second_drop_and_of_items_that_nobody_asks_for() {
    each_shape(|pool, heard| {
        let census = Census::new();
        let hold = |fails: Fails| {
            move |n: usize| {
                fails.held();
                n
            }
        };
        let (items, f) = (Fails::new(&census), Fails::new(&census));
        let lazy = pool.imap((0..3).map(hold(items)), hold(f));
        assert_eq!(panic_of(|| drop(lazy)), "a drop, on purpose");
        assert_eq!(heard(), ["`input of an imap` panicked: a drop, on purpose"]);
        // Where the thread unwinds already, of both.
        let words = panic_of(|| {
            let (items, f) = (Fails::new(&census), Fails::new(&census));
            let _lazy = pool.imap((0..3).map(hold(items)), hold(f));
            panic!("the first one, on purpose");
        });
        assert_eq!((&*words, heard().len()), ("the first one, on purpose", 2));
        assert_eq!(census.alive(), 0);
        let mut lazy = pool.imap(0..2, |n| panic!("item {n}")).buffer(2);
        assert_eq!(panic_of(|| lazy.next()), "item 0");
        drop(lazy);
        pool.wait_idle();
        assert!(heard().iter().all(|words| words.ends_with("panicked: item 1")));
    });
}

#[test]
fn of_a_detached_task_the_hook_hears_whatever_it_fails_for() {
    each_shape(|pool, heard| {
        let census = Census::new();
        let fails = Fails::new(&census);
        drop(pool.submit(|| panic!("a task, on purpose")));
        drop(pool.submit(move || SLOT.set(Some(fails))));
        drop(pool.in_context(&Context::empty().carry(Refuses(|| true))).submit(|| unreachable!()));
        pool.wait_idle();
        let heard = heard();
        for words in ["a task, on purpose", "a drop, on purpose", "refused, on purpose"] {
            assert_eq!(heard.iter().filter(|heard| heard.contains(words)).count(), 1, "{heard:?}");
        }
        assert_eq!(heard.len(), 3);
    });
}

/// Cannot be woken, or cannot be dropped.
struct Alarm(Option<Fails>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        assert!(self.0.is_some(), "a wake, on purpose");
    }
}

#[test]
fn of_a_waker_the_hook_hears_that_it_cannot_be_woken_or_dropped() {
    each_shape(|pool, heard| {
        let census = Census::new();
        let poll = |handle: &mut JoinHandle<()>, alarm: Alarm| {
            // The handle has the only one left.
            let waker = Waker::from(Arc::new(alarm));
            assert!(Pin::new(handle).poll(&mut task::Context::from_waker(&waker)).is_pending());
        };
        let waits = || {
            let (go, gate) = mpsc::channel::<()>();
            (go, pool.submit(move || _ = gate.recv()))
        };
        for (alarm, words) in [
            (Alarm(None), "panicked: a wake, on purpose"),
            (Alarm(Some(Fails::new(&census))), "panicked: a drop, on purpose"),
        ] {
            let (go, mut handle) = waits();
            poll(&mut handle, alarm);
            drop(go);
            pool.wait_idle();
            let heard = heard();
            assert!(heard.len() == 1 && heard[0].ends_with(words), "{heard:?}");
            handle.join().unwrap();
        }
        let (go, mut handle) = waits();
        for n in 0..2 {
            poll(&mut handle, Alarm(Some(Fails::new(&census))));
            assert_eq!(heard().len(), n, "one that another takes the place of");
        }
        drop(handle);
        assert_eq!(heard().len(), 1, "that of a handle that goes");
        drop(go);
        pool.wait_idle();
        let (go, mut handle) = waits();
        poll(&mut handle, Alarm(Some(Fails::new(&census))));
        std::thread::scope(|s| {
            let joins = s.spawn(|| handle.join());
            while census.alive() != 0 && !joins.is_finished() {
                std::thread::yield_now();
            }
            drop(go);
            joins.join().unwrap().unwrap();
        });
        assert_eq!(heard().len(), 1, "one that a thread takes the place of");
        assert_eq!((census.alive(), pool.broadcast(|| ()).len()), (0, pool.workers()));
    });
}

task_local! {
    #[inherit]
    static COPIED: FailsAsCopy = FailsAsCopy::default();
}

#[test]
fn of_an_imap_that_ends_the_hook_hears_of_the_drop_of_what_it_inherits() {
    each_shape(|pool, heard| {
        COPIED.set(FailsAsCopy::default());
        let mut lazy = pool.imap(0..0, |n| n);
        // Now nobody but the iterator has the copy.
        COPIED.set(FailsAsCopy::default());
        assert_eq!(lazy.next(), None);
        let heard = heard();
        assert!(
            heard.len() == 1 && heard[0].ends_with("panicked: a copy, on purpose"),
            "{heard:?}"
        );
    });
}

#[test]
fn of_a_task_that_is_cancelled_the_hook_hears_of_the_drop_of_what_it_inherits() {
    each_shape(|pool, heard| {
        let _busy = occupy(pool);
        COPIED.set(FailsAsCopy::default());
        let handle = pool.submit(|| ());
        // Now nobody but the task has the copy.
        COPIED.set(FailsAsCopy::default());
        assert!(handle.cancel());
        let heard = heard();
        assert!(
            heard.len() == 1 && heard[0].ends_with("panicked: a copy, on purpose"),
            "{heard:?}"
        );
        assert!(handle.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn of_a_clean_up_that_fails_the_hook_does_not_hear_since_the_error_says_it_all() {
    each_shape(|pool, heard| {
        let census = Census::new();
        // Two drops fail: that of what was left, and that of what was returned.
        let leaves = |n: usize| {
            (n == 3).then(|| {
                SLOT.set(Some(Fails::new(&census)));
                Fails::new(&census)
            })
        };
        let carrying = pool.in_context(&Context::empty().carry(Inert(())));
        for pool in [pool, &carrying] {
            let pull = || (0..20).map(leaves);
            let stops = |n| leaves(n).map_or(Ok(()), Err);
            let reductions = AtomicUsize::new(0);
            let reduce = |_, _| match reductions.fetch_add(1, Ordering::SeqCst) {
                // Late enough to lie within a chunk.
                5_000 => leaves(3),
                _ => None,
            };
            let of_submit = pool.scope(|s| s.submit(|| leaves(3)).join().err()).unwrap();
            let of_one = pool.map_results(0..20, leaves).remove(3).err().unwrap();
            assert!(of_submit.is_cleanup() && of_one.is_cleanup());
            let all = [
                ("submit", of_submit.to_string()),
                ("map_results", of_one.to_string()),
                ("map", panic_of(|| drop(pool.map(0..20, leaves)))),
                ("map_range", panic_of(|| drop(pool.map_range(0..20, leaves)))),
                ("map_slice", panic_of(|| drop(pool.map_slice(&[1, 2, 3], |n| leaves(*n))))),
                ("try_map", panic_of(|| drop(pool.try_map(0..20, stops)))),
                (
                    "map_reduce",
                    panic_of(|| drop(pool.map_reduce(0..10_000, |_| None, || None, reduce))),
                ),
                ("a pull", panic_of(|| drop(pool.map(pull(), |_| ())))),
                ("a pull of map_results", panic_of(|| drop(pool.map_results(pull(), |_| ())))),
                ("broadcast", panic_of(|| drop(pool.broadcast(|| leaves(3))))),
            ];
            let others = pool.workers() - 1;
            assert_eq!(heard().len(), others, "the other visits of the broadcast");
            for (what, words) in all {
                assert!(words.contains("SLOT"), "{what}: {words}");
                let faults = words.matches("a drop, on purpose").count();
                assert_eq!(faults, 2, "{what}: {words}");
            }
        }
        assert_eq!((census.alive(), pool.stats().panicked), (0, 0));
    });
}

#[test]
fn of_a_scope_the_hook_hears_of_its_tasks_and_of_the_drop_of_its_result() {
    each_shape(|pool, heard| {
        let census = Census::new();
        let words = panic_of(|| {
            pool.scope(|s| {
                s.submit(|| panic!("unseen"));
                Fails::new(&census)
            })
        });
        assert!(words.starts_with("a scoped task panicked: task #"), "{words}");
        let words = heard();
        let heard_of = |end: &str| words.iter().any(|words| words.ends_with(end));
        assert!(heard_of("panicked: unseen"), "{words:?}");
        assert!(heard_of("`result of a scope` panicked: a drop, on purpose"), "{words:?}");
        assert_eq!(words.len(), 2);
    });
}

#[test]
fn a_scope_whose_task_lies_too_deep_says_so() {
    fn nest(pool: &Pool) {
        pool.scope(|s| {
            s.submit(|| nest(pool));
        });
    }
    quiet();
    finishes("a scope", || {
        let heard = Heard::default();
        let theirs = Arc::clone(&heard);
        let pool = Pool::builder()
            .workers(1)
            .stack_size(64 << 20)
            .panic_hook(move |error| theirs.lock().unwrap().push(error.to_string()))
            .build()
            .unwrap();
        let nested = pool.clone();
        assert!(pool.submit(move || nest(&nested)).join().unwrap_err().is_panic());
        let said = |words: &str| heard.lock().unwrap().iter().filter(|w| w.contains(words)).count();
        assert_eq!(said("a scoped task did not run: task #"), 1);
        assert_eq!(said("too many tasks lie on top of one another"), 1);

        // Not of one whose handle has said so.
        let nested = pool.clone();
        let joined = pool.submit(move || {
            fn nest(pool: &Pool) -> bool {
                pool.scope(|s| match s.submit(|| nest(pool)).join() {
                    Ok(too_deep) => too_deep,
                    Err(error) => error.is_too_deep(),
                })
            }
            nest(&nested)
        });
        assert!(joined.join().unwrap());
        let ended = catch_unwind(AssertUnwindSafe(|| {
            pool.scope(|s| {
                s.submit(|| panic!("unseen"));
            });
        }));
        assert!(ended.is_err());
    });
}

worker_local! { static KEPT: FailsAtEnd = FailsAtEnd; }

struct FailsAtEnd;

impl Drop for FailsAtEnd {
    fn drop(&mut self) {
        panic!("cannot be closed");
    }
}

// Broke: nobody did, not even the counter.
#[test]
fn of_a_worker_local_that_fails_at_its_workers_end_the_hook_hears() {
    each_shape(|pool, heard| {
        let owned = OwnedWorkerLocal::new(|| FailsAtEnd);
        pool.broadcast(|| {
            KEPT.with(|_| ());
            owned.with(|_| ());
        });
        assert_eq!(heard(), Vec::<String>::new());
        pool.shutdown().unwrap();
        let mut words = heard();
        words.sort();
        let mut expected: Vec<String> = (0..pool.workers())
            .flat_map(|n| {
                let of = |what: &str| format!("`worker-local {what} of worker {n}`");
                [of("pool::unheard::KEPT"), of("that an object owns")]
            })
            .collect();
        expected.sort();
        let is_said = |(said, of): (&String, &String)| {
            said.contains(of.as_str()) && said.ends_with("cannot be closed")
        };
        assert!(words.len() == expected.len(), "{words:?}");
        assert!(words.iter().zip(&expected).all(is_said), "{words:?}");
    });
}

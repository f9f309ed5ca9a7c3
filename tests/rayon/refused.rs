//! Tasks whose context cannot be captured: the closures are dropped once, and a panic of that drop
//! is not a second one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{Census, Fails, FailsToClone, HAS_FAILED, finishes, message, quiet};
use cleanslate::rayon::{
    ParallelIteratorExt, RayonPool, in_place_scope, install, join_context, scope_fifo,
};
use cleanslate::task_local;

task_local! {
    #[inherit]
    static INHERITED: Option<FailsToClone> = None;
}

/// A way to rayon, which is given things that fail to be dropped.
type Entry = (&'static str, fn(&RayonPool, &dyn Fn() -> Fails));

const ENTRIES: &[Entry] = &[
    ("join", |pool, fails| _ = pool.join(once(fails()), once(fails()))),
    ("join_context", |_, fails| {
        let [a, b] = [fails(), fails()];
        join_context(move |_| a.held(), move |_| b.held());
    }),
    ("install", |pool, fails| pool.install(once(fails()))),
    ("install on rayon's", |_, fails| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        install(&pool, once(fails()));
    }),
    ("broadcast", |pool, fails| {
        let held = fails();
        drop(pool.broadcast(move || held.held()));
    }),
    ("spawn", |pool, fails| pool.spawn(once(fails()))),
    ("spawn_fifo", |pool, fails| pool.spawn_fifo(once(fails()))),
    ("spawn_broadcast", |pool, fails| {
        let held = fails();
        pool.spawn_broadcast(move || held.held());
    }),
    ("scope", |pool, fails| {
        let held = fails();
        pool.scope(move |_| held.held());
    }),
    ("scope_fifo", |_, fails| {
        let held = fails();
        scope_fifo(move |_| held.held());
    }),
    ("scope.spawn", |_, fails| {
        in_place_scope(|s| {
            let held = fails();
            s.spawn(move |_| held.held());
        });
    }),
    ("scope.spawn_broadcast", |_, fails| {
        in_place_scope(|s| {
            let held = fails();
            s.spawn_broadcast(move |_, _| held.held());
        });
    }),
    ("isolated", |_, fails| drop(rayon::iter::once(fails()).isolated())),
    ("map", |pool, fails| {
        let held = fails();
        drop(pool.map((0..3).inspect(move |_| held.held()), each(fails())));
    }),
    ("map_slice", |pool, fails| {
        let held = fails();
        drop(pool.map_slice(&[1, 2], move |_: &u8| held.held()));
    }),
    ("map_range", |pool, fails| drop(pool.map_range(0..3, each(fails())))),
];

fn each<A>(fails: Fails) -> impl Fn(A) + Send + Sync {
    move |_| fails.held()
}

fn once(fails: Fails) -> impl FnOnce() + Send {
    move || fails.held()
}

// Broke: the closures were dropped while the panic of the capture unwound; their own ended the
// process.
#[test]
fn what_was_given_to_a_call_that_cannot_capture_costs_no_second_panic() {
    quiet();
    for threads in [1, 2] {
        finishes("refused", move || {
            let pool = RayonPool::new(threads).unwrap();
            INHERITED.scope(Some(FailsToClone), || {
                for (name, entry) in ENTRIES {
                    let census = Census::new();
                    HAS_FAILED.set(false);
                    let ended =
                        catch_unwind(AssertUnwindSafe(|| entry(&pool, &|| Fails::new(&census))));
                    let said = message(&*ended.unwrap_err());
                    assert!(said.contains("a clone"), "{name}: {said}");
                    assert_eq!(census.alive(), 0, "{name}");
                    assert!(!HAS_FAILED.get(), "{name}: a drop has left a slot");
                }
            });
            assert_eq!(pool.map_range(0..3, |n| n), [0, 1, 2]);
        });
    }
}

// Broke: as much memory was asked for as the input promised, which ended the process.
#[test]
fn an_input_may_promise_any_number_of_items() {
    struct Boasts(u32, (usize, Option<usize>));
    impl Iterator for Boasts {
        type Item = u32;
        fn next(&mut self) -> Option<u32> {
            self.0 = self.0.checked_sub(1)?;
            Some(self.0)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            self.1
        }
    }
    let pool = RayonPool::new(2).unwrap();
    for hint in [(1 << 50, None), (usize::MAX, None), (7, Some(2)), (0, Some(0)), (0, None)] {
        assert_eq!(pool.map(Boasts(3, hint), |n| n), [2, 1, 0], "{hint:?}");
    }
}

// Broke: the closure was dropped while the panic of the allocation unwound.
#[test]
fn a_map_of_more_results_than_there_are_addresses_costs_one_panic() {
    quiet();
    let census = Census::new();
    let pool = RayonPool::new(1).unwrap();
    let held = Fails::new(&census);
    let map = || pool.map_range(0..usize::MAX, move |n| (held.held(), n).1);
    let said = message(&*catch_unwind(AssertUnwindSafe(map)).unwrap_err());
    assert_eq!((said.as_str(), census.alive()), ("capacity overflow", 0));
}

//! What a pool does not take, since it is closed, or nothing can be captured, or there are no
//! items: whatever was given is dropped once, and a panic of that drop is not a second one.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    Census, Fails, FailsToClone, HAS_FAILED, SHAPES, deeper, finishes, in_a_process_of_its_own,
    message, occupy, printed_in_a_process_of_its_own, quiet,
};
use cleanslate::{Context, Executor, Pool, leaked_values, task_local};

task_local! {
    #[inherit]
    static INHERITED: Option<FailsToClone> = None;
}

/// A way into the pool, which is given things that fail to be dropped.
type Entry = (&'static str, fn(&Pool, &dyn Fn() -> Fails));

const ENTRIES: &[Entry] = &[
    ("submit", |pool, fails| drop(pool.submit(once(fails())))),
    ("try_submit", |pool, fails| {
        if let Err(refused) = pool.try_submit(once(fails())) {
            // Its drop is the caller's affair.
            Context::empty().run(|| quietly(|| drop(refused.into_inner())));
        }
    }),
    ("permit", |pool, fails| {
        if let Ok(permit) = pool.try_reserve() {
            drop(permit.submit(once(fails())));
        }
    }),
    ("scope.submit", |pool, fails| pool.scope(|s| drop(s.submit(once(fails()))))),
    ("broadcast", |pool, fails| {
        let held = fails();
        drop(pool.broadcast(move || held.held()));
    }),
    ("map", |pool, fails| drop(pool.map(items(fails()), each(fails())))),
    ("map_slice", |pool, fails| {
        let held = fails();
        drop(pool.map_slice(&[1, 2], move |_: &u8| held.held()));
    }),
    ("map_range", |pool, fails| drop(pool.map_range(0..3, each(fails())))),
    ("try_map", |pool, fails| drop(pool.try_map(items(fails()), ok(fails())))),
    ("map_results", |pool, fails| drop(pool.map_results(items(fails()), each(fails())))),
    ("for_each", |pool, fails| pool.for_each(items(fails()), each(fails()))),
    ("map_init", |pool, fails| {
        let (init, f) = (each(fails()), each(fails()));
        drop(pool.map_init(items(fails()), move || init(0), move |(), n| f(n)));
    }),
    ("reduce", |pool, fails| {
        let (identity, f) = (number(fails()), number(fails()));
        pool.reduce(items(fails()), move || identity(0), move |a, b| a + f(b));
    }),
    ("map_reduce", |pool, fails| {
        let (identity, f) = (number(fails()), number(fails()));
        pool.map_reduce(items(fails()), number(fails()), move || identity(0), move |a, b| a + f(b));
    }),
    ("join", |pool, fails| _ = pool.join(once(fails()), once(fails()))),
    ("imap", |pool, fails| pool.imap(items(fails()), each(fails())).for_each(drop)),
    ("imap_unordered", |pool, fails| {
        pool.imap_unordered(items(fails()), each(fails())).for_each(drop);
    }),
];

const WITHOUT_ITEMS: &[Entry] = &[
    ("map", |pool, fails| drop(pool.map(NoIterator, each(fails())))),
    ("try_map", |pool, fails| drop(pool.try_map(NoIterator, ok(fails())))),
    ("map_results", |pool, fails| drop(pool.map_results(NoIterator, each(fails())))),
    ("for_each", |pool, fails| pool.for_each(NoIterator, each(fails()))),
    ("map_init", |pool, fails| {
        let (init, f) = (each(fails()), each(fails()));
        drop(pool.map_init(NoIterator, move || init(0), move |(), n| f(n)));
    }),
    ("map_reduce", |pool, fails| {
        let (identity, f) = (number(fails()), number(fails()));
        pool.map_reduce(NoIterator, number(fails()), move || identity(0), move |a, b| a + f(b));
    }),
    ("imap", |pool, fails| pool.imap(NoIterator, each(fails())).for_each(drop)),
    ("imap_unordered", |pool, fails| {
        pool.imap_unordered(NoIterator, each(fails())).for_each(drop);
    }),
];

/// Panics before there is an iterator.
struct NoIterator;

impl IntoIterator for NoIterator {
    type Item = u32;
    type IntoIter = std::iter::Empty<u32>;

    fn into_iter(self) -> Self::IntoIter {
        panic!("an into_iter, on purpose");
    }
}

fn items(fails: Fails) -> impl Iterator<Item = u32> + Send {
    (0..3).inspect(move |_| fails.held())
}

fn each(fails: Fails) -> impl Fn(u32) + Send + Sync {
    move |_| fails.held()
}

fn number(fails: Fails) -> impl Fn(u32) -> u32 + Send + Sync {
    move |n| (n, fails.held()).0
}

fn ok(fails: Fails) -> impl Fn(u32) -> Result<(), ()> + Send + Sync {
    move |_| {
        fails.held();
        Ok(())
    }
}

fn once(fails: Fails) -> impl FnOnce() + Send {
    move || fails.held()
}

fn quietly(f: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(f)));
}

/// Tries an entry. If it panics, that has to be the refusal.
fn try_entry(&(name, entry): &Entry, pool: &Pool, reason: &str) {
    let census = Census::new();
    HAS_FAILED.set(false);
    let ended = catch_unwind(AssertUnwindSafe(|| entry(pool, &|| Fails::new(&census))));
    if let Err(payload) = ended {
        // As it is, it would not be printed.
        let said = message(&*payload).replace(", on purpose", "");
        assert!(said.contains(reason), "{name}: {said}");
    }
    assert_eq!(census.alive(), 0, "{name}");
    // The closure of a scope is a part of its caller.
    assert!(name == "scope" || !HAS_FAILED.get(), "{name}: a drop has left a slot");
}

// Broke: what a map or broadcast that was refused dropped left slots on its caller's thread.
// Broke: where a call panics, what it was given is dropped while that unwinds; the drop's own panic
// ended the process.
#[test]
fn what_was_given_to_a_call_that_is_refused_costs_no_second_panic() {
    quiet();
    for workers in SHAPES {
        finishes("refused", move || {
            let pool = Pool::new(workers).unwrap();
            for entry in WITHOUT_ITEMS {
                try_entry(entry, &pool, "an into_iter");
            }
            let too_long = |pool: &Pool, fails: &dyn Fn() -> Fails| {
                let held = fails();
                drop(pool.map_range(0..u128::MAX, move |_| held.held()));
            };
            try_entry(&("map_range", too_long), &pool, "longer than memory");
            INHERITED.scope(Some(FailsToClone), || {
                for entry in ENTRIES {
                    try_entry(entry, &pool, "a clone");
                }
            });
            assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
            assert_eq!(pool.broadcast(|| ()).len(), workers);
            pool.shutdown().unwrap();
            for entry in ENTRIES {
                try_entry(entry, &pool, "shut down");
            }
            let scope = |pool: &Pool, fails: &dyn Fn() -> Fails| {
                let held = fails();
                pool.scope(move |_| held.held());
            };
            try_entry(&("scope", scope), &pool, "shut down");
        });
    }
}

// Broke: that of `join` said that it came from within the crate, and so did that of a map for whose
// results there is no room.
#[test]
fn a_call_that_is_refused_panics_where_it_stands() {
    let name = "refused::a_call_that_is_refused_panics_where_it_stands";
    let Some(printed) = printed_in_a_process_of_its_own(name) else {
        let pool = Pool::new(1).unwrap();
        for (_, entry) in ENTRIES {
            let call = || entry(&pool, &|| Fails::new(&Census::new()));
            INHERITED.with_mut(|_| quietly(call));
        }
        quietly(|| drop(pool.map_range(0..usize::MAX, |n| n)));
        return;
    };
    let lines: Vec<_> = printed.lines().collect();
    let words = ["cannot capture slot", "no room for"];
    let refused = |line: &str| words.iter().any(|words| line.starts_with(words));
    let refusals = lines.windows(2).filter(|lines| refused(lines[1]));
    let mut count = 0;
    for refusal in refusals {
        assert!(refusal[0].contains(file!()), "{}", refusal.join("\n"));
        count += 1;
    }
    assert_eq!(count, ENTRIES.len() + 1, "{printed}");
}

// Broke: the closure was dropped after the results were there, and its panic took them along
// unseen.
#[test]
fn a_broadcast_whose_closure_cannot_be_dropped_fails_and_drops_its_results() {
    quiet();
    for workers in SHAPES {
        finishes("closure", move || {
            let (sender, receiver) = std::sync::mpsc::channel();
            let report = move |error: cleanslate::TaskError| sender.send(error).unwrap();
            let pool = Pool::builder().workers(workers).panic_hook(report).build().unwrap();
            let census = Census::new();
            let (held, made) = (Fails::new(&census), census.clone());
            let visit = move || {
                held.held();
                Fails::new(&made)
            };
            let failed = catch_unwind(AssertUnwindSafe(|| {
                let results = pool.broadcast(visit);
                results.into_iter().for_each(|result| quietly(|| drop(result)));
            }));
            assert!(message(&*failed.unwrap_err()).contains("a drop"));
            assert_eq!((census.made(), census.alive()), (1 + workers, 0));
            drop(pool);
            // The results' own panics are reported.
            assert_eq!(receiver.iter().count(), workers);
        });
    }
}

// Broke: in code that is generic over pools, it was said to have been submitted in this crate.
#[test]
fn what_an_executor_maps_was_submitted_by_its_caller() {
    quiet();
    let (sender, receiver) = std::sync::mpsc::channel();
    let report = move |error: cleanslate::TaskError| sender.send(error).unwrap();
    let pool = Pool::builder().workers(1).panic_hook(report).build().unwrap();
    let census = Census::new();
    let ends_with_a_failure =
        |n: usize| if n == 0 { Fails::new(&census) } else { panic!("an item, on purpose") };
    for way in 0..3 {
        quietly(|| {
            drop(match way {
                0 => Executor::map(&pool, 0..2, ends_with_a_failure),
                1 => Executor::map_slice(&pool, &[0, 1], |n| ends_with_a_failure(*n)),
                _ => Executor::map_range(&pool, 0..2, ends_with_a_failure),
            })
        });
        assert_eq!(receiver.recv().unwrap().submitted_at().file(), file!());
    }
}

/// Whoever drops it submits it anew, so many KiB further down the stack.
struct Persistent {
    pool: Pool,
    drops: Arc<AtomicUsize>,
    kibibytes: usize,
}

impl Drop for Persistent {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        let (pool, drops) = (self.pool.clone(), Arc::clone(&self.drops));
        let again = Cell::new(Some(Self { pool, drops, kibibytes: self.kibibytes }));
        let submit = || {
            let again = again.take();
            drop(self.pool.submit(move || drop(again)));
        };
        deeper(self.kibibytes, &submit);
    }
}

// Broke: each refusal drops the closure within the call that brought it, so the stack overflowed.
#[test]
fn a_closure_that_is_submitted_anew_whenever_it_is_refused_is_leaked_in_the_end() {
    let test = "refused::\
                a_closure_that_is_submitted_anew_whenever_it_is_refused_is_leaked_in_the_end";
    if !in_a_process_of_its_own(test) {
        return;
    }
    for workers in SHAPES {
        let drops = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new(workers).unwrap();
        let using =
            |kibibytes| Persistent { pool: pool.clone(), drops: Arc::clone(&drops), kibibytes };
        let persistent = || using(0);
        let seen = |leaked| {
            assert_eq!(leaked_values(), leaked + 1, "one closure, with its context");
            drops.swap(0, Ordering::SeqCst)
        };
        // Cancelled while it lies in the queue.
        let leaked = leaked_values();
        let occupied = occupy(&pool);
        let job = persistent();
        let queued = pool.submit(move || drop(job));
        std::thread::scope(|s| {
            s.spawn(|| pool.shutdown_now().unwrap());
            assert!(queued.join().unwrap_err().is_cancelled());
            drop(occupied);
        });
        assert_eq!(seen(leaked), 65);
        // On a plain thread, and in a task.
        let leaked = leaked_values();
        drop(persistent());
        assert_eq!(seen(leaked), 65);
        let leaked = leaked_values();
        let other = Pool::new(1).unwrap();
        other.scope(|s| s.submit(|| drop(persistent())).join().unwrap());
        assert_eq!(seen(leaked), 65);
        // Where so many would use all of the stack, there are fewer.
        let leaked = leaked_values();
        other.scope(|s| s.submit(|| drop(using(64))).join().unwrap());
        assert!((20..30).contains(&seen(leaked)));
        // Broke: on a plain thread that had ended a task further up its stack it was the second.
        let leaked = leaked_values();
        let builder = std::thread::Builder::new().stack_size(16 << 20);
        std::thread::scope(|s| {
            let cancels_and_drops = || {
                let _done = other.submit(|| ()).cancel();
                deeper(2_000, &|| drop(persistent()));
            };
            builder.spawn_scoped(s, cancels_and_drops).unwrap().join().unwrap();
        });
        assert_eq!(seen(leaked), 65);
    }
}

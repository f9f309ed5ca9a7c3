//! How deep tasks lie on top of one another: 256 levels, and then an error in place of a stack
//! overflow.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::{Census, Counted, SHAPES, deeper, finishes, message, occupy, quiet};
use cleanslate::{CancelOnDrop, JoinHandle, Pool, TaskError};

/// The documented depth.
const DEPTH: usize = 256;

#[derive(Clone, Copy, Debug)]
enum Way {
    Join,
    Poll,
    ScopeJoin,
    ScopeEnd,
    Map,
    MapRange,
    MapResults,
    Imap,
    ImapUnordered,
    Broadcast,
}

const WAYS: [Way; 10] = [
    Way::Join,
    Way::Poll,
    Way::ScopeJoin,
    Way::ScopeEnd,
    Way::Map,
    Way::MapRange,
    Way::MapResults,
    Way::Imap,
    Way::ImapUnordered,
    Way::Broadcast,
];

const TOO_DEEP: &str = "too many tasks lie on top of one another";

/// Has one task wait for the next until that fails. Notes how deep it came.
fn nest(pool: &Pool, way: Way, level: usize, deepest: &Arc<AtomicUsize>) {
    deepest.fetch_max(level, Ordering::SeqCst);
    let (their_pool, theirs) = (pool.clone(), Arc::clone(deepest));
    let next = move || nest(&their_pool, way, level + 1, &theirs);
    let here = || nest(pool, way, level + 1, deepest);
    match way {
        Way::Join => unless_too_deep(pool.submit(next).join()),
        Way::Poll => {
            let mut handle = pin!(pool.submit(next));
            let poll = handle.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(joined) = poll else { panic!("inside a task it runs at once") };
            unless_too_deep(joined);
        }
        Way::ScopeJoin => pool.scope(|s| unless_too_deep(s.submit(here).join())),
        Way::ScopeEnd => or_too_deep(|| {
            pool.scope(|s| {
                s.submit(here);
            });
        }),
        Way::Map => or_too_deep(|| drop(pool.map([()], |()| here()))),
        Way::MapRange => or_too_deep(|| drop(pool.map_range(0..1, |_| here()))),
        Way::MapResults => or_too_deep(|| drop(pool.map_results([()], |()| here()))),
        Way::Imap => or_too_deep(|| pool.imap([()], move |()| next.clone()()).for_each(drop)),
        Way::ImapUnordered => {
            or_too_deep(|| pool.imap_unordered([()], move |()| next.clone()()).for_each(drop));
        }
        Way::Broadcast => or_too_deep(|| drop(pool.broadcast(here))),
    }
}

fn unless_too_deep(joined: Result<(), TaskError>) {
    if let Err(error) = joined {
        assert!(error.is_too_deep() && error.to_string().contains(TOO_DEEP), "{error}");
        assert!(!error.is_panic() && !error.is_cancelled());
    }
}

fn or_too_deep(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        let said = message(&*payload);
        // A scope does not say with what its task panicked.
        assert!(
            said.contains(TOO_DEEP) || said.starts_with("a scoped task"),
            "on purpose, but {said}"
        );
    }
}

#[test]
fn tasks_nest_to_the_depth_that_is_documented_and_then_fail() {
    quiet();
    for way in WAYS {
        finishes(&format!("{way:?}"), move || {
            // Not optimised, some of these use more than a default stack for it.
            let pool = Pool::builder().workers(1).stack_size(16 << 20).build().unwrap();
            let deepest = Arc::new(AtomicUsize::new(0));
            let (inner, theirs) = (pool.clone(), Arc::clone(&deepest));
            pool.submit(move || nest(&inner, way, 1, &theirs)).join().unwrap();
            assert_eq!(deepest.load(Ordering::SeqCst), DEPTH);
            assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
            let stats = pool.stats();
            assert_eq!((stats.running, stats.queued, stats.panicked), (0, 0, 0), "{stats:?}");
        });
    }
}

// Broke: not optimised, some of these overflowed a default stack before they came to the depth.
#[test]
fn tasks_that_use_much_of_the_stack_nest_until_a_quarter_is_left() {
    quiet();
    let stack = if cfg!(debug_assertions) { 512 << 10 } else { 128 << 10 };
    for way in WAYS {
        finishes(&format!("{way:?}"), move || {
            let pool = Pool::builder().workers(1).stack_size(stack).build().unwrap();
            let deepest = Arc::new(AtomicUsize::new(0));
            let (inner, theirs) = (pool.clone(), Arc::clone(&deepest));
            pool.submit(move || nest(&inner, way, 1, &theirs)).join().unwrap();
            assert!((10..DEPTH).contains(&deepest.load(Ordering::SeqCst)), "{deepest:?}");
            assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
        });
    }
}

// Broke: of the stack of a caller that helps nothing was known, so some of these overflowed it.
#[test]
fn tasks_nest_on_the_stack_of_a_caller_that_helps_without_overflowing_it() {
    quiet();
    // Visits lie on the worker's stack.
    for way in WAYS.into_iter().filter(|way| !matches!(way, Way::Broadcast)) {
        finishes(&format!("{way:?}"), move || {
            let caller = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
                let pool = Pool::builder().workers(1).caller_helps(true).build().unwrap();
                // The worker would nest what it gets hold of on its own stack.
                let _occupied = occupy(&pool);
                let deepest = Arc::new(AtomicUsize::new(0));
                pool.map([()], |()| nest(&pool, way, 1, &deepest));
                assert!((10..=DEPTH).contains(&deepest.load(Ordering::SeqCst)), "{deepest:?}");
                // Less deep than where the last task began.
                assert_eq!(pool.map([5], |n| n), [5]);
            });
            caller.unwrap().join().unwrap();
        });
    }
}

#[test]
fn the_depth_counts_the_tasks_of_all_pools() {
    finishes("two pools", || {
        let build = || Pool::builder().workers(1).stack_size(16 << 20).build().unwrap();
        let pools = [build(), build()];
        fn ring(pools: &[Pool; 2], level: usize) -> usize {
            let next = pools.clone();
            match pools[level % 2].submit(move || ring(&next, level + 1)).join() {
                Ok(deepest) => deepest,
                Err(error) => {
                    assert!(error.is_too_deep());
                    level
                }
            }
        }
        // The first level is submitted from here, and both workers stay with the chain.
        let deepest = ring(&pools, 0);
        assert!((DEPTH..=2 * DEPTH).contains(&deepest), "{deepest}");
    });
}

// Broke: the stack overflowed at some thousand links.
#[test]
fn a_long_chain_of_tasks_that_join_the_one_before_ends() {
    quiet();
    for workers in SHAPES {
        finishes("a fold", move || {
            let pool = Pool::new(workers).unwrap();
            let inner = pool.clone();
            let result = pool.submit(move || {
                let mut last = inner.submit(|| 0);
                for _ in 0..4_000 {
                    let before = last;
                    last = inner.submit(move || before.join().map(|n| n + 1).unwrap_or(0));
                }
                last.join()
            });
            // Whoever is too deep fails; those above go on from there.
            let _some_number = result.join().unwrap();
            pool.shutdown().unwrap();
        });
    }
}

/// Where the handle of a later task is put.
type Later = Arc<Mutex<Option<JoinHandle<()>>>>;

/// Joins a later task when it is dropped.
struct JoinsLater(Later, #[expect(dead_code, reason = "counted")] Counted);

impl Drop for JoinsLater {
    fn drop(&mut self) {
        let later = self.0.lock().unwrap().take();
        if let Some(later) = later {
            let _whatever_became_of_it = later.join();
        }
    }
}

/// Queues tasks of which each joins the next when its closure is dropped.
fn chain(pool: &Pool, census: &Census, links: usize) {
    let mut before: Option<Later> = None;
    for _ in 0..links {
        let later = Later::default();
        let joins = JoinsLater(Arc::clone(&later), census.token());
        let handle = pool.submit(move || {
            let _joins = &joins;
        });
        match before {
            Some(before) => *before.lock().unwrap() = Some(handle),
            None => drop(handle),
        }
        before = Some(later);
    }
}

// Broke: a worker that took a cancelled task off the queue waited for the next one in the drop of
// its closure, as a plain thread does; inside a task, and beyond the depth, each drop nested in the
// one before.
#[test]
fn closures_whose_drops_wait_for_one_another_end() {
    quiet();
    for workers in SHAPES {
        for links in [3, 4_000] {
            for way in 0..4 {
                finishes(&format!("{links} links, way {way}, {workers} workers"), move || {
                    let census = Census::new();
                    let pool = Pool::new(workers).unwrap();
                    let busy = occupy(&pool);
                    match way {
                        // They run.
                        0 => {
                            chain(&pool, &census, links);
                            drop(busy);
                        }
                        // A plain thread cancels them, and the workers help.
                        1 => {
                            chain(&pool, &census, links);
                            std::thread::scope(|s| {
                                s.spawn(|| pool.shutdown_now().unwrap());
                                while pool.try_submit(|| ()).is_ok() {
                                    std::thread::yield_now();
                                }
                                drop(busy);
                            });
                        }
                        // A task cancels them.
                        2 => {
                            drop(busy);
                            let (inner, theirs) = (pool.clone(), census.clone());
                            let task = pool.submit(move || {
                                chain(&inner, &theirs, links);
                                inner.shutdown_background_now();
                            });
                            task.join().unwrap();
                        }
                        // One of them is cancelled by its handle, in a task.
                        _ => {
                            drop(busy);
                            let (inner, theirs) = (pool.clone(), census.clone());
                            let task = pool.submit(move || {
                                let first = Later::default();
                                let joins = JoinsLater(Arc::clone(&first), theirs.token());
                                chain(&inner, &theirs, links);
                                *first.lock().unwrap() = Some(inner.submit(|| ()));
                                let _cancelled = inner.submit(move || drop(joins)).cancel();
                            });
                            task.join().unwrap();
                        }
                    }
                    pool.shutdown().unwrap();
                    assert_eq!(census.alive(), 0);
                    let stats = pool.stats();
                    assert_eq!((stats.running, stats.queued), (0, 0), "{stats:?}");
                });
            }
        }
    }
}

// Broke: each drop lay on top of the one before, until the stack was full.
#[test]
fn closures_whose_drops_cancel_one_another_end() {
    for workers in SHAPES {
        for links in [3, 4_000] {
            for in_task in [false, true] {
                finishes(&format!("{links} links, {workers} workers"), move || {
                    let census = Census::new();
                    let pool = Pool::new(workers).unwrap();
                    let busy = occupy(&pool);
                    let mut last: Option<CancelOnDrop<()>> = None;
                    for _ in 0..links {
                        let (before, token) = (last.take(), census.token());
                        last = Some(pool.submit(move || drop((before, token))).cancel_on_drop());
                    }
                    if in_task {
                        let other = Pool::new(1).unwrap();
                        other.submit(move || drop(last)).join().unwrap();
                    } else {
                        drop(last);
                    }
                    drop(busy);
                    pool.wait_idle();
                    assert_eq!(census.alive(), 0);
                    let stats = pool.stats();
                    // Those that nobody had come to when the workers did have run.
                    let ended = stats.cancelled + stats.completed - workers as u64;
                    assert_eq!(ended, links as u64, "{stats:?}");
                    assert!(stats.cancelled >= links.min(DEPTH) as u64, "{stats:?}");
                });
            }
        }
    }
}

/// Cancels a task in its drop, and counts it if that said so, but not when it was asked again.
struct Cancels {
    task: Arc<JoinHandle<()>>,
    said: Arc<AtomicUsize>,
}

impl Drop for Cancels {
    fn drop(&mut self) {
        let said = [self.task.cancel(), self.task.cancel()];
        self.said.fetch_add(usize::from(said == [true, false]), Ordering::SeqCst);
    }
}

#[test]
fn a_task_whose_cancelling_lies_too_deep_does_not_run_either() {
    for workers in SHAPES {
        let mut ends_later = 0;
        for links in DEPTH - 1..=DEPTH + 1 {
            let pool = Pool::new(workers).unwrap();
            let busy = occupy(&pool);
            let (runs, said) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let theirs = Arc::clone(&runs);
            let victim = Arc::new(pool.submit(move || _ = theirs.fetch_add(1, Ordering::SeqCst)));
            let mut task = Arc::clone(&victim);
            for _ in 0..links {
                let next = Cancels { task, said: Arc::clone(&said) };
                task = Arc::new(pool.submit(move || drop(next)));
            }
            drop(Cancels { task, said: Arc::clone(&said) });
            assert_eq!(said.load(Ordering::SeqCst), links + 1);
            ends_later += usize::from(!victim.is_finished());
            drop(busy);
            pool.wait_idle();
            assert!(victim.is_cancelled());
            assert_eq!(runs.load(Ordering::SeqCst), 0, "{links} links");
        }
        assert_eq!(ends_later, 1, "left to whoever claims it");
    }
}

// Broke: of a small stack nothing was known, so that tasks nested until it was full; and then that
// what is too deep had no room for its panic.
#[test]
fn on_the_smallest_stack_tasks_nest_until_a_quarter_is_left() {
    // A backtrace takes more than is left there to be printed.
    quiet();
    for way in WAYS {
        finishes(&format!("{way:?}"), move || {
            let pool = Pool::builder().workers(1).stack_size(1).build().unwrap();
            let (their_pool, deepest) = (pool.clone(), Arc::new(AtomicUsize::new(0)));
            let theirs = Arc::clone(&deepest);
            pool.submit(move || nest(&their_pool, way, 1, &theirs)).join().unwrap();
            assert!((1..DEPTH).contains(&deepest.load(Ordering::SeqCst)));
            assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
        });
    }
}

#[test]
fn on_the_smallest_stack_cancels_that_follow_one_another_do_not_overflow() {
    finishes("cancels", || {
        let pool = Pool::builder().workers(1).stack_size(1).build().unwrap();
        let busy = occupy(&pool);
        let mut last: Option<CancelOnDrop<()>> = None;
        for _ in 0..DEPTH + 50 {
            let before = last.take();
            last = Some(pool.submit(move || drop(before)).cancel_on_drop());
        }
        let other = Pool::builder().workers(1).stack_size(1).build().unwrap();
        other.submit(move || drop(last)).join().unwrap();
        drop(busy);
        pool.wait_idle();
    });
}

// Broke: no pool counts a pull, and nothing looked at the stack before the deepest of them.
#[test]
fn imaps_in_the_pulls_of_imaps_fail_before_the_stack_ends() {
    fn nest(pool: &Pool, unordered: bool, left: usize) -> usize {
        if left == 0 {
            return 0;
        }
        let inner = pool.clone();
        let pulls = std::iter::once(left).map(move |left| nest(&inner, unordered, left - 1));
        let next = match unordered {
            true => pool.imap_unordered(pulls, |n| n).next(),
            false => pool.imap(pulls, |n| n).next(),
        };
        next.unwrap() + 1
    }
    quiet();
    for unordered in [false, true] {
        let pool = Pool::new(2).unwrap();
        let inner = pool.clone();
        assert_eq!(pool.submit(move || nest(&inner, unordered, 20)).join().unwrap(), 20);
        let inner = pool.clone();
        let error = pool.submit(move || nest(&inner, unordered, 100_000)).join().unwrap_err();
        assert!(error.to_string().contains(TOO_DEEP), "{error}");
        assert_eq!(pool.map(0..3, |n| n), [0, 1, 2]);
    }
}

#[test]
fn an_imap_pulls_wherever_a_plain_thread_is_on_its_stack() {
    let pool = Pool::new(1).unwrap();
    let pulls = move || {
        // What its outermost task may use of its stack is measured from here.
        pool.map([()], |()| ());
        deeper(3 << 10, &|| assert_eq!(pool.imap(0..1, |n| n).next(), Some(0)));
    };
    let builder = std::thread::Builder::new().stack_size(8 << 20);
    builder.spawn(pulls).unwrap().join().unwrap();
}

// Broke: an imap of an idle pool was refused where a join with a limit was not.
#[test]
fn an_imap_pulls_on_top_of_as_many_tasks_as_there_may_be() {
    fn nest(pool: &Pool, idle: &Pool, level: usize) {
        if level == DEPTH {
            let one = || idle.imap(0..1, |n| n).next_timeout(Duration::MAX);
            return assert_eq!(one(), Poll::Ready(Some(0)));
        }
        let (inner, others) = (pool.clone(), idle.clone());
        pool.submit(move || nest(&inner, &others, level + 1)).join().unwrap();
    }
    finishes("an imap at the bottom", || {
        let pool = Pool::builder().workers(1).stack_size(64 << 20).build().unwrap();
        nest(&pool, &Pool::new(1).unwrap(), 0);
    });
}

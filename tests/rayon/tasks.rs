//! `join`, `scope`, `spawn`, `broadcast`, `install` and `RayonPool`: every closure is a task,
//! captured where it is submitted.

use crate::support::in_a_process_of_its_own;
use cleanslate::foreign::{BoxError, Carrier, adopt_with, install};
use cleanslate::rayon::{self as tasks, ParallelIteratorExt, RayonPool};
use cleanslate::{Context, Executor, RunError, task_local};
use rayon::prelude::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;

task_local! {
    static SEEN: bool = false;
    #[inherit]
    static USER: u32 = 0;
    static GRUMPY: Option<Grumpy> = None;
}

thread_local! {
    static LEVEL: Cell<u8> = const { Cell::new(0) };
}

struct Grumpy;

impl Drop for Grumpy {
    fn drop(&mut self) {
        panic!("grumpy");
    }
}

fn pools() -> impl Iterator<Item = rayon::ThreadPool> {
    let build = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    [1, 2, 4].into_iter().map(build)
}

/// Is a fresh task of user 7.
fn is_fresh() -> bool {
    !SEEN.replace(true) && USER.replace(99) == 7
}

fn text_of(outcome: Result<impl Sized, Box<dyn std::any::Any + Send>>) -> String {
    let payload = outcome.map(drop).unwrap_err();
    match payload.downcast::<&'static str>() {
        Ok(text) => (*text).to_owned(),
        Err(payload) => *payload.downcast::<String>().unwrap(),
    }
}

#[test]
fn join_runs_two_tasks() {
    for pool in pools() {
        pool.install(|| {
            USER.scope(7, || {
                for _ in 0..100 {
                    assert_eq!(tasks::join(is_fresh, is_fresh), (true, true));
                    assert!(!SEEN.is_set());
                    assert_eq!(USER.get(), 7);
                }
            });
        });
    }
}

#[test]
fn join_context_runs_two_tasks_and_says_which_was_stolen() {
    for pool in pools() {
        pool.install(|| {
            USER.scope(7, || {
                for _ in 0..100 {
                    let fresh = |to: rayon::FnContext| (is_fresh(), to.migrated());
                    let (a, b) = tasks::join_context(fresh, fresh);
                    assert_eq!((a, b.0), ((true, false), true));
                    assert!(!b.1 || pool.current_num_threads() > 1);
                }
                let bad = |_| panic!("a");
                let panicked = catch_unwind(AssertUnwindSafe(|| tasks::join_context(bad, |_| 1)));
                assert_eq!(text_of(panicked), "a");
            });
        });
    }
}

#[test]
fn nested_joins_are_nested_tasks() {
    fn fib(n: u32) -> u32 {
        SEEN.with_mut(|seen| assert!(!std::mem::replace(seen, true)));
        SEEN.with(|_| {
            if n < 2 {
                n
            } else {
                let (a, b) = tasks::join(|| fib(n - 1), || fib(n - 2));
                a + b
            }
        })
    }
    for pool in pools() {
        assert_eq!(tasks::install(&pool, || fib(15)), 610);
    }
}

#[test]
fn scopes_spawn_tasks_that_inherit_from_their_spawner() {
    for pool in pools() {
        let fresh = AtomicUsize::new(0);
        let count = |yes: bool| _ = fresh.fetch_add(usize::from(yes), SeqCst);
        USER.scope(7, || {
            tasks::install(&pool, || {
                tasks::scope(|s| {
                    count(is_fresh());
                    USER.set(7);
                    for _ in 0..50 {
                        s.spawn(|s| {
                            count(is_fresh());
                            USER.set(8);
                            s.spawn(|_| count(!SEEN.replace(true) && USER.get() == 8));
                        });
                    }
                    USER.set(9);
                });
            });
        });
        assert_eq!(fresh.into_inner(), 101);
    }
}

#[test]
fn spawn_captures_where_it_is_called() {
    let (sender, receiver) = channel();
    for user in 0..50 {
        let sender = sender.clone();
        USER.scope(user, || {
            tasks::spawn(move || sender.send((USER.get(), user, SEEN.replace(true))).unwrap())
        });
    }
    drop(sender);
    let all: Vec<_> = receiver.iter().collect();
    assert_eq!(all.len(), 50);
    assert!(all.iter().all(|(seen, meant, dirty)| seen == meant && !dirty));
}

#[test]
fn broadcast_visits_are_tasks() {
    for pool in pools() {
        let threads = pool.current_num_threads();
        for _ in 0..20 {
            let fresh =
                USER.scope(7, || tasks::install(&pool, || tasks::broadcast(|_| is_fresh())));
            assert_eq!(fresh, vec![true; threads]);
        }
    }
}

#[test]
fn panics_resume_where_rayon_resumes_them() {
    for pool in pools() {
        let on =
            |f: &(dyn Fn() + Sync)| text_of(catch_unwind(AssertUnwindSafe(|| pool.install(f))));
        assert_eq!(on(&|| _ = tasks::join(|| panic!("left"), || ())), "left");
        assert_eq!(on(&|| _ = tasks::join(|| (), || panic!("right"))), "right");
        assert_eq!(on(&|| tasks::scope(|s| s.spawn(|_| panic!("spawned")))), "spawned");
        assert_eq!(on(&|| drop(tasks::broadcast(|_| -> () { panic!("visit") }))), "visit");
        assert_eq!(on(&|| _ = tasks::join(|| GRUMPY.set(Some(Grumpy)), || ())), "grumpy");
        assert_eq!(on(&|| tasks::scope(|s| s.spawn(|_| GRUMPY.set(Some(Grumpy))))), "grumpy");
        let pool = RayonPool::from(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
        assert_eq!(on(&|| drop(pool.map_range(0..9, |i| assert!(i != 5, "item")))), "item");
        assert_eq!(on(&|| drop(pool.map_range(0..9, |_| GRUMPY.set(Some(Grumpy))))), "grumpy");
        pool.install(|| assert!(!SEEN.is_set()));
    }
}

fn exercise(pool: &impl Executor) {
    assert!(pool.workers() >= 1);
    USER.scope(7, || {
        let words = ["a".to_owned(), "bc".to_owned(), "def".to_owned()];
        for _ in 0..5 {
            assert!(pool.map(0..500, |_| is_fresh()).into_iter().all(|fresh| fresh));
            assert!(pool.map_range(0..500, |_| is_fresh()).into_iter().all(|fresh| fresh));
            assert!(pool.map_slice(&words, |_| is_fresh()).into_iter().all(|fresh| fresh));
        }
        assert_eq!(pool.map(&words, |word| word.len()), [1, 2, 3]);
        assert_eq!(pool.map(words.iter().filter(|w| w.len() > 1), String::as_str), ["bc", "def"]);
        assert_eq!(pool.map_range(3..6, |i| i * i), [9, 16, 25]);
        assert_eq!(pool.map_slice(&words, String::len), [1, 2, 3]);
        // Broke: what the results borrowed could not outlive the call.
        let borrowed: Vec<&str> = pool.map_slice(&words, |word| word.as_str());
        assert_eq!(borrowed, words);
        assert_eq!(pool.map(Vec::<String>::new(), |s| s.len()), []);
        // From inside one of its own tasks.
        let nested = pool
            .map_range(0..4, |i| pool.map_range(0..i, |j| usize::from(!SEEN.replace(true)) * j));
        assert_eq!(nested, [vec![], vec![0], vec![0, 1], vec![0, 1, 2]]);
        assert!(!SEEN.is_set());
        assert_eq!(USER.get(), 7);
    });
}

#[test]
fn each_pull_of_a_maps_iterator_is_a_task() {
    USER.scope(7, || {
        let pull = || std::iter::repeat_with(is_fresh).take(100);
        assert_eq!(RayonPool::global().map(pull(), |fresh| fresh), [true; 100]);
        assert!(!SEEN.is_set());
    });
}

#[test]
fn every_kind_of_pool_maps_alike() {
    exercise(&cleanslate::Pool::new(1).unwrap());
    exercise(&cleanslate::Pool::new(3).unwrap());
    exercise(&RayonPool::new(1).unwrap());
    exercise(&RayonPool::new(3).unwrap());
    exercise(&RayonPool::global());
    let shared = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    exercise(&RayonPool::from(Arc::clone(&shared)));
    assert_eq!(Arc::strong_count(&shared), 1);
}

struct Failing;

impl Carrier for Failing {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "failing"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        Err("not today".into())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn what_an_adopted_thread_local_hands_down_goes_through_nested_chains() {
    let adopted = || Context::empty().carry(adopt_with(&LEVEL, || 0).inherited());
    LEVEL.set(7);
    let level = || LEVEL.replace(9);
    let nested = |_| {
        LEVEL.set(LEVEL.get() + 1);
        let inner = (0..20).into_par_iter().isolated_in(&adopted());
        (inner.map(|_| level()).collect::<Vec<_>>(), LEVEL.get())
    };
    let chain = (0..100).into_par_iter().isolated_in(&adopted()).map(nested);
    assert!(chain.collect::<Vec<_>>().iter().all(|found| *found == (vec![8; 20], 8)));
    assert_eq!(LEVEL.replace(0), 7);
}

#[test]
fn carriers_are_attached_around_every_task() {
    let context = Context::empty().carry(adopt_with(&LEVEL, || 3).named("LEVEL"));
    let level = || LEVEL.replace(9);
    for pool in pools() {
        let threads = pool.current_num_threads();
        let pool = RayonPool::from(pool).in_context(&context);
        LEVEL.set(1);
        assert_eq!(pool.install(level), 3);
        assert_eq!(pool.join(level, level), (3, 3));
        assert_eq!(pool.broadcast(level), vec![3; threads]);
        let (mut seen, visits) = (0, AtomicUsize::new(0));
        pool.scope(|s| {
            assert_eq!(level(), 3);
            s.spawn(|_| seen = level());
            s.spawn_broadcast(|_, _| _ = visits.fetch_add(level().into(), SeqCst));
        });
        pool.in_place_scope_fifo(|s| {
            assert_eq!(LEVEL.get(), 1, "not a task");
            s.spawn_fifo(|_| seen += level());
        });
        assert_eq!((seen, visits.into_inner()), (6, 3 * threads));
        assert_eq!(pool.map(0..100, |_| level()), vec![3; 100]);
        assert_eq!(pool.map(std::iter::repeat_with(level).take(9), |n| n), [3; 9]);
        let (sender, receiver) = channel();
        let send = move || sender.send(LEVEL.replace(9)).unwrap();
        pool.spawn(send.clone());
        pool.spawn_fifo(send.clone());
        pool.spawn_broadcast(send);
        assert_eq!(Vec::from_iter(receiver), vec![3; 2 + threads]);
        assert_eq!(LEVEL.replace(0), 1);
    }
    let chain = || (0..100).into_par_iter().isolated_in(&context);
    let levels = chain().map(|_| level()).rev().map(|n| n.min(level()));
    assert_eq!(levels.collect::<Vec<_>>(), [3; 100]);
    let folded =
        chain().fold(level, |n, _| n.min(level())).reduce(level, |a, b| a.min(b).min(level()));
    assert_eq!((folded, LEVEL.get()), (3, 0));
}

#[test]
fn what_inherits_nothing_finds_what_installed_carriers_call_nothing() {
    let name = "tasks::what_inherits_nothing_finds_what_installed_carriers_call_nothing";
    if !in_a_process_of_its_own(name) {
        return;
    }
    install(adopt_with(&LEVEL, || 3)).unwrap();
    let nothing = Context::empty();
    let level = || LEVEL.replace(9);
    for pool in pools() {
        pool.broadcast(|_| LEVEL.set(7));
        let chain = || (0..100).into_par_iter().isolated_in(&nothing).map(|_| level());
        assert_eq!(pool.install(|| chain().collect::<Vec<_>>()), [3; 100]);
        let pool = RayonPool::from(pool).in_context(&nothing);
        assert_eq!(pool.map_range(0..100, |_| level()), [3; 100]);
    }
}

#[test]
fn nothing_runs_without_its_carriers() {
    let context = Context::empty().carry(adopt_with(&LEVEL, || 3).named("LEVEL")).carry(Failing);
    let pool = RayonPool::new(2).unwrap().in_context(&context);
    let ran = AtomicUsize::new(0);
    let run = || ran.fetch_add(1, SeqCst);
    let ways: [&(dyn Fn() + Sync); 7] = [
        &|| drop(pool.map_range(0..9, |_| run())),
        &|| drop(pool.map(std::iter::repeat_with(run).take(9), |_| run())),
        &|| _ = pool.join(run, run),
        &|| drop(pool.broadcast(run)),
        &|| _ = pool.scope(|_| run()),
        &|| pool.in_place_scope(|s| s.spawn(|_| _ = run())),
        &|| (0..9).into_par_iter().isolated_in(&context).for_each(|_| _ = run()),
    ];
    for way in ways {
        let payload = catch_unwind(AssertUnwindSafe(way)).unwrap_err();
        assert!(payload.downcast::<RunError>().unwrap().is_carrier());
    }
    assert_eq!(ran.into_inner(), 0);
}

/// Cannot be detached.
struct Stays;

impl Carrier for Stays {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "stays"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        LEVEL.set(7);
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Err("not today".into())
    }
}

#[test]
fn what_cannot_be_detached_fails_the_call_and_stays_on_the_thread() {
    let bare = RayonPool::new(1).unwrap();
    let context = Context::empty().carry(Stays);
    let pool = bare.in_context(&context);
    let ways: [&(dyn Fn() + Sync); 8] = [
        &|| drop(pool.map_range(0..9, |n| n)),
        &|| drop(pool.map([1, 2], |n| n)),
        &|| _ = pool.join(|| 1, || 2),
        &|| drop(pool.broadcast(|| 1)),
        &|| _ = pool.scope(|_| 1),
        &|| pool.in_place_scope(|s| s.spawn(|_| ())),
        &|| pool.in_place_scope(|s| s.spawn_broadcast(|_, _| ())),
        &|| bare.install(|| (0..9).into_par_iter().isolated_in(&context).for_each(|_| ())),
    ];
    for way in ways {
        assert!(text_of(catch_unwind(AssertUnwindSafe(way))).contains("`stays` failed to detach"));
        // The items of an iterator are pulled by the caller.
        assert_eq!(bare.install(|| LEVEL.replace(0)) + LEVEL.replace(0), 7);
    }
    // The task's own panic wins.
    let panics = || drop(pool.map_range(0..9, |n| assert!(n != 0, "item")));
    assert_eq!(text_of(catch_unwind(AssertUnwindSafe(panics))), "item");
    assert_eq!(bare.install(|| LEVEL.replace(0)), 7);
}

/// Counts how often it is attached, and can say whether a task has changed the level.
struct Counting(Arc<AtomicUsize>);

impl Carrier for Counting {
    type Captured = u8;
    type Attached = u8;

    fn name(&self) -> &str {
        "counting"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        Ok(LEVEL.get())
    }

    fn attach(&self, level: &u8) -> Result<u8, BoxError> {
        self.0.fetch_add(1, SeqCst);
        Ok(LEVEL.replace(*level))
    }

    fn detach(&self, before: u8) -> Result<(), BoxError> {
        LEVEL.set(before);
        Ok(())
    }

    fn reattach(&self, level: &u8, _: &mut u8) -> bool {
        LEVEL.get() == *level
    }
}

#[test]
fn items_of_a_map_that_leave_nothing_share_what_is_attached() {
    let attached = Arc::new(AtomicUsize::new(0));
    LEVEL.set(3);
    let counting = Counting(Arc::clone(&attached));
    let context = USER.scope(7, || Context::capture().carry(counting));
    LEVEL.set(1);
    for pool in pools() {
        let pool = RayonPool::from(pool).in_context(&context);
        assert_eq!(pool.map_range(0..1_000, |_| LEVEL.get()), [3; 1_000]);
        assert!(attached.swap(0, SeqCst) < 500);
        let leave = |n| if n % 10 == 0 { LEVEL.replace(9) } else { LEVEL.get() };
        assert_eq!(pool.map_range(0..1_000, leave), [3; 1_000]);
        assert!(attached.swap(0, SeqCst) >= 100);
        assert_eq!(pool.map_range(0..1_000, |_| is_fresh()), [true; 1_000]);
    }
    assert_eq!(LEVEL.replace(0), 1);
}

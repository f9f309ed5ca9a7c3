//! When the values of a task are dropped: where, in which order, and what their drops may do.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, ThreadId};

use crate::support::{Census, Counted, OnDrop, SHAPES, on_a_thread, panic_of, quiet};
use cleanslate::{
    Context, OwnedLocal, OwnedWorkerLocal, Pool, leaked_values, task_local, worker_local,
};

task_local! {
    static A: Option<Counted> = None;
    static B: Option<Counted> = None;
    static C: Option<Counted> = None;
    static HOOK: Option<OnDrop> = None;
    static HOOK_2: Option<OnDrop> = None;
    static OUTER: OnDrop = {
        INNER.with(|_| ());
        OnDrop::new(|| NOTES.with_borrow_mut(|notes| notes.push("outer")))
    };
    static INNER: OnDrop = OnDrop::new(|| NOTES.with_borrow_mut(|notes| notes.push("inner")));
    static NUMBER: u32 = 0;
}

thread_local! {
    static NOTES: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    static PANICKING: Cell<Option<bool>> = const { Cell::new(None) };
    static NUMBER_SEEN: Cell<Option<u32>> = const { Cell::new(None) };
}

fn task<R>(f: impl FnOnce() -> R) -> R {
    Context::empty().run(f)
}

fn hook(f: impl FnOnce() + Send + 'static) {
    HOOK.set(Some(OnDrop::new(f)));
}

#[test]
fn values_end_in_reverse_order_of_first_touch() {
    let census = Census::new();
    let owned = OwnedLocal::new(|| None);
    task(|| {
        B.set(Some(census.one("b")));
        owned.set(Some(census.one("owned")));
        A.with(|_| ());
        C.set(Some(census.one("c")));
        A.set(Some(census.one("a")));
        // Taken and filled again: its place is that of the first touch.
        B.take();
        census.notes();
        B.set(Some(census.one("b again")));
    });
    assert_eq!(census.notes(), ["c", "a", "owned", "b again"]);
}

#[test]
fn worker_locals_end_in_reverse_order_of_first_use_whoever_owns_them() {
    worker_local! {
        static FIRST: Option<Counted> = None;
        static THIRD: Option<Counted> = None;
    }
    let census = Census::new();
    let [second, fourth] = [(); 2].map(|()| OwnedWorkerLocal::<Option<Counted>>::new(|| None));
    let pool = Pool::new(1).unwrap();
    pool.broadcast(|| {
        FIRST.with(|it| *it = Some(census.one("first")));
        second.with(|it| *it = Some(census.one("second")));
        THIRD.with(|it| *it = Some(census.one("third")));
        fourth.with(|it| *it = Some(census.one("fourth")));
    });
    // Once used, a place is kept.
    pool.broadcast(|| FIRST.with(|it| assert!(it.is_some())));
    pool.shutdown().unwrap();
    assert_eq!(census.notes(), ["fourth", "third", "second", "first"]);
}

// Broke: a plain value outlived the drops of those before it, unless its task lay on another one.
#[test]
fn a_drop_finds_nothing_that_was_touched_after_its_value() {
    let task = || {
        hook(|| NUMBER_SEEN.set(Some(NUMBER.get())));
        NUMBER.set(7);
    };
    let on_top = || NUMBER.scope(1, || Context::empty().run(task));
    for run in [&task as &dyn Fn(), &on_top] {
        Context::empty().run(run);
        assert_eq!(NUMBER_SEEN.take(), Some(0));
    }
}

#[test]
fn a_first_touch_begins_before_its_initialiser() {
    task(|| OUTER.with(|_| ()));
    assert_eq!(NOTES.take(), ["inner", "outer"]);
}

#[test]
fn an_old_value_is_dropped_after_the_new_one_is_in_place() {
    thread_local! { static SEEN: Cell<bool> = const { Cell::new(false) }; }
    hook(|| SEEN.set(HOOK.with(Option::is_none)));
    HOOK.set(None);
    assert!(SEEN.get());
    // It may even set the slot anew.
    hook(|| hook(|| ()));
    HOOK.set(None);
    assert!(HOOK.with(Option::is_some));
}

/// Where a value is dropped, and whether before the completion was seen.
#[derive(Clone, Default)]
struct Drops(Arc<Mutex<Vec<ThreadId>>>);

impl Drops {
    /// Leaves a value, and says on which thread.
    fn leave(&self) -> ThreadId {
        let drops = self.clone();
        hook(move || drops.0.lock().unwrap().push(thread::current().id()));
        thread::current().id()
    }

    fn take(&self) -> Vec<ThreadId> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[test]
fn values_end_on_the_tasks_thread_before_its_completion_is_seen() {
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let drops = Drops::default();
        for _ in 0..200 {
            let remote = drops.clone();
            let ran_on = pool.submit(move || remote.leave()).join().unwrap();
            assert_eq!(drops.take(), [ran_on], "join");
            let remote = drops.clone();
            let ran_on =
                futures_lite::future::block_on(pool.submit(move || remote.leave())).unwrap();
            assert_eq!(drops.take(), [ran_on], ".await");
            let ran_on = pool.scope(|s| s.submit(|| drops.leave()).join().unwrap());
            assert_eq!(drops.take(), [ran_on], "scope");
        }
        let same = |mut ran_on: Vec<ThreadId>, way: &str| {
            let mut dropped = drops.take();
            let key = |id: &ThreadId| format!("{id:?}");
            ran_on.sort_by_key(key);
            dropped.sort_by_key(key);
            assert_eq!(dropped, ran_on, "{way}");
        };
        same(pool.map(0..500, |_| drops.leave()), "map");
        same(pool.map_range(0..500, |_| drops.leave()), "map_range");
        same(pool.map_slice(&[0; 500], |_| drops.leave()), "map_slice");
        same(pool.try_map(0..500, |_| Ok::<_, ()>(drops.leave())).unwrap(), "try_map");
        let results = pool.map_results(0..500, |_| drops.leave());
        same(results.into_iter().map(Result::unwrap).collect(), "map_results");
        same(pool.broadcast(|| drops.leave()), "broadcast");
        let remote = drops.clone();
        for ran_on in pool.imap(0..100, move |_| remote.leave()).buffer(1) {
            assert_eq!(drops.take(), [ran_on], "imap");
        }
        pool.scope(|s| {
            for _ in 0..500 {
                drop(s.submit(|| drops.leave()));
            }
        });
        assert_eq!(drops.take().len(), 500, "the end of a scope");
    }
}

#[test]
fn a_drop_sees_whether_its_task_panicked() {
    quiet();
    let (tell, told) = channel();
    let leave = move || {
        let tell = tell.clone();
        hook(move || tell.send(thread::panicking()).unwrap());
    };
    task(&leave);
    assert!(!told.recv().unwrap());
    panic_of(|| {
        task(|| {
            leave();
            panic!("on purpose")
        })
    });
    assert!(told.recv().unwrap());
    panic_of(|| {
        HOOK.scope(None, || {
            leave();
            panic!("on purpose")
        })
    });
    assert!(told.recv().unwrap(), "at the end of a scope");
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        for fails in [true, false, true] {
            let leave = leave.clone();
            let task = move || {
                leave();
                assert!(!fails, "on purpose")
            };
            assert_eq!(pool.submit(task.clone()).join().is_err(), fails);
            assert_eq!(told.recv().unwrap(), fails, "submit");
            drop(pool.map_results([()], |()| task()));
            assert_eq!(told.recv().unwrap(), fails, "map_results");
            assert_eq!(
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(
                    || pool.map_range(0..1, |_| task())
                ))
                .is_err(),
                fails
            );
            assert_eq!(told.recv().unwrap(), fails, "map_range");
        }
    }
}

#[test]
fn a_panicking_drop_fails_its_task_and_spares_the_other_values() {
    quiet();
    let census = Census::new();
    let leave = |census: &Census| {
        A.set(Some(census.one("a")));
        hook(|| panic!("a drop fails on purpose"));
        B.set(Some(census.one("b")));
        HOOK_2.set(Some(OnDrop::new(|| panic!("so does another, on purpose"))));
        C.set(Some(census.one("c")));
    };
    let error = Context::empty().try_run(|| leave(&census)).unwrap_err();
    assert!(error.is_cleanup() && !error.is_carrier());
    let words = error.to_string();
    assert!(words.contains("slots::drops::HOOK`") && words.contains("a drop fails"), "{words}");
    assert!(
        words.contains("slots::drops::HOOK_2`") && words.contains("so does another"),
        "{words}"
    );
    assert_eq!(census.notes(), ["c", "b", "a"]);
    assert!(panic_of(|| task(|| leave(&census))).contains("HOOK_2"), "`run` panics with it");

    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let remote = census.clone();
        let error = pool.submit(move || leave(&remote)).join().unwrap_err();
        assert!(error.is_cleanup(), "{error}");
        assert!(error.to_string().contains("slots::drops::HOOK`"), "{error}");
        let remote = census.clone();
        let error = pool
            .submit(move || {
                leave(&remote);
                panic!("its own, on purpose")
            })
            .join();
        assert_eq!(
            error.unwrap_err().message(),
            Some("its own, on purpose"),
            "the task's panic wins"
        );
        let results = pool.map_results(0..4, |n| {
            if n == 2 {
                leave(&census)
            }
        });
        assert_eq!(
            results.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, true, false, true]
        );
        assert!(panic_of(|| pool.map_range(0..1, |_| leave(&census))).contains("HOOK"));
        assert_eq!(census.alive(), 0);
        assert_eq!(pool.map(0..9, |n| n).len(), 9);
        assert_eq!(pool.stats().workers, workers);
    }
}

#[test]
fn the_result_of_a_task_whose_clean_up_failed_is_dropped() {
    quiet();
    let census = Census::new();
    let make = || {
        hook(|| panic!("a drop fails on purpose"));
        census.one("result")
    };
    assert!(Context::empty().try_run(make).is_err());
    let pool = Pool::new(1).unwrap();
    assert!(pool.map_results([()], |()| make()).pop().unwrap().is_err());
    panic_of(|| pool.map_range(0..1, |_| make()));
    assert_eq!((census.made(), census.alive()), (3, 0));
    // Its drop may panic as well: that is one fault more.
    let error = Context::empty().try_run(|| {
        hook(|| panic!("a drop fails on purpose"));
        OnDrop::new(|| panic!("the result's drop as well, on purpose"))
    });
    assert!(error.err().unwrap().to_string().contains("the result's drop as well"));
}

#[test]
fn a_panicking_drop_in_a_scope_is_the_scopes_panic() {
    quiet();
    let failing = || Some(OnDrop::new(|| panic!("a scoped drop fails on purpose")));
    assert!(panic_of(|| HOOK.scope(failing(), || ())).contains("a scoped drop"));
    let words = panic_of(|| HOOK.scope(failing(), || panic!("the closure's own, on purpose")));
    assert!(words.contains("the closure's own"), "not a second panic, which would abort");
    assert!(!HOOK.is_set());
    hook(|| panic!("a replaced value fails on purpose"));
    assert!(panic_of(|| HOOK.set(None)).contains("a replaced value"));
    assert!(HOOK.with(Option::is_none), "the new value is in place");
}

#[test]
fn a_drop_may_read_set_and_take_any_slot() {
    let census = Census::new();
    let remote = census.clone();
    task(|| {
        A.set(Some(census.one("a")));
        hook(move || {
            assert_eq!(A.with(|a| a.as_ref().unwrap().name), "a", "older values are still there");
            assert!(B.with(Option::is_none), "younger ones are gone");
            assert!(!HOOK.is_set(), "so is this one");
            B.set(Some(remote.one("b, late")));
            A.take();
            HOOK.set(Some(OnDrop::new(move || C.set(Some(remote.one("c, later"))))));
        });
        B.set(Some(census.one("b")));
    });
    let mut notes = census.notes();
    assert_eq!(notes[..2], ["b", "a"]);
    notes[2..].sort();
    assert_eq!(notes[2..], ["b, late", "c, later"]);
    assert_eq!(census.alive(), 0);
    task(|| assert!(A.with(Option::is_none) && !B.is_set() && !HOOK.is_set()));
}

#[test]
fn a_drop_may_submit_work_and_run_tasks() {
    for workers in SHAPES {
        let pool = Arc::new(Pool::new(workers).unwrap());
        let (tell, told) = channel();
        let inner = Arc::clone(&pool);
        pool.submit(move || {
            NUMBER.set(5);
            hook(move || {
                let found = inner.submit(|| NUMBER.replace(1)).join().unwrap();
                let mapped = inner.map(0..5, |_| NUMBER.replace(2));
                let nested = task(|| NUMBER.replace(3));
                tell.send((found, mapped, nested, NUMBER.get())).unwrap();
            });
        })
        .join()
        .unwrap();
        assert_eq!(told.recv().unwrap(), (0, vec![0; 5], 0, 5));
    }
}

/// Sets its slot again whenever it is dropped, `0` more times.
struct Phoenix(u32, Census, &'static cleanslate::TaskLocal<Option<Phoenix>>);

/// Where leaked ones are, so that a leak checker finds a pointer to each.
pub(crate) static ASHES: Mutex<Vec<usize>> = Mutex::new(Vec::new());

impl Drop for Phoenix {
    fn drop(&mut self) {
        self.1.note("drop");
        if self.0 > 0 {
            let slot = self.2;
            slot.set(Some(Self(self.0 - 1, self.1.clone(), slot)));
            slot.with(|value| ASHES.lock().unwrap().push(std::ptr::from_ref(value).addr()));
        }
    }
}

task_local! {
    static PHOENIX: Option<Phoenix> = None;
    static PHOENIX_2: Option<Phoenix> = None;
}

/// Keeps tests apart that count what is leaked in the whole process.
pub(crate) static LEAKING: Mutex<()> = Mutex::new(());

#[test]
fn a_slot_that_keeps_coming_back_is_an_error_that_names_it() {
    const PHOENIX_KEY: &cleanslate::TaskLocal<Option<Phoenix>> = &PHOENIX;
    let _alone = LEAKING.lock();
    let census = Census::new();
    let rise = |times| PHOENIX.set(Some(Phoenix(times, census.clone(), PHOENIX_KEY)));
    let leaked = leaked_values();
    task(|| rise(3));
    assert_eq!(census.notes().len(), 4, "a few rounds are fine");
    assert_eq!(leaked_values(), leaked);

    let error = Context::empty().try_run(|| rise(u32::MAX)).unwrap_err();
    assert!(error.is_cleanup() && error.to_string().contains("slots::drops::PHOENIX`"), "{error}");
    let rounds = census.notes().len();
    assert!((4..100).contains(&rounds), "{rounds} rounds");
    assert_eq!(leaked_values(), leaked + 1);

    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let before = leaked_values();
        let remote = census.clone();
        let error = pool
            .submit(move || PHOENIX.set(Some(Phoenix(u32::MAX, remote, PHOENIX_KEY))))
            .join()
            .unwrap_err();
        assert!(error.to_string().contains("slots::drops::PHOENIX`"), "{error}");
        assert_eq!(leaked_values(), before + 1);
        assert!(
            pool.broadcast(|| PHOENIX.is_set()).iter().all(|set| !set),
            "nobody sees the leaked one"
        );
    }
    // Also at the end of a thread, where nobody is told.
    let before = leaked_values();
    let remote = census.clone();
    on_a_thread(|| PHOENIX.set(Some(Phoenix(u32::MAX, remote, PHOENIX_KEY))));
    assert_eq!(leaked_values(), before + 1);
}

/// Fills all slots of its kind that are empty whenever it is dropped.
struct Hydra;

static CUT: AtomicUsize = AtomicUsize::new(0);

static HEADS: LazyLock<Vec<OwnedLocal<Option<Hydra>>>> =
    LazyLock::new(|| (0..12).map(|_| OwnedLocal::new(|| None)).collect());

fn grow_heads() {
    for head in HEADS.iter().filter(|head| !head.is_set()) {
        head.set(Some(Hydra));
        head.with(|value| ASHES.lock().unwrap().push(std::ptr::from_ref(value).addr()));
    }
}

impl Drop for Hydra {
    fn drop(&mut self) {
        CUT.fetch_add(1, Ordering::SeqCst);
        grow_heads();
    }
}

// It was leaked, and named as the one that came back.
#[test]
fn slots_that_fill_each_other_do_not_cost_another_one_its_drop() {
    let _alone = LEAKING.lock();
    let census = Census::new();
    let bystander = census.one("bystander");
    let error = Context::empty()
        .try_run(move || {
            A.set(Some(bystander));
            grow_heads();
        })
        .unwrap_err();
    assert!(error.is_cleanup());
    // It has a line for each value that was leaked.
    assert!(!error.to_string().contains("slots::drops::A`"), "the bystander did not come back");
    assert_eq!(census.notes().len(), 1, "the bystander was dropped");
    // The limit to generations alone leaves more than a hundred thousand.
    let cut = CUT.load(Ordering::SeqCst);
    assert!(cut < 10_000, "{cut} were dropped");
}

#[test]
fn a_task_that_a_drop_runs_has_rounds_of_its_own() {
    const KEY: &cleanslate::TaskLocal<Option<Phoenix>> = &PHOENIX_2;
    let census = Census::new();
    task(|| {
        hook({
            let census = census.clone();
            move || task(|| KEY.set(Some(Phoenix(5, census, KEY))))
        });
    });
    assert_eq!(census.notes().len(), 6);
}

#[test]
fn a_future_ends_its_values_before_its_output_is_seen() {
    use cleanslate::future::FutureExt;
    let census = Census::new();
    let remote = census.clone();
    let alive = futures_lite::future::block_on(
        async move {
            A.set(Some(remote.one("a")));
            futures_lite::future::yield_now().await;
            B.set(Some(remote.one("b")));
            remote
        }
        .isolated(),
    )
    .alive();
    assert_eq!((alive, census.notes()), (0, vec!["b".to_owned(), "a".to_owned()]));
    assert_eq!(PANICKING.get(), None);
}

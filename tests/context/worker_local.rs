//! State that is meant to stay with its worker.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, LazyLock, Mutex};

use crate::support::{Census, Counted, OnDrop, SHAPES, finishes, on_a_thread, panic_of, quiet};
use cleanslate::future::FutureExt;
use cleanslate::{Context, OwnedLocal, OwnedWorkerLocal, Pool, task_local, worker_local};
use futures_lite::future::{block_on, yield_now};

static CENSUS: Mutex<Option<Census>> = Mutex::new(None);

worker_local! {
    static COUNTED: (Counted, u32) = (CENSUS.lock().unwrap().as_ref().unwrap().one("instance"), 0);
    static NUMBER: u32 = 0;
    static NOT_SEND: Rc<Cell<u32>> = Rc::new(Cell::new(0));
    static ITSELF: u32 = ITSELF.with(|n| *n);
    static FAILS_ONCE: u32 = match TRIES.replace(1) {
        0 => panic!("first try, on purpose"),
        _ => 5,
    };
    static HOOK: Option<OnDrop> = None;
}

thread_local! { static TRIES: Cell<u32> = const { Cell::new(0) }; }

/// Counts the instances of `COUNTED` while `f` runs. One test at a time.
fn counting(f: impl FnOnce(&Census)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let census = Census::new();
    *CENSUS.lock().unwrap() = Some(census.clone());
    f(&census);
    assert_eq!(census.alive(), 0, "all have ended");
}

#[test]
fn an_instance_is_made_at_first_use_and_stays_with_its_worker() {
    counting(|census| {
        for workers in SHAPES {
            let pool = Pool::new(workers).unwrap();
            assert_eq!(census.alive(), 0);
            let together = Barrier::new(workers);
            pool.broadcast(|| {
                together.wait();
                COUNTED.with(|(_, uses)| *uses += 1);
            });
            pool.map_range(0..20_000, |_| COUNTED.with(|(_, uses)| *uses += 1));
            pool.map(0..1000, |_| COUNTED.with(|(_, uses)| *uses += 1));
            for _ in 0..1000 {
                pool.submit(|| COUNTED.with(|(_, uses)| *uses += 1)).join().unwrap();
            }
            assert_eq!(census.alive(), workers, "one for each");
            let uses: u32 = pool.broadcast(|| COUNTED.with(|(_, uses)| *uses)).iter().sum();
            assert_eq!(uses, 22_000 + workers as u32);
            pool.shutdown().unwrap();
            assert_eq!(census.alive(), 0);
        }
    });
}

// Broke: the spares of nested tasks took the place of the worker's own instance, which was dropped.
#[test]
fn a_nested_task_is_leased_a_second_instance_and_one_spare_is_kept() {
    counting(|census| {
        on_a_thread(|| {
            let task = |f: &dyn Fn()| Context::empty().run(f);
            task(&|| {
                COUNTED.with(|(_, uses)| *uses = 1);
                task(&|| {
                    COUNTED.with(|(_, uses)| assert_eq!(std::mem::replace(uses, 2), 0));
                    assert_eq!(census.alive(), 2);
                    task(&|| COUNTED.with(|(_, uses)| assert_eq!(std::mem::replace(uses, 3), 0)));
                    assert_eq!(census.alive(), 3, "it waits for the next one");
                    task(&|| COUNTED.with(|(_, uses)| assert_eq!(*uses, 3)));
                    assert_eq!(census.alive(), 3);
                });
                COUNTED.with(|(_, uses)| assert_eq!(*uses, 1, "the outer task's is its own"));
            });
            assert_eq!(census.alive(), 2, "one, and one spare");
            task(&|| {
                COUNTED.with(|(_, uses)| assert_eq!(*uses, 1, "the worker's own comes first"))
            });
        });
    });
}

#[test]
fn a_waiting_workers_inline_tasks_have_an_instance_of_their_own() {
    let pool = Arc::new(Pool::new(1).unwrap());
    let inner = Arc::clone(&pool);
    let task = pool.submit(move || {
        NUMBER.with(|n| {
            *n = 1;
            let found = inner.submit(|| NUMBER.with(|n| std::mem::replace(n, 2))).join().unwrap();
            let mapped = inner.map_range(0..100, |_| NUMBER.with(|n| *n));
            (found, mapped.iter().all(|n| *n == 2), *n)
        })
    });
    assert_eq!(task.join().unwrap(), (0, true, 1));
}

#[test]
fn re_entry_within_one_task_is_an_error_that_names_it() {
    NUMBER.with(|_| {
        let error = NUMBER.try_with(|_| ()).unwrap_err();
        assert!(error.is_borrowed() && error.slot() == "context::worker_local::NUMBER");
        assert!(panic_of(|| NUMBER.with(|_| ())).contains("worker_local::NUMBER"));
    });
    let owned = OwnedWorkerLocal::new(|| 1);
    owned.with(|_| {
        let words = panic_of(|| owned.with(|_| ()));
        assert!(words.contains("tests/context/worker_local.rs"), "{words}");
        Context::empty().run(|| owned.with(|n| *n = 2));
    });
    assert_eq!(owned.with(|n| *n), 1);
}

#[test]
fn initialisers_may_fail_and_need_not_be_send() {
    assert!(panic_of(|| FAILS_ONCE.with(|_| ())).contains("first try"));
    assert_eq!(FAILS_ONCE.with(|n| *n), 5);
    assert!(panic_of(|| ITSELF.with(|_| ())).contains("worker_local::ITSELF"));
    let pool = Pool::new(2).unwrap();
    let ids: HashSet<_> = pool
        .map_range(0..1000, |_| NOT_SEND.with(|rc| Rc::as_ptr(rc).addr()))
        .into_iter()
        .collect();
    assert!(ids.len() <= 2);
}

#[test]
fn a_panic_leaves_the_instance_to_the_next_task() {
    quiet();
    let pool = Pool::new(1).unwrap();
    let failed = pool.submit(|| {
        NUMBER.with(|n| {
            *n = 7;
            panic!("on purpose")
        })
    });
    assert!(failed.join().unwrap_err().is_panic());
    assert_eq!(pool.submit(|| NUMBER.with(|n| *n)).join().unwrap(), 7);
}

#[test]
fn a_future_gives_its_lease_back_between_polls() {
    on_a_thread(|| {
        let mut future = Box::pin(
            async {
                NUMBER.with(|n| *n += 1);
                yield_now().await;
                NUMBER.with(|n| *n += 1);
            }
            .isolated(),
        );
        let mut polls = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut polls).is_pending());
        // If the future kept it, this task would be leased a second one.
        Context::empty().run(|| NUMBER.with(|n| assert_eq!(std::mem::replace(n, 10), 1)));
        block_on(future);
        NUMBER.with(|n| assert_eq!(*n, 11));
    });
}

#[test]
fn a_future_with_a_lease_may_move_to_another_thread() {
    let owned = Arc::new(OwnedWorkerLocal::new(|| std::thread::current().id()));
    let local = Arc::clone(&owned);
    let mut future = Box::pin(
        async move {
            let first = (local.with(|id| *id), NOT_SEND.with(|n| n.replace(5)));
            yield_now().await;
            (first, local.with(|id| *id), NOT_SEND.with(|n| n.get()))
        }
        .isolated(),
    );
    let mut polls = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut polls).is_pending());
    let here = std::thread::current().id();
    let (there, found) = on_a_thread(move || (std::thread::current().id(), block_on(future)));
    assert_eq!(found, ((here, 0), there, 0));
}

task_local! {
    #[inherit]
    static PINNED: Option<Arc<Counted>> = None;
}

// Broke: the capture outlived the poll, and with it all that the future hands down.
#[test]
fn an_instance_that_captures_while_it_ends_with_a_poll_pins_nothing() {
    let census = Census::new();
    on_a_thread(|| {
        // While this instance is on lease, one waits: another one ends with its lease.
        HOOK.with(|_| ());
        let mut future = Box::pin(
            async {
                PINNED.set(Some(Arc::new(census.one("value"))));
                HOOK.with(|hook| *hook = Some(OnDrop::new(|| drop(Context::capture()))));
                Context::empty().run(|| HOOK.with(|_| ()));
                yield_now().await;
                PINNED.set(None);
            }
            .isolated(),
        );
        let mut polls = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut polls).is_pending());
        assert!(future.as_mut().poll(&mut polls).is_ready());
        assert_eq!(census.alive(), 0, "the future let go of its value");
    });
    assert_eq!(census.alive(), 0);
}

worker_local! {
    static FIRST: (Counted, Option<OnDrop>) = (ENDED.one("first"), None);
    static SECOND: (Counted, Option<OnDrop>) = (ENDED.one("second"), None);
    static THIRD: (Counted, Option<OnDrop>) = (ENDED.one("third"), None);
}

task_local! { static TEXT: String = String::new(); }

static ENDED: LazyLock<Census> = LazyLock::new(Census::new);

// Broke: the end of the inner poll allowed others to move what the end of the outer one was
// walking, and the third instance was never dropped.
#[test]
fn the_end_of_an_instance_may_poll_a_future_while_others_end() {
    fn poll(future: std::pin::Pin<&mut impl Future<Output = ()>>) {
        let mut polls = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.poll(&mut polls).is_pending());
    }
    fn use_all() {
        FIRST.with(|_| ());
        SECOND.with(|_| ());
        THIRD.with(|_| ());
    }
    let touch_another = || {
        let touched = async {
            TEXT.set("touched".to_owned());
            std::future::pending().await
        };
        poll(Box::pin(touched.isolated()).as_mut());
    };
    let make_owned = || (0..64).for_each(|_| OwnedLocal::new(|| 0_u8).set(1));
    on_a_thread(|| {
        let mut future = Box::pin(
            async {
                make_owned();
                FIRST.with(|(_, hook)| *hook = Some(OnDrop::new(touch_another)));
                SECOND.with(|(_, hook)| *hook = Some(OnDrop::new(make_owned)));
                THIRD.with(|_| ());
                // Those that wait, so that the poll's own end with it.
                Context::empty().run(use_all);
                TEXT.set("mine".to_owned());
                std::future::pending().await
            }
            .isolated(),
        );
        Context::empty().run(|| {
            use_all();
            poll(future.as_mut());
        });
    });
    assert_eq!((ENDED.made(), ENDED.alive()), (9, 0));
}

// Broke: leases that end with a poll had no limit of generations, so the thread never ended.
#[test]
fn an_instance_that_leases_anew_whenever_it_ends_is_given_up() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct ComesBack;
    impl Drop for ComesBack {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
            let _ended = COMES_BACK.try_with(|_| ());
        }
    }
    worker_local! { static COMES_BACK: ComesBack = ComesBack; }
    thread_local! { static LATE: Cell<Option<OnDrop>> = const { Cell::new(None) }; }
    let poll = || {
        let leases = async {
            COMES_BACK.with(|_| ());
            std::future::pending::<()>().await;
        };
        let mut polls = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(leases.isolated()).poll(&mut polls).is_pending());
    };
    let run = || {
        // An error, since what came back was given up.
        let _leaked = Context::empty().try_run(|| COMES_BACK.with(|_| ()));
    };
    for late in [poll as fn(), run] {
        finishes("comes back", move || {
            let leaked = cleanslate::leaked_values();
            on_a_thread(move || {
                // Ends after the slots' list of instances, of which none is kept any more, and
                // before the slots.
                TEXT.set("slots".to_owned());
                LATE.set(Some(OnDrop::new(late)));
                COMES_BACK.with(|_| ());
            });
            assert!(cleanslate::leaked_values() > leaked);
        });
    }
    assert!(DROPS.load(Ordering::SeqCst) < 100, "{DROPS:?}");
}

#[test]
fn instances_end_with_the_worker_before_its_thread_locals() {
    struct Log(std::sync::mpsc::Sender<&'static str>);
    impl Drop for Log {
        fn drop(&mut self) {
            self.0.send("thread-local").unwrap();
        }
    }
    thread_local! { static LAST: Cell<Option<Log>> = const { Cell::new(None) }; }
    for workers in SHAPES {
        let (tell, told) = channel();
        let pool = Pool::new(workers).unwrap();
        let log = Mutex::new(tell);
        pool.broadcast(|| {
            let tell = log.lock().unwrap().clone();
            LAST.set(Some(Log(tell.clone())));
            HOOK.with(|hook| *hook = Some(OnDrop::new(move || tell.send("instance").unwrap())));
        });
        drop(log);
        pool.shutdown().unwrap();
        let ended: Vec<_> = told.iter().collect();
        assert_eq!(ended.len(), 2 * workers);
        if workers == 1 {
            assert_eq!(ended, ["instance", "thread-local"]);
        }
    }
    let (tell, told) = channel();
    on_a_thread(|| {
        LAST.set(Some(Log(tell.clone())));
        HOOK.with(|hook| *hook = Some(OnDrop::new(move || tell.send("instance").unwrap())));
    });
    assert_eq!(told.iter().count(), 2, "outside of a pool with the thread");
}

#[test]
fn a_panicking_drop_at_the_end_of_a_worker_is_contained() {
    quiet();
    let pool = Pool::new(2).unwrap();
    pool.broadcast(|| HOOK.with(|hook| *hook = Some(OnDrop::new(|| panic!("a drop on purpose")))));
    pool.shutdown().unwrap();
    on_a_thread(|| HOOK.with(|hook| *hook = Some(OnDrop::new(|| panic!("a drop on purpose")))));
}

#[test]
fn the_drop_of_an_instance_may_use_worker_locals() {
    let (tell, told) = channel();
    let pool = Pool::new(1).unwrap();
    pool.submit(move || {
        NUMBER.with(|n| *n = 3);
        HOOK.with(|hook| {
            *hook = Some(OnDrop::new(move || tell.send(NUMBER.with(|n| *n)).unwrap()))
        });
    })
    .join()
    .unwrap();
    pool.shutdown().unwrap();
    assert!([0, 3].contains(&told.recv().unwrap()), "the old one or a new one");
}

#[test]
fn an_owners_instances_end_when_the_owner_is_dropped() {
    for workers in SHAPES {
        let census = Census::new();
        let maker = census.clone();
        let owned = OwnedWorkerLocal::new(move || maker.one("instance"));
        let pool = Pool::new(workers).unwrap();
        let together = Barrier::new(workers);
        pool.broadcast(|| {
            together.wait();
            owned.with(|_| Context::empty().run(|| owned.with(|_| ())));
        });
        assert_eq!(census.alive(), 2 * workers, "one and a spare for each");
        owned.with(|_| ());
        drop(owned);
        assert_eq!(census.alive(), 0);
        drop(pool);
        assert_eq!(census.made(), 2 * workers + 1);
    }
}

#[test]
fn an_owner_that_is_dropped_while_another_thread_holds_a_lease_ends_that_one_too() {
    let census = Census::new();
    let maker = census.clone();
    let owned = Arc::new(OwnedWorkerLocal::new(move || maker.one("instance")));
    let remote = Arc::clone(&owned);
    let (tell, told) = channel();
    let (go, gate) = channel::<()>();
    let thread = std::thread::spawn(move || {
        Context::empty().run(|| {
            remote.with(|_| ());
            drop(remote);
            tell.send(()).unwrap();
            gate.recv().unwrap();
        });
    });
    told.recv().unwrap();
    assert_eq!(census.alive(), 1);
    drop(owned);
    assert_eq!(census.alive(), 0);
    go.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(census.made(), 1);
}

// Broke: one that waited threw in silence, and one on lease did not.
#[test]
fn when_an_owner_is_dropped_every_instance_is_and_the_first_panic_goes_on() {
    quiet();
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&drops);
    let owned = Arc::new(OwnedWorkerLocal::new(move || {
        let counted = Arc::clone(&counted);
        OnDrop::new(move || panic!("drop {}", counted.fetch_add(1, Ordering::SeqCst)))
    }));
    // Two wait, one of them on another thread, and one is on lease.
    Context::empty().run(|| owned.with(|_| ()));
    let (tell, told) = channel();
    let (go, gate) = channel::<()>();
    let theirs = Arc::clone(&owned);
    let leases = std::thread::spawn(move || {
        Context::empty().run(|| {
            theirs.with(|_| Context::empty().run(|| theirs.with(|_| ())));
            drop(theirs);
            tell.send(()).unwrap();
            gate.recv().unwrap();
        });
    });
    told.recv().unwrap();
    assert_eq!(panic_of(|| drop(owned)), "drop 0");
    assert_eq!(drops.load(Ordering::SeqCst), 3);
    go.send(()).unwrap();
    leases.join().unwrap();
}

#[test]
fn owned_instances_end_with_their_threads() {
    let census = Census::new();
    let maker = census.clone();
    let owned = OwnedWorkerLocal::new(move || maker.one("instance"));
    for n in 0..100 {
        on_a_thread(|| owned.with(|_| Context::empty().run(|| owned.with(|_| ()))));
        assert_eq!((census.made(), census.alive()), (2 * (n + 1), 0));
    }
    let pool = Pool::new(2).unwrap();
    pool.broadcast(|| owned.with(|_| ()));
    pool.shutdown().unwrap();
    assert_eq!(census.alive(), 0);
    drop(owned);
    assert_eq!(census.dropped(), 202);
}

task_local! {
    #[inherit]
    static WHO: &'static str = "nobody";
    static LOCAL: u32 = 0;
}

worker_local! { static MADE_FOR: (&'static str, u32) = (WHO.get(), LOCAL.get()); }

// Broke: what the first task on a worker was about stayed in there for everybody after.
#[test]
fn an_initialiser_runs_for_nobody() {
    on_a_thread(|| {
        let owned = OwnedWorkerLocal::new(|| (WHO.get(), LOCAL.get()));
        WHO.set("alice");
        Context::capture().run(|| {
            LOCAL.set(3);
            assert_eq!(MADE_FOR.with(|made| *made), ("nobody", 0));
            assert_eq!(owned.with(|made| *made), ("nobody", 0));
            assert_eq!((WHO.get(), LOCAL.get()), ("alice", 3));
        });
    });
}

#[test]
fn the_error_of_a_second_use_names_the_public_type() {
    let owned = OwnedWorkerLocal::new(|| 0_u8);
    let error = owned.with(|_| owned.try_with(|_| ()).unwrap_err());
    let words = error.to_string();
    assert!(error.is_borrowed() && words.contains("in use by an enclosing with"), "{words}");
    assert!(words.contains("OwnedWorkerLocal<u8>") && !words.contains("Lease"), "{words}");
}

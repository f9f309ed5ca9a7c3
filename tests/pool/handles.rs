//! A pool is a handle: clones, defaults that chain, the last one to go, and weak ones.

use std::cell::RefCell;
use std::marker::PhantomPinned;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Wake, Waker};

use crate::support::{
    Census, Counted, Inert, OnDrop, SHAPES, WhenMeasured, each_shape,
    exits_in_a_process_of_its_own, finishes, occupy, on_a_thread,
};
use cleanslate::{Context, JoinHandle, Pool, PoolBuilder, WeakPool, task_local, worker_local};

task_local! {
    #[inherit]
    static TENANT: u32 = 0;
}

thread_local! {
    static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
    static TOKEN: RefCell<Option<Counted>> = const { RefCell::new(None) };
}

/// A pool and what counts its workers: alive until they have ended, destructors and all.
fn counted(workers: usize) -> (Pool, Census) {
    let census = Census::new();
    let pool = Pool::new(workers).unwrap();
    pool.broadcast(|| TOKEN.set(Some(census.token())));
    (pool, census)
}

#[test]
fn clones_are_the_same_pool() {
    each_shape(|pool| {
        let clone = pool.clone();
        clone.submit(|| ()).join().unwrap();
        assert_eq!(pool.stats().completed, 1);
        let inner = clone.clone();
        assert!(clone.submit(move || inner.worker_index()).join().unwrap().is_some());
        drop(clone);
        assert_eq!(pool.submit(|| 1).join().unwrap(), 1);
        pool.clone().shutdown().unwrap();
        assert!(pool.submit(|| 1).join().unwrap_err().is_cancelled());
    });
}

#[test]
fn defaults_chain_in_any_order_and_the_last_of_a_kind_counts() {
    let pool = Pool::new(1).unwrap();
    let seven = TENANT.scope(7, Context::capture);
    TENANT.set(1);
    let seen = |pool: &Pool| {
        let error = pool.submit(|| panic!("on purpose {}", TENANT.get())).join().unwrap_err();
        let tenant = error.message().unwrap().rsplit(' ').next().unwrap().to_owned();
        (error.task_name().map(str::to_owned), tenant.parse::<u32>().unwrap())
    };
    crate::support::quiet();
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(seen(&pool), (None, 1));
    assert_eq!(seen(&pool.named("a")), (name("a"), 1));
    assert_eq!(seen(&pool.in_context(&seven)), (None, 7));
    assert_eq!(seen(&pool.detached()), (None, 0));
    assert_eq!(seen(&pool.named("a").in_context(&seven)), (name("a"), 7));
    assert_eq!(seen(&pool.in_context(&seven).named("a")), (name("a"), 7));
    assert_eq!(seen(&pool.detached().named("a").in_context(&seven)), (name("a"), 7));
    assert_eq!(seen(&pool.in_context(&seven).named("a").named("b").detached()), (name("b"), 0));
    let weak = pool.named("a").in_context(&seven).downgrade();
    assert_eq!(seen(&weak.upgrade().unwrap()), (name("a"), 7));
    assert_eq!(seen(&weak.clone().upgrade().unwrap().clone()), (name("a"), 7));
    assert_eq!(seen(&pool), (None, 1), "the handle itself is as it was");
    // Every other way of running a task takes them along.
    let seven = pool.in_context(&seven);
    assert_eq!(seven.map(0..2, |_| TENANT.get()), [7, 7]);
    assert_eq!(seven.broadcast(|| TENANT.get()), [7]);
    assert_eq!(seven.imap(0..2, |_| TENANT.get()).collect::<Vec<_>>(), [7, 7]);
    assert_eq!(seven.scope(|s| s.submit(|| TENANT.get()).join().unwrap()), 7);
    assert_eq!(seven.try_submit(|| TENANT.get()).unwrap().join().unwrap(), 7);
}

#[test]
fn a_name_is_any_text_and_is_escaped_where_it_is_displayed() {
    let pool = Pool::new(1).unwrap();
    let error = pool.named("a\0b\n`c`").submit(|| panic!("")).join().unwrap_err();
    assert_eq!(error.task_name(), Some("a\0b\n`c`"));
    assert_eq!(error.to_string(), "task `a\\0b\\n`c`` (#0) panicked: ");
    assert_eq!(error.message(), Some(""));
}

#[test]
fn unnamed_pools_have_threads_of_different_names() {
    let pools = [Pool::new(1).unwrap(), Pool::new(1).unwrap()];
    let names =
        pools.map(|pool| pool.broadcast(|| std::thread::current().name().map(str::to_owned)));
    assert_ne!(names[0], names[1]);
}

#[test]
fn the_last_handle_on_a_plain_thread_drains_and_joins() {
    for workers in SHAPES {
        finishes("drop", move || {
            let (pool, census) = counted(workers);
            let queued = Census::new();
            let busy = occupy(&pool);
            for _ in 0..20 {
                let token = queued.token();
                drop(pool.submit(move || drop(token)));
            }
            drop(busy);
            let (clone, named) = (pool.clone(), pool.named("last"));
            drop(pool);
            drop(clone);
            assert_eq!(census.alive(), workers, "a handle is left");
            drop(named);
            assert_eq!((census.alive(), queued.alive()), (0, 0));
        });
    }
}

#[test]
fn the_last_handle_in_a_destructor_of_a_plain_thread_joins_there() {
    for workers in SHAPES {
        finishes("destructor", move || {
            let (pool, census) = counted(workers);
            on_a_thread(move || AT_EXIT.set(Some(OnDrop::new(move || drop(pool)))));
            assert_eq!(census.alive(), 0);
        });
    }
}

/// Drops the last handle of a pool where `run` has it dropped, and while a task of the pool runs
/// that waits for that drop to be over: to wait there for the pool would be a deadlock.
fn detaches(what: &str, run: impl Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static) {
    let run = Arc::new(run);
    for workers in SHAPES {
        let run = Arc::clone(&run);
        finishes(what, move || {
            let (pool, census) = counted(workers);
            let (go, gate) = mpsc::channel::<()>();
            let held_up = pool.submit(move || gate.recv());
            let queued = pool.submit(|| 7);
            run(Box::new(move || drop(pool)));
            go.send(()).unwrap();
            held_up.join().unwrap().unwrap();
            assert_eq!(queued.join().unwrap(), 7, "what was submitted runs");
            // The workers end by themselves.
            while census.alive() != 0 {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn the_last_handle_in_a_task_of_another_pool_detaches() {
    let other = Pool::new(1).unwrap();
    let submits = other.clone();
    detaches("submit", move |drops| submits.submit(drops).join().unwrap());
    let maps = other.clone();
    detaches("map", move |drops| {
        let drops = Mutex::new(Some(drops));
        maps.map([()], |()| drops.lock().unwrap().take().unwrap()());
    });
    let visits = other.clone();
    detaches("visit", move |drops| {
        let drops = Mutex::new(Some(drops));
        visits.broadcast(|| drops.lock().unwrap().take().unwrap()());
    });
    // On a plain thread, which runs no task but is waited for.
    let measures = other.clone();
    detaches("size_hint", move |drops| {
        assert_eq!(measures.map(WhenMeasured::new(drops), |()| ()), []);
    });
    let pulls = other.clone();
    detaches("pull", move |drops| {
        let mut drops = Some(drops);
        pulls.map((0..1).inspect(move |_| drops.take().unwrap()()), |n| n);
    });
}

#[test]
fn the_last_handle_in_what_another_pool_drops_or_calls_detaches() {
    detaches("a cancelled closure", |drops| {
        let other = Pool::new(1).unwrap();
        let busy = occupy(&other);
        let owner = OnDrop::new(drops);
        assert!(other.submit(move || drop(owner)).cancel());
        drop(busy);
    });
    detaches("the result of a failed map", |drops| {
        let other = Pool::new(1).unwrap();
        let drops = Mutex::new(Some(drops));
        let said = crate::support::panic_of(|| {
            other.map_range(0..2, |n| {
                assert_eq!(n, 0, "on purpose");
                OnDrop::new(drops.lock().unwrap().take().unwrap())
            })
        });
        assert!(said.contains("on purpose"));
    });
    detaches("a start hook", |drops| {
        let drops = Mutex::new(Some(drops));
        let (tell, told) = mpsc::channel();
        let hook = move |_| {
            drops.lock().unwrap().take().unwrap()();
            tell.send(()).unwrap();
        };
        let other = Pool::builder().workers(1).on_worker_start(hook).build().unwrap();
        told.recv().unwrap();
        drop(other);
    });
    detaches("a stop hook", |drops| {
        let drops = Mutex::new(Some(drops));
        let hook = move |_| drops.lock().unwrap().take().unwrap()();
        Pool::builder().workers(1).on_worker_stop(hook).build().unwrap().shutdown().unwrap();
    });
}

// It runs no task when it ends, and what is queued would be lost where the program ends after it.
#[test]
fn a_pool_that_a_worker_keeps_is_drained_and_joined_when_the_worker_ends() {
    worker_local! { static KEPT: Option<(mpsc::Sender<()>, Pool)> = None; }
    thread_local! { static LEFT: RefCell<Option<(mpsc::Sender<()>, Pool)>> = RefCell::default(); }
    for is_worker_local in [true, false] {
        finishes(&format!("worker-local: {is_worker_local}"), move || {
            let (tell, told) = mpsc::channel();
            let outer = Pool::new(1).unwrap();
            let keep = move || {
                let inner = Pool::new(1).unwrap();
                let (go, gate) = mpsc::channel::<()>();
                drop(inner.submit(move || gate.recv()));
                for n in 0..1_000 {
                    let tell = tell.clone();
                    drop(inner.submit(move || tell.send(n)));
                }
                // Dropped in this order: the gate opens, then the last handle goes.
                match is_worker_local {
                    true => KEPT.with(|place| *place = Some((go, inner))),
                    false => LEFT.set(Some((go, inner))),
                }
            };
            outer.submit(keep).join().unwrap();
            outer.shutdown().unwrap();
            assert!(told.try_iter().eq(0..1_000));
        });
    }
}

#[test]
fn the_last_handle_inside_a_scope_of_its_own_pool_waits_for_the_scope() {
    for workers in SHAPES {
        finishes("scope", move || {
            let (pool, census) = counted(workers);
            let handle = Mutex::new(Some(pool.clone()));
            let borrowed = [1, 2, 3];
            // The scope keeps a handle of its own.
            let sum = { pool }.scope(|s| {
                let by_task = s.submit(|| drop(handle.lock().unwrap().take()));
                let sum = s.submit(|| borrowed.iter().sum::<i32>());
                by_task.join().unwrap();
                sum.join().unwrap()
            });
            assert_eq!(sum, 6);
            assert_eq!(census.alive(), 0);
        });
    }
}

#[test]
fn an_imap_is_a_handle() {
    for workers in SHAPES {
        finishes("imap", move || {
            for unordered in [false, true] {
                let (pool, census) = counted(workers);
                let sum = if unordered {
                    let results = pool.imap_unordered(0..100, |n| n);
                    drop(pool);
                    results.sum::<i32>()
                } else {
                    let results = pool.imap(0..100, |n| n);
                    drop(pool);
                    results.sum()
                };
                assert_eq!((sum, census.alive()), (4950, 0));
            }
        });
    }
}

#[test]
fn a_join_handle_keeps_no_pool_open() {
    finishes("join handle", || {
        let (pool, census) = counted(1);
        let handle = pool.submit(|| 3);
        drop(pool);
        assert_eq!(census.alive(), 0);
        assert_eq!(handle.join().unwrap(), 3);
    });
}

#[test]
fn a_weak_handle_keeps_nothing_open_and_races_with_the_last_one() {
    for workers in SHAPES {
        finishes("weak", move || {
            for _ in 0..100 {
                let (pool, census) = counted(workers);
                let weak = pool.downgrade();
                let (start, gone) = (Barrier::new(3), AtomicBool::new(false));
                let upgrading = |weak: &WeakPool| {
                    start.wait();
                    let mut served = 0;
                    while let Some(pool) = weak.upgrade() {
                        // Nobody closes it while there is a handle.
                        assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
                        served += 1;
                        if served == 20 {
                            break;
                        }
                    }
                };
                std::thread::scope(|s| {
                    s.spawn(|| upgrading(&weak));
                    s.spawn(|| upgrading(&weak));
                    start.wait();
                    drop(pool);
                    gone.store(true, Ordering::SeqCst);
                });
                assert!(weak.upgrade().is_none());
                assert_eq!(census.alive(), 0);
            }
        });
    }
}

#[test]
fn a_hook_and_a_worker_local_reach_their_pool_through_a_weak_handle() {
    finishes("weak in a hook", || {
        let weak: Arc<Mutex<Option<WeakPool>>> = Arc::default();
        let (tell, told) = mpsc::channel();
        let theirs = Arc::clone(&weak);
        let hook = move |_| {
            let pool = theirs.lock().unwrap().as_ref().and_then(WeakPool::upgrade);
            tell.send(pool.is_none()).unwrap();
        };
        let (pool, census) =
            (Pool::builder().workers(1).on_worker_stop(hook).build().unwrap(), Census::new());
        pool.broadcast(|| TOKEN.set(Some(census.token())));
        *weak.lock().unwrap() = Some(pool.downgrade());
        drop(pool);
        assert!(told.recv().unwrap(), "the last handle is gone when the pool stops");
        assert_eq!(census.alive(), 0);
    });
}

#[test]
fn what_is_public_goes_where_it_is_expected_to_go() {
    fn everywhere<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    fn unpin_and_unwind_safe<T: Unpin + UnwindSafe + RefUnwindSafe>() {}
    type Item = PhantomPinned;
    type Input = std::vec::IntoIter<i32>;
    type Call = fn(i32) -> Item;
    everywhere::<Pool>();
    everywhere::<WeakPool>();
    everywhere::<PoolBuilder>();
    everywhere::<cleanslate::Isolation>();
    everywhere::<cleanslate::Stats>();
    everywhere::<JoinHandle<Item>>();
    everywhere::<JoinHandle<std::cell::Cell<u8>>>();
    everywhere::<cleanslate::ScopedJoinHandle<'_, Item>>();
    everywhere::<cleanslate::Scope<'_, '_>>();
    everywhere::<cleanslate::Imap<Input, Call, Item>>();
    everywhere::<cleanslate::ImapUnordered<Input, Call, Item>>();
    everywhere::<cleanslate::TaskError>();
    everywhere::<cleanslate::BuildError>();
    everywhere::<cleanslate::ShutdownError>();
    everywhere::<cleanslate::SubmitError<fn()>>();
    // The input decides.
    unpin_and_unwind_safe::<cleanslate::Imap<std::rc::Rc<u8>, Call, Item>>();
}

#[test]
fn errors_are_errors_and_say_what_they_are() {
    fn error<E: std::error::Error + Send + Sync + 'static>(_: &E) {}
    let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    let busy = occupy(&pool);
    let waiting = pool.submit(|| ());
    let full = pool.try_submit(|| ()).unwrap_err();
    error(&full);
    assert!(full.is_full() && full.to_string().contains("full"), "{full}");
    let limit = std::time::Duration::from_millis(1);
    let late = pool.shutdown_timeout(limit).unwrap_err();
    error(&late);
    assert!(late.is_timed_out() && !late.is_forked() && !late.is_on_worker(), "{late}");
    let closed = pool.try_submit(|| ()).unwrap_err();
    assert!(closed.is_shut_down() && closed.to_string().contains("shut down"), "{closed}");
    drop(busy);
    waiting.join().unwrap();
    let cancelled = pool.submit(|| ()).join().unwrap_err();
    error(&cancelled);
    assert!(cancelled.to_string().contains("was cancelled"), "{cancelled}");
    error(&Pool::new(0).unwrap_err());
}

// Broke: what is left of a pool goes with the last thing that knows it, a `JoinHandle` for example;
// if that was inside a task, what the hooks own was dropped there, and found its slots.
#[test]
fn what_a_pool_was_given_is_dropped_in_no_task_of_others() {
    task_local! { static AROUND: u32 = 0; }
    let ways: &[fn(PoolBuilder, Mutex<OnDrop>) -> PoolBuilder] = &[
        |builder, owned| builder.on_worker_start(move |_| drop(owned.lock())),
        |builder, owned| builder.on_worker_stop(move |_| drop(owned.lock())),
        |builder, owned| builder.panic_hook(move |_| drop(owned.lock())),
        |builder, owned| builder.carry(Inert(owned)),
        #[cfg(feature = "sentinel")]
        |builder, owned| {
            let sentinel =
                cleanslate::sentinel::Sentinel::new().report(move |_| drop(owned.lock()));
            match cleanslate::sentinel::supported() {
                Ok(()) => builder.sentinel(sentinel),
                Err(_) => builder.on_worker_stop(move |_| _ = &sentinel),
            }
        },
    ];
    for way in ways {
        let (sender, seen) = mpsc::channel();
        let owned = OnDrop::new(move || sender.send(AROUND.replace(9)).unwrap());
        let pool = way(Pool::builder().workers(1), Mutex::new(owned)).build().unwrap();
        let last = pool.submit(|| ());
        pool.shutdown().unwrap();
        drop(pool);
        let found = Pool::new(1).unwrap().submit(move || {
            AROUND.set(7);
            drop(last);
            AROUND.get()
        });
        assert_eq!((found.join().unwrap(), seen.recv().unwrap()), (7, 0));
    }
}

/// A waker whose drop exits the process.
struct ExitOnDrop;

impl Wake for ExitOnDrop {
    fn wake(self: Arc<Self>) {
        drop(self);
    }
}

impl Drop for ExitOnDrop {
    fn drop(&mut self) {
        std::process::exit(0);
    }
}

// Broke: the handle, which a thread-local owned, let go of its task a second time.
#[test]
fn an_exit_from_within_a_poll_that_gives_up_lets_go_of_the_task_once() {
    thread_local! { static KEPT: RefCell<Option<JoinHandle<()>>> = const { RefCell::new(None) }; }
    fn poll(handle: &mut JoinHandle<()>, waker: &Waker) -> bool {
        Pin::new(handle).poll(&mut std::task::Context::from_waker(waker)).is_ready()
    }
    /// Polls beneath as many tasks as one thread runs.
    fn nest(pool: &Pool, tasks: u32) {
        if tasks == 0 {
            let polls = OnDrop::new(|| {
                KEPT.with_borrow_mut(|kept| poll(kept.as_mut().unwrap(), Waker::noop()));
            });
            drop(pool.submit(move || drop(polls)).join());
        } else {
            let theirs = pool.clone();
            drop(pool.submit(move || nest(&theirs, tasks - 1)).join());
        }
    }
    let name = "handles::an_exit_from_within_a_poll_that_gives_up_lets_go_of_the_task_once";
    exits_in_a_process_of_its_own(name, &["too deep"], |_| {
        let pool = Pool::builder().workers(1).stack_size(64 << 20).build().unwrap();
        let (give, given) = mpsc::channel();
        let theirs = pool.clone();
        let nests = pool.submit(move || {
            KEPT.set(Some(given.recv().unwrap()));
            nest(&theirs, 255);
        });
        let mut handle = pool.submit(|| ());
        assert!(!poll(&mut handle, &Waker::from(Arc::new(ExitOnDrop))));
        give.send(handle).unwrap();
        drop(nests.join());
    });
}

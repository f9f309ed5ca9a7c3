//! `caller_helps`: plain threads run what they wait for.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};

use cleanslate::{Isolation, Pool, PoolBuilder, foreign, task_local};

use crate::support::{finishes, occupy, panic_of};

task_local! { static SLOT: Option<String> = None; }

fn helping(workers: usize) -> Pool {
    Pool::builder().workers(workers).caller_helps(true).build().unwrap()
}

/// The thread that runs a short map of the pool that `builder` builds.
fn who_runs(builder: PoolBuilder) -> ThreadId {
    let pool = builder.workers(1).caller_helps(true).build().unwrap();
    pool.map([()], |()| thread::current().id())[0]
}

#[test]
fn a_caller_runs_its_short_map_and_its_items_are_tasks() {
    for workers in [1, 2, 5] {
        let pool = helping(workers);
        SLOT.set(Some("the caller's".into()));
        let (here, found) = (thread::current().id(), AtomicUsize::new(0));
        let ran = pool.map(0..3, |n| {
            found.fetch_add(
                usize::from(SLOT.replace(Some(format!("{n}"))).is_some()),
                Ordering::SeqCst,
            );
            (n, thread::current().id(), pool.worker_index())
        });
        assert_eq!(ran[0], (0, here, None));
        assert!(ran.iter().map(|ran| ran.0).eq(0..3));
        assert_eq!(found.load(Ordering::SeqCst), 0);
        assert_eq!(SLOT.take().flatten().as_deref(), Some("the caller's"));
    }
}

#[test]
fn a_caller_runs_what_it_joins_and_what_its_scope_has_not_started() {
    let pool = helping(1);
    let gate = std::sync::Barrier::new(2);
    let here = thread::current().id();
    pool.scope(|s| {
        // The only worker waits for a task that comes later.
        let (tell, started) = std::sync::mpsc::channel();
        let gate = &gate;
        let busy = s.submit(move || {
            tell.send(()).unwrap();
            gate.wait();
        });
        started.recv().unwrap();
        let joined = s.submit(|| thread::current().id());
        assert_eq!(joined.join().unwrap(), here);
        s.submit(move || assert_eq!(thread::current().id(), here));
        s.submit(move || {
            gate.wait();
        });
        drop(busy);
    });
}

// Broke: it waited for room for what it was about to run.
#[test]
fn a_caller_joins_two_closures_whether_the_queue_has_room_or_not() {
    for waiting in [0, 1] {
        finishes("a full queue", move || {
            let builder = Pool::builder().workers(1).caller_helps(true);
            let pool = builder.queue_capacity(1).build().unwrap();
            let busy = occupy(&pool);
            let waiting: Vec<_> = (0..waiting).map(|n| pool.submit(move || n)).collect();
            let nested = || pool.join(|| thread::current().id(), || thread::current().id());
            let here = thread::current().id();
            assert_eq!(pool.join(nested, || 1), ((here, here), 1));
            // Each has given its place back.
            assert_eq!(pool.try_submit(|| ()).is_ok(), waiting.is_empty());
            drop(busy);
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap() == 0));
        });
    }
}

#[test]
fn a_long_map_of_a_caller_has_helpers() {
    let pool = helping(1);
    let helped = AtomicBool::new(false);
    // It ends when the worker has run an item.
    let items = (0..).take_while(|_| !helped.load(Ordering::SeqCst));
    let ran = pool.map(items, |n: usize| {
        if pool.worker_index().is_some() {
            helped.store(true, Ordering::SeqCst);
        }
        n
    });
    assert!(ran.iter().copied().eq(0..ran.len()));
}

// A caller that works alone keeps its turn at the input, and has no group that could be cancelled.
#[test]
fn a_map_that_its_caller_runs_alone_nests_fails_and_is_cancelled_like_any() {
    for workers in [1, 2, 5] {
        let pool = helping(workers);
        let nested = pool.map(0..3, |n| (pool.map(0..n, |m| m), pool.broadcast(|| n).len()));
        assert_eq!(nested[2], (vec![0, 1], workers));
        let item = |n| if n == 3 { panic!("on purpose") } else { n };
        assert_eq!(panic_of(|| pool.map(0..10, item)), "on purpose");
        assert_eq!(panic_of(|| pool.map((0..10).map(item), |n| n)), "on purpose");
        assert_eq!(pool.try_map(0..10, |n| if n == 3 { Err(n) } else { Ok(n) }), Err(3));
        assert_eq!(pool.map(0..10, |n| n).len(), 10);
        let started = AtomicUsize::new(0);
        let cancelled = panic_of(|| {
            pool.for_each(0..10, |_| {
                started.fetch_add(1, Ordering::SeqCst);
                pool.shutdown_background_now();
            });
        });
        assert!(cancelled.contains("shut down"), "{cancelled}");
        assert_eq!(started.load(Ordering::SeqCst), 1, "the second chunk is not started");
    }
}

#[test]
fn the_scratch_of_a_caller_stays_when_helpers_come() {
    let pool = helping(1);
    let (made, helped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let items = (0..).take_while(|_| !helped.load(Ordering::SeqCst));
    let init = || {
        if pool.worker_index().is_none() {
            made.fetch_add(1, Ordering::SeqCst);
        }
    };
    let ran = pool.map_init(items, init, |(), n: usize| {
        if pool.worker_index().is_some() {
            helped.store(true, Ordering::SeqCst);
        }
        n
    });
    assert!(ran.iter().copied().eq(0..ran.len()));
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[test]
fn nobody_helps_where_tasks_rely_on_their_worker() {
    let here = thread::current().id();
    assert_eq!(who_runs(Pool::builder()), here);
    assert_ne!(who_runs(Pool::builder().isolation(Isolation::Leaky)), here);
    assert_ne!(who_runs(Pool::builder().on_worker_start(|_| ())), here);
    #[cfg(feature = "sentinel")]
    if cleanslate::sentinel::supported().is_ok() {
        assert_ne!(who_runs(Pool::builder().sentinel(cleanslate::sentinel::Sentinel::new())), here);
    }
    thread_local! { static FOREIGN: std::cell::Cell<u8> = const { std::cell::Cell::new(0) }; }
    assert_ne!(who_runs(Pool::builder().carry(foreign::adopt(&FOREIGN))), here);
}

#[test]
fn polls_of_a_plain_thread_run_nothing() {
    use std::future::Future;
    let pool = helping(1);
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let busy = pool.submit(move || gate.recv());
    let mut waiting = pin!(pool.submit(|| ()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    go.send(()).unwrap();
    busy.join().unwrap().unwrap();
}

#[test]
fn a_caller_runs_both_halves_of_a_join_and_one_of_several_handles() {
    let pool = helping(1);
    let here = thread::current().id();
    let busy = occupy(&pool);
    let id = || thread::current().id();
    assert_eq!(pool.join(id, id), (here, here));
    let handles = [pool.submit(id), pool.submit(id)];
    let first = cleanslate::JoinHandle::wait_any(&handles);
    assert_eq!(first, 0);
    let [first, second] = handles;
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (here, here));
    drop(busy);
}

/// Runs a function when the thread's std thread-locals are destroyed.
struct AtEnd(RefCell<Option<Box<dyn FnOnce()>>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

thread_local! { static AT_END: AtEnd = const { AtEnd(RefCell::new(None)) }; }

// Broke: it ran what it waited for on top of slots that had ended, so that every access in there
// failed; later once more where thread-locals are keyed.
#[test]
fn a_thread_whose_slots_have_ended_leaves_its_tasks_to_the_workers() {
    fn task() -> usize {
        SLOT.set(Some("a task's".into()));
        SLOT.take().flatten().map_or(0, |text| text.len())
    }
    let pool = Arc::new(helping(1));
    let theirs = Arc::clone(&pool);
    let (tell, told) = std::sync::mpsc::channel();
    let ends = thread::spawn(move || {
        // Before the slots begin, so that it ends after them.
        AT_END.with(|at_end| {
            *at_end.0.borrow_mut() = Some(Box::new(move || {
                let joined = theirs.submit(task).join().map_err(|error| error.to_string());
                let scoped = theirs.scope(|s| s.submit(task).join()).map_err(|e| e.to_string());
                let mapped = catch_unwind(AssertUnwindSafe(|| theirs.map(0..2, |_| task())));
                tell.send((SLOT.try_get(), joined, scoped, mapped.ok())).unwrap();
            }));
        });
        SLOT.set(Some("the thread's".into()));
    });
    let (own, joined, scoped, mapped) = told.recv().unwrap();
    ends.join().unwrap();
    // Where thread-locals are destroyed in another order, the slots have not ended.
    if own.is_err() {
        assert_eq!((joined, scoped, mapped), (Ok(8), Ok(8), Some(vec![8, 8])));
    }
}

/// Shuts a pool down when it is woken.
struct ShutsDown(Pool, Mutex<Option<bool>>);

impl Wake for ShutsDown {
    fn wake(self: Arc<Self>) {
        let refused = self.0.shutdown().is_err();
        *self.1.lock().unwrap() = Some(refused);
    }
}

// Broke: the place in the queue was given back before the thread counted as running the task, so
// whoever was woken for it could wait for that very task, and did for ever.
#[test]
fn who_is_woken_for_a_place_is_within_the_task_that_had_it() {
    finishes("a waker that shuts the pool down", || {
        let pool = Pool::builder().workers(1).queue_capacity(1).caller_helps(true).build().unwrap();
        let busy = occupy(&pool);
        let task = pool.submit(|| 1);
        let woken = Arc::new(ShutsDown(pool.clone(), Mutex::new(None)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut place = pin!(pool.reserve());
        assert!(place.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(task.join().unwrap(), 1);
        assert_eq!(*woken.1.lock().unwrap(), Some(true));
        drop(busy);
    });
}

//! A child process after a `fork` has none of the workers: nothing there waits for them.
#![cfg(unix)]

mod locked;
mod theirs;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::support::{in_a_process_of_its_own, message, occupy};
use cleanslate::{JoinHandle, Pool, sync::Event};

mod system {
    #![expect(unsafe_code, reason = "std has no fork")]

    use std::ffi::c_int;

    mod c {
        use std::ffi::{c_int, c_uint};

        unsafe extern "C" {
            pub(super) safe fn fork() -> c_int;
            pub(super) safe fn alarm(seconds: c_uint) -> c_uint;
            pub(super) safe fn _exit(status: c_int) -> !;
            pub(super) fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        }
    }

    /// Runs `child` in a forked child, which is killed if it does not come back; returns its
    /// status.
    pub(super) fn in_a_child(child: impl FnOnce()) -> c_int {
        match fork() {
            0 => end(child),
            pid => status_of(pid),
        }
    }

    /// Forks: 0 is the child, which is killed if it does not [`end`].
    pub(super) fn fork() -> c_int {
        let pid = c::fork();
        if pid == 0 {
            c::alarm(20);
        }
        assert!(pid >= 0, "no child");
        pid
    }

    /// Ends the child with what `last` comes to.
    pub(super) fn end(last: impl FnOnce()) -> ! {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(last));
        c::_exit(if ended.is_ok() { 0 } else { 1 });
    }

    pub(super) fn status_of(pid: c_int) -> c_int {
        let mut status = 0;
        // SAFETY: `status` is a place for one; the child is ours and nobody else waits for it.
        let waited = unsafe { c::waitpid(pid, &raw mut status, 0) };
        assert_eq!(waited, pid);
        status
    }
}

/// Runs `child` in a forked child; it must come back, without a panic.
#[track_caller]
fn forked(what: &str, child: impl FnOnce()) {
    assert_eq!(system::in_a_child(child), 0, "{what}: the child's status");
}

/// `f` panics with words that name the fork.
fn names_the_fork<R>(f: impl FnOnce() -> R) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it did not panic") };
    assert!(message(&*payload).contains("forked child"), "{}", message(&*payload));
}

/// Each test forks, so it has a process of its own, in which no other test holds a lock meanwhile.
fn alone(name: &str) -> bool {
    let here = in_a_process_of_its_own(&format!("fork::{name}"));
    if here {
        std::panic::set_hook(Box::new(|_| ()));
    }
    here
}

/// The second is beyond the clock's range, which is no limit.
const LIMITS: [Duration; 2] = [Duration::from_millis(1), Duration::MAX];

// Broke: the drop of the pool joined threads that are not there, a second shutdown hung, and so did
// every other wait; last of all those with a limit that is none, and those in line since before.
#[test]
fn nothing_waits_in_a_forked_child() {
    if !alone("nothing_waits_in_a_forked_child") {
        return;
    }
    let pool = Pool::new(2).unwrap();
    pool.map(0..100, |n| n);
    let theirs = || pool.clone();
    forked("join", || {
        let handle = theirs().submit(|| 1);
        assert!(!handle.is_finished());
        let error = handle.join().unwrap_err();
        assert!(error.is_forked() && error.to_string().contains("forked child"), "{error}");
        assert!(!error.is_cancelled() && !error.is_panic() && !error.is_too_deep());
    });
    forked("join_timeout", || {
        let mut handle = theirs().submit(|| 1);
        for limit in LIMITS {
            assert!(handle.join_timeout(limit).unwrap().unwrap_err().is_forked());
        }
    });
    forked("poll", || {
        let mut handle = theirs().submit(|| 1);
        let poll = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Err(error)) = poll else { panic!("pending, or a result") };
        assert!(error.is_forked());
    });
    forked("map", || names_the_fork(|| theirs().map(0..10, |n| n)));
    forked("map_range", || names_the_fork(|| theirs().map_range(0..10, |n| n)));
    forked("try_map", || names_the_fork(|| theirs().try_map(0..10, Ok::<_, ()>)));
    forked("map_results", || names_the_fork(|| theirs().map_results(0..10, |n| n)));
    forked("imap", || names_the_fork(|| theirs().imap(0..10, |n| n).next()));
    forked("imap_unordered", || names_the_fork(|| theirs().imap_unordered(0..10, |n| n).next()));
    for limit in LIMITS {
        forked("next_timeout", || {
            names_the_fork(|| theirs().imap(0..10, |n| n).next_timeout(limit));
            names_the_fork(|| theirs().imap_unordered(0..10, |n| n).next_timeout(limit));
        });
    }
    forked("for_each", || names_the_fork(|| theirs().for_each(0..10, |_| ())));
    forked("reduce", || names_the_fork(|| theirs().reduce(0..10, || 0, |a, b| a + b)));
    forked("map_init", || names_the_fork(|| theirs().map_init(0..10, || (), |(), n| n)));
    forked("join of two", || names_the_fork(|| theirs().join(|| 1, || 2)));
    forked("wait_idle", || names_the_fork(|| theirs().wait_idle()));
    forked("wait_any", || {
        let handles = [theirs().submit(|| 1), theirs().submit(|| 2)];
        names_the_fork(|| JoinHandle::wait_any(&handles));
        for limit in LIMITS {
            names_the_fork(|| JoinHandle::wait_any_timeout(&handles, limit));
        }
        assert!(!handles[0].is_cancelled());
    });
    forked("broadcast", || names_the_fork(|| theirs().broadcast(|| 1)));
    forked("scope", || {
        let mut borrowed = 0;
        names_the_fork(|| {
            theirs().scope(|s| {
                s.submit(|| borrowed += 1);
            });
        });
        assert_eq!(borrowed, 0);
        let joined = theirs().scope(|s| catch_unwind(AssertUnwindSafe(|| s)).is_ok());
        assert!(joined, "a scope without tasks is as ever");
    });
    forked("shutdown", || {
        for _ in 0..2 {
            assert!(theirs().shutdown().unwrap_err().is_forked());
            assert!(theirs().shutdown_now().unwrap_err().is_forked());
            assert!(theirs().shutdown_timeout(Duration::MAX).unwrap_err().is_forked());
            theirs().shutdown_background();
            theirs().shutdown_background_now();
        }
        assert!(theirs().submit(|| 1).join().unwrap_err().is_cancelled());
    });
    forked("stats", || assert!(format!("{:?}", theirs()).contains("workers: 2")));
    assert_eq!(pool.map(0..3, |n| n), [0, 1, 2], "the parent's is as it was");
    let mut last = Some(pool);
    forked("drop", || drop(last.take()));
    last.take().unwrap().shutdown().unwrap();
}

#[test]
fn a_full_queue_does_not_block_a_forked_child() {
    if !alone("a_full_queue_does_not_block_a_forked_child") {
        return;
    }
    let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    let busy = occupy(&pool);
    let waiting = pool.submit(|| 1);
    forked("submit", || {
        assert!(pool.try_submit(|| 2).unwrap_err().is_full());
        assert!(pool.submit(|| 2).join().unwrap_err().is_forked());
    });
    // Broke: it said that the task had panicked, or was cancelled.
    forked("scope", || names_the_fork(|| pool.scope(|s| drop(s.submit(|| 2)))));
    forked("cancel", || assert!(waiting.cancel()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut in_line = Box::pin(pool.reserve());
    assert!(in_line.as_mut().poll(&mut cx).is_pending());
    forked("reserve", || {
        let Poll::Ready(Err(error)) = in_line.as_mut().poll(&mut cx) else { panic!("it waits") };
        assert!(error.to_string().contains("forked child"), "{error}");
        assert!(error.is_shut_down() && !error.is_full());
    });
    // Broke: it said that the queue was full.
    let mut last = Some(pool.clone());
    forked("submit after the child has shut the pool down", || {
        last.take().unwrap().shutdown_background();
        let error = pool.try_submit(|| 2).unwrap_err();
        assert!(error.is_shut_down() && !error.is_full(), "{error}");
        assert!(pool.try_reserve().unwrap_err().is_shut_down());
    });
    drop((busy, in_line, last));
    assert_eq!(waiting.join().unwrap(), 1);
    pool.shutdown().unwrap();
    forked("submit to what was shut down", || {
        let error = pool.try_submit(|| 2).unwrap_err();
        assert!(error.is_shut_down() && error.to_string().contains("forked child"), "{error}");
    });
}

// Broke: the event's lock was handed to the thread that waited, which is the parent's.
#[test]
fn an_event_that_is_waited_for_at_the_fork_works_in_the_child() {
    if !alone("an_event_that_is_waited_for_at_the_fork_works_in_the_child") {
        return;
    }
    static EVENT: Event = Event::new();
    let (tell, told) = mpsc::channel();
    let waits = std::thread::spawn(move || {
        // Where Linux says how it is.
        tell.send(std::fs::read_link("/proc/thread-self").ok()).unwrap();
        EVENT.wait();
    });
    if let Some(thread) = told.recv().unwrap() {
        let stat = Path::new("/proc").join(thread).join("stat");
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        forked("event", || {
            EVENT.set();
            EVENT.wait();
            EVENT.clear();
            assert!(!EVENT.wait_timeout(Duration::ZERO));
        });
    }
    EVENT.set();
    waits.join().unwrap();
}

#[test]
fn a_worker_that_forks_runs_in_the_child_what_it_waits_for() {
    if !alone("a_worker_that_forks_runs_in_the_child_what_it_waits_for") {
        return;
    }
    let pool = Pool::new(1).unwrap();
    let inner = pool.clone();
    let forks = pool.submit(move || {
        forked("inside a task", || {
            assert_eq!(inner.map(0..3, |n| n), [0, 1, 2]);
            assert_eq!(inner.submit(|| 4).join().unwrap(), 4);
            assert_eq!(inner.broadcast(|| 5), [5]);
            assert!(inner.shutdown().is_err());
        });
    });
    forks.join().unwrap();
}

#[test]
fn a_pool_that_is_built_in_the_child_works_there() {
    if !alone("a_pool_that_is_built_in_the_child_works_there") {
        return;
    }
    let parents = Pool::new(2).unwrap();
    assert_eq!(parents.map(0..3, |n| n), [0, 1, 2]);
    forked("a pool of its own", || {
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.map(0..3, |n| n), [0, 1, 2]);
        assert!(pool.submit(|| ()).join().is_ok());
        pool.shutdown().unwrap();
    });
}

// Broke: what a thread of the parent had locked at that moment, such as the list of sleeping
// workers, or what broadcasts go through, stays locked in the child, which waited for it.
#[test]
fn a_fork_at_any_moment_leaves_a_child_that_ends() {
    if !alone("a_fork_at_any_moment_leaves_a_child_that_ends") {
        return;
    }
    let pool = Pool::builder().workers(3).queue_capacity(8).build().unwrap();
    /// Stops the other thread, also if a child fails.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                pool.map(0..20, |n| n);
                drop(pool.submit(|| ()));
                pool.broadcast(|| ());
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..300 {
            let mut last = Some(pool.clone());
            forked("busy", || {
                let pool = last.take().unwrap();
                assert!(pool.submit(|| 1).join().is_err());
                names_the_fork(|| pool.broadcast(|| ()));
                assert!(pool.shutdown().is_err());
                pool.shutdown_background();
                drop(pool);
            });
        }
    });
}

// Broke: a worker of the parent had the list of what is done, and nobody gave it back.
#[test]
fn who_waits_for_any_item_of_an_input_does_not_wait_in_the_child() {
    if !alone("who_waits_for_any_item_of_an_input_does_not_wait_in_the_child") {
        return;
    }
    let pool = Pool::new(2).unwrap();
    for n in 0..1_000 {
        let mut results = pool.imap_unordered(0..1_000, |n| n).buffer(900);
        assert!(results.next().is_some());
        if n % 4 == 0 {
            forked("drop", || drop(results));
        } else {
            forked("next", || {
                // What was done at the fork comes first.
                names_the_fork(|| while results.next().is_some() {});
            });
        }
    }
}

// Broke: a worker of the parent had what the chunks had come to.
#[test]
fn a_reduction_that_forks_ends_in_the_child() {
    if !alone("a_reduction_that_forks_ends_in_the_child") {
        return;
    }
    let pool = Pool::builder().workers(2).caller_helps(true).build().unwrap();
    let caller = std::thread::current().id();
    for _ in 0..300 {
        let (child, forks) = (&AtomicI32::new(-1), &AtomicBool::new(false));
        let reduced = catch_unwind(AssertUnwindSafe(|| {
            let f = |n: u64| {
                if std::thread::current().id() == caller && !forks.swap(true, Ordering::Relaxed) {
                    child.store(system::fork(), Ordering::Relaxed);
                }
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(3) {}
                n
            };
            pool.map_reduce(0..200_u64, f, || 0, |a, b| a + b)
        }));
        match child.load(Ordering::Relaxed) {
            // Unless no helper had any of it.
            0 => system::end(|| assert!(reduced.is_err() || reduced.is_ok_and(|n| n == 19_900))),
            pid => {
                assert_eq!(reduced.unwrap(), 19_900);
                assert!(pid < 0 || system::status_of(pid) == 0, "the child of {pid}");
            }
        }
    }
}

// Broke: what the parent's helper had claimed was nowhere, and what was left passed for all.
#[test]
fn a_map_that_forks_has_no_results_in_the_child() {
    if !alone("a_map_that_forks_has_no_results_in_the_child") {
        return;
    }
    type Way = fn(&Pool, &(dyn Fn(usize) -> usize + Sync)) -> usize;
    let ways: [(usize, Way); 5] = [
        (2, |pool, f| pool.map(0..2, f).len()),
        (2, |pool, f| pool.map_range(0..2_usize, f).len()),
        (4, |pool, f| pool.map_range(0..4_usize, f).len()),
        (2, |pool, f| pool.map_results(0..2, f).len()),
        (1, |pool, f| pool.map_reduce(0..2, f, || 0, |a, b| a + b)),
    ];
    for (expected, way) in ways {
        let pool = Pool::new(2).unwrap();
        let inner = pool.clone();
        let task = pool.submit(move || {
            let owner = std::thread::current().id();
            let (helps, pid) = (AtomicBool::new(false), AtomicI32::new(-1));
            let item = |n| {
                if std::thread::current().id() != owner {
                    helps.store(true, Ordering::SeqCst);
                    while pid.load(Ordering::SeqCst) == -1 {
                        std::thread::yield_now();
                    }
                } else if pid.load(Ordering::SeqCst) == -1 {
                    while !helps.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    pid.store(system::fork(), Ordering::SeqCst);
                }
                n
            };
            let ended = catch_unwind(AssertUnwindSafe(|| way(&inner, &item)));
            let result = || ended.unwrap_or_else(|payload| resume_unwind(payload));
            match pid.into_inner() {
                0 => system::end(|| names_the_fork(result)),
                pid => (pid, result()),
            }
        });
        let (pid, result) = task.join().unwrap();
        assert_eq!((system::status_of(pid), result), (0, expected));
    }
}

/// Ends the process badly if it is dropped while it is pulled from. So large that it is not moved
/// for that.
struct InUse<I> {
    items: I,
    is_pulled: bool,
    _large: [u64; 32],
}

impl<I: Iterator> Iterator for InUse<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.is_pulled = true;
        let item = self.items.next();
        self.is_pulled = false;
        item
    }
}

impl<I> Drop for InUse<I> {
    fn drop(&mut self) {
        if self.is_pulled {
            std::process::abort();
        }
    }
}

// Broke: the child's owner waited for the turn of a helper of the parent's; or dropped what that
// was in the middle of changing.
#[test]
fn who_forks_while_somebody_else_has_the_turn_has_no_results_in_the_child() {
    if !alone("who_forks_while_somebody_else_has_the_turn_has_no_results_in_the_child") {
        return;
    }
    type Items<'i> = InUse<Box<dyn Iterator<Item = usize> + Send + 'i>>;
    type Way = fn(&Pool, Items<'_>, &(dyn Fn(usize) -> usize + Sync)) -> usize;
    let ways: [Way; 4] = [
        |pool, items, f| pool.map(items, f).len(),
        |pool, items, f| pool.map_results(items, f).len(),
        |pool, items, f| pool.map_init(items, || (), |(), n| f(n)).len(),
        |pool, items, f| pool.map_reduce(items, |n| (f(n), 1).1, || 0, |a, b| a + b),
    ];
    for way in ways {
        let pool = Pool::new(2).unwrap();
        let inner = pool.clone();
        let task = pool.submit(move || {
            let owner = std::thread::current().id();
            let (has_item, has_turn) = (AtomicBool::new(false), AtomicBool::new(false));
            let pid = AtomicI32::new(-1);
            let is_owner = || std::thread::current().id() == owner;
            let wait_for = |there: &dyn Fn() -> bool| {
                while !there() {
                    std::thread::yield_now();
                }
            };
            // The helper may have the first turn, too; then the fork comes in its second.
            let items = (0..4_usize).inspect(|_| {
                if !is_owner() && has_item.load(Ordering::SeqCst) {
                    has_turn.store(true, Ordering::SeqCst);
                    wait_for(&|| pid.load(Ordering::SeqCst) != -1);
                }
            });
            let item = |n| {
                if !is_owner() {
                    wait_for(&|| has_item.load(Ordering::SeqCst));
                } else if pid.load(Ordering::SeqCst) == -1 {
                    has_item.store(true, Ordering::SeqCst);
                    wait_for(&|| has_turn.load(Ordering::SeqCst));
                    pid.store(system::fork(), Ordering::SeqCst);
                }
                n
            };
            let items = InUse { items: Box::new(items) as _, is_pulled: false, _large: [0; 32] };
            let ended = catch_unwind(AssertUnwindSafe(|| way(&inner, items, &item)));
            let result = || ended.unwrap_or_else(|payload| resume_unwind(payload));
            match pid.load(Ordering::SeqCst) {
                0 => system::end(|| names_the_fork(result)),
                pid => (pid, result()),
            }
        });
        let (pid, result) = task.join().unwrap();
        assert_eq!((system::status_of(pid), result), (0, 4));
    }
}

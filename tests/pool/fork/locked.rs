//! What a thread of the parent had locked at the fork stays locked in the child, which must not
//! wait for it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use super::{alone, forked, names_the_fork, system};
use crate::support::occupy;
use cleanslate::Pool;

/// How often the parent forks: at some of these moments the lock is held.
const FORKS: u32 = 200;

// Broke: whoever gave a place back waited for the first in the line, who was asking for it just
// then.
#[test]
fn a_place_that_is_given_back_in_the_child_waits_for_nobody_in_the_line() {
    if !alone("locked::a_place_that_is_given_back_in_the_child_waits_for_nobody_in_the_line") {
        return;
    }
    let pool = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
    let busy = occupy(&pool);
    let waiting = pool.submit(|| 1);
    let (is_there, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let tried = std::thread::scope(|s| {
        s.spawn(|| {
            let mut cx = Context::from_waker(Waker::noop());
            let mut in_line = Box::pin(pool.reserve());
            while !stop.load(Ordering::Relaxed) {
                assert!(in_line.as_mut().poll(&mut cx).is_pending());
                is_there.store(true, Ordering::Relaxed);
            }
        });
        while !is_there.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let tried = catch_unwind(AssertUnwindSafe(|| {
            (0..FORKS).for_each(|_| forked("cancel", || assert!(waiting.cancel())));
        }));
        stop.store(true, Ordering::Relaxed);
        tried
    });
    drop(busy);
    tried.unwrap_or_else(|payload| resume_unwind(payload));
    assert_eq!(waiting.join().unwrap(), 1);
}

// Broke: the owner of a scope waited for a task of the scope, which was submitting just then.
#[test]
fn a_scope_does_not_wait_for_a_task_that_submits_in_the_parent() {
    if !alone("locked::a_scope_does_not_wait_for_a_task_that_submits_in_the_parent") {
        return;
    }
    let pool = Pool::new(2).unwrap();
    let inner = pool.clone();
    let task = pool.submit(move || {
        for _ in 0..FORKS {
            let (is_there, stop) = (&AtomicBool::new(false), &AtomicBool::new(false));
            let mut pid = -1;
            let ended = catch_unwind(AssertUnwindSafe(|| {
                inner.scope(|s| {
                    s.submit(move || {
                        while !stop.load(Ordering::Relaxed) {
                            drop(s.submit(|| ()));
                            is_there.store(true, Ordering::Relaxed);
                        }
                    });
                    while !is_there.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    pid = system::fork();
                    stop.store(pid != 0, Ordering::Relaxed);
                });
            }));
            let result = || ended.unwrap_or_else(|payload| resume_unwind(payload));
            if pid == 0 {
                system::end(|| names_the_fork(result));
            }
            assert_eq!(system::status_of(pid), 0);
            result();
        }
    });
    task.join().unwrap();
}

// Broke: whoever added to the queue waited for what a thread of the parent had begun to add.
#[test]
fn who_submits_in_the_child_does_not_wait_for_who_was_submitting() {
    if !alone("locked::who_submits_in_the_child_does_not_wait_for_who_was_submitting") {
        return;
    }
    let pool = Pool::new(1).unwrap();
    let stop = AtomicBool::new(false);
    let tried = std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    (0..1_000).for_each(|_| drop(pool.submit(|| ())));
                    while pool.stats().queued > 10_000 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let tried = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..FORKS {
                forked("submit", || {
                    assert!(pool.submit(|| 1).join().unwrap_err().is_forked());
                    names_the_fork(|| pool.map(0..10, |n| n));
                });
            }
        }));
        stop.store(true, Ordering::Relaxed);
        tried
    });
    tried.unwrap_or_else(|payload| resume_unwind(payload));
}

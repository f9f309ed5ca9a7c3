//! What lies in a queue or an inbox at the fork is the parent's, and may borrow from stacks that
//! are gone: a worker whose task has forked does not come to it in the child.

use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

use super::{alone, forked, system};
use crate::support::{OnDrop, retiring};
use cleanslate::Pool;

/// Ends the process badly if it is not the one with this number.
fn only_in(parent: u32) {
    if std::process::id() != parent {
        system::end(|| panic!("it ran in the child"));
    }
}

#[test]
fn what_was_queued_at_the_fork_stays_the_parents() {
    if !alone("theirs::what_was_queued_at_the_fork_stays_the_parents") {
        return;
    }
    let pool = Pool::new(1).unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let busy = pool.submit(move || gate.recv());
    let waiting = pool.submit(|| 7);
    // Not `go`: in the child nobody unlocks what the worker had locked at the fork.
    let mut all = Some((busy, waiting, pool));
    forked("handles", || {
        let (busy, waiting, pool) = all.take().unwrap();
        assert!(waiting.join().unwrap_err().is_forked());
        assert!(busy.join().unwrap_err().is_forked());
        drop(pool);
    });
    let left = all.as_ref().unwrap().2.submit(|| 8);
    forked("shut down", || {
        let (_busy, _waiting, pool) = all.take().unwrap();
        pool.shutdown_background_now();
        assert!(!left.is_cancelled());
    });
    let (busy, waiting, pool) = all.unwrap();
    go.send(()).unwrap();
    assert!(busy.join().unwrap().is_ok());
    assert_eq!(waiting.join().unwrap(), 7);
    pool.shutdown().unwrap();
}

// Broke: the worker went on with the parent's queue; then it slept in the child for ever.
#[test]
fn a_task_that_returns_in_the_child_is_the_last_one_there() {
    if !alone("theirs::a_task_that_returns_in_the_child_is_the_last_one_there") {
        return;
    }
    let parent = std::process::id();
    let stopped = move |_| only_in(parent);
    let pool = Pool::builder().workers(1).on_worker_stop(stopped).build().unwrap();
    pool.scope(|s| {
        let (go, gate) = mpsc::channel::<()>();
        let forks = s.submit(move || {
            gate.recv().unwrap();
            system::fork()
        });
        drop(s.submit(|| only_in(parent)));
        go.send(()).unwrap();
        assert_eq!(system::status_of(forks.join().unwrap()), 0);
    });
}

// With musl it would wait for ever, if it did; glibc's `join` returns at once there.
#[test]
fn a_successor_does_not_wait_in_the_child_for_the_thread_that_it_has_replaced() {
    thread_local! { static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    let name = "theirs::a_successor_does_not_wait_in_the_child_for_the_thread_that_it_has_replaced";
    if !alone(name) {
        return;
    }
    let pool = Pool::new(1).unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let at_exit = OnDrop::new(move || gate.recv().unwrap());
    let leaves = pool.in_context(&retiring()).submit(|| AT_EXIT.set(Some(at_exit)));
    assert!(leaves.join().is_err());
    let forks = pool.submit(system::fork);
    assert_eq!(system::status_of(forks.join().unwrap()), 0);
    go.send(()).unwrap();
    pool.shutdown().unwrap();
}

// Broke: it ran the visit while it waited, for whatever that was.
#[test]
fn a_visit_that_was_sent_before_the_fork_does_not_run_in_the_child() {
    if !alone("theirs::a_visit_that_was_sent_before_the_fork_does_not_run_in_the_child") {
        return;
    }
    let parent = std::process::id();
    let pool = Pool::new(1).unwrap();
    let inner = pool.clone();
    let (tell, runs) = mpsc::channel();
    let forks = pool.submit(move || {
        tell.send(()).unwrap();
        // In some of them the visit has been sent.
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            forked("wait", || {
                let own = Pool::new(1).unwrap();
                assert_eq!(own.broadcast(|| 1), [1]);
                assert_eq!(inner.broadcast(|| 2), [2]);
            });
        }
    });
    runs.recv().unwrap();
    pool.broadcast(|| only_in(parent));
    forks.join().unwrap();
}

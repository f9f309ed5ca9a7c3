//! The first of several handles, and handles of what was cancelled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::support::{SHAPES, each_shape, finishes, occupy, panic_of, pause};
use cleanslate::{JoinHandle, Pool};

/// A task that ends when its end of the channel is dropped or used.
fn gated(pool: &Pool) -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (go, gate) = mpsc::channel::<()>();
    let wait = move || {
        let _gone_or_told = gate.recv();
    };
    (go, pool.submit(wait))
}

#[test]
fn the_first_that_is_done_is_returned_and_each_once() {
    for workers in [2, 5] {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            for last in 0..2 {
                let (gates, handles): (Vec<_>, Vec<_>) = (0..2).map(|_| gated(&pool)).unzip();
                std::thread::scope(|s| {
                    let waits = s.spawn(|| JoinHandle::wait_any(&handles));
                    gates[last].send(()).unwrap();
                    assert_eq!(waits.join().unwrap(), last);
                });
                assert_eq!(JoinHandle::wait_any(&handles), last);
                drop(gates);
            }
        });
    }
}

#[test]
fn waiting_again_and_again_comes_to_every_result() {
    each_shape(|pool| {
        let mut handles: Vec<_> = (0..300).map(|n| pool.submit(move || n)).collect();
        let mut sum = 0;
        while !handles.is_empty() {
            let first = JoinHandle::wait_any(&handles);
            assert!(handles[first].is_finished());
            sum += handles.swap_remove(first).join().unwrap();
        }
        assert_eq!(sum, 299 * 150);
    });
}

#[test]
fn a_wait_for_the_first_ends_at_its_limit() {
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let pool = Pool::new(workers).unwrap();
            let (gates, handles): (Vec<_>, Vec<_>) = (0..2).map(|_| gated(&pool)).unzip();
            for limit in [Duration::ZERO, Duration::from_millis(1)] {
                assert_eq!(JoinHandle::wait_any_timeout(&handles, limit), None);
            }
            gates[0].send(()).unwrap();
            assert_eq!(JoinHandle::wait_any_timeout(&handles, Duration::MAX), Some(0));
            assert_eq!(JoinHandle::wait_any_timeout(&handles, Duration::ZERO), Some(0));
            drop(gates);
            handles.into_iter().for_each(|handle| handle.join().unwrap());
        });
    }
}

#[test]
fn inside_a_task_a_wait_with_a_limit_runs_nothing() {
    finishes("one worker", || {
        let pool = Pool::new(1).unwrap();
        let inner = pool.clone();
        let outer = pool.submit(move || {
            let handles = [inner.submit(|| ()), inner.submit(|| ())];
            let waited = JoinHandle::wait_any_timeout(&handles, Duration::from_millis(1));
            (waited, handles.map(|handle| handle.is_finished()))
        });
        assert_eq!(outer.join().unwrap(), (None, [false; 2]));
    });
}

#[test]
fn inside_a_task_one_that_nobody_has_begun_runs_there() {
    each_shape(|pool| {
        let inner = pool.clone();
        let outer = pool.submit(move || {
            let handles: Vec<_> = (0..3).map(|n| inner.submit(move || n)).collect();
            let first = JoinHandle::wait_any(&handles);
            (first, handles.into_iter().nth(first).unwrap().join().unwrap())
        });
        let (first, result) = outer.join().unwrap();
        assert_eq!(first, result);
    });
}

#[test]
fn inside_a_task_no_more_runs_there_than_it_takes() {
    finishes("one at a time", || {
        let pool = Pool::new(1).unwrap();
        let inner = pool.clone();
        let outer = pool.submit(move || {
            let submit = |n: usize| inner.submit(move || n);
            let handles: Vec<_> = (0..3).map(submit).collect();
            assert_eq!(JoinHandle::wait_any(&handles), 0);
            assert!(!handles[1].is_finished() && !handles[2].is_finished(), "one is enough");
            let handles: Vec<_> = (0..3).map(submit).collect();
            assert!(handles[2].cancel());
            assert_eq!(JoinHandle::wait_any(&handles), 2);
            assert!(!handles[0].is_finished(), "one was done before");
        });
        outer.join().unwrap();
    });
}

#[test]
fn tasks_of_two_pools_that_panic_or_are_cancelled_count_as_done() {
    for workers in SHAPES {
        finishes(&format!("{workers} workers"), move || {
            let (here, there) = (Pool::new(workers).unwrap(), Pool::new(workers).unwrap());
            let busy = occupy(&here);
            let handles = [here.submit(|| ()), there.submit(|| panic!("on purpose"))];
            crate::support::quiet();
            assert_eq!(JoinHandle::wait_any(&handles), 1);
            assert!(handles[0].cancel() && handles[0].is_cancelled());
            assert!(!handles[1].is_cancelled());
            assert_eq!(JoinHandle::wait_any(&handles), 0);
            drop(busy);
        });
    }
}

struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// A waker that a poll has left would wait for ever if the wait took its place for good.
#[test]
fn the_waker_of_an_earlier_poll_is_woken_all_the_same() {
    finishes("a waker", || {
        let pool = Pool::new(2).unwrap();
        let (go, mut slow) = gated(&pool);
        let counts = Arc::new(Counts(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&counts));
        assert!(Pin::new(&mut slow).poll(&mut Context::from_waker(&waker)).is_pending());
        let (quick_go, quick) = gated(&pool);
        let handles = [slow, quick];
        std::thread::scope(|s| {
            let waits = s.spawn(|| JoinHandle::wait_any(&handles));
            drop(quick_go);
            assert_eq!(waits.join().unwrap(), 1);
        });
        drop(go);
        let [slow, _quick] = handles;
        while counts.0.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        slow.join().unwrap();
    });
}

#[test]
fn the_waker_of_an_earlier_poll_is_woken_after_a_wait_that_was_too_short() {
    finishes("a waker", || {
        let pool = Pool::new(1).unwrap();
        let (go, mut slow) = gated(&pool);
        let counts = Arc::new(Counts(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&counts));
        assert!(Pin::new(&mut slow).poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(slow.join_timeout(Duration::from_millis(1)).is_none());
        let handles = [slow];
        assert!(JoinHandle::wait_any_timeout(&handles, Duration::from_millis(1)).is_none());
        let [slow] = handles;
        drop(go);
        while counts.0.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        slow.join().unwrap();
    });
}

// Broke: where its task was done by the end of the wait, the waker was dropped instead.
#[test]
fn the_waker_of_a_task_that_ends_during_the_wait_is_woken_too() {
    finishes("a waker", || {
        let pool = Pool::new(1).unwrap();
        // Mostly the wait has begun when the task ends.
        for _ in 0..100 {
            let (go, mut task) = gated(&pool);
            let counts = Arc::new(Counts(AtomicUsize::new(0)));
            let waker = Waker::from(Arc::clone(&counts));
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
            let handles = [task];
            std::thread::scope(|s| {
                let (tell, told) = mpsc::channel();
                let waits = s.spawn({
                    let handles = &handles;
                    move || {
                        tell.send(()).unwrap();
                        JoinHandle::wait_any(handles)
                    }
                });
                told.recv().unwrap();
                pause();
                drop(go);
                assert_eq!(waits.join().unwrap(), 0);
            });
            while counts.0.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn no_handles_are_nothing_to_wait_for() {
    assert!(panic_of(|| JoinHandle::<()>::wait_any(&[])).contains("no handle"));
    let limited = || JoinHandle::<()>::wait_any_timeout(&[], Duration::ZERO);
    assert!(panic_of(limited).contains("no handle"));
}

#[test]
fn what_was_cancelled_says_so_and_nothing_else_does() {
    each_shape(|pool| {
        let busy = occupy(pool);
        let (by_handle, by_shutdown, kept) =
            (pool.submit(|| 1), pool.submit(|| 2), pool.submit(|| 3));
        assert!(!by_handle.is_cancelled());
        assert!(by_handle.cancel());
        assert!(by_handle.is_cancelled() && by_handle.is_finished());
        drop(busy);
        assert_eq!(kept.join().unwrap(), 3);
        assert!(!by_shutdown.is_cancelled() || !by_shutdown.is_finished());
        let again = occupy(pool);
        let (mut waiting, poisoned) = (pool.submit(|| 4), pool.submit(|| panic!("on purpose")));
        pool.shutdown_background_now();
        assert!(waiting.is_cancelled() && poisoned.is_cancelled());
        let refused = pool.submit(|| 5);
        assert!(refused.is_cancelled());
        drop(again);
        assert!(waiting.join_timeout(Duration::MAX).unwrap().unwrap_err().is_cancelled());
        assert!(!waiting.is_cancelled(), "after the result was taken");
    });
    // A panic is no cancellation.
    crate::support::quiet();
    let pool = Pool::new(1).unwrap();
    let panics = pool.submit(|| panic!("on purpose"));
    pool.wait_idle();
    assert!(panics.is_finished() && !panics.is_cancelled());
    pool.scope(|s| {
        let handle = s.submit(|| 1);
        assert_eq!(handle.cancel(), handle.is_cancelled());
    });
}

// Broke: the first to leave put back the waiter that it had replaced, and so took the other one's
// away.
#[test]
fn several_threads_wait_for_handles_that_they_share() {
    finishes("shared handles", || {
        let pool = Pool::new(2).unwrap();
        // Mostly the waits have begun when the first task ends, in either order.
        for _ in 0..100 {
            let ((quick_go, quick), (slow_go, mut slow)) = (gated(&pool), gated(&pool));
            let counts = Arc::new(Counts(AtomicUsize::new(0)));
            let waker = Waker::from(Arc::clone(&counts));
            assert!(Pin::new(&mut slow).poll(&mut Context::from_waker(&waker)).is_pending());
            let handles = [quick, slow];
            std::thread::scope(|s| {
                let both = s.spawn(|| JoinHandle::wait_any(&handles));
                let one = s.spawn(|| JoinHandle::wait_any(&handles[1..]));
                let again = s.spawn(|| JoinHandle::wait_any(&handles[1..]));
                pause();
                drop(quick_go);
                assert_eq!(both.join().unwrap(), 0);
                drop(slow_go);
                assert_eq!((one.join().unwrap(), again.join().unwrap()), (0, 0));
            });
            while counts.0.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn a_result_is_taken_once() {
    let pool = Pool::new(1).unwrap();
    let taken = || {
        let mut handle = pool.submit(|| 1);
        assert_eq!(handle.join_timeout(Duration::MAX).unwrap().unwrap(), 1);
        handle
    };
    let mut cx = Context::from_waker(Waker::noop());
    let again = [
        panic_of(|| taken().join()),
        panic_of(|| taken().join_timeout(Duration::ZERO)),
        panic_of(|| Pin::new(&mut taken()).poll(&mut cx)),
    ];
    assert_eq!(again, ["the result of this task was taken before"; 3]);
}

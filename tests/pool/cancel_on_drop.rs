//! Handles whose drop cancels.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Waker};

use crate::support::{Census, each_shape, occupy};

#[test]
fn a_task_that_has_not_begun_is_cancelled_by_the_drop_and_frees_what_it_holds() {
    each_shape(|pool| {
        let census = Census::default();
        let busy = occupy(pool);
        let token = census.token();
        let mut answer = pool.submit(move || drop(token)).cancel_on_drop();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut answer).poll(&mut cx).is_pending(), "nobody runs it");
        assert!(!answer.is_finished());
        assert_eq!(census.alive(), 1);
        drop(answer);
        assert_eq!((census.alive(), pool.stats().cancelled), (0, 1));
        drop(busy);
        // The handle that it was made of lets go without cancelling.
        let kept = pool.submit(|| 7).cancel_on_drop().into_handle();
        assert_eq!(kept.join().unwrap(), 7);
    });
}

#[test]
fn a_task_that_runs_goes_on_and_one_that_is_done_is_not_touched() {
    each_shape(|pool| {
        let (begin, begun) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let runs = pool.submit(move || {
            begin.send(()).unwrap();
            tell.send(gate.recv().unwrap()).unwrap();
        });
        begun.recv().unwrap();
        drop(runs.cancel_on_drop());
        go.send("went on").unwrap();
        assert_eq!(told.recv().unwrap(), "went on");

        let answer = pin!(pool.submit(|| 42).cancel_on_drop());
        assert_eq!(futures_lite::future::block_on(answer).unwrap(), 42);
        assert_eq!(pool.stats().cancelled, 0);
    });
}

#[test]
fn inside_a_task_the_future_runs_what_has_not_begun() {
    each_shape(|pool| {
        let inner = pool.clone();
        let answer = pool.submit(move || {
            futures_lite::future::block_on(inner.submit(|| 42).cancel_on_drop()).unwrap()
        });
        assert_eq!(answer.join().unwrap(), 42);
    });
}

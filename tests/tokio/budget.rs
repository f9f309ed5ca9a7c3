//! What is awaited of a pool counts against the budget of tokio's tasks, and nothing else does.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread::{sleep, yield_now};
use std::time::Duration;

use crate::support::in_a_process_of_its_own;
use cleanslate::Pool;
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

/// Returns whether another task gets its turn while `work` never has to wait.
fn others_run_during(work: impl AsyncFn()) -> bool {
    let runtime = Builder::new_current_thread().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let has_run = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&has_run);
        let other = tokio::task::spawn_local(async move { theirs.set(true) });
        for _ in 0..1_000 {
            work().await;
        }
        let has_run = has_run.get();
        other.await.unwrap();
        has_run
    })
}

// Broke: a loop over handles that were done kept everything else from running to its end.
#[test]
fn a_loop_over_what_is_ready_yields_now_and_then() {
    let pool = Pool::new(1).unwrap();
    assert!(others_run_during(async || {
        let done = pool.submit(|| 1);
        while !done.is_finished() {
            yield_now();
        }
        assert_eq!(done.await.unwrap(), 1);
    }));
    assert!(others_run_during(async || {
        let done = pool.submit(|| 1).cancel_on_drop();
        while !done.is_finished() {
            yield_now();
        }
        assert_eq!(done.await.unwrap(), 1);
    }));
    assert!(others_run_during(async || drop(pool.reserve().await.unwrap())));
    assert!(!others_run_during(async || ()), "there has to be something to yield at");
}

// Broke: the look whether a thread that blocks drives a task used up that task's budget, so that
// nothing of tokio was ready until its next poll.
#[test]
fn a_wait_on_a_thread_of_a_runtime_uses_up_nothing() {
    if !in_a_process_of_its_own("budget::a_wait_on_a_thread_of_a_runtime_uses_up_nothing") {
        return;
    }
    let pool = Pool::new(1).unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (tell, mut told) = unbounded_channel();
        for n in 0..20 {
            // As long as the worker takes, so that this thread parks at least once.
            pool.submit(|| sleep(Duration::from_millis(2))).join().unwrap();
            tell.send(n).unwrap();
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(pin!(told.recv()).poll(&mut cx), Poll::Ready(Some(n)));
        }
    });
}

//! A thread that drives futures and blocks is told so; others are not.

use std::pin::pin;
use std::process::Stdio;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::{alone, printed_in_a_process_of_its_own, printed_until_input_ends};
use cleanslate::Pool;
use cleanslate::tokio::{spawn, spawn_blocking};
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;

const SAYS: &str = "a thread of a tokio runtime blocks";

/// Waits for a task that is not over, unless this thread loses its processor for so long.
fn block(pool: &Pool) {
    let (go, gate) = mpsc::channel::<()>();
    let mut task = pool.submit(move || gate.recv());
    assert!(task.join_timeout(Duration::from_millis(1)).is_none());
    drop(go);
    let _closed = task.join().unwrap();
}

/// A task that runs until a thread has been told that it waits.
fn until_it_is_told() -> usize {
    std::io::stdin().read_line(&mut String::new()).unwrap()
}

/// Waits for such a task.
fn block_until_it_is_told(pool: &Pool) {
    let mut task = pool.submit(until_it_is_told);
    let _read = task.join_timeout(Duration::MAX).unwrap().unwrap();
}

#[test]
fn a_blocking_wait_on_a_thread_that_drives_futures_is_told_once() {
    let name = "blocking::a_blocking_wait_on_a_thread_that_drives_futures_is_told_once";
    if let Some(printed) = printed_until_input_ends(name, SAYS) {
        assert_eq!(printed.matches(SAYS).count(), 1, "{printed}");
        // As panics do.
        let is_shown = std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0");
        let place = if is_shown { "block_until_it_is_told" } else { "`RUST_BACKTRACE=1`" };
        assert!(printed.contains(place), "{printed}");
        return;
    }
    let pool = Pool::new(1).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let theirs = pool.clone();
        spawn(async move { block_until_it_is_told(&theirs) }).await.unwrap();
        for _ in 0..3 {
            let pool = pool.clone();
            spawn(async move { block(&pool) }).await.unwrap();
        }
    });
}

#[test]
fn a_blocking_wait_in_the_main_future_is_told() {
    let name = "blocking::a_blocking_wait_in_the_main_future_is_told";
    if let Some(printed) = printed_until_input_ends(name, SAYS) {
        assert_eq!(printed.matches(SAYS).count(), 1, "{printed}");
        return;
    }
    let pool = Pool::new(1).unwrap();
    Builder::new_current_thread().build().unwrap().block_on(async {
        block(&pool);
        block_until_it_is_told(&pool);
    });
}

// Broke: the look whether a thread that blocks drives a task used up that task's budget, so that
// nothing of tokio was ready until its next poll.
#[test]
fn a_blocking_wait_that_is_told_of_leaves_the_task_its_budget() {
    let name = "blocking::a_blocking_wait_that_is_told_of_leaves_the_task_its_budget";
    if let Some(printed) = printed_until_input_ends(name, SAYS) {
        assert_eq!(printed.matches(SAYS).count(), 1, "{printed}");
        return;
    }
    let pool = Pool::new(1).unwrap();
    Builder::new_current_thread().build().unwrap().block_on(async {
        let (tell, mut told) = unbounded_channel();
        tell.send(1).unwrap();
        block_until_it_is_told(&pool);
        let polled = pin!(told.recv()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(Some(1)));
    });
}

// Broke: to print nothing panicked, in the middle of a wait that must not, and that aborted the
// process where the wait was a map's.
#[cfg(target_os = "linux")]
#[test]
fn a_wait_that_cannot_be_told_goes_on() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut told = alone("blocking::a_blocking_wait_in_the_main_future_is_told", "");
    // Nobody sees what it says, and ends its input then.
    assert!(told.stdin(Stdio::null()).stderr(full).status().unwrap().success());
}

#[test]
fn a_wait_where_blocking_is_fine_is_not_told() {
    let name = "blocking::a_wait_where_blocking_is_fine_is_not_told";
    if let Some(printed) = printed_in_a_process_of_its_own(name) {
        assert!(!printed.contains(SAYS), "{printed}");
        return;
    }
    let pool = Pool::new(1).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    block(&pool);
    runtime.block_on(async {
        let theirs = pool.clone();
        spawn_blocking(move || block(&theirs)).await.unwrap();
        let theirs = pool.clone();
        spawn(async move { tokio::task::block_in_place(|| block(&theirs)) }).await.unwrap();
    });
    let entered = runtime.enter();
    block(&pool);
    drop(entered);
}

/// A pool with a task that runs until it has been told that a thread waits.
fn busy_until_it_is_told() -> Pool {
    let pool = Pool::new(1).unwrap();
    drop(pool.submit(until_it_is_told));
    pool
}

/// Ends a pool whose task runs until it has been told, in code of tokio.
fn is_told(name: &str, end: impl FnOnce(Pool)) {
    if let Some(printed) = printed_until_input_ends(name, SAYS) {
        assert_eq!(printed.matches(SAYS).count(), 1, "{printed}");
        return;
    }
    let pool = busy_until_it_is_told();
    Builder::new_current_thread().build().unwrap().block_on(async { end(pool) });
}

#[test]
fn a_shutdown_that_waits_for_tasks_is_told() {
    let name = "blocking::a_shutdown_that_waits_for_tasks_is_told";
    is_told(name, |pool| pool.shutdown().unwrap());
}

// Broke: nothing was said.
#[test]
fn a_shutdown_that_cancels_and_waits_for_what_runs_is_told() {
    let name = "blocking::a_shutdown_that_cancels_and_waits_for_what_runs_is_told";
    is_told(name, |pool| {
        while pool.stats().running == 0 {
            std::thread::yield_now();
        }
        pool.shutdown_now().unwrap();
    });
}

#[test]
fn a_shutdown_with_a_limit_that_waits_for_tasks_is_told() {
    let name = "blocking::a_shutdown_with_a_limit_that_waits_for_tasks_is_told";
    is_told(name, |pool| pool.shutdown_timeout(Duration::MAX).unwrap());
}

#[test]
fn the_drop_of_a_last_handle_that_waits_for_tasks_is_told() {
    is_told("blocking::the_drop_of_a_last_handle_that_waits_for_tasks_is_told", drop);
}

#[test]
fn the_end_of_a_pool_that_has_nothing_to_do_is_not_told() {
    let name = "blocking::the_end_of_a_pool_that_has_nothing_to_do_is_not_told";
    if let Some(printed) = printed_in_a_process_of_its_own(name) {
        assert!(!printed.contains(SAYS), "{printed}");
        return;
    }
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        drop(Pool::new(2).unwrap());
        Pool::new(2).unwrap().shutdown().unwrap();
        Pool::new(2).unwrap().shutdown_now().unwrap();
        Pool::new(2).unwrap().shutdown_timeout(Duration::MAX).unwrap();
    });
}

// Broke: a look whether a task is over was told as a wait.
#[test]
fn a_wait_of_no_time_is_not_told() {
    let name = "blocking::a_wait_of_no_time_is_not_told";
    if let Some(printed) = printed_in_a_process_of_its_own(name) {
        assert!(!printed.contains(SAYS), "{printed}");
        return;
    }
    let pool = Pool::new(1).unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let mut task = pool.submit(move || gate.recv());
    Builder::new_current_thread().build().unwrap().block_on(async {
        assert!(task.join_timeout(Duration::ZERO).is_none());
        assert!(pool.shutdown_timeout(Duration::ZERO).unwrap_err().is_timed_out());
    });
    drop(go);
}

// Broke: after 64 waits of the process, on whatever threads, none was looked at any more.
#[test]
fn many_waits_where_blocking_is_fine_do_not_hide_one_that_is_not() {
    let name = "blocking::many_waits_where_blocking_is_fine_do_not_hide_one_that_is_not";
    if let Some(printed) = printed_in_a_process_of_its_own(name) {
        assert_eq!(printed.matches(SAYS).count(), 1, "{printed}");
        return;
    }
    let pool = Pool::new(1).unwrap();
    (0..100).for_each(|_| block(&pool));
    Builder::new_current_thread().build().unwrap().block_on(async {
        let theirs = pool.clone();
        spawn_blocking(move || (0..100).for_each(|_| block(&theirs))).await.unwrap();
        // One in 64 is looked at by now.
        (0..64).for_each(|_| block(&pool));
    });
}

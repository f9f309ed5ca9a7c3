//! What the test binaries share.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod alone;
mod census;
mod fails;
mod inert;
mod measured;
mod occupied;
mod panics;
mod refuses;
mod retire;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use cleanslate::Pool;

pub(crate) use alone::{
    alone, exits_in_a_process_of_its_own, in_a_process_of_its_own, printed_in_a_process_of_its_own,
    printed_until_input_ends,
};
pub(crate) use census::{Census, Counted, OnDrop};
pub(crate) use fails::{Fails, FailsAsCopy, FailsToClone, HAS_FAILED};
pub(crate) use inert::Inert;
pub(crate) use measured::WhenMeasured;
pub(crate) use occupied::{Occupied, occupy};
pub(crate) use panics::{Bomb, message, panic_of, quiet, while_unwinding};
pub(crate) use refuses::Refuses;
pub(crate) use retire::{Stuck, retiring};

/// The numbers of workers that every pool test runs over: alone, in company, and more than
/// processors.
pub(crate) const SHAPES: [usize; 3] = [1, 2, 5];

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` once for each shape; a deadlock is a failure that names the shape.
pub(crate) fn each_shape(test: impl Fn(&Pool) + Send + Sync + 'static) {
    let test = Arc::new(test);
    for workers in SHAPES {
        let test = Arc::clone(&test);
        finishes(&format!("{workers} workers"), move || test(&Pool::new(workers).unwrap()));
    }
}

/// A moment in which other threads get on, mostly. (A thousand yields take seconds where other
/// programs are at work.)
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Fails if `f` does not come back; a panic of it is passed on.
pub(crate) fn finishes(what: &str, f: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        f();
        tell.send(()).unwrap();
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = told.recv_timeout(PATIENCE) {
        panic!("{what}: hangs");
    }
    if let Err(payload) = thread.join() {
        std::panic::resume_unwind(payload);
    }
}

/// Runs `f` on a thread of its own, which has ended, destructors and all, when this returns.
#[track_caller]
pub(crate) fn on_a_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    quiet();
    std::thread::scope(|s| s.spawn(f).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
}

/// Calls `f` so many KiB further down the stack.
pub(crate) fn deeper<R>(kibibytes: usize, f: &dyn Fn() -> R) -> R {
    fn until<R>(end: usize, f: &dyn Fn() -> R) -> R {
        let block = std::hint::black_box([0_u8; 1 << 10]);
        let result = if block.as_ptr().addr() <= end { f() } else { until(end, f) };
        let _stays = std::hint::black_box(&block);
        result
    }
    let here = 0_u8;
    let begin = std::ptr::from_ref(std::hint::black_box(&here)).addr();
    until(begin - (kibibytes << 10), f)
}

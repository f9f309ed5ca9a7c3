//! A warning where a thread that drives futures of tokio blocks.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use ::tokio::runtime::Handle;
use ::tokio::task::coop;

use crate::panic::say;

/// The budget of a task of tokio, after which its resources make it yield, and a little more.
const BUDGET: u32 = 256;

/// A look costs a microsecond or two. So many waits in runtimes are all looked at, in the whole
/// process, and then one in so many.
const LOOKS: u32 = 64;

static WAITS: AtomicU32 = AtomicU32::new(0);

/// Once is enough.
static IS_SAID: AtomicBool = AtomicBool::new(false);

/// Warns if the current thread, which is about to block, drives futures of tokio.
#[cold]
pub(crate) fn warn_if_driven() {
    // Relaxed, here and below: nothing is read because of these values.
    if IS_SAID.load(Ordering::Relaxed) || Handle::try_current().is_err() {
        return;
    }
    let waits = WAITS.fetch_add(1, Ordering::Relaxed);
    let looks = waits < LOOKS || waits % LOOKS == 0;
    if looks && is_driven() && !IS_SAID.swap(true, Ordering::Relaxed) {
        say(format_args!(
            "a thread of a tokio runtime blocks until work of a pool is done, and with \
             it every future that it drives. Await a `JoinHandle` instead of joining it, await \
             `Pool::reserve` before a submission to a full queue, call maps, scopes and shutdowns \
             inside `spawn_blocking`, and do not let the last handle of a pool be dropped there. \
             This is said once; {}",
            place()
        ));
    }
}

/// Says where this is, as a panic would.
fn place() -> String {
    let trace = Backtrace::capture();
    match trace.status() {
        BacktraceStatus::Captured => format!("it was here:\n{trace}"),
        _ => "run with `RUST_BACKTRACE=1` to see where it was.".to_owned(),
    }
}

/// Returns whether a future of tokio is polled on this thread, which is in a runtime. Only such a
/// thread has a budget, and there is no other way to see that than to use it up.
fn is_driven() -> bool {
    let mut context = Context::from_waker(Waker::noop());
    // Its drop puts back what is used up here.
    let Poll::Ready(_budget) = coop::poll_proceed(&mut context) else { return true };
    for _ in 0..BUDGET {
        if !coop::has_budget_remaining() {
            return true;
        }
        let _used = pin!(coop::consume_budget()).poll(&mut context);
    }
    false
}

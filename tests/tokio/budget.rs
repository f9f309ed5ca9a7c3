//! The budget of tokio's tasks, which a pool leaves alone.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread::sleep;
use std::time::Duration;

use crate::support::in_a_process_of_its_own;
use cleanslate::Pool;
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;

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

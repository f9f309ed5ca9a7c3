//! A future that is polled a given number of times, and what polls it.

use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{self, Poll, Waker};

/// Ready at the poll after `self.0` more.
pub(crate) struct Countdown(pub(crate) u32);

impl Future for Countdown {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        Poll::Pending
    }
}

/// Polls to the end, through a pointer as executors do. If the compiler sees both ends, it merges
/// what one poll puts back with what the next one takes away.
pub(crate) fn drive(future: impl Future<Output = ()>) {
    let mut future: Pin<&mut dyn Future<Output = ()>> = pin!(future);
    let mut cx = task::Context::from_waker(Waker::noop());
    while black_box(&mut future).as_mut().poll(&mut cx).is_pending() {}
}

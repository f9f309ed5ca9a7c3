//! The places of a bounded queue: who waits for one, and who is woken for one.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::support::{finishes, occupy};
use cleanslate::{Permit, Pool, Reserve};

fn bounded(capacity: usize) -> Pool {
    Pool::builder().workers(1).queue_capacity(capacity).build().unwrap()
}

#[test]
fn no_more_tasks_of_plain_threads_are_queued_than_there_are_places() {
    const BOUND: usize = 3;
    finishes("a flood", || {
        let (pool, most) = (bounded(BOUND), AtomicUsize::new(0));
        // While the only worker runs a task, it claims no other.
        let look = || _ = most.fetch_max(pool.stats().queued, Ordering::SeqCst);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    pool.scope(|s| (0..300).for_each(|_| drop(s.submit(look))));
                });
            }
        });
        let most = most.into_inner();
        assert!(most <= BOUND, "{most}");
    });
}

#[test]
fn nor_are_more_closures_that_plain_threads_join() {
    const BOUND: usize = 3;
    finishes("a flood", || {
        let (pool, most) = (bounded(BOUND), AtomicUsize::new(0));
        let look = || _ = most.fetch_max(pool.stats().queued, Ordering::SeqCst);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| (0..100).for_each(|_| _ = pool.join(look, look)));
            }
        });
        let most = most.into_inner();
        assert!(most <= BOUND, "{most}");
    });
}

#[test]
fn nor_are_more_items_of_an_imap_whatever_its_buffer() {
    const BOUND: usize = 3;
    finishes("an imap", || {
        let pool = bounded(BOUND);
        let mut busy = Some(occupy(&pool));
        let items = (0..300).inspect(move |n| {
            if *n == BOUND {
                drop(busy.take());
            }
        });
        let inner = pool.clone();
        // While the only worker runs a task, it claims no other.
        let queued = pool.imap(items, move |_| inner.stats().queued).buffer(100);
        let most = queued.max().unwrap();
        assert!(most <= BOUND, "{most}");
    });
}

/// Polls its wait where it is woken, as some executors do, and tries for another place.
struct PollsAtOnce {
    pool: &'static Pool,
    wait: Mutex<Reserve<'static>>,
    /// What it got, and whether it got another one.
    got: Mutex<Vec<(Poll<Permit>, bool)>>,
}

impl PollsAtOnce {
    fn poll(&self, waker: &Waker) -> Poll<Permit> {
        let mut wait = self.wait.lock().unwrap();
        Pin::new(&mut *wait).poll(&mut Context::from_waker(waker)).map(Result::unwrap)
    }
}

impl Wake for PollsAtOnce {
    fn wake(self: Arc<Self>) {
        let first = self.poll(Waker::noop());
        let got = (first, self.pool.try_reserve().is_ok());
        self.got.lock().unwrap().push(got);
    }
}

#[test]
fn who_is_woken_for_a_place_may_take_it_there() {
    finishes("a wake", || {
        let pool: &'static Pool = Box::leak(Box::new(bounded(1)));
        let permit = pool.try_reserve().unwrap();
        let waits =
            Arc::new(PollsAtOnce { pool, wait: Mutex::new(pool.reserve()), got: Mutex::default() });
        assert!(waits.poll(&Waker::from(Arc::clone(&waits))).is_pending());
        drop(permit);
        let got = std::mem::take(&mut *waits.got.lock().unwrap());
        assert!(matches!(&got[..], [(Poll::Ready(_), false)]));
    });
}

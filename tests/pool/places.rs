//! The places of a bounded queue: who waits for one.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::finishes;
use cleanslate::Pool;

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

//! Loom models of starting and joining: whoever waits for the end has joined every thread,
//! successors and their predecessors too.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::Threads;
use crate::sync::model::explore;
use crate::sync::seam;

const STACK: usize = 64 << 10;

/// The threads of a pool, and how many of them have ended.
struct Pool {
    threads: Arc<Threads>,
    ended: AtomicUsize,
}

impl Pool {
    fn new(workers: usize) -> Arc<Self> {
        let threads = Arc::new(Threads::new("model".into(), Some(STACK), workers));
        Arc::new(Self { threads, ended: AtomicUsize::new(0) })
    }

    /// Starts a worker's thread, which is replaced `times` times.
    fn start(self: &Arc<Self>, index: usize, times: usize) {
        let this = Arc::clone(self);
        let life = move || {
            if times != 0 {
                this.start(index, times - 1);
            }
            // Its destructors.
            seam::yield_now();
            this.ended.fetch_add(1, Ordering::SeqCst);
            true
        };
        self.threads.start(index, life).unwrap();
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

#[test]
fn whoever_joins_has_waited_for_a_successor_and_its_predecessor() {
    explore(3, || {
        let pool = Pool::new(1);
        pool.start(0, 1);
        pool.threads.join();
        assert_eq!(pool.ended(), 2);
    });
}

#[test]
fn two_that_join_wait_both_to_the_end() {
    explore(2, || {
        let pool = Pool::new(1);
        pool.start(0, 1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                pool.threads.join();
                assert_eq!(pool.ended(), 2);
            })
        };
        pool.threads.join();
        assert_eq!(pool.ended(), 2);
        other.join().unwrap();
    });
}

#[test]
fn a_thread_that_joins_for_another_tells_it() {
    explore(2, || {
        let pool = Pool::new(1);
        pool.start(0, 1);
        // A thread of its own does the joining.
        assert!(pool.threads.join_until(None).unwrap());
        assert_eq!(pool.ended(), 2);
    });
}

#[test]
fn all_workers_are_joined() {
    explore(2, || {
        let pool = Pool::new(2);
        pool.start(0, 0);
        pool.start(1, 1);
        pool.threads.join();
        assert_eq!(pool.ended(), 3);
    });
}

//! Loom models of the workers' sleep: no wake-up is lost.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::sleep::{Sleeper, Sleepers};
use crate::sync::model::explore;

/// A stand-in for the queue: a number of jobs, with no more order than the sleep protocol asks for.
struct Jobs {
    waiting: AtomicUsize,
    /// Jobs that are still to be run, by anybody.
    left: AtomicUsize,
    sleepers: Sleepers,
}

impl Jobs {
    fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            left: AtomicUsize::new(total),
            sleepers: Sleepers::new(),
        })
    }

    fn push(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.sleepers.notify();
    }

    fn pop(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting != 0
            && self
                .waiting
                .compare_exchange(waiting, waiting - 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn has_work(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    fn is_over(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    /// The loop of a worker, as in `worker::run`, until all jobs have been run.
    fn work(&self) {
        let mut me = Sleeper::of_this_thread();
        loop {
            if self.pop() {
                self.sleepers.stop_searching(&mut me, || self.has_work());
                if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    self.sleepers.notify_all();
                    return;
                }
                continue;
            }
            let awake = || self.has_work() || self.is_over();
            self.sleepers.fall_asleep(&mut me, awake, || false);
            if self.is_over() {
                return;
            }
        }
    }
}

#[test]
fn a_sleeping_worker_is_woken_for_every_job() {
    explore(3, || {
        let jobs = Jobs::new(2);
        let worker = {
            let jobs = Arc::clone(&jobs);
            thread::spawn(move || jobs.work())
        };
        jobs.push();
        jobs.push();
        worker.join().unwrap();
    });
}

#[test]
fn two_workers_and_a_submitter_lose_no_wake_up() {
    explore(2, || {
        let jobs = Jobs::new(2);
        let workers = [0, 1].map(|_| {
            let jobs = Arc::clone(&jobs);
            thread::spawn(move || jobs.work())
        });
        jobs.push();
        jobs.push();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_searcher_that_finds_work_passes_the_wake_up_on() {
    // The first job does not end before the second has begun: somebody must be woken for that one.
    explore(2, || {
        let jobs = Jobs::new(2);
        let begun = Arc::new(AtomicUsize::new(0));
        let workers = [0, 1].map(|_| {
            let (jobs, begun) = (Arc::clone(&jobs), Arc::clone(&begun));
            thread::spawn(move || {
                let mut me = Sleeper::of_this_thread();
                while !jobs.pop() {
                    jobs.sleepers.fall_asleep(&mut me, || jobs.has_work(), || false);
                }
                jobs.sleepers.stop_searching(&mut me, || jobs.has_work());
                begun.fetch_add(1, Ordering::SeqCst);
            })
        });
        jobs.push();
        jobs.push();
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    });
}

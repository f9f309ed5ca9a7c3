//! Loom models of a job's state: claim, complete, cancel, detach, wake.

use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

use loom::sync::atomic::Ordering;
use loom::sync::{Arc, Notify};
use loom::thread;

use super::state::{Completion, Detached, JobCell, Registration};
use crate::pool::scheduler::completions::CompletionQueue;
use crate::pool::scheduler::waiter::Waiter;
use crate::sync::model::explore;
use crate::sync::seam;

/// What a runner of the job does: runs it (the outcome is the work plus one) if it gets it.
fn run(cell: &JobCell<usize, Token>, made: &StdArc<Ledger>) -> bool {
    let Some((work, promise)) = cell.claim() else { return false };
    finish(cell, promise.complete(made.token(work + 1), false, || false));
    true
}

/// Starts a thread that does this.
fn runner(cell: &Arc<JobCell<usize, Token>>, ledger: &StdArc<Ledger>) -> thread::JoinHandle<bool> {
    let (cell, ledger) = (Arc::clone(cell), StdArc::clone(ledger));
    thread::spawn(move || run(&cell, &ledger))
}

fn finish(cell: &JobCell<usize, Token>, completion: Completion) {
    match completion {
        Completion::Attached(None) => {}
        Completion::Attached(Some(waiter)) => tell(&waiter),
        Completion::Detached => drop(cell.take().expect("the runner owns the outcome")),
    }
}

fn tell(waiter: &Waiter) {
    match waiter {
        Waiter::Thread(thread) => thread.unpark(),
        Waiter::Waker(waker) => waker.wake_by_ref(),
        Waiter::Queue(list, number, others) => {
            list.push(*number);
            if let Some(others) = others {
                tell(others);
            }
        }
    }
}

/// Counts the outcomes that exist, since a cell that leaks one tells nobody.
#[derive(Default)]
struct Ledger {
    made: std::sync::atomic::AtomicUsize,
    dropped: std::sync::atomic::AtomicUsize,
}

struct Token(usize, StdArc<Ledger>);

impl Ledger {
    fn token(self: &StdArc<Self>, value: usize) -> Token {
        self.made.fetch_add(1, Ordering::SeqCst);
        Token(value, StdArc::clone(self))
    }

    fn assert_even(&self) {
        let read = |n: &std::sync::atomic::AtomicUsize| n.load(Ordering::SeqCst);
        assert_eq!((read(&self.made), read(&self.dropped)), (1, 1));
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.1.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn join(cell: &JobCell<usize, Token>) -> usize {
    if !cell.state.is_done() {
        match cell.state.register(Waiter::this_thread(), || false) {
            Registration::Done(_) => {}
            Registration::Registered(_) => {
                while !cell.state.is_done() {
                    seam::park();
                }
            }
        }
    }
    cell.take().expect("the handle owns the outcome").0
}

#[test]
fn one_of_two_runners_runs_the_job_and_the_joiner_hears_of_it() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(0, 1));
        let runners = [0, 1].map(|_| runner(&cell, &ledger));
        assert_eq!(join(&cell), 2);
        let ran = runners.map(|runner| runner.join().unwrap());
        assert_eq!(ran.iter().filter(|ran| **ran).count(), 1);
        ledger.assert_even();
    });
}

#[test]
fn a_job_is_run_or_cancelled_never_both() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(0, 1));
        let runner = runner(&cell, &ledger);
        let cancelled = match cell.claim() {
            None => false,
            Some((_work, promise)) => {
                finish(&cell, promise.complete(ledger.token(0), true, || false));
                true
            }
        };
        assert_eq!(join(&cell), if cancelled { 0 } else { 2 });
        assert_ne!(runner.join().unwrap(), cancelled);
        ledger.assert_even();
    });
}

#[test]
fn whoever_claims_a_job_knows_whether_it_is_to_be_cancelled() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(0, 1));
        let (theirs, made) = (Arc::clone(&cell), StdArc::clone(&ledger));
        let runner = thread::spawn(move || {
            let (_work, promise) = theirs.claim().expect("nobody else claims it");
            let is_unwanted = promise.is_unwanted;
            finish(&theirs, promise.complete(made.token(0), is_unwanted, || false));
            is_unwanted
        });
        let cancels = cell.state.cancel_at_claim();
        assert!(!cell.state.cancel_at_claim());
        if cell.state.detach(|| false).0 == Detached::Caller {
            drop(cell.take().expect("the caller owns the outcome"));
        }
        assert_eq!(runner.join().unwrap(), cancels);
        ledger.assert_even();
    });
}

#[test]
fn the_outcome_of_a_detached_job_is_dropped_once() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(0, 1));
        let runner = runner(&cell, &ledger);
        let (owner, _waiter) = cell.state.detach(|| false);
        if owner == Detached::Caller {
            drop(cell.take().expect("the caller owns the outcome"));
        }
        assert!(runner.join().unwrap());
        ledger.assert_even();
    });
}

/// A waker of an executor that waits for it.
struct Call(Notify);

impl Wake for Call {
    fn wake(self: StdArc<Self>) {
        self.0.notify();
    }
}

fn call() -> StdArc<Call> {
    StdArc::new(Call(Notify::new()))
}

#[test]
fn a_future_polled_with_a_new_waker_is_woken_through_that_one() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(0, 1));
        let runner = runner(&cell, &ledger);
        let (first, second) = (call(), call());
        let mut registered = 0;
        for waker in [&first, &second] {
            let waiter = StdArc::new(Waiter::Waker(Waker::from(StdArc::clone(waker))));
            match cell.state.register(waiter, || false) {
                Registration::Done(_) => break,
                Registration::Registered(_) => registered += 1,
            }
        }
        if registered == 2 {
            second.0.wait();
        }
        assert!(runner.join().unwrap());
        assert_eq!(cell.take().expect("the job is done").0, 2);
        drop(cell);
        ledger.assert_even();
    });
}

// As `JoinHandle::join_timeout` does between a poll and its wake.
#[test]
fn a_waker_beside_which_somebody_waits_for_a_while_is_woken() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(0, 1));
        let waker = call();
        let waiter = StdArc::new(Waiter::Waker(Waker::from(StdArc::clone(&waker))));
        assert!(matches!(cell.state.register(waiter, || false), Registration::Registered(None)));
        let runner = runner(&cell, &ledger);
        let timed = StdArc::new(CompletionQueue::new());
        let waits = cell.state.register_beside(&timed, 0, || false);
        // The time is up.
        cell.state.unregister(&timed, || false);
        assert!(waits || cell.state.is_done());
        waker.0.wait();
        assert!(runner.join().unwrap());
        assert_eq!(cell.take().expect("the job is done").0, 2);
        ledger.assert_even();
    });
}

#[test]
fn a_waiter_is_told_or_taken_back_by_a_detaching_handle() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(0, 1));
        let runner = runner(&cell, &ledger);
        let waker = call();
        let waiter = StdArc::new(Waiter::Waker(Waker::from(StdArc::clone(&waker))));
        let _registered =
            matches!(cell.state.register(waiter, || false), Registration::Registered(_));
        let (owner, waiter) = cell.state.detach(|| false);
        drop(waiter);
        if owner == Detached::Caller {
            drop(cell.take().expect("the caller owns the outcome"));
        }
        assert!(runner.join().unwrap());
        // Nothing of it is left behind in the cell, which the queue may keep for long.
        assert_eq!(StdArc::strong_count(&waker), 1);
        ledger.assert_even();
    });
}

/// One waits for any of several jobs beside another one that leaves before, or after, it comes.
#[test]
fn a_consumer_that_leaves_takes_nobody_elses_place() {
    for leaves_first in [false, true] {
        explore(4, move || {
            let ledger = StdArc::new(Ledger::default());
            let cell = Arc::new(JobCell::new(0, 1));
            let lists = [(); 3].map(|()| StdArc::new(CompletionQueue::new()));
            let [left, leaves, stays] = &lists;
            assert!(
                cell.state.register_beside(left, 7, || false)
                    && cell.state.register_beside(leaves, 8, || false)
            );
            let runner = runner(&cell, &ledger);
            if leaves_first {
                cell.state.unregister(leaves, || false);
            }
            let waits = cell.state.register_beside(stays, 9, || false);
            if !leaves_first {
                cell.state.unregister(leaves, || false);
            }
            assert!(runner.join().unwrap());
            assert_eq!(left.pop_or_register(seam::current), Some(7));
            match waits {
                true => assert_eq!(stays.pop_or_register(seam::current), Some(9)),
                false => assert!(cell.state.is_done()),
            }
            drop(cell.take());
            ledger.assert_even();
        });
    }
}

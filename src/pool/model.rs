//! Loom models of the pool's protocols: the cell of a job, the sleep of the workers, the gate of a
//! group. Each explores every interleaving (up to a number of preemptions that is said) of a few
//! threads that use the real types, with the seam's atomics and locks replaced by loom's. Loom itself
//! reports deadlocks (a lost wake-up is one), and accesses to a cell that race.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --lib --release model`.

use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

use super::cell::{Completion, Detached, JobCell, Registration, Waiter};
use super::gate::{Entry, Gate};
use super::sleep::{Sleeper, Sleepers};
use crate::sync::seam::{self, UnsafeCell};

/// Explores `model` with at most `preemptions` involuntary switches, or as many as
/// `LOOM_MAX_PREEMPTIONS` says.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

/// What a runner of the job does: runs it (the outcome is the work plus one) if it gets it.
fn run(cell: &JobCell<usize, Token>, made: &StdArc<Ledger>) -> bool {
    let Some(mut claimed) = cell.claim() else { return false };
    let work = claimed.work();
    finish(cell, claimed.complete(made.token(work + 1)));
    true
}

fn finish(cell: &JobCell<usize, Token>, completion: Completion) {
    match completion {
        Completion::Attached(None) => {}
        Completion::Attached(Some(Waiter::Thread(thread))) => thread.unpark(),
        Completion::Attached(Some(Waiter::Waker(waker))) => waker.wake(),
        Completion::Attached(Some(Waiter::List(list, number))) => list.push(number),
        Completion::Detached => drop(cell.take().expect("the runner owns the outcome")),
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
    if !cell.is_done() {
        match cell.register(Waiter::Thread(seam::current())) {
            Registration::Done => {}
            Registration::Registered(_) => {
                while !cell.is_done() {
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
        let cell = Arc::new(JobCell::new(1));
        let runners = [0, 1].map(|_| {
            let (cell, ledger) = (Arc::clone(&cell), StdArc::clone(&ledger));
            thread::spawn(move || run(&cell, &ledger))
        });
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
        let cell = Arc::new(JobCell::new(1));
        let runner = {
            let (cell, ledger) = (Arc::clone(&cell), StdArc::clone(&ledger));
            thread::spawn(move || run(&cell, &ledger))
        };
        let cancelled = match cell.claim() {
            None => false,
            Some(mut claimed) => {
                let _work = claimed.work();
                finish(&cell, claimed.complete(ledger.token(0)));
                true
            }
        };
        assert_eq!(join(&cell), if cancelled { 0 } else { 2 });
        assert_ne!(runner.join().unwrap(), cancelled);
        ledger.assert_even();
    });
}

#[test]
fn the_outcome_of_a_detached_job_is_dropped_once() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(1));
        let runner = {
            let (cell, ledger) = (Arc::clone(&cell), StdArc::clone(&ledger));
            thread::spawn(move || run(&cell, &ledger))
        };
        let (owner, _waiter) = cell.detach();
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
        let cell = Arc::new(JobCell::new(1));
        let runner = {
            let (cell, ledger) = (Arc::clone(&cell), StdArc::clone(&ledger));
            thread::spawn(move || run(&cell, &ledger))
        };
        let (first, second) = (call(), call());
        let mut registered = 0;
        for waker in [&first, &second] {
            let waiter = Waiter::Waker(Waker::from(StdArc::clone(waker)));
            match cell.register(waiter) {
                Registration::Done => break,
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

#[test]
fn a_waiter_is_told_or_taken_back_by_a_detaching_handle() {
    explore(4, || {
        let ledger = StdArc::new(Ledger::default());
        let cell = Arc::new(JobCell::new(1));
        let runner = {
            let (cell, ledger) = (Arc::clone(&cell), StdArc::clone(&ledger));
            thread::spawn(move || run(&cell, &ledger))
        };
        let waker = call();
        let waiter = Waiter::Waker(Waker::from(StdArc::clone(&waker)));
        let _registered = matches!(cell.register(waiter), Registration::Registered(_));
        let (owner, waiter) = cell.detach();
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
        let me = Sleeper::of_this_thread();
        let mut searching = false;
        loop {
            if self.pop() {
                if searching {
                    self.sleepers.stop_searching(|| self.has_work());
                    searching = false;
                }
                if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    self.sleepers.notify_all();
                    return;
                }
                continue;
            }
            let awake = || self.has_work() || self.is_over();
            self.sleepers.fall_asleep(&me, searching, awake, || false);
            searching = true;
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
                let me = Sleeper::of_this_thread();
                let mut searching = false;
                while !jobs.pop() {
                    let has_work = || jobs.has_work();
                    jobs.sleepers.fall_asleep(&me, searching, has_work, || false);
                    searching = true;
                }
                if searching {
                    jobs.sleepers.stop_searching(|| jobs.has_work());
                }
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

/// A group as its tickets see it: what they share, and what lies on the owner's stack. Loom reports an
/// access to `body` that is not ordered before the owner's last one.
struct Group {
    gate: Gate,
    owner: seam::Thread,
    body: UnsafeCell<usize>,
    helped: AtomicUsize,
}

// Loom's cell checks every access to `body` itself; the models only ever read it while inside.
#[expect(unsafe_code, reason = "loom's cell is not `Sync`")]
// SAFETY: loom panics on an access that races.
unsafe impl Sync for Group {}

#[expect(unsafe_code, reason = "loom's cell is not `Sync`")]
// SAFETY: as above; nothing in a group is bound to a thread.
unsafe impl Send for Group {}

impl Group {
    fn new(tickets: usize) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(tickets),
            owner: seam::current(),
            body: UnsafeCell::new(0),
            helped: AtomicUsize::new(0),
        })
    }

    fn help(&self) {
        self.body.with(|_body| ());
        self.helped.fetch_add(1, Ordering::Relaxed);
    }

    fn ticket(&self) -> bool {
        if self.gate.enter() == Entry::TooLate {
            return false;
        }
        self.help();
        let _left_behind = self.gate.close();
        if self.gate.leave() {
            self.owner.unpark();
        }
        true
    }

    /// The owner waits, and then takes its stack back.
    fn end(&self) {
        while !self.gate.is_over() {
            seam::park();
        }
        self.body.with_mut(|_body| ());
    }
}

#[test]
fn no_ticket_touches_the_owners_stack_after_the_owner_has_gone() {
    explore(3, || {
        let group = Group::new(2);
        let tickets = [0, 1].map(|_| {
            let group = Arc::clone(&group);
            thread::spawn(move || group.ticket())
        });
        group.end();
        let entered = tickets.map(|ticket| ticket.join().unwrap());
        let entered = entered.iter().filter(|entered| **entered).count();
        assert!(entered >= 1);
        assert_eq!(group.helped.load(Ordering::Relaxed), entered);
    });
}

#[test]
fn an_owner_that_works_itself_waits_for_the_helpers_inside() {
    explore(3, || {
        let group = Group::new(2);
        group.gate.enter_as_owner();
        let tickets = [0, 1].map(|_| {
            let group = Arc::clone(&group);
            thread::spawn(move || group.ticket())
        });
        group.help();
        let left_behind = group.gate.close();
        if group.gate.leave() {
            group.owner.unpark();
        }
        group.end();
        let late = tickets.map(|ticket| ticket.join().unwrap());
        let late = late.iter().filter(|entered| !**entered).count() as u64;
        // The first to close hears of every ticket that will come too late, at most.
        assert!(left_behind == 0 || left_behind == late);
    });
}

#[test]
fn visits_that_do_not_close_the_gate_are_waited_for_as_well() {
    explore(3, || {
        let group = Group::new(2);
        let left = Arc::new(AtomicUsize::new(2));
        let visits = [0, 1].map(|_| {
            let (group, left) = (Arc::clone(&group), Arc::clone(&left));
            thread::spawn(move || {
                assert_eq!(group.gate.enter(), Entry::Inside);
                group.help();
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    let _none_queued = group.gate.close();
                }
                if group.gate.leave() {
                    group.owner.unpark();
                }
            })
        });
        group.end();
        for visit in visits {
            visit.join().unwrap();
        }
    });
}

//! Loom models of a scope's data: the owner goes on when the last task is over, and not before.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{Data, Member};
use crate::pool::core::{Core, Entry, How, testing};
use crate::pool::job::End;
use crate::pool::scheduler::queue::Stale;
use crate::sync::model::explore;
use crate::sync::seam;
use loom::cell::UnsafeCell;

/// What the tasks borrow. Loom reports a look at it that is not ordered before the owner's last
/// one.
struct Borrowed(UnsafeCell<usize>);

#[expect(unsafe_code, reason = "loom's cell is not `Sync`")]
// SAFETY: loom panics on an access that races.
unsafe impl Sync for Borrowed {}
#[expect(unsafe_code, reason = "loom's cell is not `Sync`")]
// SAFETY: as above.
unsafe impl Send for Borrowed {}

/// A task of the scope that anybody may claim.
struct Task {
    claimed: AtomicUsize,
    member: Member,
    borrowed: Arc<Borrowed>,
}

impl Task {
    fn new(data: &Arc<Data>, borrowed: &Arc<Borrowed>) -> Arc<Self> {
        let member = Member::new(data);
        Arc::new(Self { claimed: AtomicUsize::new(0), member, borrowed: Arc::clone(borrowed) })
    }

    fn claim_and_run(&self) -> bool {
        if self.claimed.swap(1, Ordering::SeqCst) != 0 {
            return false;
        }
        self.borrowed.0.with(|_| ());
        self.member.over();
        true
    }
}

impl Stale for Task {
    fn is_stale(&self) -> bool {
        self.claimed.load(Ordering::SeqCst) != 0
    }
}

impl Entry for Task {
    fn run(self: Arc<Self>, _core: &Core, _how: How<'_>) -> bool {
        self.claim_and_run()
    }
}

fn data(helps: bool) -> Arc<Data> {
    Arc::new(Data::new(seam::current(), helps))
}

fn borrowed() -> Arc<Borrowed> {
    Arc::new(Borrowed(UnsafeCell::new(0)))
}

/// The owner waits, and takes back what the tasks borrowed.
fn end(data: &Data, borrowed: &Borrowed) {
    assert!(data.wait(&testing::core(1)));
    borrowed.0.with_mut(|_| ());
}

#[test]
fn an_owner_waits_for_tasks_on_other_threads() {
    explore(3, || {
        let (data, borrowed) = (data(false), borrowed());
        let tasks = [0, 1].map(|_| Task::new(&data, &borrowed));
        let runners = tasks.map(|task| thread::spawn(move || assert!(task.claim_and_run())));
        end(&data, &borrowed);
        for runner in runners {
            runner.join().unwrap();
        }
    });
}

#[test]
fn an_owner_that_helps_runs_what_others_do_not() {
    explore(3, || {
        let (data, borrowed) = (data(true), borrowed());
        let task = Task::new(&data, &borrowed);
        data.list(Arc::clone(&task) as Arc<dyn Entry>, || false);
        let worker = thread::spawn(move || task.claim_and_run());
        end(&data, &borrowed);
        let _whether_it_was_first = worker.join().unwrap();
    });
}

#[test]
fn an_owner_that_helps_is_woken_for_what_a_task_submits() {
    explore(3, || {
        let (data, borrowed) = (data(true), borrowed());
        // It runs elsewhere, and submits a second one, which nobody but the owner runs.
        let first = Task::new(&data, &borrowed);
        let worker = {
            let (data, borrowed) = (Arc::clone(&data), Arc::clone(&borrowed));
            thread::spawn(move || {
                data.list(Task::new(&data, &borrowed) as Arc<dyn Entry>, || false);
                assert!(first.claim_and_run());
            })
        };
        end(&data, &borrowed);
        worker.join().unwrap();
    });
}

#[test]
fn a_failure_is_seen_by_the_owner() {
    explore(3, || {
        let (data, borrowed) = (data(false), borrowed());
        let task = Task::new(&data, &borrowed);
        let runner = thread::spawn(move || {
            task.member.failing();
            assert!(task.claim_and_run());
        });
        end(&data, &borrowed);
        assert!(!data.is_over_well());
        runner.join().unwrap();
    });
}

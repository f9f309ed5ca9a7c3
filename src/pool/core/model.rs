//! Loom models of admission, quiescence and cancellation: nothing that was let in is forgotten,
//! nothing is run after the end, and nobody sleeps over the end.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::testing::{Directed, Task, core};
use super::{Core, HookRun, How};
use crate::pool::scheduler::sleep::Sleeper;
use crate::sync::model::explore;

/// A worker's loop without directed tasks and renewal: until the pool is quiescent.
fn work(core: &Core) {
    let mut sleeper = Sleeper::of_this_thread();
    let has_work = || !core.queue.is_empty();
    loop {
        if let Some(entry) = core.queue.pop() {
            core.sleepers.stop_searching(&mut sleeper, has_work);
            if !entry.run(core, How::Run(core.tally())) {
                core.queue.removed_stale();
            }
            continue;
        }
        core.sleepers.fall_asleep(
            &mut sleeper,
            || {
                core.tell_if_idle();
                has_work() || core.is_quiescent()
            },
            || false,
        );
        if core.is_quiescent() {
            return core.sleepers.notify_all();
        }
    }
}

fn on_a_thread<R: 'static>(
    core: &Arc<Core>,
    f: impl FnOnce(&Core) -> R + 'static,
) -> thread::JoinHandle<R> {
    let core = Arc::clone(core);
    thread::spawn(move || f(&core))
}

#[test]
fn a_submission_that_races_with_the_closing_is_run_or_refused() {
    explore(2, || {
        let core = core(1);
        let task = Task::new(|_| ());
        let worker = on_a_thread(&core, work);
        let submitter = {
            let task = Arc::clone(&task);
            on_a_thread(&core, move |core| task.submit(core).is_ok())
        };
        core.close();
        let admitted = submitter.join().unwrap();
        worker.join().unwrap();
        assert_eq!(task.fate.seen(), (usize::from(admitted), 0));
    });
}

#[test]
fn a_task_that_drains_is_waited_for_with_what_it_submits() {
    explore(2, || {
        let core = core(1);
        let second = Task::new(|_| ());
        let first = {
            let second = Arc::clone(&second);
            Task::new(move |core: &Core| assert!(second.submit(core).is_ok()))
        };
        first.submit(&core).unwrap();
        let worker = on_a_thread(&core, work);
        core.close();
        worker.join().unwrap();
        assert_eq!((first.fate.seen(), second.fate.seen()), ((1, 0), (1, 0)));
    });
}

#[test]
fn what_a_hook_submits_runs_if_the_hook_began_while_the_pool_was_open() {
    explore(2, || {
        let core = core(1);
        let task = Task::new(|_| ());
        let worker = on_a_thread(&core, work);
        let hook = {
            let task = Arc::clone(&task);
            on_a_thread(&core, move |core| {
                let counts = HookRun::begin(core);
                let submitted = task.submit(core).is_ok();
                // One that counts is let in; one that does not may be, as anybody else is.
                assert!(submitted || counts.is_none());
                submitted
            })
        };
        core.close();
        let submitted = hook.join().unwrap();
        worker.join().unwrap();
        assert_eq!(task.fate.seen(), (usize::from(submitted), 0));
    });
}

#[test]
fn what_looks_quiescent_has_no_hook_that_counts() {
    explore(3, || {
        let core = core(1);
        let over = Arc::new(AtomicBool::new(false));
        let hook = {
            let over = Arc::clone(&over);
            on_a_thread(&core, move |core| {
                let counts = HookRun::begin(core);
                over.store(true, Ordering::Relaxed);
                counts.is_some()
            })
        };
        let closer = on_a_thread(&core, Core::close);
        let quiescent = core.is_quiescent();
        let was_over = over.load(Ordering::Relaxed);
        closer.join().unwrap();
        let counted = hook.join().unwrap();
        assert!(!quiescent || !counted || was_over);
    });
}

#[test]
fn the_last_finished_task_wakes_a_worker_for_the_end() {
    // The task is run on another thread than the worker's, as one that was waited for is.
    explore(3, || {
        let core = core(1);
        let task = Task::new(|_| ());
        task.submit(&core).unwrap();
        let entry = core.queue.pop().unwrap();
        let worker = on_a_thread(&core, work);
        let other = on_a_thread(&core, move |core| entry.run(&core, How::Run(core.tally())));
        core.close();
        other.join().unwrap();
        worker.join().unwrap();
        assert_eq!(task.fate.seen(), (1, 0));
    });
}

#[test]
fn what_is_submitted_while_the_pool_is_cancelled_is_cancelled_or_refused() {
    // No worker is there to find it later.
    explore(3, || {
        let core = core(1);
        let task = Task::new(|_| ());
        let submitter = {
            let task = Arc::clone(&task);
            on_a_thread(&core, move |core| task.submit(core).is_ok())
        };
        core.cancel();
        let admitted = submitter.join().unwrap();
        assert_eq!(task.fate.seen(), (0, usize::from(admitted)));
        assert!(core.is_quiescent());
    });
}

#[test]
fn what_is_delivered_while_the_pool_is_cancelled_is_cancelled() {
    explore(3, || {
        let core = core(2);
        let visit = Arc::new(Directed::default());
        let caller = {
            let visit = Arc::clone(&visit);
            on_a_thread(&core, move |core| core.deliver_to_all(&visit))
        };
        core.cancel();
        caller.join().unwrap();
        assert_eq!(visit.0.seen(), (0, 2));
    });
}

#[test]
fn a_sweep_that_races_with_a_cancellation_hides_nothing_from_it() {
    explore(3, || {
        let core = core(1);
        let live = Task::new(|_| ());
        live.submit(&core).unwrap();
        for _ in 0..4 {
            let stale = Task::new(|_: &Core| ());
            assert!(stale.claim());
            core.queue.push(stale as Arc<dyn super::Entry>);
        }
        let canceller = on_a_thread(&core, Core::cancel);
        core.mark_stale(4);
        canceller.join().unwrap();
        assert_eq!(live.fate.seen(), (0, 1));
    });
}

#[test]
fn whoever_waits_until_the_pool_is_idle_is_told() {
    explore(2, || {
        let core = core(1);
        let second = Task::new(|_| ());
        let first = {
            let second = Arc::clone(&second);
            Task::new(move |core: &Core| assert!(second.submit(core).is_ok()))
        };
        first.submit(&core).unwrap();
        let worker = on_a_thread(&core, work);
        assert!(core.wait_until_idle());
        assert_eq!((first.fate.seen(), second.fate.seen()), ((1, 0), (1, 0)));
        core.close();
        worker.join().unwrap();
    });
}

#[test]
fn whoever_waits_is_told_by_a_thread_that_is_no_worker() {
    explore(3, || {
        let core = core(1);
        let task = Task::new(|_| ());
        task.submit(&core).unwrap();
        let entry = core.queue.pop().unwrap();
        let other = on_a_thread(&core, move |core| entry.run(&core, How::Run(core.tally())));
        assert!(core.wait_until_idle());
        assert_eq!(task.fate.seen(), (1, 0));
        other.join().unwrap();
    });
}

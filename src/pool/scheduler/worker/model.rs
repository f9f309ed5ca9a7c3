//! Loom models of a worker's life: the loop that serves, renewal, and the end. The threads do what
//! `live` does, but for the hooks and what else needs a frame.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::super::current;
use super::{Exit, serve};
use crate::pool::core::Core;
use crate::pool::core::testing::{Directed, Task, core};
use crate::sync::model::explore;
use crate::sync::seam;

const NOTHING: fn(&Core) = |_| ();

/// Lives as a worker does; `destructors` run where those of thread-locals do.
fn live(core: &Arc<Core>, index: usize, destructors: impl FnOnce(&Core) + Send + 'static) {
    let theirs = Arc::clone(core);
    let life = move || {
        let slot = &theirs.slots[index];
        current::bind(slot);
        let end = serve(&theirs, slot);
        current::unbind();
        if let Exit::Replaced = end {
            live(&theirs, index, NOTHING);
        }
        destructors(&theirs);
        true
    };
    core.threads.start(index, life).unwrap();
}

#[test]
fn a_worker_runs_what_was_let_in_and_ends() {
    explore(2, || {
        let core = core(1);
        let task = Task::new(|_| ());
        live(&core, 0, NOTHING);
        task.submit(&core).unwrap();
        core.close();
        core.threads.join();
        assert_eq!(task.fate.seen(), (1, 0));
    });
}

#[test]
fn the_worker_that_runs_the_last_task_tells_the_others() {
    explore(2, || {
        let core = core(2);
        let task = Task::new(|_| ());
        live(&core, 0, NOTHING);
        live(&core, 1, NOTHING);
        task.submit(&core).unwrap();
        core.close();
        core.threads.join();
        assert_eq!(task.fate.seen(), (1, 0));
    });
}

#[test]
fn a_worker_that_is_replaced_leaves_everything_to_its_successor() {
    explore(2, || {
        let core = core(1);
        let first = Task::new(|core: &Core| core.slots[0].retire());
        let second = Task::new(|_| ());
        first.submit(&core).unwrap();
        live(&core, 0, NOTHING);
        second.submit(&core).unwrap();
        core.close();
        core.threads.join();
        assert_eq!((first.fate.seen(), second.fate.seen()), ((1, 0), (1, 0)));
    });
}

#[test]
fn a_destructor_of_a_replaced_worker_waits_for_its_successor() {
    explore(2, || {
        let core = core(1);
        let first = Task::new(|core: &Core| core.slots[0].retire());
        first.submit(&core).unwrap();
        live(&core, 0, |core| {
            // Submits, and waits as a plain thread does.
            let waiting = seam::current();
            let done = Arc::new(AtomicUsize::new(0));
            let theirs = Arc::clone(&done);
            let task = Task::new(move |_: &Core| {
                theirs.store(1, Ordering::SeqCst);
                waiting.unpark();
            });
            if task.submit(core).is_ok() {
                while done.load(Ordering::SeqCst) == 0 {
                    seam::park();
                }
            }
        });
        core.close();
        core.threads.join();
        assert_eq!(first.fate.seen(), (1, 0));
    });
}

#[test]
fn a_visit_reaches_a_worker_or_its_successor() {
    explore(2, || {
        let core = core(1);
        let first = Task::new(|core: &Core| core.slots[0].retire());
        first.submit(&core).unwrap();
        live(&core, 0, NOTHING);
        let visit = Arc::new(Directed::default());
        core.deliver_to_all(&visit);
        while visit.0.seen() == (0, 0) {
            thread::yield_now();
        }
        core.close();
        core.threads.join();
        assert_eq!(visit.0.seen(), (1, 0));
    });
}

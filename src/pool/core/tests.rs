//! What a core does about work that comes while it is cancelled, and about entries that it moves.

use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

use super::testing::{Directed, Task, core};
use super::*;
use crate::Pool;
use crate::pool::scheduler::current::Doing;
use crate::pool::scheduler::sleep::Sleeper;
use crate::pool::scheduler::worker_slot::DirectedTask;

#[test]
fn a_closed_pool_lets_nobody_in_but_its_running_tasks() {
    let core = core(1);
    assert_eq!(core.admit(Place::NotNeeded), Ok(0));
    core.close();
    assert_eq!(core.admit(Place::NotNeeded), Err(Refused::ShutDown));
    let other = current::enter(core.id + 1, Doing::TASK);
    assert_eq!(core.admit(Place::NotNeeded), Err(Refused::ShutDown), "a task of another pool");
    drop(other);
    let in_task = current::enter(core.id, Doing::TASK);
    assert_eq!(core.admit(Place::NotNeeded), Ok(1));
    core.cancel();
    assert_eq!(core.admit(Place::NotNeeded), Err(Refused::ShutDown));
    drop(in_task);
    assert_eq!(core.admitted(), 2);
}

// Broke nothing for long: without the look after the work is made visible, what comes after the
// thread that cancels has looked waits for a worker, which may be busy for ever.
#[test]
fn whoever_brings_an_entry_after_the_cancellation_is_told() {
    let core = core(1);
    let task = || Task::new(|_: &Core| ()) as Arc<dyn Entry>;
    assert!(!core.enqueue(task()) && !core.enqueue_second(task()));
    assert!(!core.enqueue_all([task()].into_iter()));
    core.cancel();
    assert!(core.queue.is_empty());
    assert!(core.enqueue(task()) && core.enqueue_second(task()));
    assert!(core.enqueue_all([task()].into_iter()));
}

// Broke: a task that submitted another one, or whose thread swept the queue, while the pool was
// cancelled, ended everything that was on the queue: on its own stack, where the drop of what was
// ended waited for that very task.
#[test]
fn nobody_but_who_cancels_the_pool_ends_the_entries_of_others() {
    let core = core(1);
    core.cancel();
    let others = Task::new(|_| ());
    core.queue.push(Arc::clone(&others) as Arc<dyn Entry>);
    assert!(core.enqueue(Task::new(|_: &Core| ()) as Arc<dyn Entry>));
    for _ in 0..200 {
        let stale = Task::new(|_: &Core| ());
        assert!(stale.claim());
        core.queue.push(stale as Arc<dyn Entry>);
    }
    core.mark_stale(200);
    core.deliver_to_all(&Arc::new(Directed::default()));
    assert_eq!(others.fate.seen(), (0, 0));
    assert_eq!(core.queue.live(), 2, "it was swept");
}

#[test]
fn a_visit_that_comes_after_the_cancellation_is_cancelled_at_once() {
    let core = core(3);
    core.cancel();
    let visit = Arc::new(Directed::default());
    core.deliver_to_all(&visit);
    assert_eq!(visit.0.seen(), (0, 3));
    assert!(core.slots.iter().all(|slot| !slot.run_directed()));
}

#[test]
fn an_entry_that_a_worker_takes_off_a_cancelled_queue_is_cancelled() {
    let core = core(1);
    let task = Task::new(|_| ());
    task.submit(&core).unwrap();
    let entry = core.queue.pop().unwrap();
    core.cancel();
    assert!(entry.run(&core, How::Run(core.tally())));
    assert_eq!(task.fate.seen(), (0, 1));
    assert!(core.is_quiescent());
}

#[test]
fn what_was_cancelled_in_the_queue_counts_no_more_once_a_worker_has_it() {
    let pool = Pool::new(1).unwrap();
    for _ in 0..2 {
        let (tell, told) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let busy = pool.submit(move || {
            tell.send(()).unwrap();
            gate.recv()
        });
        told.recv().unwrap();
        for _ in 0..50 {
            assert!(pool.submit(|| ()).cancel());
        }
        let waiting = [pool.submit(|| ()), pool.submit(|| ())];
        assert_eq!(pool.core().queue.live(), 2);
        drop(go);
        assert!(busy.join().unwrap().is_err());
        waiting.into_iter().for_each(|task| task.join().unwrap());
    }
}

/// Starts a worker that falls asleep, whatever there is to do, and tells when it is woken.
fn asleep(core: &Arc<Core>) -> (std::thread::JoinHandle<()>, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let theirs = Arc::clone(core);
    let sleeper = std::thread::spawn(move || {
        let mut sleeper = Sleeper::of_this_thread();
        // It is on the list when it is asked, and does not see what is in the queue.
        let has_work = || {
            tell.send(()).unwrap();
            false
        };
        theirs.sleepers.fall_asleep(&mut sleeper, has_work, || false);
        tell.send(()).unwrap();
    });
    told.recv().unwrap();
    (sleeper, told)
}

// Broke: a live entry that a sweep put back while every worker had fallen asleep waited for ever.
#[test]
fn a_sweep_wakes_a_worker_for_what_it_moved() {
    let core = core(1);
    let stale: Vec<_> = (0..200).map(|_| Task::new(|_: &Core| ())).collect();
    for task in &stale {
        assert!(task.claim());
        core.queue.push(Arc::clone(task) as Arc<dyn Entry>);
    }
    core.queue.push(Task::new(|_: &Core| ()) as Arc<dyn Entry>);
    let (sleeper, told) = asleep(&core);
    core.mark_stale(200);
    assert_eq!(core.queue.live(), 1);
    assert!(told.recv_timeout(Duration::from_secs(60)).is_ok(), "the sleeper was not woken");
    sleeper.join().unwrap();
}

// Broke: a worker that was woken for the first ticket of a map took the caller's processor at once.
// It then saw no second ticket, for which it would have woken another worker, and ran the whole map
// before the caller got on.
#[test]
fn several_entries_are_all_there_before_anybody_is_woken_for_them() {
    let core = core(1);
    let (sleeper, woken) = asleep(&core);
    let entries = (0..2).map(|n| {
        if n == 1 {
            let early = woken.recv_timeout(Duration::from_millis(100)).is_ok();
            assert!(!early, "woken while there was one of two");
        }
        Task::new(|_: &Core| ()) as Arc<dyn Entry>
    });
    assert!(!core.enqueue_all(entries));
    assert!(woken.recv_timeout(Duration::from_secs(60)).is_ok(), "the sleeper was not woken");
    sleeper.join().unwrap();
    while let Some(entry) = core.queue.pop() {
        assert!(entry.run(&core, How::Run(core.tally())));
    }
}

#[test]
fn nothing_is_quiescent_before_the_closing_nor_while_anything_is_unfinished() {
    let core = core(1);
    assert!(!core.is_quiescent());
    let hook = HookRun::begin(&core).unwrap();
    let task = Task::new(|_| ());
    task.submit(&core).unwrap();
    core.close();
    assert!(!core.is_quiescent(), "a task and a hook");
    assert!(core.queue.pop().unwrap().run(&core, How::Run(core.tally())));
    assert!(!core.is_quiescent(), "a hook");
    // Which may submit.
    let late = Task::new(|_| ());
    late.submit(&core).unwrap();
    drop(hook);
    assert!(!core.is_quiescent(), "its task");
    assert!(core.queue.pop().unwrap().run(&core, How::Run(core.tally())));
    assert!(core.is_quiescent());
    assert!(HookRun::begin(&core).is_none(), "a hook does not count any more");
    assert_eq!(late.submit(&core), Err(Refused::ShutDown));
    assert!(core.is_quiescent());
    assert_eq!((task.fate.seen(), late.fate.seen()), ((1, 0), (1, 0)));
}

#[test]
fn a_task_that_drains_submits_and_one_of_a_cancelled_pool_does_not() {
    let core = core(1);
    core.close();
    let in_task = current::enter(core.id, Doing::TASK);
    assert!(core.admit(Place::Refuse).is_ok());
    assert!(core.admit(Place::NotNeeded).is_ok());
    core.cancel();
    assert_eq!(core.admit(Place::Refuse), Err(Refused::ShutDown));
    assert!(core.admit(Place::NotNeeded).is_err());
    drop(in_task);
}

#[test]
fn cancelled_visits_leave_the_others_in_their_order() {
    struct Keeps(bool, usize, std::sync::Mutex<mpsc::Sender<usize>>);
    impl DirectedTask for Keeps {
        fn run(&self) {
            self.2.lock().unwrap().send(self.1).unwrap();
        }
        fn may_cancel(&self) -> bool {
            self.0
        }
        fn cancel(&self) {
            assert!(self.0);
        }
    }
    let core = core(1);
    let (tell, told) = mpsc::channel();
    for n in 0..6 {
        core.deliver_to_all(&Arc::new(Keeps(n % 2 == 0, n, std::sync::Mutex::new(tell.clone()))));
    }
    core.slots[0].cancel_directed();
    while core.slots[0].run_directed() {}
    drop(tell);
    drop(core);
    assert_eq!(told.iter().collect::<Vec<_>>(), [1, 3, 5]);
}

/// Calls a closure when its thread ends.
struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.take().unwrap()();
    }
}

thread_local! { static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) }; }

// What another thread counts on a worker's counters is lost, and nobody hears of the last one.
#[test]
fn a_thread_counts_on_a_workers_counters_only_while_it_serves() {
    let core = core(1);
    let other = core.clone();
    let serves = move || {
        current::bind(&other.slots[0]);
        assert!(other.tally().alone);
        assert!(!current::run_hook(|| other.tally().alone), "in a hook it looks for nothing");
        current::unbind();
        assert!(!other.tally().alone, "its successor may serve already");
    };
    std::thread::spawn(serves).join().unwrap();
    assert!(!core.tally().alone);
}

#[test]
fn a_worker_that_ends_with_its_pool_waits_as_a_task_if_its_thread_is_fit() {
    for is_fit in [true, false] {
        let (tell, told) = mpsc::channel();
        let hook = move |_| {
            let tell = tell.clone();
            let at_end = move || tell.send(current::in_task()).unwrap();
            AT_END.set(Some(AtEnd(Some(Box::new(at_end)))));
            if !is_fit {
                current::slot().unwrap().retire();
            }
        };
        drop(Pool::builder().workers(1).on_worker_stop(hook).build().unwrap());
        assert_eq!(told.recv().unwrap(), is_fit);
    }
}

#[test]
fn a_pool_that_is_closed_once_more_stays_cancelled() {
    let core = core(1);
    core.cancel();
    core.close();
    assert!(core.is_cancelled());
}

//! The life of a worker thread.
//!
//! | state | what runs | submits | waits |
//! |---|---|---|---|
//! | starting | `on_worker_start` | as a hook | as a task |
//! | serving | tasks, directed tasks, drops of what is cancelled | as a task | as a task |
//! | stopping | `on_worker_stop` | as a hook | as a task |
//! | ending | worker-locals, thread-local destructors | past a full queue | see below |
//!
//! A hook submits as a task does if the pool was open when it began; otherwise it is refused.
//!
//! In the first three the thread is *bound* to its slot: nobody else serves there, so it runs what
//! it waits for and what is directed to it, whatever it does. That holds for the panic hook, too,
//! which is called for failures in each of them. In the last it no longer serves; whether it
//! waits as a task or as a plain thread is said below. No queue is full for it: whoever would make
//! room may wait for the end of its pool.
//!
//! A worker stops for one of two reasons. *The pool is quiescent*: it is closed and nothing that
//! was admitted is left, so nothing can come any more, and what the hook and the destructors submit
//! is refused. *The thread is to be replaced*: then, before anything ends on it, it is unbound and
//! its successor is started. So whatever its worker-locals and destructors wait for, the successor
//! can run it. Its counters, its index and its inbox are the successor's from then on.
//!
//! What they wait for may also be a task of another pool, all of whose workers wait for the end of
//! this one. So a thread that ends because its pool is quiescent waits as a task does, until its
//! slots have ended. One that is to be replaced waits as a plain thread: it is not fit for tasks.
//!
//! A hook that begins while the pool is open counts as a task: the pool is not quiescent before it
//! is over, and whatever it submits is run.
//!
//! In a forked child it serves nobody: a task that has forked, and returns there, is the thread's
//! last. The thread then ends like any other, without the hook. If it is the only one, the system
//! ends the process.
//!
//! A reason to replace the thread that its own start hook leaves behind (a carrier that stays
//! attached) does not count: the successor's hook would leave it as well, and no worker would ever
//! serve. The hook counts as failed.

#[cfg(all(loom, test))]
mod model;

use std::sync::Arc;
use std::time::Duration;

use super::sleep::Sleeper;
use super::worker_slot::WorkerSlot;
use super::{current, stack};
use crate::frame::{self, Failure};
use crate::panic::{AbortOnUnwind, Payload};
use crate::pool::core::hooks::OnWorker;
use crate::pool::core::{Core, HookRun, How};
use crate::slot;
use crate::sync::seam;
use crate::sync::seam::atomic::Ordering;

/// The shortest and the longest pause between two attempts to start a successor.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// How often it checks meanwhile whether anything is left to do.
const LOOK: Duration = Duration::from_millis(10);

const LEFT_BEHIND: &str = "it has left foreign state on the thread";

/// Starts a thread for the worker with `index`.
pub(crate) fn start(core: &Arc<Core>, index: usize) -> std::io::Result<()> {
    let theirs = Arc::clone(core);
    core.threads.start(index, move || live(&theirs, index))
}

/// Returns whether this is the process in which the thread was started.
fn live(core: &Arc<Core>, index: usize) -> bool {
    let promise = AbortOnUnwind::new("a worker would have ended by a panic");
    let slot = &core.slots[index];
    stack::begin(core.threads.stack_size);
    current::bind(slot);
    let end = if starts(core, slot) {
        core.begin_leak_watch(index);
        let end = serve(core, slot);
        if !matches!(end, Exit::Forked) {
            if let Err(failure) = hook(core, core.hooks.worker_stop.as_ref(), index) {
                core.report_for(format!("on_worker_stop of worker {index}"), failure);
            }
        }
        end
    } else {
        pause(core, RETRY.1);
        Exit::Replaced
    };
    let is_fit = !current::is_retiring();
    current::unbind();
    match end {
        Exit::Replaced => start_successor(core, slot),
        Exit::Quiescent if is_fit => current::end(),
        Exit::Quiescent | Exit::Forked => {}
    }
    slot::end_worker(&mut |name, payload| {
        let name = name.unwrap_or("that an object owns");
        let what = format!("worker-local {name} of worker {index}");
        core.report_for(what, Failure::Panic(payload));
    });
    promise.disarm();
    !core.is_forked()
}

/// Runs the start hook; returns whether the worker may serve.
fn starts(core: &Core, slot: &WorkerSlot) -> bool {
    let index = slot.index;
    let mut started = hook(core, core.hooks.worker_start.as_ref(), index);
    if slot.is_retiring() {
        slot.stay();
        started = started.and_then(|()| Err(Failure::Panic(Payload::text(LEFT_BEHIND))));
    }
    let failed = started.err().map(|failure| {
        let text = failure.to_string();
        core.report_for(format!("on_worker_start of worker {index}"), failure);
        text
    });
    match &core.hooks.startup {
        Some(startup) => startup.settle(index, failed),
        None => true,
    }
}

/// Runs a hook, if there is one, which counts as a task while the pool is open.
fn hook(core: &Core, hook: Option<&OnWorker>, index: usize) -> Result<(), Failure> {
    // Nobody who waits for the pool to be idle waits for a hook, which may take its time.
    core.tell_if_idle();
    let _counts = HookRun::begin(core);
    current::run_hook(|| match hook {
        Some(hook) => frame::contained(|| hook(index)),
        None => Ok(()),
    })
}

enum Exit {
    /// The pool is closed and nothing is left to do.
    Quiescent,
    /// The thread is to be replaced.
    Replaced,
    /// A task has forked, and has returned in the child: the pool is the parent's.
    Forked,
}

fn serve(core: &Core, slot: &WorkerSlot) -> Exit {
    let mut sleeper = Sleeper::of_this_thread();
    let has_work = || !core.queue.is_empty();
    let mut second = false;
    let tally = core.tally();
    while !core.is_forked() {
        // One visit, then an entry of the queue: so that repeated broadcasts keep nobody else from
        // their turns.
        if slot.is_called() {
            core.sleepers.stop_searching(&mut sleeper, has_work);
            if !slot.is_retiring() {
                slot.run_directed();
            }
            if slot.is_retiring() {
                return Exit::Replaced;
            }
        }
        if let Some(entry) = core.queue.pop_by_turns(&mut second) {
            core.sleepers.stop_searching(&mut sleeper, has_work);
            if !entry.run(core, How::Run(tally)) {
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
            || slot.is_called(),
        );
        if core.is_quiescent() {
            core.sleepers.notify_all();
            return Exit::Quiescent;
        }
    }
    Exit::Forked
}

/// Starts the thread that takes this one's place. If the system refuses, the failure is reported
/// and the attempt repeated; the slot stays empty meanwhile, and the other workers carry on.
fn start_successor(core: &Arc<Core>, slot: &Arc<WorkerSlot>) {
    let index = slot.index;
    let mut time = RETRY.0;
    while !core.is_quiescent() {
        let theirs = Arc::clone(core);
        let successor = move || {
            // Counted before it runs anything. Relaxed: a statistic.
            theirs.renewed.fetch_add(1, Ordering::Relaxed);
            live(&theirs, index)
        };
        match core.threads.start(index, successor) {
            Ok(()) => return,
            Err(error) => {
                let text = format!("no thread could be started: {error}");
                // The panic hook may wait for what nobody else can run.
                current::bind(slot);
                core.report_for(
                    format!("renewal of worker {index}"),
                    Failure::Panic(Payload::text(text)),
                );
                current::unbind();
                pause(core, time);
                time = (time * 2).min(RETRY.1);
            }
        }
    }
    // Nothing is left to do, and the others may sleep.
    core.sleepers.notify_all();
}

/// Lets some time pass, unless nothing is left to do meanwhile.
fn pause(core: &Core, time: Duration) {
    let mut left = time;
    while !core.is_quiescent() && !left.is_zero() {
        let step = left.min(LOOK);
        seam::sleep(step);
        left -= step;
    }
}

//! What a worker thread does from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::current;
use super::seat::Seat;
use super::sleep::Sleeper;
use super::threads::Threads;
use crate::frame::{self, Failure};
use crate::panic::Payload;
use crate::slot;
use crate::sync::seam::{self, atomic::Ordering};

/// The shortest and the longest pause between two attempts to start a successor.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// The whole life of a worker thread.
pub(crate) fn work(core: &Arc<Core>, index: usize) {
    let seat = &core.seats[index];
    seat.sit(seam::current());
    current::take_seat(Arc::clone(seat));
    {
        let _hook_may_wait = current::enter_task(core.id);
        if let Err(failure) = core.hooks.worker_starts(index) {
            core.report_for(format!("on_worker_start of worker {index}"), failure);
        }
    }
    core.sentry.take_post(core, index);
    let end = run(core, seat);
    {
        let _hook_may_wait = current::enter_task(core.id);
        if let Err(failure) = core.hooks.worker_stops(index) {
            core.report_for(format!("on_worker_stop of worker {index}"), failure);
        }
    }
    slot::end_worker();
    if let End::Retired = end {
        start_successor(core, index);
    }
}

enum End {
    /// The pool is closed and nothing is left to do.
    Quiescent,
    /// The thread is to be replaced.
    Retired,
}

fn run(core: &Core, seat: &Seat) -> End {
    let sleeper = Sleeper::of_this_thread();
    let has_work = || !core.queue.is_empty();
    let mut searching = false;
    loop {
        // A carrier that could not be detached leaves its state on this thread.
        if frame::take_taint() || seat.is_retiring() {
            if searching {
                core.sleepers.stop_searching(has_work);
            }
            return End::Retired;
        }
        if seat.has_mail() {
            if searching {
                core.sleepers.stop_searching(has_work);
                searching = false;
            }
            seat.run_visit();
            continue;
        }
        if let Some(entry) = core.queue.pop() {
            if searching {
                core.sleepers.stop_searching(has_work);
                searching = false;
            }
            entry.run(core);
            continue;
        }
        core.sleepers.fall_asleep(
            &sleeper,
            searching,
            || has_work() || core.is_quiescent(),
            || seat.has_mail() || seat.is_retiring(),
        );
        searching = true;
        if core.is_quiescent() {
            core.sleepers.notify_all();
            return End::Quiescent;
        }
    }
}

/// Starts the thread that takes this one's seat. If the system refuses, the failure is reported and the
/// attempt repeated; the seat stays empty meanwhile, and the other workers carry on.
fn start_successor(core: &Arc<Core>, index: usize) {
    let mut pause = RETRY.0;
    while !core.is_quiescent() {
        match Threads::start(core, index) {
            Ok(()) => {
                // Relaxed: a statistic.
                core.renewed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => {
                core.report_for(
                    format!("renewal of worker {index}"),
                    Failure::Panic(Payload::text(format!("no thread could be started: {error}"))),
                );
                std::thread::sleep(pause);
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }
    // Nothing is left to do, and the others may sleep.
    core.sleepers.notify_all();
}

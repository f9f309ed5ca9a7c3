//! One visit to every worker.

use super::{Body, Help, Owner, Shift, Visits};
use crate::context::Context;
use crate::frame;
use crate::pool::core::Core;
use crate::pool::error::{Cause, Label};
use crate::pool::scheduler::current::{self, Doing};
use crate::sync::process::{self, lock_unless};
use crate::sync::seam::Mutex;
use crate::sync::seam::atomic::{AtomicUsize, Ordering};

/// One broadcast, on its caller's stack.
struct Broadcast<'b, F, R> {
    core: &'b Core,
    context: Context,
    label: &'b Label,
    f: F,
    /// Visits that are not over.
    left: AtomicUsize,
    results: Box<[Mutex<Option<R>>]>,
    verdict: Mutex<Option<Cause>>,
}

/// Runs `f` once on every worker; returns the results in the order of the workers, or why there are
/// none. Never unwinds. A panic in the drop of what the user gave is a failure of the broadcast.
pub(crate) fn run<F, R>(core: &Core, context: Context, label: &Label, f: F) -> Result<Vec<R>, Cause>
where
    F: Fn() -> R + Sync,
    R: Send,
{
    let broadcast = Broadcast {
        core,
        context,
        label,
        f,
        left: AtomicUsize::new(core.slots.len()),
        results: core.slots.iter().map(|_| Mutex::new(None)).collect(),
        verdict: Mutex::new(None),
    };
    Owner::<Visits>::visit_all(core, &broadcast);
    let _in_drop = current::enter(core.id, Doing::DROP);
    let Broadcast { context, f, results, verdict, .. } = broadcast;
    core.drop_contained(context, label);
    let failed = frame::contained(|| drop(f)).err().map(Cause::Failed);
    let results = results.into_iter().filter_map(|result| process::into_inner(result).flatten());
    let verdict = process::into_inner(verdict).unwrap_or(Some(Cause::ShutDown));
    let mut failures = verdict.into_iter().chain(failed);
    let first = failures.next();
    failures.for_each(|later| core.report(label.clone(), later));
    match first {
        None => Ok(results.collect()),
        Some(cause) => {
            for result in results {
                core.drop_contained(result, label);
            }
            Err(cause)
        }
    }
}

impl<F, R> Broadcast<'_, F, R> {
    /// Counts a visit that is over.
    fn one_less(&self) -> Help {
        // Relaxed: the latch orders what the owner reads.
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            1 => Help::Exhausted,
            _ => Help::GoOn,
        }
    }

    /// Keeps the first failure, and reports the others.
    fn fail(&self, cause: Cause) {
        // In a forked child, a thread of the parent's may have it; then that is the failure.
        let Some(mut verdict) = lock_unless(&self.verdict, || self.core.is_forked()) else {
            return;
        };
        let late = if verdict.is_none() { verdict.replace(cause) } else { Some(cause) };
        drop(verdict);
        if let Some(late) = late {
            self.core.report(self.label.clone(), late);
        }
    }
}

impl<F, R> Body for Broadcast<'_, F, R>
where
    F: Fn() -> R + Sync,
    R: Send,
{
    fn help(&self, _shift: &dyn Shift) -> Help {
        let core = self.core;
        let Some(index) = current::index_in(core.id) else { unreachable!("workers are visited") };
        if !current::may_nest() {
            // It may lie on top of visits that have nothing to do with one another.
            self.fail(Cause::TooDeep);
            return self.one_less();
        }
        let tally = core.tally();
        tally.add(|c| &c.running, 1);
        let in_task = current::enter(core.id, Doing::TASK);
        match core.watched(self.label, None, || core.isolation.run(&self.context, &self.f)) {
            Ok(result) => {
                tally.ended(1, None);
                // There was nothing before: each worker is visited once.
                let _nothing = self.results[index].lock().replace(result);
            }
            Err(failure) => {
                tally.ended(0, Some(&failure));
                self.fail(Cause::Failed(failure));
            }
        }
        drop(in_task);
        self.one_less()
    }

    fn cancel(&self) -> Help {
        self.fail(Cause::ShutDown);
        self.one_less()
    }
}

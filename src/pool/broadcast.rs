//! One visit to every worker.

use parking_lot::Mutex;

use super::core::Core;
use super::current;
use super::error::{Cause, Label};
use super::group::{Body, Help, Owner, Visits};
use crate::context::Context;
use crate::frame::Failure;
use crate::sync::seam::atomic::{AtomicUsize, Ordering};

/// One broadcast, on its caller's stack.
struct Broadcast<'b, F, R> {
    core: &'b Core,
    context: &'b Context,
    label: &'b Label,
    f: F,
    /// Visits that are not over.
    left: AtomicUsize,
    results: Box<[Mutex<Option<R>>]>,
    verdict: Mutex<Option<Cause>>,
}

/// Runs `f` once on every worker; the results in the order of the workers, or why there are none.
pub(crate) fn run<F, R>(
    core: &Core,
    context: &Context,
    label: &Label,
    f: F,
) -> Result<Vec<R>, Cause>
where
    F: Fn() -> R + Sync,
    R: Send,
{
    let broadcast = Broadcast {
        core,
        context,
        label,
        f,
        left: AtomicUsize::new(core.seats.len()),
        results: core.seats.iter().map(|_| Mutex::new(None)).collect(),
        verdict: Mutex::new(None),
    };
    Owner::<Visits>::visit_all(core, &broadcast);
    let Broadcast { results, verdict, .. } = broadcast;
    let results = results.into_iter().map(Mutex::into_inner);
    match verdict.into_inner() {
        None => Ok(results.flatten().collect()),
        Some(cause) => {
            for result in results {
                core.drop_contained(result, label);
            }
            Err(cause)
        }
    }
}

impl<F, R> Broadcast<'_, F, R> {
    /// A visit is over.
    fn one_less(&self) -> Help {
        // Relaxed: the gate orders what the owner reads.
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            1 => Help::Exhausted,
            _ => Help::GoOn,
        }
    }

    /// The first failure is kept; one of a visit takes precedence over a cancellation.
    fn fail(&self, cause: Cause) {
        let mut verdict = self.verdict.lock();
        let late = match (&*verdict, &cause) {
            (None, _) | (Some(Cause::Cancelled { .. }), Cause::Failed(_)) => verdict.replace(cause),
            _ => Some(cause),
        };
        drop(verdict);
        self.core.drop_contained(late, self.label);
    }
}

impl<F, R> Body for Broadcast<'_, F, R>
where
    F: Fn() -> R + Sync,
    R: Send,
{
    fn help(&self, index: usize, _more: &dyn Fn()) -> Help {
        let tally = self.core.tally();
        tally.add(|c| &c.running, 1);
        let in_task = current::enter_task(self.core.id);
        let visit = || self.core.isolation.run(self.context, &self.f);
        match self.core.sentry.watch(self.core, self.label, visit) {
            Ok(result) => {
                tally.add(|c| &c.completed, 1);
                // There was nothing before: each worker is visited once.
                let _nothing = self.results[index].lock().replace(result);
            }
            Err(failure) => {
                match failure {
                    Failure::Panic(_) => tally.add(|c| &c.panicked, 1),
                    _ => tally.add(|c| &c.failed, 1),
                }
                self.fail(Cause::Failed(failure));
            }
        }
        tally.sub(|c| &c.running, 1);
        drop(in_task);
        self.one_less()
    }

    fn cancel(&self) -> Help {
        self.fail(Cause::Cancelled { by_handle: false });
        self.one_less()
    }
}

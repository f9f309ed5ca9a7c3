//! The pool's side of the sentinel: watches what runs on a worker, and does what the sentinel says.
//!
//! A watch covers the outermost code of others on a worker. While it lasts, the watcher is taken out of
//! its place; so what runs on top finds none and belongs to the watch below. Watches of their own would
//! report each nested leak once per level, or, if the outer watch were cut in two around the inner one,
//! report what the outer task has borrowed or entered while it waits, and puts back later.

use std::cell::Cell;
use std::time::Instant;

use super::core::Core;
use super::error::{Cause, Label};
use super::isolation::Isolation;
use super::scheduler::current;
use crate::context::Context;
use crate::frame::{self, Failure};
use crate::panic::{Payload, catch};
use crate::sentinel::renewal::Budget;
use crate::sentinel::{Action, Incident, Report, Sentinel, Unsupported, Watcher};

thread_local! {
    /// What watches this worker; away while it does, and before the worker begins with its tasks.
    static GUARD: Cell<Option<Guard>> = const { Cell::new(None) };
}

/// What stands guard over a worker.
enum Guard {
    Watching(Box<Watcher>),
    /// The worker is replaced in any case.
    Blind,
}

/// See the module's documentation.
pub(crate) struct Sentry(Option<Box<Post>>);

/// What a pool with a sentinel has.
struct Post {
    sentinel: Sentinel,
    /// How often workers may still be replaced, if leaks are a reason to.
    budget: Option<Budget>,
}

impl Drop for Sentry {
    /// Never unwinds: the sentinel's callback is user code, and a pool may end on any thread.
    fn drop(&mut self) {
        let post = self.0.take();
        let _contained = catch(|| drop(post));
    }
}

impl Sentry {
    /// Fails where there is something to watch and that does not work.
    pub(crate) fn new(sentinel: Option<Sentinel>) -> Result<Self, Unsupported> {
        let Some(sentinel) = sentinel else { return Ok(Self(None)) };
        let budget = match sentinel.action() {
            Action::Renew { at_most, per } => Some(Budget::new(at_most, per)),
            Action::Count | Action::Panic | Action::RenewAlways => None,
        };
        let post = Post { sentinel, budget };
        if !post.renews_always() {
            // Reads the symbols as well, which takes milliseconds, so that no worker does.
            drop(post.sentinel.watcher()?);
        }
        Ok(Self(Some(Box::new(post))))
    }

    /// A worker begins with its tasks on this thread. Not before its start hook has run: a task that the
    /// hook waits for would be a reason to replace the worker, whose successor would run the hook again,
    /// and so on for ever.
    pub(crate) fn take_post(&self, core: &Core, index: usize) {
        let Some(post) = &self.0 else { return };
        if post.renews_always() {
            return put_back(Guard::Blind);
        }
        touch_what_is_carried(core);
        match post.sentinel.watcher() {
            Ok(watcher) => put_back(Guard::Watching(Box::new(watcher))),
            // It worked on the thread that built the pool. The worker runs unwatched.
            Err(error) => core.report_for(
                format!("sentinel of worker {index}"),
                Failure::Panic(Payload::text(error.to_string())),
            ),
        }
    }

    /// Runs code of others, which belongs to the task with `label` and must not unwind, under a watch.
    #[inline(always)]
    pub(crate) fn watch<R>(
        &self,
        core: &Core,
        label: &Label,
        f: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        match &self.0 {
            None => f(),
            Some(post) => post.watch(core, label, f),
        }
    }

    /// Whether tasks have to be run one by one, each under [`watch`](Sentry::watch).
    #[inline]
    pub(crate) fn watches_each_task(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a task may be a reason to replace the worker.
    #[inline]
    pub(crate) fn may_renew(&self) -> bool {
        self.0.as_ref().is_some_and(|post| post.budget.is_some() || post.renews_always())
    }
}

impl Post {
    fn renews_always(&self) -> bool {
        matches!(self.sentinel.action(), Action::RenewAlways)
    }

    /// Not inlined, so that a pool without a sentinel runs its tasks as if there were no such thing.
    #[inline(never)]
    fn watch<R>(
        &self,
        core: &Core,
        label: &Label,
        f: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let Some(index) = current::index_in(core.id) else { return f() };
        let mut watcher = match take_out() {
            Some(Guard::Watching(watcher)) => watcher,
            Some(Guard::Blind) => {
                let outcome = f();
                core.slots[index].retire();
                put_back(Guard::Blind);
                return outcome;
            }
            None => return f(),
        };
        watcher.begin();
        let outcome = run(f);
        let report = watcher.finish();
        if let Some(report) = &report {
            self.act(core, label, index, report);
        }
        put_back(Guard::Watching(watcher));
        match report {
            Some(report) if matches!(self.sentinel.action(), Action::Panic) => {
                fail(core, label, &report, outcome)
            }
            _ => outcome,
        }
    }

    /// Does what has to be done about a task that leaked, except for making it fail.
    #[cold]
    fn act(&self, core: &Core, label: &Label, index: usize, report: &Report) {
        core.tally().add(|c| &c.leaks, 1);
        let seat = &core.slots[index];
        let renews = match &self.budget {
            // A worker that ends anyway costs nothing.
            Some(budget) => seat.is_retiring() || budget.take(Instant::now()),
            None => false,
        };
        if renews {
            seat.retire();
        }
        let Some(callback) = self.sentinel.callback() else { return };
        let incident = Incident::new(label.name.as_deref(), label.at, index, report, renews);
        if let Err(failure) = frame::contained(|| callback(&incident)) {
            core.report(label.clone(), Cause::Failed(failure));
        }
    }
}

/// Keeps the task from being merged with its surroundings: a store to a thread-local that nobody else
/// can see could otherwise be moved past the comparison.
#[inline(never)]
fn run<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Makes a task that leaked fail, unless it did by itself.
#[cold]
fn fail<R>(
    core: &Core,
    label: &Label,
    report: &Report,
    outcome: Result<R, Failure>,
) -> Result<R, Failure> {
    let result = outcome?;
    core.drop_contained(result, label);
    Err(Failure::Panic(Payload::text(report.to_string())))
}

/// Attaches and detaches the carriers that every task has, once. What they adopt comes to life at the first
/// touch, which would be put down to the first task; and a fresh worker would be replaced for it at once.
fn touch_what_is_carried(core: &Core) {
    if core.carriers.is_empty() || core.isolation == Isolation::Leaky {
        return;
    }
    if let Ok(context) = Context::empty().in_pool(&core.carriers, false) {
        // A carrier that fails here does so with the first task, too, which then says so. Replacing the
        // worker for it before it has run anything would go on for ever.
        let _said_later = frame::run(&context, || ());
        let _noted_later = frame::take_taint();
    }
}

/// `None` below a watch, and where a thread in its teardown drops what belongs to a pool.
fn take_out() -> Option<Guard> {
    GUARD.try_with(Cell::take).ok().flatten()
}

fn put_back(guard: Guard) {
    // Where the thread has nowhere to keep it any more, it ends here.
    let _nowhere = GUARD.try_with(|place| place.set(Some(guard)));
}

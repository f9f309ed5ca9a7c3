//! What follows from what a watch found.

use std::time::Instant;

use super::item;
use super::watch::{self, Config, Finding, Watch};
use crate::context::{self, Context, Once};
use crate::frame::{self, Failure};
use crate::panic::Payload;
use crate::pool::core::Core;
use crate::pool::error::{Cause, Labelled};
use crate::pool::isolation::Isolation;
use crate::sentinel::{Action, Incident, Report};

impl Core {
    /// Sees to it that the tasks of this worker are watched, if the pool has a sentinel.
    ///
    /// Not before its start hook has run: a task that the hook waits for would be a reason to
    /// replace the worker, whose successor would run the hook again, and so on for ever.
    pub(crate) fn begin_leak_watch(&self, index: usize) {
        let Some(config) = self.leak_watch.config() else { return };
        self.touch_what_is_there_anyway(index);
        if let Err(error) = config.begin() {
            let failure = Failure::Panic(Payload::text(error.to_string()));
            self.report_for(format!("sentinel of worker {index}"), failure);
        }
    }

    /// Runs a task that does nothing, with the carriers that every task has. What they adopt, and
    /// what a frame needs, comes to life at the first touch, which would be put down to the first
    /// task; and a fresh worker would be replaced at once because of it.
    fn touch_what_is_there_anyway(&self, index: usize) {
        // What a task's first slot needs. An error means that the thread is ending.
        let _ending = frame::thread_end::register(frame::thread::current());
        let context = match (self.isolation, &self.carriers) {
            (Isolation::Reset, Some(carriers)) => {
                Context::empty().in_pool(carriers, false).map(|(context, _nothing)| context)
            }
            (Isolation::Reset, None) => Ok(Context::empty().submitted()),
            (Isolation::Leaky, _) => Ok(Context::empty()),
        };
        if let Ok(context) = context {
            // A carrier that fails here fails with the first task, too, which then reports it.
            // Replacing the worker for it before it has run anything would go on for ever.
            let _reported_by_the_first_task = context::call(&context, &mut Once::Closure(|| ()));
            self.slots[index].stay();
        }
    }

    /// Runs user code under a watch, if the pool has a sentinel. The code belongs to the task with
    /// `label`, to the item with the number `item` if that is a map, and must not unwind.
    #[inline(always)]
    pub(crate) fn watched<R>(
        &self,
        label: &dyn Labelled,
        item: Option<usize>,
        f: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        match self.take_up_watch() {
            None => f(),
            Some(watch) => self.run_watched(watch, label, item, f),
        }
    }

    /// Runs user code that is not part of a task, and the tasks that it waits for, without a watch.
    /// It must not unwind.
    pub(crate) fn unwatched(&self, f: impl FnOnce()) {
        match self.leak_watch.config() {
            None => f(),
            Some(_) => watch::unwatched(f),
        }
    }

    /// Returns the watch of this worker, if the pool has a sentinel and this is a worker of it on
    /// which nothing is watched yet: what runs on top of another task belongs to the watch of that
    /// one.
    #[inline(always)]
    fn take_up_watch(&self) -> Option<Watch<'_>> {
        self.leak_watch.config()?.take_up(self.id)
    }

    /// Not inlined, so that a pool without a sentinel runs its tasks as if there were no such
    /// thing.
    #[inline(never)]
    fn run_watched<R>(
        &self,
        watch: Watch<'_>,
        label: &dyn Labelled,
        item: Option<usize>,
        f: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let (mut f, mut outcome) = (Some(f), None);
        let mut call = || outcome = f.take().map(|f| f());
        let fails = self.call_watched(watch, label, item, &mut call);
        let Some(outcome) = outcome else { unreachable!("what is watched is called") };
        match fails {
            Some(report) => self.fail(label, &report, outcome),
            None => outcome,
        }
    }

    /// Returns the report if the task has to fail because of it.
    fn call_watched(
        &self,
        watch: Watch<'_>,
        label: &dyn Labelled,
        item: Option<usize>,
        f: &mut dyn FnMut(),
    ) -> Option<Report> {
        item::reset();
        let (config, index) = (watch.config, watch.worker);
        let finding = watch.run(f, |finding| match finding {
            Finding::Nothing => {}
            Finding::Leaks(report) => self.leaked(config, label, item, index, report),
            Finding::RenewAlways => self.slots[index].retire(),
        });
        match finding {
            Finding::Leaks(report) if matches!(config.sentinel.action(), Action::Panic) => {
                Some(report)
            }
            _ => None,
        }
    }

    /// Does what has to be done about a task that leaked, except for making it fail.
    #[cold]
    fn leaked(
        &self,
        config: &Config,
        label: &dyn Labelled,
        item: Option<usize>,
        index: usize,
        report: &Report,
    ) {
        self.tally().add(|c| &c.leaks, 1);
        let slot = &self.slots[index];
        let renews = match &config.budget {
            // A worker that ends anyway costs nothing.
            Some(budget) => slot.is_retiring() || budget.take(Instant::now()),
            None => false,
        };
        if renews {
            slot.retire();
        }
        let item = item.or_else(item::of_outermost);
        let Some(callback) = config.sentinel.callback() else { return };
        let label = label.label();
        let name = label.name.as_ref().map(|name| &***name);
        let incident = Incident::new(name, label.at, item, index, report, renews);
        if let Err(failure) = frame::contained(|| callback(&incident)) {
            self.report(label, Cause::Failed(failure));
        }
    }

    /// Makes a task that leaked fail, unless it did by itself.
    #[cold]
    fn fail<R>(
        &self,
        label: &dyn Labelled,
        report: &Report,
        outcome: Result<R, Failure>,
    ) -> Result<R, Failure> {
        let result = outcome?;
        self.drop_contained(result, label);
        Err(Failure::Panic(Payload::text(report.to_string())))
    }
}

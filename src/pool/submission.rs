//! [`Submission`]: a pool, and how to submit to it.

use std::fmt;
use std::ops::Range;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;

use super::core::Core;
use super::current;
use super::error::{Cause, Label, SubmitError, TaskError};
use super::handle::JoinHandle;
use super::imap::{Imap, ImapUnordered};
use super::job::{Job, Joinable};
use super::map::{self, Cursor, Ended, Pulled, RangeIndex};
use super::queue::Runnable;
use super::scope::{self, Scope};
use super::{Pool, broadcast};
use crate::context::Context;
use crate::frame::Failure;

/// A pool together with how to submit to it: under which name, and with which context.
///
/// Made by [`Pool::named`], [`Pool::in_context`] and [`Pool::detached`], which can be chained; offers
/// everything through which a [`Pool`] takes work.
///
/// # Examples
///
/// ```
/// use cleanslate::Pool;
///
/// let pool = Pool::new(1).unwrap();
/// let housekeeping = pool.detached().named("housekeeping");
/// let error = housekeeping.submit(|| panic!("disk full")).join().unwrap_err();
/// assert_eq!(error.task_name(), Some("housekeeping"));
/// ```
#[derive(Clone)]
#[must_use = "a submission does nothing until something is submitted"]
pub struct Submission<'p> {
    core: &'p Arc<Core>,
    name: Option<Arc<str>>,
    inherits: Inherits<'p>,
}

/// What the tasks inherit.
#[derive(Clone)]
enum Inherits<'p> {
    /// What surrounds the submission.
    Surroundings,
    Given(&'p Context),
    Nothing,
}

/// Something that was admitted and is not a job: a map or a broadcast, while it lasts.
struct Admitted<'c>(&'c Core);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.finished(self.0.tally());
    }
}

impl<'p> Submission<'p> {
    pub(crate) fn to(pool: &'p Pool) -> Self {
        Self { core: &pool.core, name: None, inherits: Inherits::Surroundings }
    }

    pub(crate) fn core(&self) -> &'p Arc<Core> {
        self.core
    }

    #[inline]
    #[track_caller]
    pub(crate) fn context(&self) -> Context {
        if self.core.isolation == super::Isolation::Leaky {
            return Context::empty();
        }
        let context = match &self.inherits {
            Inherits::Surroundings => Context::capture(),
            Inherits::Given(context) => Context::clone(context),
            Inherits::Nothing => Context::empty(),
        };
        if self.core.carriers.is_empty() {
            return context;
        }
        match context.in_pool(&self.core.carriers, matches!(self.inherits, Inherits::Surroundings))
        {
            Ok(context) => context,
            Err(error) => panic!("{error}"),
        }
    }

    #[inline]
    pub(crate) fn label(&self, id: u64, at: &'static Location<'static>) -> Label {
        Label { name: self.name.clone(), at, id }
    }

    /// Takes a place in a bounded queue: a plain thread waits for it, a task passes. Fails if the pool
    /// is shut down meanwhile.
    pub(crate) fn take_place(&self) -> bool {
        match &self.core.capacity {
            None => true,
            Some(capacity) if current::in_task() => {
                capacity.take_anyway();
                true
            }
            Some(capacity) => capacity.wait_and_take(|| self.core.is_closing()),
        }
    }

    pub(crate) fn give_place_back(&self) {
        if let Some(capacity) = &self.core.capacity {
            capacity.release();
        }
    }

    /// Names the tasks, for [`TaskError`].
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Gives the tasks `context`, instead of what surrounds the submission.
    pub fn in_context<'q>(self, context: &'q Context) -> Submission<'q>
    where
        'p: 'q,
    {
        Submission { core: self.core, name: self.name, inherits: Inherits::Given(context) }
    }

    /// Gives the tasks nothing: they inherit nothing and pin nothing of what surrounds the submission.
    pub fn detached(mut self) -> Self {
        self.inherits = Inherits::Nothing;
        self
    }

    /// Submits a task; see [`Pool::submit`].
    ///
    /// # Panics
    ///
    /// Panics if a slot that the task would inherit is inside its own `with_mut`.
    #[track_caller]
    pub fn submit<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.submit_at(Location::caller(), f)
    }

    #[inline]
    #[track_caller]
    fn submit_at<F, R>(&self, at: &'static Location<'static>, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let context = self.context();
        let placed = self.take_place();
        let admission = self.core.admit();
        let label = self.label(admission.number, at);
        let job = Arc::new(Job::new(f, context, label, ()));
        if placed && admission.admitted {
            self.core.enqueue(Arc::clone(&job) as Arc<dyn Runnable>);
        } else {
            if !placed && let Some(capacity) = &self.core.capacity {
                // The cancellation below gives a place back that was never taken.
                capacity.take_anyway();
            }
            Runnable::cancel(&*job, self.core);
        }
        JoinHandle::new(job as Arc<dyn Joinable<R>>, Arc::clone(self.core))
    }

    /// Submits a task unless the pool is full or shut down; see [`Pool::try_submit`].
    ///
    /// # Errors
    ///
    /// Hands the closure back if the bounded queue is full or the pool is shut down.
    ///
    /// # Panics
    ///
    /// Panics if a slot that the task would inherit is inside its own `with_mut`.
    #[track_caller]
    pub fn try_submit<F, R>(&self, f: F) -> Result<JoinHandle<R>, SubmitError<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let at = Location::caller();
        let context = self.context();
        if let Some(capacity) = &self.core.capacity {
            if current::in_task() {
                capacity.take_anyway();
            } else if !capacity.try_take() {
                return Err(if self.core.intake.is_closed() {
                    SubmitError::shut_down(f)
                } else {
                    SubmitError::full(f)
                });
            }
        }
        let admission = self.core.admit();
        if !admission.admitted {
            self.give_place_back();
            self.core.reject();
            return Err(SubmitError::shut_down(f));
        }
        let label = self.label(admission.number, at);
        let job = Arc::new(Job::new(f, context, label, ()));
        self.core.enqueue(Arc::clone(&job) as Arc<dyn Runnable>);
        Ok(JoinHandle::new(job as Arc<dyn Joinable<R>>, Arc::clone(self.core)))
    }

    /// Runs `f` with a scope for tasks that borrow; see [`Pool::scope`].
    ///
    /// # Panics
    ///
    /// As [`Pool::scope`].
    #[track_caller]
    pub fn scope<'env, F, T>(&self, f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        scope::scope(self.clone(), f)
    }

    /// Applies `f` to every item; see [`Pool::map`].
    ///
    /// # Panics
    ///
    /// As [`Pool::map`].
    #[track_caller]
    pub fn map<I, F, R>(&self, items: I, f: F) -> Vec<R>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        let items = items.into_iter();
        let (promised, most) = items.size_hint();
        self.plain(&Pulled::new(items), (promised, most), &map::Plain(f))
    }

    /// Applies `f` to every element of a slice; see [`Pool::map_slice`].
    ///
    /// # Panics
    ///
    /// As [`Pool::map`].
    #[track_caller]
    pub fn map_slice<'s, T, F, R>(&self, items: &'s [T], f: F) -> Vec<R>
    where
        T: Sync,
        F: Fn(&'s T) -> R + Sync,
        R: Send,
    {
        let len = items.len();
        self.plain(&Cursor::new(map::Slice(items)), (len, Some(len)), &map::Plain(f))
    }

    /// Applies `f` to every number of a range; see [`Pool::map_range`].
    ///
    /// # Panics
    ///
    /// As [`Pool::map_range`].
    #[track_caller]
    pub fn map_range<N, F, R>(&self, range: Range<N>, f: F) -> Vec<R>
    where
        N: RangeIndex,
        F: Fn(N) -> R + Sync,
        R: Send,
    {
        let Some(len) = N::count(&range) else { panic!("a range longer than memory") };
        let numbers = Cursor::new(map::Range { start: range.start, len });
        self.plain(&numbers, (len, Some(len)), &map::Plain(f))
    }

    /// Applies `f` to every item until one fails; see [`Pool::try_map`].
    ///
    /// # Errors
    ///
    /// As [`Pool::try_map`].
    ///
    /// # Panics
    ///
    /// As [`Pool::map`].
    #[track_caller]
    pub fn try_map<I, F, R, E>(&self, items: I, f: F) -> Result<Vec<R>, E>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> Result<R, E> + Sync,
        R: Send,
        E: Send,
    {
        let items = items.into_iter();
        let hint = items.size_hint();
        self.run_map(&Pulled::new(items), hint, &map::Trying(f))
    }

    /// Applies `f` to every item, each caught for itself; see [`Pool::map_results`].
    ///
    /// # Panics
    ///
    /// Panics if the items' iterator panics or the pool is shut down.
    #[track_caller]
    pub fn map_results<I, F, R>(&self, items: I, f: F) -> Vec<Result<R, TaskError>>
    where
        I: IntoIterator,
        I::IntoIter: Send,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        let items = items.into_iter();
        let hint = items.size_hint();
        let label = self.label(0, Location::caller());
        self.plain(&Pulled::new(items), hint, &map::Every { f, label })
    }

    /// Applies `f` lazily, results in input order; see [`Pool::imap`].
    ///
    /// # Panics
    ///
    /// Panics if a slot that the tasks would inherit is inside its own `with_mut`.
    #[track_caller]
    pub fn imap<I, F, R>(&self, items: I, f: F) -> Imap<I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        Imap::new(self.feeder(f, Location::caller()), items.into_iter())
    }

    /// Applies `f` lazily, results as they come; see [`Pool::imap_unordered`].
    ///
    /// # Panics
    ///
    /// Panics if a slot that the tasks would inherit is inside its own `with_mut`.
    #[track_caller]
    pub fn imap_unordered<I, F, R>(&self, items: I, f: F) -> ImapUnordered<I::IntoIter, F, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        ImapUnordered::new(self.feeder(f, Location::caller()), items.into_iter())
    }

    /// Runs `f` once on every worker; see [`Pool::broadcast`].
    ///
    /// # Panics
    ///
    /// As [`Pool::broadcast`].
    #[track_caller]
    pub fn broadcast<F, R>(&self, f: F) -> Vec<R>
    where
        F: Fn() -> R + Sync,
        R: Send,
    {
        let context = self.context();
        let (_admitted, label) = self.admitted(Location::caller());
        match broadcast::run(self.core, &context, &label, f) {
            Ok(results) => results,
            Err(Cause::Cancelled { .. }) => panic!("the pool was shut down"),
            Err(Cause::Failed(failure)) => resume(label, failure),
        }
    }

    #[track_caller]
    fn feeder<F>(&self, f: F, at: &'static Location<'static>) -> Feeder<F> {
        Feeder {
            core: Arc::clone(self.core),
            context: self.context(),
            name: self.name.clone(),
            at,
            f: Arc::new(f),
        }
    }

    #[track_caller]
    fn admitted(&self, at: &'static Location<'static>) -> (Admitted<'p>, Label) {
        let core: &'p Core = self.core;
        let admission = core.admit();
        // It is under way from the start, not a task that waits in the queue.
        core.tally().add(|c| &c.claimed, 1);
        let admitted = Admitted(core);
        if !admission.admitted {
            panic!("the pool is shut down");
        }
        (admitted, self.label(admission.number, at))
    }

    #[track_caller]
    fn plain<S, P>(&self, source: &S, hint: (usize, Option<usize>), step: &P) -> Vec<P::Out>
    where
        S: map::Source,
        P: map::Step<S::Item, Stop = std::convert::Infallible>,
    {
        match self.run_map(source, hint, step) {
            Ok(results) => results,
            Err(never) => match never {},
        }
    }

    #[track_caller]
    fn run_map<S, P>(
        &self,
        source: &S,
        hint: (usize, Option<usize>),
        step: &P,
    ) -> Result<Vec<P::Out>, P::Stop>
    where
        S: map::Source,
        P: map::Step<S::Item>,
    {
        let context = self.context();
        let (_admitted, label) = self.admitted(Location::caller());
        if hint == (0, Some(0)) {
            return Ok(Vec::new());
        }
        match map::run(self.core, &context, &label, source, step, hint) {
            Ended::Done(results) => Ok(results),
            Ended::Stopped(with) => Err(with),
            Ended::Failed(failure) => resume(label, failure),
            Ended::Cancelled => panic!("the pool was shut down"),
        }
    }
}

/// What submits the items of an iterator one by one, later: it outlives the call that made it.
pub(crate) struct Feeder<F> {
    core: Arc<Core>,
    context: Context,
    name: Option<Arc<str>>,
    at: &'static Location<'static>,
    f: Arc<F>,
}

impl<F> Feeder<F> {
    pub(crate) fn workers(&self) -> usize {
        self.core.seats.len()
    }

    /// Submits the task of one item.
    pub(crate) fn feed<In, R>(&self, item: In) -> JoinHandle<R>
    where
        In: Send + 'static,
        F: Fn(In) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let submission = Submission {
            core: &self.core,
            name: self.name.clone(),
            inherits: Inherits::Given(&self.context),
        };
        let f = Arc::clone(&self.f);
        submission.submit_at(self.at, move || f(item))
    }
}

/// Unwinds with the failure of a task: with its own payload if it panicked, else with words that name
/// it.
#[track_caller]
fn resume(label: Label, failure: Failure) -> ! {
    match TaskError::new(label, Cause::Failed(failure)).try_into_panic() {
        Ok(payload) => resume_unwind(payload),
        Err(error) => panic!("{error}"),
    }
}

impl fmt::Debug for Submission<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission").field("name", &self.name).finish_non_exhaustive()
    }
}

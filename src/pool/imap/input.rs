//! The input of an imap, and what both kinds of results have in common.

use std::panic::Location;
use std::sync::Arc;

use crate::context::Context;
use crate::panic::Guarded;
use crate::pool::core::Place;
use crate::pool::error::{Cause, Labelled, SHUT_DOWN, TaskError};
use crate::pool::handle::JoinHandle;
use crate::pool::leaks::begin_item;
use crate::pool::map::drop_given;
use crate::pool::pool::{Pool, Unnumbered};
use crate::pool::scheduler::current;

/// How many items per worker are pulled ahead, unless `buffer` says otherwise.
const AHEAD: usize = 2;
/// A larger buffer is filled beyond this number only while no result is there: otherwise, with a
/// practically endless buffer and an endless input, the first result would never be yielded.
const EAGER: usize = 1024;

/// The input, and how its items are submitted: pulled item by item, each pull a task of its own,
/// and not again after its end or its panic.
pub(crate) struct LazyInput<I, F> {
    context: Context,
    at: &'static Location<'static>,
    /// Both are `Some` until the drop.
    f: Option<Arc<F>>,
    items: Option<I>,
    /// How many have been pulled.
    pub(super) number: usize,
    ended: bool,
    /// Whether an item has been pulled for which the pool was closed.
    is_cut_off: bool,
    /// At most this many items are pulled and not yet yielded.
    pub(super) buffer: usize,
    /// A handle that hands nothing down: the context is given up when the input has ended. Dropped
    /// last, as in [`Pool`].
    pub(super) pool: Pool,
}

impl<I, F> LazyInput<I, F> {
    pub(crate) fn new(
        pool: Pool,
        context: Context,
        at: &'static Location<'static>,
        items: I,
        f: F,
    ) -> Self {
        let buffer = AHEAD * pool.workers();
        let (f, items) = (Some(Arc::new(f)), Some(items));
        let (number, ended, is_cut_off) = (0, false, false);
        Self { context, at, f, items, number, ended, is_cut_off, buffer, pool }
    }

    /// Returns whether `pulled` items are enough for now. For a larger buffer, `is_ready` decides:
    /// whether a result is there. A thread that runs what it waits for need not wait for one: there
    /// may be no other thread to make it.
    pub(super) fn is_enough(&self, pulled: usize, is_ready: impl FnOnce() -> bool) -> bool {
        let eager = EAGER.max(AHEAD * self.pool.workers());
        pulled >= self.buffer || pulled >= eager && (self.pool.core().claims_here() || is_ready())
    }
}

impl<I, F> Drop for LazyInput<I, F> {
    /// Two drops that panic cost one panic, not the process. The hook is told of what does not
    /// resume.
    fn drop(&mut self) {
        let (items, f) = (self.items.take(), self.f.take());
        // As a map drops what it was given: not in a task of the thread that has come to the end.
        let dropped = [drop_given(items), drop_given(f)];
        let mut failures = dropped.into_iter().filter_map(Result::err);
        let first = if std::thread::panicking() { None } else { failures.next() };
        let input = self.pool.unnumbered("input of an imap", self.at);
        failures.for_each(|late| self.pool.core().report(input.label(), Cause::Failed(late)));
        if let Some(first) = first {
            TaskError::new(input.label(), Cause::Failed(first)).resume();
        }
    }
}

impl<I: Iterator, F> LazyInput<I, F> {
    /// Pulls and submits one item, unless there are none left. After a shutdown nobody would run
    /// it: nothing is pulled until all of the `pulled` items were yielded, and then one more, to
    /// see whether that was the end.
    #[track_caller]
    pub(super) fn submit_next<R>(&mut self, pulled: usize) -> Option<JoinHandle<R>>
    where
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        if self.ended {
            return None;
        }
        if self.pool.core().is_closed_here() {
            if pulled != 0 {
                return None;
            }
            if self.is_cut_off {
                panic!("{SHUT_DOWN}");
            }
        }
        // It runs here, on top of what lies here, and no pool counts it: an input may well pull
        // from another imap, and so on.
        if !current::has_stack_left() {
            self.fail(Cause::TooDeep);
        }
        let items = self.items.as_mut()?;
        // A counted copy: the owner of this may be dropped before the pull is over, if the process
        // exits from within it (S3).
        let context = self.context.clone();
        let pulled = self.pool.core().isolation.run(&context, || items.next());
        let item = match pulled {
            Ok(Some(item)) => item,
            ended => {
                self.ended = true;
                // Nobody needs it any more (R9).
                self.context = Context::empty();
                self.pool.core().drop_contained(context, &self.pull_label());
                if let Err(failure) = ended {
                    self.fail(Cause::Failed(failure));
                }
                return None;
            }
        };
        let f = Guarded::new(Arc::clone(self.f.as_ref()?));
        let item = Guarded::new(item);
        let number = self.number;
        self.number += 1;
        let task = move || {
            begin_item(number);
            let result = Guarded::new(f(item.into_inner()));
            // This may be the last one: its drop is user code, and may panic.
            drop(f);
            result.into_inner()
        };
        let work = (task, context);
        let admitted = self.pool.core().admit(Place::Wait);
        // It was closed before the pull, during it, or during the wait for room.
        self.is_cut_off |= admitted.is_err();
        Some(self.pool.submit_work(work, self.at, admitted))
    }

    /// Names a pull.
    fn pull_label(&self) -> Unnumbered<'_> {
        self.pool.unnumbered("pull of an imap", self.at)
    }

    #[cold]
    #[track_caller]
    fn fail(&self, cause: Cause) -> ! {
        TaskError::new(self.pull_label().label(), cause).resume()
    }

    pub(super) fn size_hint(&self, pulled: usize) -> (usize, Option<usize>) {
        let Some(items) = self.items.as_ref().filter(|_| !self.ended) else {
            return (pulled, Some(pulled));
        };
        let (least, most) = items.size_hint();
        (least.saturating_add(pulled), most.and_then(|most| most.checked_add(pulled)))
    }
}

/// What both kinds of results have in common: `input`, and `handles`, the items that were pulled
/// and not yet yielded.
macro_rules! results {
    ($name:ident) => {
        impl<I, F, R> FusedIterator for $name<I, F, R>
        where
            I: Iterator,
            I::Item: Send + 'static,
            F: Fn(I::Item) -> R + Send + Sync + 'static,
            R: Send + 'static,
        {
        }

        /// Progress bars ask for the length. It is what the input promises.
        impl<I, F, R> ExactSizeIterator for $name<I, F, R>
        where
            I: ExactSizeIterator,
            I::Item: Send + 'static,
            F: Fn(I::Item) -> R + Send + Sync + 'static,
            R: Send + 'static,
        {
        }

        // A panic in a task is caught there, and one of the input keeps it from being pulled again.
        impl<I: UnwindSafe, F: UnwindSafe, R> UnwindSafe for $name<I, F, R> {}
        impl<I: RefUnwindSafe, F: RefUnwindSafe, R> RefUnwindSafe for $name<I, F, R> {}

        impl<I, F, R> Drop for $name<I, F, R> {
            fn drop(&mut self) {
                for handle in self.handles() {
                    let _started = handle.cancel();
                }
            }
        }

        impl<I, F, R> fmt::Debug for $name<I, F, R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("buffer", &self.input.buffer)
                    .field("pulled", &self.handles().count())
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(super) use results;

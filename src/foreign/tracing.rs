//! A carrier for `tracing`: the current span and the default dispatcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::span::{Id, Span};
use tracing::subscriber::NoSubscriber;

use super::Carrier;
use super::error::BoxError;
use crate::panic::{Drops, catch};

/// Spans that are exited in a row at most. A subscriber that still reports a current span then does
/// not do what `exit` says, and its state on this thread cannot be trusted.
const DEEPEST: usize = 4096;

/// Carries the current span and the default dispatcher of the submitter to its tasks.
///
/// A task's events and spans have the submitter's current span as their parent, or none if there was
/// none, whatever is entered on the thread that runs it: spans of an outer task are exited while the
/// task runs, and entered again after it.
///
/// A submitter without a dispatcher has none to hand down. Its tasks find that of the thread that runs
/// them, and so the global one, also if it was installed after the submission.
///
/// A span that the task entered and never exited, say because its guard was forgotten, does not stay
/// on the worker: it is exited when the task ends, a `WARN` event with the target `cleanslate` says so,
/// and [`forgotten`](Self::forgotten) counts it. A subscriber from which spans cannot be exited makes
/// the task fail and the worker be replaced. Subscribers that do not report their current span get
/// the submitter's entered and exited, and nothing more.
///
/// Clones share their count.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, foreign::TracingCarrier};
/// use tracing::{Level, Span, span, subscriber};
/// use tracing_subscriber::registry;
///
/// subscriber::with_default(registry(), || {
///     let request = span!(Level::INFO, "request");
///     let context = request.in_scope(|| Context::capture().carry(TracingCarrier::new()));
///     std::thread::spawn(move || context.run(|| assert_eq!(Span::current(), request)))
///         .join()
///         .unwrap();
/// });
/// ```
#[derive(Clone, Debug, Default)]
pub struct TracingCarrier {
    forgotten: Arc<AtomicU64>,
}

impl TracingCarrier {
    /// Makes a carrier.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the spans that tasks have left entered so far.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        // Relaxed: a statistic; nothing is read because of its value.
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Counts and reports the spans that a task has left entered.
    #[cold]
    fn report(&self, dispatch: &Dispatch, parent: Option<&Id>, forgotten: usize) {
        // Relaxed: a statistic, see `forgotten`.
        self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
        dispatcher::with_default(dispatch, || {
            tracing::warn!(
                target: "cleanslate",
                parent: parent.cloned(),
                spans = forgotten,
                "a task ended inside spans that it entered; they were exited for it"
            );
        });
    }
}

/// What a [`TracingCarrier`] takes along.
#[derive(Debug)]
pub struct CapturedSpan {
    /// `None` if there was none. A dispatcher that does nothing would hide the global one for ever.
    dispatch: Option<Dispatch>,
    span: Span,
}

impl Drop for CapturedSpan {
    /// Closing the span is the subscriber's code, and so is the drop of the last dispatcher.
    fn drop(&mut self) {
        let mut drops = Drops::default();
        drops.contain(|| self.span = Span::none());
        drops.contain(|| self.dispatch = None);
        drops.resume();
    }
}

/// What a [`TracingCarrier`] has to undo.
#[derive(Debug)]
pub struct AttachedSpan {
    dispatch: Dispatch,
    entered: Option<Id>,
    /// What was entered before, the innermost first.
    outer: Vec<Id>,
    /// Last: the dispatcher is put back after the spans. `None`: there was none.
    default: Option<DefaultGuard>,
}

/// Exits the spans that are entered on this thread, and adds them to `exited`, the innermost first.
fn exit_all(dispatch: &Dispatch, exited: &mut Vec<Id>) -> Result<(), BoxError> {
    let before = exited.len();
    while let Some(id) = dispatch.current_span().id().cloned() {
        if exited.len() - before == DEEPEST {
            return Err("the subscriber still reports a current span after it was exited".into());
        }
        // Before it is called: where it panics, it may have done its work.
        exited.push(id.clone());
        dispatch.exit(&id);
    }
    Ok(())
}

/// Enters again what was exited before an exit panicked. That of the last one may have come to nothing.
fn undo(dispatch: &Dispatch, mut exited: Vec<Id>) {
    if exited.last() == dispatch.current_span().id() {
        exited.pop();
    }
    enter_all(dispatch, &exited);
}

fn enter_all(dispatch: &Dispatch, exited: &[Id]) {
    for id in exited.iter().rev() {
        dispatch.enter(id);
    }
}

impl Carrier for TracingCarrier {
    type Captured = CapturedSpan;
    type Attached = AttachedSpan;

    fn name(&self) -> &str {
        "tracing"
    }

    fn capture(&self) -> Result<CapturedSpan, BoxError> {
        let dispatch = dispatcher::get_default(|dispatch| {
            (!dispatch.is::<NoSubscriber>()).then(|| dispatch.clone())
        });
        Ok(CapturedSpan { dispatch, span: Span::current() })
    }

    fn attach(&self, captured: &CapturedSpan) -> Result<AttachedSpan, BoxError> {
        let dispatch = match &captured.dispatch {
            Some(dispatch) => dispatch.clone(),
            None => dispatcher::get_default(Clone::clone),
        };
        // What has none must not hide one that comes later.
        let default = (!dispatch.is::<NoSubscriber>()).then(|| dispatcher::set_default(&dispatch));
        let entered = captured.span.id();
        let mut outer = Vec::new();
        let switched = catch(|| {
            exit_all(&dispatch, &mut outer)?;
            entered.iter().for_each(|id| dispatch.enter(id));
            Ok(())
        });
        if !matches!(switched, Ok(Ok(()))) {
            // The thread must be left as it was, as far as such a subscriber lets it.
            let _second = catch(|| undo(&dispatch, std::mem::take(&mut outer)));
        }
        match switched {
            Ok(Ok(())) => Ok(AttachedSpan { dispatch, entered, outer, default }),
            Ok(Err(error)) => Err(error),
            Err(payload) => payload.resume(),
        }
    }

    fn detach(&self, attached: AttachedSpan) -> Result<(), BoxError> {
        let AttachedSpan { dispatch, entered, outer, default } = attached;
        let dispatch = match default {
            Some(_) => dispatch,
            // Perhaps it was installed since.
            None => dispatcher::get_default(Clone::clone),
        };
        // Whatever of this fails, the rest is done.
        let mut exited = Vec::new();
        let left = catch(|| {
            if dispatch.current_span().is_known() {
                return exit_all(&dispatch, &mut exited);
            }
            entered.iter().for_each(|id| dispatch.exit(id));
            Ok(())
        });
        let mut drops = Drops::default();
        let forgotten = exited.iter().filter(|id| Some(*id) != entered.as_ref()).count();
        if forgotten > 0 && matches!(left, Ok(Ok(()))) {
            drops.contain(|| self.report(&dispatch, entered.as_ref(), forgotten));
        }
        drops.contain(|| enter_all(&dispatch, &outer));
        drops.contain(|| drop(default));
        drops.contain(|| drop(dispatch));
        match left {
            Ok(left) => {
                drops.resume();
                left
            }
            Err(payload) => payload.resume(),
        }
    }

    /// No span; the dispatcher stays the thread's.
    fn nothing(&self) -> Option<CapturedSpan> {
        Some(CapturedSpan { dispatch: None, span: Span::none() })
    }
}

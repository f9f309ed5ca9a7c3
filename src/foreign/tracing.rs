//! A carrier for `tracing`: the current span and the default dispatcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::span::{Id, Span};

use super::Carrier;
use super::error::BoxError;

/// Spans that are exited in a row at most. A subscriber that still reports a current span then does
/// not do what `exit` says, and its state on this thread cannot be trusted.
const DEEPEST: usize = 4096;

/// Carries the current span and the default dispatcher of the submitter to its tasks.
///
/// A task's events and spans have the submitter's current span as their parent, or none if there was
/// none, whatever is entered on the thread that runs it: spans of an outer task are exited while the
/// task runs, and entered again after it.
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
}

/// What a [`TracingCarrier`] takes along.
#[derive(Debug)]
pub struct CapturedSpan {
    dispatch: Dispatch,
    span: Span,
}

/// What a [`TracingCarrier`] has to undo.
#[derive(Debug)]
pub struct AttachedSpan {
    dispatch: Dispatch,
    entered: Option<Id>,
    /// What was entered before, the innermost first.
    outer: Vec<Id>,
    /// Last: the dispatcher is put back after the spans.
    _default: DefaultGuard,
}

/// Exits the spans that are entered on this thread, and returns them, the innermost first.
fn exit_all(dispatch: &Dispatch) -> Result<Vec<Id>, BoxError> {
    let mut exited = Vec::new();
    while let Some(id) = dispatch.current_span().id().cloned() {
        if exited.len() == DEEPEST {
            enter_all(dispatch, &exited);
            return Err("the subscriber still reports a current span after it was exited".into());
        }
        dispatch.exit(&id);
        exited.push(id);
    }
    Ok(exited)
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
        Ok(CapturedSpan { dispatch: dispatcher::get_default(Clone::clone), span: Span::current() })
    }

    fn attach(&self, captured: &CapturedSpan) -> Result<AttachedSpan, BoxError> {
        let dispatch = captured.dispatch.clone();
        let default = dispatcher::set_default(&dispatch);
        let outer = exit_all(&dispatch)?;
        let entered = captured.span.id();
        if let Some(id) = &entered {
            dispatch.enter(id);
        }
        Ok(AttachedSpan { dispatch, entered, outer, _default: default })
    }

    fn detach(&self, attached: AttachedSpan) -> Result<(), BoxError> {
        let AttachedSpan { dispatch, entered, outer, _default } = &attached;
        let left = if dispatch.current_span().is_known() {
            exit_all(dispatch)?
        } else {
            entered.iter().for_each(|id| dispatch.exit(id));
            Vec::new()
        };
        let forgotten = left.iter().filter(|id| Some(*id) != entered.as_ref()).count();
        if forgotten > 0 {
            // Relaxed: a statistic, see `forgotten`.
            self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
            dispatcher::with_default(dispatch, || {
                tracing::warn!(
                    target: "cleanslate",
                    parent: entered.clone(),
                    spans = forgotten,
                    "a task ended inside spans that it entered; they were exited for it"
                );
            });
        }
        enter_all(dispatch, outer);
        Ok(())
    }
}

//! A carrier for `tracing`: the current span and the default dispatcher.

use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::span::{Id, Span};
use tracing::subscriber::NoSubscriber;

use super::Carrier;
use super::error::BoxError;
use crate::panic::{Drops, Payload, catch};

/// How many spans are exited in a row at most. There may be many: one for each call of a recursion.
/// A subscriber that still reports a current span then does not do what `exit` says, as far as can
/// be told, and its state on this thread cannot be trusted.
const DEEPEST: usize = 1 << 16;

/// Carries the current span and the default dispatcher of the submitter to its tasks.
///
/// A task's events and spans have the submitter's current span as their parent, or none if there
/// was none, whatever is entered on the thread that runs the task: spans of an outer task are
/// exited while this one runs, and entered again afterwards.
///
/// A dispatcher travels if the submitter's default is a scoped one. Otherwise the tasks find the
/// global one, even if it was installed after the submission. (If no capture has seen a global one,
/// a task that runs below somebody's `with_default` finds the dispatcher set there.)
///
/// A span that the task entered and never exited, say because its guard was forgotten, does not
/// stay on the worker: it is exited when the task ends, or the poll of an isolated future; a `WARN`
/// event with the target `cleanslate` reports this, and [`forgotten`](Self::forgotten) counts it.
/// (If a task has entered the submitter's own span once more, that is exited as well, but not
/// reported.) If a subscriber's spans cannot be exited, or are more than 65,536, the task fails and
/// the worker is replaced. The same happens if a task has left a default dispatcher and none
/// travelled with the task; otherwise the one that was left goes away with the submitter's. For
/// subscribers that do not report their current span, no span is carried.
///
/// Inside a subscriber's own callbacks, `tracing` gives no way to replace a scoped default: do not
/// run a task there in a context that has brought one along. It fails, and `tracing` forgets that
/// it is in a callback, so that an event there calls the subscriber again. (What is submitted there
/// brings none along.)
///
/// So in an isolated future a guard of `Span::enter` that is held across an `.await`, which
/// `tracing` itself warns against, counts as forgotten: code after the `.await` is in no such span,
/// and the guard exits it once more. (A subscriber may not tolerate that: the layer of
/// `tracing-opentelemetry` 0.34 panics where overflows are checked.) Use `.instrument(span)` there.
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{Carrier, TracingCarrier};
    ///
    /// let carrier = TracingCarrier::new();
    /// assert_eq!(carrier.forgotten(), 0);
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many spans tasks have left entered so far.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{Carrier, TracingCarrier};
    ///
    /// let carrier = TracingCarrier::new();
    /// let context = cleanslate::Context::empty().carry(carrier.clone());
    /// context.run(|| ());
    /// assert_eq!(carrier.forgotten(), 0);
    /// ```
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

/// The global dispatcher, once a capture has seen it.
static GLOBAL: OnceLock<Dispatch> = OnceLock::new();

/// Returns whether a dispatcher is the global one, or the one that does nothing if there is no
/// global one: all others are scoped.
///
/// The only way to ask is its `Debug`. If that should change, every dispatcher travels, which costs
/// more but is right as well.
fn is_process_wide(dispatch: &Dispatch) -> bool {
    /// Looks at what is written first, and stops there.
    struct Start(bool);
    impl Write for Start {
        fn write_str(&mut self, written: &str) -> fmt::Result {
            self.0 = written.starts_with("Dispatch::Global");
            Err(fmt::Error)
        }
    }
    let mut start = Start(false);
    let _stopped = write!(start, "{dispatch:?}");
    start.0
}

/// Calls `f` with this thread's default dispatcher, and whether that is the process's.
///
/// A dispatcher that does nothing prints as the process's does, but counts as scoped, unless no
/// thread has a scoped one.
fn with_default<R>(mut f: impl FnMut(&Dispatch, bool) -> R) -> R {
    dispatcher::get_default(|dispatch| {
        // A nested call gets the process's or, if any thread has a scoped one, one that does
        // nothing. That is quicker to compare than what `is_process_wide` does.
        let is_same = dispatcher::get_default(|nested| ptr::eq(nested, dispatch));
        let is_nothing = || dispatch.is::<NoSubscriber>();
        f(dispatch, is_same || is_process_wide(dispatch) && !is_nothing())
    })
}

/// What a [`TracingCarrier`] takes along.
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{Carrier, TracingCarrier};
///
/// let carrier = TracingCarrier::new();
/// let captured = carrier.capture()?;
/// assert!(carrier.attach(&captured).is_ok());
/// # Ok::<_, cleanslate::foreign::BoxError>(())
/// ```
#[derive(Debug)]
pub struct CapturedSpan {
    /// `None` if it is that of the process.
    scoped: Option<Dispatch>,
    span: Span,
}

impl Drop for CapturedSpan {
    /// Closing the span is the subscriber's code, and so is the drop of the last dispatcher.
    fn drop(&mut self) {
        let mut drops = Drops::default();
        drops.contain(|| self.span = Span::none());
        drops.contain(|| self.scoped = None);
        drops.resume();
    }
}

/// What a [`TracingCarrier`] has to undo.
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{Carrier, TracingCarrier};
///
/// let carrier = TracingCarrier::new();
/// let attached = carrier.attach(&carrier.capture()?)?;
/// assert!(carrier.detach(attached).is_ok());
/// # Ok::<_, cleanslate::foreign::BoxError>(())
/// ```
#[derive(Debug)]
pub struct AttachedSpan {
    dispatch: Dispatch,
    entered: Option<Id>,
    /// What was entered before, the innermost first.
    outer: Vec<Id>,
    /// Last, so that the dispatcher is put back after the spans. `None`: it is the process's.
    default: Option<DefaultGuard>,
}

/// Exits the spans that are entered on this thread, and adds them to `exited`, the innermost first.
fn exit_all(dispatch: &Dispatch, exited: &mut Vec<Id>) -> Result<(), BoxError> {
    while let Some(id) = dispatch.current_span().id().cloned() {
        if exited.len() == DEEPEST {
            let why = format!("the subscriber still reports a current span after {DEEPEST} exits");
            return Err(why.into());
        }
        // Before the call: if that panics, it may have done its work.
        exited.push(id.clone());
        dispatch.exit(&id);
    }
    Ok(())
}

/// Enters again what was exited before an exit panicked. The last exit may have had no effect.
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
        let scoped = with_default(|dispatch, is_process_wide| {
            if !is_process_wide {
                return Some(dispatch.clone());
            }
            if !dispatch.is::<NoSubscriber>() {
                GLOBAL.get_or_init(|| dispatch.clone());
            }
            None
        });
        Ok(CapturedSpan { scoped, span: Span::current() })
    }

    fn attach(&self, captured: &CapturedSpan) -> Result<AttachedSpan, BoxError> {
        let default = match &captured.scoped {
            None if with_default(|_, is_process_wide| is_process_wide) => None,
            // One that surrounds this thread is not the task's. If there is a global one that was
            // never seen, this cannot be helped.
            None => match GLOBAL.get() {
                Some(global) => Some(dispatcher::set_default(global)),
                None => Some(dispatcher::set_default(&dispatcher::get_default(Clone::clone))),
            },
            Some(scoped) => Some(dispatcher::set_default(scoped)),
        };
        let dispatch = dispatcher::get_default(Clone::clone);
        let entered = captured.span.id();
        let mut outer = Vec::new();
        let switched = catch(|| {
            exit_all(&dispatch, &mut outer)?;
            entered.iter().for_each(|id| dispatch.enter(id));
            Ok(())
        });
        if !matches!(switched, Ok(Ok(()))) {
            // The thread must be left as it was, as far as such a subscriber allows.
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
        let (now, is_process_wide) = with_default(|now, wide| (now.clone(), wide));
        let is_left = default.is_none() && !is_process_wide;
        // Perhaps the global one was installed meanwhile.
        let dispatch = if default.is_none() && !is_left { now } else { dispatch };
        // If any of this fails, the rest is still done.
        let mut exited = Vec::new();
        let left = catch(|| exit_all(&dispatch, &mut exited));
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
                drops.into_result().map_err(Payload::resume_or_say)?;
                if is_left {
                    return Err("a default dispatcher that the task has set is still there".into());
                }
                left
            }
            Err(payload) => payload.resume(),
        }
    }

    /// No span, and the process's dispatcher, as for a submitter that has no other.
    fn nothing(&self) -> Option<CapturedSpan> {
        Some(CapturedSpan { scoped: None, span: Span::none() })
    }

    fn is_nothing(&self, captured: &CapturedSpan) -> bool {
        captured.scoped.is_none() && captured.span.is_none()
    }

    /// There is nothing to do if the task's span is the current one and the default dispatcher is
    /// the process's. Scoped ones cannot be compared.
    fn reattach(&self, _: &CapturedSpan, attached: &mut AttachedSpan) -> bool {
        let entered = attached.entered.as_ref();
        attached.default.is_none()
            && with_default(|now, is_process_wide| {
                is_process_wide && now.current_span().id() == entered
            })
    }
}

//! A carrier for OpenTelemetry's current context.

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, ContextGuard};

use super::Carrier;
use super::error::BoxError;
use crate::panic::{Drops, Payload, catch};

/// Carries OpenTelemetry's current context: the active span, the baggage, and whatever else is in
/// it.
///
/// So the spans that a task starts have the submitter's span as their parent, and find its baggage,
/// whatever is current on the thread that runs them.
///
/// A task that forgets the guard of a context that it attached (by `std::mem::forget`, or by
/// keeping the guard in a thread-local) leaves that context current, and OpenTelemetry offers no
/// way to take it away. Such a task fails, and a pool replaces the worker.
///
/// The crate `tracing-opentelemetry` attaches a context for each `tracing` span that is entered.
/// Put the `TracingCarrier` before this one, which then has the last word on what is current.
///
/// Each version of the crate `opentelemetry` keeps what is current in a thread-local of its own,
/// and this carrier carries that of version 0.33. A context of another version stays behind without
/// notice; `cargo tree -d` then lists the crate.
///
/// # Examples
///
/// ```
/// use cleanslate::{foreign::OpenTelemetryCarrier, Pool};
/// use opentelemetry::{Context, KeyValue, baggage::BaggageExt};
///
/// let pool = Pool::builder().workers(1).carry(OpenTelemetryCarrier::new()).build().unwrap();
/// let tenant = || Context::current().baggage().get("tenant").map(ToString::to_string);
///
/// let request = Context::current_with_baggage([KeyValue::new("tenant", "acme")]).attach();
/// assert_eq!(pool.submit(tenant).join().unwrap().as_deref(), Some("acme"));
/// drop(request);
/// assert_eq!(pool.submit(tenant).join().unwrap(), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenTelemetryCarrier {
    _private: (),
}

impl OpenTelemetryCarrier {
    /// Makes a carrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::foreign::{Carrier, OpenTelemetryCarrier};
    ///
    /// assert!(OpenTelemetryCarrier::new().capture().is_ok());
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

/// What an [`OpenTelemetryCarrier`] has to undo.
///
/// # Examples
///
/// ```
/// use cleanslate::foreign::{Carrier, OpenTelemetryCarrier};
///
/// let carrier = OpenTelemetryCarrier::new();
/// let attached = carrier.attach(&carrier.capture()?)?;
/// assert!(carrier.detach(attached).is_ok());
/// # Ok::<_, cleanslate::foreign::BoxError>(())
/// ```
pub struct AttachedContext {
    /// `None` once something else was found on top of it.
    task: Option<ContextGuard>,
    /// `None` where the thread's contexts are gone.
    bottom: Option<ContextGuard>,
    before: Option<Before>,
}

/// What was current, if it has a span, so that another context may be taken for it.
struct Before {
    context: Context,
    /// The task's context, with its mark.
    marked: Context,
    mark: OfTask,
}

impl Before {
    fn of(context: Context, captured: &Context) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: they only have to differ.
        let mark = OfTask(NEXT.fetch_add(1, Ordering::Relaxed));
        Self { context, marked: captured.with_value(mark), mark }
    }

    /// Returns whether this is current again, or one like it that does not come from the task.
    fn is_current(&self) -> bool {
        Context::map_current(|current| {
            current.get() != Some(&self.mark) && are_alike(current, &self.context)
        })
    }
}

/// Marks the context of a task (of a future: of one poll), and so all contexts that are derived
/// from it there. One that was carried there from another task or poll has that one's mark.
#[derive(Clone, Copy, PartialEq)]
struct OfTask(u64);

impl fmt::Debug for AttachedContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachedContext").finish_non_exhaustive()
    }
}

/// Marks the context that lies below a task's: it is current when everything that the task attached
/// is gone, and never while the task runs, so no other context gets the mark.
struct Bottom;

thread_local! {
    static BOTTOM: Context = Context::new().with_value(Bottom);
}

/// Tells the sentinel, once, what this module keeps per thread.
#[cfg(feature = "sentinel")]
fn ignore_own_state() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| cleanslate_sentinel::ignore(|ignored| ignored.key(&BOTTOM)));
}

fn bottom() -> Context {
    #[cfg(feature = "sentinel")]
    ignore_own_state();
    BOTTOM.try_with(Clone::clone).unwrap_or_else(|_| Context::new().with_value(Bottom))
}

fn is_at_the_bottom() -> bool {
    Context::map_current(|current| current.get::<Bottom>().is_some())
}

/// Returns whether two contexts have the same span and the same baggage, not just equal ones.
fn are_alike(a: &Context, b: &Context) -> bool {
    ptr::eq(a.span().span_context(), b.span().span_context())
        && ptr::eq(a.baggage(), b.baggage())
        && a.is_telemetry_suppressed() == b.is_telemetry_suppressed()
}

/// Returns the context that a task finds.
fn context_of(before: &Option<Before>, captured: &Context) -> Context {
    before.as_ref().map_or(captured, |before| &before.marked).clone()
}

impl Carrier for OpenTelemetryCarrier {
    type Captured = Context;
    type Attached = AttachedContext;

    fn name(&self) -> &str {
        "opentelemetry"
    }

    /// Captures nothing if the thread is ending and its contexts are gone: asking for them panics
    /// there, and the panic hook is called.
    fn capture(&self) -> Result<Context, BoxError> {
        Ok(catch(Context::current).unwrap_or_default())
    }

    fn attach(&self, captured: &Context) -> Result<AttachedContext, BoxError> {
        let current = || Context::map_current(|it| it.has_active_span().then(|| it.clone()));
        // As in `capture`. Nobody could find what is attached there.
        let Ok(before) = catch(current) else {
            return Ok(AttachedContext { task: None, bottom: None, before: None });
        };
        let before = before.map(|context| Before::of(context, captured));
        let bottom = Some(bottom().attach());
        let fits = is_at_the_bottom();
        let task = Some(context_of(&before, captured).attach());
        let attached = AttachedContext { task, bottom, before };
        // A thread's stack of contexts has a limit, beyond which nothing is attached.
        if !fits || is_at_the_bottom() {
            // One by one, since a context may end spans.
            let _detached = self.detach(attached);
            return Err("too many contexts are attached on this thread".into());
        }
        Ok(attached)
    }

    fn detach(&self, attached: AttachedContext) -> Result<(), BoxError> {
        let AttachedContext { task, bottom, before } = attached;
        if bottom.is_none() {
            return Ok(());
        }
        let mut drops = Drops::default();
        // The last one that has a span ends it, which runs the span processors.
        drops.contain(|| drop(task));
        let is_alone = is_at_the_bottom();
        drops.contain(|| drop(bottom));
        // When a task runs on top of another one, the `tracing` spans around it are exited and
        // entered again, so that the context of one of them may have got on top.
        let is_as_before = is_alone || before.as_ref().is_some_and(Before::is_current);
        if let Some(Before { context, marked, .. }) = before {
            drops.contain(|| drop(marked));
            drops.contain(|| drop(context));
        }
        drops.into_result().map_err(Payload::resume_or_say)?;
        match is_as_before {
            true => Ok(()),
            false => Err("a context that the task attached is still current".into()),
        }
    }

    /// Returns the empty context.
    fn nothing(&self) -> Option<Context> {
        Some(Context::new())
    }

    /// Takes the task's context away, looks whether the task has left anything on top of it, and
    /// attaches it again. Contexts cannot be compared.
    fn reattach(&self, captured: &Context, attached: &mut AttachedContext) -> bool {
        if attached.bottom.is_none() {
            return true;
        }
        attached.task = None;
        let is_alone = is_at_the_bottom();
        if is_alone {
            attached.task = Some(context_of(&attached.before, captured).attach());
        }
        is_alone
    }
}

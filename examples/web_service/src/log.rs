//! The log: every line begins with the request and the user that it belongs to.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cleanslate::foreign::{self, OpenTelemetryCarrier, TracingCarrier};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::cli::Failure;
use super::{spans, task};

/// Where lines go.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sink {
    StandardOutput,
    /// Kept, so that they can be looked at.
    Memory,
}

static SINK: OnceLock<Sink> = OnceLock::new();
static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<u8>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match SINK.get() {
            Some(Sink::Memory) => kept().write(bytes),
            _ => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Puts in front of a line what the slots of the code that wrote it hold.
struct WithRequest;

impl<S, N> FormatEvent<S, N> for WithRequest
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(line, "[request {} of {}] ", task::request(), task::user())?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(line, "{}: ", span.name())?;
        }
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// Sets up lines and spans for the whole process, and what carries both to all tasks.
pub(crate) fn start(sink: Sink) -> Result<(), Failure> {
    SINK.set(sink).map_err(|_| "the log was started before")?;
    tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(tracing_subscriber::fmt::layer().event_format(WithRequest).with_writer(|| Lines))
        .with(tracing_opentelemetry::layer().with_tracer(spans::tracer()))
        .try_init()?;
    foreign::install(TracingCarrier::new())?;
    Ok(foreign::install(OpenTelemetryCarrier::new())?)
}

/// Counts the lines since the last call, and those among them that were written under another name
/// than that of the request they are about.
pub(crate) fn count() -> (usize, usize) {
    let text = std::mem::take(&mut *kept());
    let text = String::from_utf8_lossy(&text);
    let is_own = |line: &str| {
        let slots = line.strip_prefix('[').and_then(|line| line.split_once(']'));
        slots.is_some_and(|(slots, rest)| rest.ends_with(&format!(" for {slots}")))
    };
    (text.lines().count(), text.lines().filter(|line| !is_own(line)).count())
}

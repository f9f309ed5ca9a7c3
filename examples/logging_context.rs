//! Shows log lines that know the request they belong to, including those of nested tasks and of a
//! library that knows nothing about requests, but no line of the next task.

pub(crate) mod cli;

use cleanslate::foreign::TracingCarrier;
use cleanslate::{Isolation, Pool, task_local};
use cli::{Cli, Failure, Opt, counted};
use std::fmt;
use std::io::{self, Write};
use std::mem::{ManuallyDrop, take};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard};
use tracing::{Event, Subscriber, info, info_span, subscriber::set_global_default};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

task_local! {
    /// What Python's context filter keeps in its local.
    #[inherit]
    static REQUEST: Option<u32> = None;
}

/// The context filter: puts the current task's request in front of a line, and the spans it is in.
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
        // A log line must not panic, wherever it is written: hence `try_get`.
        match REQUEST.try_get() {
            Ok(Some(id)) => write!(line, "[{id}] ")?,
            _ => write!(line, "[-] ")?,
        }
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields =
                extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.as_str());
            write!(line, "{}{{{fields}}} ", span.name())?;
        }
        write!(line, "{}: ", event.metadata().target())?;
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// The log, kept here so that it can be looked at.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn log() -> MutexGuard<'static, Vec<u8>> {
    LOG.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        log().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A library: it logs, and has never heard of requests.
mod imaging {
    pub(crate) fn shrink(photo: u32) {
        tracing::info!("shrunk photo {photo}");
    }
}

/// One request. What it logs ends with its id, so that a line in a wrong name can be recognised.
fn request(pool: &Pool, id: u32) {
    REQUEST.set(Some(id));
    let span = info_span!("request", id).entered();
    info!("begins with {id}");
    pool.map(1..=3, |part| {
        info!("part {part} of {id}");
        imaging::shrink(id);
    });
    if id % 5 == 3 {
        // An early return before the context is cleared, and a guard that nobody drops.
        let _kept = ManuallyDrop::new(span);
        return;
    }
    REQUEST.take();
}

/// How many lines there are, and how many of them have no name, or another request's, in the
/// brackets and in the spans.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Summary {
    pub(crate) lines: usize,
    pub(crate) brackets: usize,
    pub(crate) spans: usize,
    pub(crate) log: Vec<String>,
}

/// Runs requests, each followed by a task that belongs to none.
fn on_pool(pool: &Pool, requests: u32) -> Summary {
    log().clear();
    pool.map(0..requests * 2, |n| match n % 2 {
        0 => request(pool, n / 2),
        _ => info!("housekeeping for nobody"),
    });
    let text = String::from_utf8_lossy(&take(&mut *log())).into_owned();
    // The carrier's own warnings about spans that were left belong to nobody either.
    let lines = text.lines().filter(|line| !line.contains(" cleanslate: ")).map(str::to_owned);
    let mut summary = Summary { log: lines.collect(), ..Summary::default() };
    for line in &summary.log {
        let own = line.rsplit(' ').next().filter(|own| *own != "nobody");
        let spans = own.map_or(String::new(), |id| format!("request{{id={id}}} "));
        let rest = format!("[{}] ", own.unwrap_or("-"));
        let named = line.split_once(' ').map_or("", |(_, named)| named);
        summary.lines += 1;
        summary.brackets += usize::from(!line.starts_with(&rest));
        summary.spans += usize::from(
            !named.starts_with(&spans)
                || named.matches("request{").count() != usize::from(own.is_some()),
        );
    }
    summary
}

/// Runs the requests on a leaky and on a clean pool, and counts lines in the wrong name. Not to be
/// called by two threads at a time, since there is one log.
pub(crate) fn run(
    workers: usize,
    requests: u32,
    out: &mut dyn Write,
) -> Result<[Summary; 2], Failure> {
    let subscriber = tracing_subscriber::fmt().event_format(WithRequest).with_writer(|| Log);
    // An error means that an earlier run has installed it.
    drop(set_global_default(subscriber.finish()));

    let builder = || Pool::builder().workers(workers);
    let leaky = on_pool(&builder().isolation(Isolation::Leaky).build()?, requests);
    let clean = on_pool(&builder().carry(TracingCarrier::new()).build()?, requests);
    for (pool, summary) in [("leaky", &leaky), ("clean", &clean)] {
        let Summary { lines, brackets, spans, log } = summary;
        let requests = counted(requests, "request");
        writeln!(out, "A {pool} pool of {workers}, after {requests}:")?;
        writeln!(out, "  lines with a wrong [request]: {brackets} of {lines}")?;
        writeln!(out, "  lines in wrong spans:         {spans} of {lines}")?;
        let some = log.iter().filter(|line| line.contains("part 1") || line.contains("nobody"));
        some.take(10).try_for_each(|line| writeln!(out, "    {line}"))?;
    }
    Ok([leaky, clean])
}

pub(crate) const CLI: Cli = Cli {
    name: "logging_context",
    about: "Shows log lines that know the request they belong to.",
    options: &[
        Opt::Number { name: "--workers", help: "threads of each pool", range: 1..=64, default: 2 },
        Opt::Number { name: "--requests", help: "requests", range: 0..=100_000, default: 100 },
    ],
};

fn main() -> ExitCode {
    CLI.main(|args, out| run(args.number("--workers"), args.number("--requests"), out).map(drop))
}

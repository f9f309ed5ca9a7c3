//! Shows what tasks find in thread-locals, on six executors, with the same jobs on each.
//!
//! ```text
//! cargo run --release --example leak_demo
//! ```
//!
//! A job is a request handler (`job.rs`) that keeps who is logged in where application code keeps
//! it, in a thread-local (`store.rs`). Each executor (`executors.rs`) runs all of them in one
//! burst.

mod args;
mod executors;
mod findings;
mod job;
mod json;
mod picture;
mod place;
mod rows;
mod store;
mod table;
mod tally;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use args::{Asked, Plan};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rows::Done;

/// The exit codes of the process.
pub(crate) mod exit {
    pub(crate) const CLEAN: u8 = 0;
    pub(crate) const LEAKED: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const CANNOT_RUN: u8 = 3;
}

fn main() -> ExitCode {
    // Not locked: the progress bars are drawn by whichever thread serves a request.
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let screen = Screen::of(out.is_terminal(), err.is_terminal(), |name| std::env::var_os(name));
    ExitCode::from(run(std::env::args_os().skip(1), screen, &mut out, &mut err))
}

/// What may be done on the terminal, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Screen {
    pub(crate) colour: bool,
    /// A bar for each executor while it runs.
    pub(crate) progress: bool,
}

impl Screen {
    /// Decided by what the two outputs are, and by what the environment asks for.
    pub(crate) fn of(out: bool, err: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let no_color = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        Self { colour: out && !no_color && !dumb, progress: out && err && !dumb }
    }
}

/// The whole program, so that tests can run it too.
pub(crate) fn run(
    args: impl IntoIterator<Item = OsString>,
    screen: Screen,
    out: &mut impl Write,
    err: &mut impl Write,
) -> u8 {
    let ended = match args::parse(args) {
        Ok(Asked::Help) => all_read(out.write_all(args::HELP.as_bytes())).map(|()| exit::CLEAN),
        Ok(Asked::Run(plan)) => demonstrate(&plan, screen, out, err),
        Err(wrong) => {
            let _told = writeln!(err, "leak_demo: {wrong}\n\n{}", args::USAGE);
            return exit::USAGE;
        }
    };
    ended.unwrap_or_else(|Failure(why)| {
        let _told = writeln!(err, "leak_demo: {why}");
        exit::CANNOT_RUN
    })
}

/// Why it could not be done, in words.
#[derive(Debug)]
struct Failure(String);

/// The reader of the output may go away: `leak_demo | head` has read what it wanted.
fn all_read(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure(format!("cannot write: {error}")))
        }
        _ => Ok(()),
    }
}

fn demonstrate(
    plan: &Plan,
    screen: Screen,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<u8, Failure> {
    let cannot_create = |path: &Path, error| Failure(format!("{}: {error}", path.display()));
    type Draw = fn(&Plan, &[Done]) -> String;
    let drawings = [(&plan.svg, picture::svg::file as Draw), (&plan.html, picture::page::file)];
    let mut files = Vec::new();
    // Before anything runs, so that nobody waits for an error.
    for (path, draw) in drawings {
        let Some(path) = path else { continue };
        let file = File::create(path).map_err(|error| cannot_create(path, error))?;
        files.push((path, file, draw));
    }

    let mut text = table::Text::new(&mut *out, screen.colour);
    let opened = if plan.json { Ok(()) } else { text.open(plan) };
    let done = run_all(plan, screen)?;
    let written = match opened {
        Ok(()) if plan.json => writeln!(out, "{:#}", json::object(plan, &done)),
        Ok(()) => text.close(&done),
        Err(error) => Err(error),
    };
    let written = written.and_then(|()| out.flush());
    // Even if nobody reads the output, or it cannot be written.
    for (path, mut file, draw) in files {
        file.write_all(draw(plan, &done).as_bytes()).map_err(|error| cannot_create(path, error))?;
        let _told = writeln!(err, "wrote {}", path.display());
    }
    all_read(written)?;
    Ok(if rows::kept_promise(&done) { exit::CLEAN } else { exit::LEAKED })
}

/// Runs the rows, one after the other.
fn run_all(plan: &Plan, screen: Screen) -> Result<Vec<Done>, Failure> {
    let requests = job::requests(plan.tasks);
    let bars = MultiProgress::new();
    let mut done = Vec::new();
    for row in rows::ROWS {
        let bar = if screen.progress {
            let style = ProgressStyle::with_template("{prefix:20} {bar:40} {pos}/{len}");
            let bar = ProgressBar::new(plan.tasks as u64).with_prefix(row.executor);
            bars.add(match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            })
        } else {
            ProgressBar::hidden()
        };
        match row.serve(&requests, plan.workers, bar.clone()) {
            Ok(row) => done.push(row),
            Err(error) => return Err(Failure(format!("{}: {error}", row.executor))),
        }
        bar.finish();
    }
    if screen.progress {
        // The table takes their place; if clearing them fails, they just stay.
        let _cleared = bars.clear();
    }
    Ok(done)
}

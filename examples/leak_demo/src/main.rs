//! Shows what tasks find in thread-locals, on six executors, with the same jobs on each.
//!
//! ```text
//! cargo run --release --example leak_demo
//! ```
//!
//! A job is a request handler (`job.rs`) that keeps who is logged in where application code keeps it,
//! in a thread-local (`store.rs`). Each executor (`executors.rs`) runs all of them in one burst.

mod args;
mod executors;
mod job;
mod report;
mod rows;
mod store;
mod tally;
mod watch;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use args::{Asked, Plan};

/// What the process ends with.
pub(crate) mod exit {
    pub(crate) const CLEAN: u8 = 0;
    pub(crate) const LEAKED: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const CANNOT_RUN: u8 = 3;
}

fn main() -> ExitCode {
    let out = io::stdout();
    let colour = out.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let args = std::env::args_os().skip(1);
    ExitCode::from(run(args, colour, &mut out.lock(), &mut io::stderr().lock()))
}

/// The whole program, so that tests can run it too.
pub(crate) fn run(
    args: impl IntoIterator<Item = OsString>,
    colour: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> u8 {
    let result = match args::parse(args) {
        Ok(Asked::Help) => out.write_all(args::HELP.as_bytes()).map(|()| exit::CLEAN),
        Ok(Asked::Run(plan)) => demonstrate(&plan, colour, out, err),
        Err(wrong) => {
            let _told = writeln!(err, "leak_demo: {wrong}\n\n{}", args::USAGE);
            return exit::USAGE;
        }
    };
    match result {
        Ok(code) => code,
        // `leak_demo | head` has read what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit::CLEAN,
        Err(error) => {
            let _told = writeln!(err, "leak_demo: cannot write: {error}");
            exit::CANNOT_RUN
        }
    }
}

fn demonstrate(
    plan: &Plan,
    colour: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let requests = job::requests(plan.tasks);
    let mut text = report::Text::new(&mut *out, colour);
    if !plan.json {
        text.open(plan)?;
    }
    let mut done = Vec::new();
    for row in rows::ROWS {
        let tally = match row.serve(&requests, plan.workers) {
            Ok(tally) => tally,
            Err(error) => {
                writeln!(err, "leak_demo: {}: {error}", row.executor)?;
                return Ok(exit::CANNOT_RUN);
            }
        };
        if !plan.json {
            text.row(row, &tally)?;
        }
        done.push((row, tally));
    }
    if plan.json {
        report::json(plan, &done, out)?;
    } else {
        text.close(&done)?;
    }
    out.flush()?;
    Ok(if report::kept_promise(&done) { exit::CLEAN } else { exit::LEAKED })
}

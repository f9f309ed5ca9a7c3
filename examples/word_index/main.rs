//! Indexes the words of every text file under some paths, one task a file.
//!
//! ```text
//! cargo run --release -p examples --example word_index -- [PATH…]
//! ```
//!
//! What it shows: helpers deep inside a task (`index.rs`) report `file:line` without being passed
//! either, since both are kept in a slot (`place.rs`). Each file is a task of its own on one pool,
//! so the place is always that of the current file, however many files a worker has read before.

mod args;
mod index;
mod place;
mod report;
mod walk;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use args::{Asked, Plan};
use cleanslate::Pool;
use index::Index;
use indicatif::{ProgressBar, ProgressStyle};

/// The exit codes of the process.
pub(crate) mod exit {
    pub(crate) const DONE: u8 = 0;
    pub(crate) const NO_SUCH_PATH: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const CANNOT_RUN: u8 = 3;
}

fn main() -> ExitCode {
    let terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
    let args = std::env::args_os().skip(1);
    ExitCode::from(run(args, terminal, &mut io::stdout().lock(), &mut io::stderr()))
}

/// The whole program, so that tests can run it too.
pub(crate) fn run(
    args: impl IntoIterator<Item = OsString>,
    terminal: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> u8 {
    let plan = match args::parse(args) {
        Ok(Asked::Run(plan)) => plan,
        Ok(Asked::Help) => return ended(out.write_all(args::HELP.as_bytes()), exit::DONE, err),
        Err(wrong) => {
            let _told = writeln!(err, "word_index: {wrong}\n\n{}", args::USAGE);
            return exit::USAGE;
        }
    };
    let pool = match Pool::new(plan.workers) {
        Ok(pool) => pool,
        Err(error) => {
            let _told = writeln!(err, "word_index: {error}");
            return exit::CANNOT_RUN;
        }
    };
    let (index, files) = index_all(&plan, &pool, terminal);
    for path in &files.missing {
        let _told = writeln!(err, "word_index: {}: {}", path.place, path.why);
    }
    let _told = report::remarks(&plan, &index, err);
    let code = if files.missing.is_empty() { exit::DONE } else { exit::NO_SUCH_PATH };
    ended(report::print(&plan, &index, out), code, err)
}

/// The index of every file under the paths, and what the search for them found.
fn index_all(plan: &Plan, pool: &Pool, terminal: bool) -> (Index, walk::Files) {
    let start = Instant::now();
    let mut files = walk::files(&plan.paths);
    let bar = if terminal { progress(files.found.len()) } else { ProgressBar::hidden() };

    let indexed = pool.map(&files.found, |path| {
        let indexed = index::file(path);
        bar.inc(1);
        indexed
    });

    bar.finish_and_clear();
    let index = Index::merge(indexed, std::mem::take(&mut files.skipped), start);
    (index, files)
}

fn progress(files: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} files, {elapsed}");
    let bar = ProgressBar::new(files as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn ended(written: io::Result<()>, code: u8, err: &mut impl Write) -> u8 {
    match written {
        Ok(()) => code,
        // The reader of `word_index | head` has read what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => code,
        Err(error) => {
            let _told = writeln!(err, "word_index: cannot write: {error}");
            exit::CANNOT_RUN
        }
    }
}

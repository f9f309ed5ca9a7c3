//! Two tenants' documents, indexed by two worker processes.
//!
//! ```text
//! cargo run --release [-- --jobs N | --postgres URL | --redis URL]
//! ```
//!
//! What it shows: a job names a document, such as `report-007`, and both tenants have one of that
//! name. Whose it is travels in a slot. So do the words that do not count, which each tenant has
//! chosen. The functions that read, index, write and log are passed neither.

mod args;
mod index;
mod producer;
mod queue;
mod worker;

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use cleanslate::task_local;
use cleanslate_jobs::Wire;

/// What ends the program early, in words for the user.
type Failure = Box<dyn Error + Send + Sync>;

task_local! {
    /// Whose documents these are.
    #[inherit]
    static TENANT: String = "nobody".to_owned();
    /// Words that are left out of an index.
    #[inherit]
    static STOP_WORDS: Vec<String> = Vec::new();
}

/// What sender and workers have agreed on.
fn wire() -> Wire {
    Wire::new().slot("tenant", &TENANT).slot("stop-words", &STOP_WORDS)
}

fn main() -> ExitCode {
    let mut out = io::stdout();
    let done = match args::parse(std::env::args_os().skip(1)) {
        Ok(args::Asked::Help) => out.write_all(args::HELP.as_bytes()).map_err(Into::into),
        Ok(args::Asked::Produce(plan)) => producer::run(&plan, &mut out),
        Ok(args::Asked::Work(post)) => worker::run(&post),
        Err(error) => {
            complain(format_args!("{error}\n\n{}", args::HELP));
            return ExitCode::from(2);
        }
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // `word_index | head`
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(about: fmt::Arguments<'_>) {
    // Nobody is left to be told if this fails.
    drop(writeln!(io::stderr(), "word_index: {about}"));
}

fn is_closed_pipe(error: &Failure) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

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
    let done = match args::parse(std::env::args_os().skip(1)) {
        Ok(args::Asked::Help) => {
            print!("{}", args::HELP);
            Ok(())
        }
        Ok(args::Asked::Produce(plan)) => producer::run(&plan),
        Ok(args::Asked::Work(post)) => worker::run(&post),
        Err(error) => {
            eprintln!("word_index: {error}\n\n{}", args::HELP);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("word_index: {error}");
            ExitCode::FAILURE
        }
    }
}

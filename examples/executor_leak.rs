//! Shows what tasks see of one another on shared threads: a leaky pool, and a clean one.
//!
//! The setup is the one for which Python's `ThreadPoolExecutor` is usually blamed: two workers, ten
//! tasks, each of which notes its number in a thread-local and reports what it found there.

pub(crate) mod cli;

use cleanslate::{BuildError, Isolation, Pool, task_local};
use cli::{Cli, Failure, Opt};
use std::io::Write;
use std::process::ExitCode;

task_local! {
    /// The number of the running task.
    static TASK: Option<u32> = None;
}

/// What the tasks of the two pools reported, in order.
pub(crate) struct Summary {
    pub(crate) leaky: Vec<String>,
    pub(crate) clean: Vec<String>,
}

fn task(number: u32) -> String {
    match TASK.replace(Some(number)) {
        None => format!("Task {number} (previous: none)"),
        Some(previous) => format!("Task {number} (previous: {previous})"),
    }
}

/// Runs the tasks on a pool of each kind.
pub(crate) fn run(workers: usize, tasks: u32, out: &mut dyn Write) -> Result<Summary, Failure> {
    let said_on = |isolation| {
        let pool = Pool::builder().workers(workers).isolation(isolation).build()?;
        Ok::<_, BuildError>(pool.map(0..tasks, task))
    };
    let summary = Summary { leaky: said_on(Isolation::Leaky)?, clean: said_on(Isolation::Reset)? };

    writeln!(out, "A pool that leaks, as most do:")?;
    summary.leaky.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    writeln!(out, "A pool whose tasks start from a clean slate:")?;
    summary.clean.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    Ok(summary)
}

pub(crate) const CLI: Cli = Cli {
    name: "executor_leak",
    about: "Shows what tasks see of one another on shared threads: a leaky pool, and a clean one.",
    options: &[
        Opt::Number { name: "--workers", help: "threads of each pool", range: 1..=64, default: 2 },
        Opt::Number { name: "--tasks", help: "tasks", range: 0..=1_000_000, default: 10 },
    ],
};

fn main() -> ExitCode {
    CLI.main(|args, out| run(args.number("--workers"), args.number("--tasks"), out).map(drop))
}

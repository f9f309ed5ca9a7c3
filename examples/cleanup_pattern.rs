//! Shows three ways to leave nothing behind: by hand, which somebody forgets; by a scope; and by a
//! pool that needs neither.

pub(crate) mod cli;

use cleanslate::{BuildError, Isolation, Pool, task_local};
use cli::{Cli, Failure, Opt, counted};
use std::io::Write;
use std::panic::resume_unwind;
use std::process::ExitCode;

task_local! {
    static TASK: Option<u32> = None;
}

/// How a task goes about its work.
type Task = fn(u32) -> Result<u32, String>;

/// A task that found the number of another.
#[derive(Debug, PartialEq)]
pub(crate) struct Leak {
    pub(crate) task: u32,
    pub(crate) found: u32,
}

/// The leaks of each way.
pub(crate) struct Summary {
    pub(crate) by_hand: Vec<Leak>,
    pub(crate) by_scope: Vec<Leak>,
    pub(crate) clean_pool: Vec<Leak>,
}

/// The work: three kinds of task do not reach its end.
fn work() -> Result<u32, String> {
    match TASK.get() {
        Some(number) if number % 10 == 3 => Err(format!("task {number} has nothing to do")),
        // Not `panic!`, whose hook would print the message.
        Some(number) if number % 10 == 6 => resume_unwind(Box::new("task gives up")),
        Some(number) => Ok(number * 2),
        None => Err("no task runs".to_owned()),
    }
}

/// The manual pattern, `try/finally` without the `try`: an early return or a panic skips the last
/// step.
fn by_hand(number: u32) -> Result<u32, String> {
    TASK.set(Some(number));
    let result = work()?;
    TASK.take();
    Ok(result)
}

/// The scope undoes itself, whichever way it is left. Every task has to remember to open one.
fn by_scope(number: u32) -> Result<u32, String> {
    TASK.scope(Some(number), work)
}

/// Nothing to remember: the pool takes care of it.
fn carefree(number: u32) -> Result<u32, String> {
    TASK.set(Some(number));
    work()
}

/// Runs the tasks on a pool with one worker, so that it is certain which task follows which.
fn leaks(isolation: Isolation, tasks: u32, task: Task) -> Result<Vec<Leak>, BuildError> {
    let pool = Pool::builder().workers(1).isolation(isolation).build()?;
    let (tell, told) = std::sync::mpsc::channel();
    // Some fail, on purpose.
    drop(pool.map_results(0..tasks, |number| {
        if let Some(found) = TASK.get() {
            tell.send(Leak { task: number, found }).expect("it is read below");
        }
        task(number)
    }));
    Ok(told.try_iter().collect())
}

/// Runs the three ways, and prints who found what.
pub(crate) fn run(tasks: u32, out: &mut dyn Write) -> Result<Summary, Failure> {
    let summary = Summary {
        by_hand: leaks(Isolation::Leaky, tasks, by_hand)?,
        by_scope: leaks(Isolation::Leaky, tasks, by_scope)?,
        clean_pool: leaks(Isolation::Reset, tasks, carefree)?,
    };
    for (way, leaks) in [
        ("Cleaned up by hand, on a leaky pool", &summary.by_hand),
        ("In a scope, on a leaky pool", &summary.by_scope),
        ("Not cleaned up at all, on a clean pool", &summary.clean_pool),
    ] {
        let tasks = counted(tasks, "task");
        writeln!(out, "{way}: {} of {tasks} found the number of another", leaks.len())?;
        for Leak { task, found } in leaks {
            writeln!(out, "  task {task} found {found}")?;
        }
    }
    Ok(summary)
}

pub(crate) const CLI: Cli = Cli {
    name: "cleanup_pattern",
    about: "Shows three ways to leave nothing behind: by hand, by scope, and by a clean pool.",
    options: &[Opt::Number { name: "--tasks", help: "tasks", range: 0..=1_000_000, default: 10 }],
};

fn main() -> ExitCode {
    CLI.main(|args, out| run(args.number("--tasks"), out).map(drop))
}

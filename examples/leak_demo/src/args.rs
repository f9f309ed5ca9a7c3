//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;

pub(super) const USAGE: &str = "\
usage: leak_demo [--tasks N] [--workers N] [--json]
       leak_demo --help";

pub(super) const HELP: &str = "\
Runs the same requests on several executors and counts those that see the data of others.

usage: leak_demo [--tasks N] [--workers N] [--json]

  --tasks N     requests per executor, 1 to 1000000 (default 4000)
  --workers N   threads per pool, 1 to 256 (default: one per processor, at least 2)
  --json        one JSON object instead of the table
  --help        this text

exit status: 0 if cleanslate kept its promise, 1 if it leaked, 2 for bad arguments,
3 if an executor could not be started
";

const MOST_TASKS: usize = 1_000_000;
const MOST_WORKERS: usize = 256;

/// What a run is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tasks: usize,
    pub(super) workers: usize,
    pub(super) json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Run(Plan),
}

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut plan = Plan { tasks: 4_000, workers: default_workers(), json: false };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = text(arg)?;
        let (option, attached) = match arg.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let mut number = |most| {
            let value = match attached.clone() {
                Some(value) => value,
                None => text(args.next().ok_or_else(|| format!("{option} needs a number"))?)?,
            };
            in_range(option, &value, most)
        };
        match option {
            "--tasks" => plan.tasks = number(MOST_TASKS)?,
            "--workers" => plan.workers = number(MOST_WORKERS)?,
            "--json" if attached.is_none() => plan.json = true,
            "--help" | "-h" if attached.is_none() => return Ok(Asked::Help),
            _ => return Err(format!("unexpected argument `{arg}`")),
        }
    }
    Ok(Asked::Run(plan))
}

fn text(arg: OsString) -> Result<String, String> {
    arg.into_string().map_err(|arg| format!("unexpected argument `{}`", arg.display()))
}

fn in_range(option: &str, value: &str, most: usize) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{option} takes a number from 1 to {most}, not `{value}`")),
    }
}

/// At least two: a pool of one worker has nobody to steal from.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(2, NonZeroUsize::get).clamp(2, MOST_WORKERS)
}

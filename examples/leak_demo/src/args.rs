//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use lexopt::prelude::*;

pub(super) const USAGE: &str = "\
usage: leak_demo [--tasks N] [--workers N] [--json] [--svg FILE] [--html FILE]
       leak_demo --help";

pub(super) const HELP: &str = "\
Runs the same requests on several executors and counts those that see the data of others.

usage: leak_demo [--tasks N] [--workers N] [--json] [--svg FILE] [--html FILE]

  --tasks N     requests per executor, 1 to 1000000 (default 4000)
  --workers N   threads per pool, 1 to 256 (default: one per processor, at least 2)
  --json        one JSON object instead of the table; schema.json describes it
  --svg FILE    also draws the first 150 requests, on rayon and on cleanslate
  --html FILE   also writes a page with the table and that picture, request by request
  --help        this text

Colours are for terminals, and not used where NO_COLOR is set.

exit status: 0 if cleanslate kept its promise, 1 if it leaked, 2 for bad arguments,
3 if an executor could not be started or a file not be written
";

const MOST_TASKS: usize = 1_000_000;
const MOST_WORKERS: usize = 256;

/// What to run, and where its results go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tasks: usize,
    pub(super) workers: usize,
    pub(super) json: bool,
    pub(super) svg: Option<PathBuf>,
    pub(super) html: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Run(Plan),
}

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    let (mut tasks, mut workers, mut json, mut svg, mut html) = (None, None, None, None, None);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("tasks") => {
                once("--tasks", &mut tasks, number("--tasks", &mut parser, MOST_TASKS)?)?;
            }
            Long("workers") => {
                once("--workers", &mut workers, number("--workers", &mut parser, MOST_WORKERS)?)?;
            }
            Long("json") => once("--json", &mut json, ())?,
            Long("svg") => once("--svg", &mut svg, file("--svg", &mut parser)?)?,
            Long("html") => once("--html", &mut html, file("--html", &mut parser)?)?,
            Long("help") | Short('h') => return Ok(Asked::Help),
            _ => return Err(arg.unexpected()),
        }
    }
    // Relative ones stay so where the current directory is gone.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    if svg.is_some() && svg.as_ref().map(absolute) == html.as_ref().map(absolute) {
        return Err("--svg and --html name the same file".into());
    }
    Ok(Asked::Run(Plan {
        tasks: tasks.unwrap_or(4_000),
        workers: workers.unwrap_or_else(default_workers),
        json: json.is_some(),
        svg,
        html,
    }))
}

fn once<T>(option: &str, place: &mut Option<T>, value: T) -> Result<(), lexopt::Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{option} is given twice").into()),
    }
}

fn number(option: &str, parser: &mut lexopt::Parser, most: usize) -> Result<usize, lexopt::Error> {
    parser.value()?.parse_with(|text| match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{option} takes a number from 1 to {most}")),
    })
}

fn file(option: &str, parser: &mut lexopt::Parser) -> Result<PathBuf, lexopt::Error> {
    match parser.value()? {
        path if path.is_empty() => Err(format!("{option} takes the name of a file").into()),
        path => Ok(path.into()),
    }
}

/// At least two: with one worker there is nobody to steal from.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(2, NonZeroUsize::get).clamp(2, MOST_WORKERS)
}

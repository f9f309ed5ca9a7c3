//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use lexopt::prelude::*;

pub(super) const USAGE: &str = "\
usage: word_index [--top N] [--workers N] [--all] [--] [PATH...]
       word_index --help";

pub(super) const HELP: &str = "\
Indexes the words of every text file under the paths (by default, this crate's own tree).

usage: word_index [--top N] [--workers N] [--all] [--] [PATH...]

  --top N       how many words to print, 0 to 100000 (default 15)
  --workers N   threads, 1 to 256 (default: one per processor)
  --all         list every file that was passed over and every remark, not only the first few
  --help        this text

Directories named target and .git below a path are left out, as are symbolic links to
directories. What cannot be read, or is not UTF-8 text, is listed on standard error and costs
nothing else.

exit status: 0, or 1 if a path does not exist, 2 for bad arguments, 3 if it could not run
";

const MOST_WORDS: usize = 100_000;
const MOST_WORKERS: usize = 256;

/// What a run is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) top: usize,
    pub(super) workers: usize,
    pub(super) all: bool,
    pub(super) paths: Vec<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Run(Plan),
}

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    let (mut top, mut workers, mut all, mut paths) = (None, None, None, Vec::new());
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("top") => once("--top", &mut top, number("--top", &mut parser, 0..=MOST_WORDS)?)?,
            Long("workers") => {
                let number = number("--workers", &mut parser, 1..=MOST_WORKERS)?;
                once("--workers", &mut workers, number)?;
            }
            Long("all") => once("--all", &mut all, ())?,
            Long("help") | Short('h') => return Ok(Asked::Help),
            Value(path) if path.is_empty() => return Err("a path is empty".into()),
            Value(path) => paths.push(path.into()),
            _ => return Err(arg.unexpected()),
        }
    }
    if paths.is_empty() {
        paths.push(own_tree());
    }
    let workers = workers.unwrap_or_else(default_workers);
    Ok(Asked::Run(Plan { top: top.unwrap_or(15), workers, all: all.is_some(), paths }))
}

fn once<T>(option: &str, place: &mut Option<T>, value: T) -> Result<(), lexopt::Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{option} is given twice").into()),
    }
}

fn number(
    option: &str,
    parser: &mut lexopt::Parser,
    range: RangeInclusive<usize>,
) -> Result<usize, lexopt::Error> {
    parser.value()?.parse_with(|text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| format!("{option} takes a number from {least} to {most}"))
    })
}

/// Shown without its path where that is plain.
fn own_tree() -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = examples.parent().unwrap_or(examples).to_owned();
    if std::env::current_dir().is_ok_and(|here| here == tree) { ".".into() } else { tree }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_WORKERS)
}

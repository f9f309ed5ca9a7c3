//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

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
directories. What cannot be read, or is not UTF-8 text, is listed and costs nothing else.

exit status: 0, or 1 if a path does not exist, 2 for bad arguments, 3 if it could not run
";

const MOST_WORDS: usize = 100_000;
const MOST_WORKERS: usize = 256;

/// What a run is to be.
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

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut plan = Plan { top: 15, workers: default_workers(), all: false, paths: Vec::new() };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        // A path need not be Unicode; an option is.
        let Some(option) = arg.to_str().filter(|arg| arg.starts_with('-') && *arg != "-") else {
            plan.paths.push(arg.into());
            continue;
        };
        let (option, attached) = match option.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (option, None),
        };
        let mut number = |least, most| {
            let value = match attached.clone() {
                Some(value) => value,
                None => {
                    let value = args.next().ok_or_else(|| format!("{option} needs a number"))?;
                    value.to_string_lossy().into_owned()
                }
            };
            in_range(option, &value, least, most)
        };
        match option {
            "--top" => plan.top = number(0, MOST_WORDS)?,
            "--workers" => plan.workers = number(1, MOST_WORKERS)?,
            "--all" if attached.is_none() => plan.all = true,
            "--help" | "-h" if attached.is_none() => return Ok(Asked::Help),
            "--" if attached.is_none() => plan.paths.extend(args.by_ref().map(PathBuf::from)),
            _ => return Err(format!("unexpected argument `{}`", arg.display())),
        }
    }
    if plan.paths.is_empty() {
        plan.paths.push(own_tree());
    }
    Ok(Asked::Run(plan))
}

fn in_range(option: &str, value: &str, least: usize, most: usize) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{option} takes a number from {least} to {most}, not `{value}`")),
    }
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

//! The command line: what a person asks for, and what the program asks of itself.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

pub(crate) const HELP: &str = "\
Indexes the documents of two tenants with two worker processes.

usage: word_index [--jobs N] [--postgres URL | --redis URL]

  --jobs N          how many documents, 1 to 5000 (default 200)
  --postgres URL    keep the jobs there instead of in a file of SQLite
  --redis URL       or there
  --help            this text
";

pub(crate) enum Asked {
    Help,
    Produce(Plan),
    Work(Post),
}

pub(crate) struct Plan {
    pub(crate) jobs: usize,
    /// `None`: a file of SQLite, in a directory that is removed afterwards, unless a signal ends
    /// the program.
    pub(crate) url: Option<String>,
}

/// Where a worker process finds its jobs and the documents.
pub(crate) struct Post {
    pub(crate) url: String,
    pub(crate) queue: String,
    pub(crate) name: String,
    pub(crate) documents: PathBuf,
}

/// The first argument of a worker process.
const WORK: &str = "work";

impl Post {
    pub(crate) fn to_args(&self) -> [OsString; 5] {
        let [url, queue, name] = [&self.url, &self.queue, &self.name].map(OsString::from);
        [WORK.into(), url, queue, name, self.documents.clone().into()]
    }
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    let (mut jobs, mut place) = (None, None);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("jobs") => {
                let number = parser.value()?;
                let number = number.to_str().and_then(|text| text.parse().ok());
                let number = number.filter(|number| (1..=5_000).contains(number));
                let number = number.ok_or("--jobs takes a number from 1 to 5000")?;
                once("--jobs is", &mut jobs, number)?;
            }
            Long("postgres") => {
                once(PLACE, &mut place, url(&mut parser, &["postgres://", "postgresql://"])?)?;
            }
            Long("redis") => {
                once(PLACE, &mut place, url(&mut parser, &["redis://", "redis+unix://"])?)?
            }
            Long("help") | Short('h') => return Ok(Asked::Help),
            Value(word) if word == WORK => {
                let [url, queue, name] = [
                    parser.value()?.string()?,
                    parser.value()?.string()?,
                    parser.value()?.string()?,
                ];
                let documents = parser.value()?.into();
                return Ok(Asked::Work(Post { url, queue, name, documents }));
            }
            // It is not shown: it may be a URL that lacks its option.
            Value(_) => return Err("there is an argument that belongs to no option".into()),
            Long(word) if word.chars().all(char::is_alphabetic) => return Err(arg.unexpected()),
            // Nor is this one, which may be a URL after the dashes.
            Long(_) | Short(_) => return Err("there is an option that is not known".into()),
        }
    }
    Ok(Asked::Produce(Plan { jobs: jobs.unwrap_or(200), url: place }))
}

const PLACE: &str = "a place for the jobs is";

fn once<T>(what: &str, place: &mut Option<T>, value: T) -> Result<(), lexopt::Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{what} given twice").into()),
    }
}

fn url(parser: &mut lexopt::Parser, schemes: &[&str]) -> Result<String, lexopt::Error> {
    let url = parser.value()?.into_string().unwrap_or_default();
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        // It may hold a password, also if it is not Unicode.
        return Err(format!("a place for the jobs begins with {}", schemes.join(" or ")).into());
    }
    Ok(url)
}

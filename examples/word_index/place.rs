//! Where the current task is, and what it has to remark. Both are kept in slots, so that no helper
//! has to be passed either.

use std::fmt;
use std::path::{Path, PathBuf};

use cleanslate::task_local;

/// A line of a file; line 0 is the file as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    file: PathBuf,
    line: usize,
}

impl Place {
    /// A file as a whole.
    pub(super) fn file(file: PathBuf) -> Self {
        Self { file, line: 0 }
    }
}

/// Something worth saying about a place.
#[derive(Debug)]
pub(super) struct Remark {
    pub(super) place: Place,
    pub(super) text: String,
}

task_local! {
    static HERE: Place = Place::default();
    static REMARKS: Vec<Remark> = Vec::new();
}

/// Notes that the task begins to read `file`.
pub(super) fn open(file: &Path) {
    HERE.set(Place::file(file.to_owned()));
}

/// Notes that the task comes to its next line.
pub(super) fn next_line() {
    HERE.with_mut(|here| here.line += 1);
}

/// Where the task is.
pub(super) fn here() -> Place {
    HERE.get()
}

/// Notes something about the place where the task is.
pub(super) fn remark(text: String) {
    let remark = Remark { place: here(), text };
    REMARKS.with_mut(|remarks| remarks.push(remark));
}

/// What the task has noted.
pub(super) fn remarks() -> Vec<Remark> {
    REMARKS.take().unwrap_or_default()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file's name may contain what a terminal obeys.
        for c in self.file.display().to_string().chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        Ok(())
    }
}

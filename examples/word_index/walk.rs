//! Finds the files.

use std::collections::HashSet;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::place::Place;

/// What is not indexed, and why.
#[derive(Debug)]
pub(super) struct Skipped {
    pub(super) place: Place,
    pub(super) why: String,
}

/// What lies under the paths.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// In order, each once.
    pub(super) found: Vec<PathBuf>,
    pub(super) skipped: Vec<Skipped>,
    /// Those of the paths themselves that do not exist or cannot be read.
    pub(super) missing: Vec<Skipped>,
}

pub(super) fn files(paths: &[PathBuf]) -> Files {
    let mut files = Files::default();
    let mut known = HashSet::new();
    for path in paths {
        let shown = if path == "." { PathBuf::new() } else { path.clone() };
        // Also resolves a symbolic link that was asked for by name.
        match fs::canonicalize(path).and_then(|resolved| Ok((fs::metadata(&resolved)?, resolved))) {
            Ok((metadata, resolved)) => {
                files.visit(shown, resolved, metadata.file_type(), &mut known);
            }
            Err(error) => {
                let place = Place::file(path.clone());
                files.missing.push(Skipped { place, why: error.to_string() });
            }
        }
    }
    files.found.sort_unstable();
    files.skipped.sort_by(|a, b| a.place.cmp(&b.place));
    files
}

impl Files {
    /// `path` is how to show it, `resolved` where it really is: two paths may overlap.
    fn visit(
        &mut self,
        path: PathBuf,
        resolved: PathBuf,
        kind: FileType,
        known: &mut HashSet<PathBuf>,
    ) {
        // Directories wait here instead of on the stack, which their depth could exhaust.
        let mut waiting = vec![(path, resolved, kind)];
        while let Some((path, resolved, kind)) = waiting.pop() {
            if kind.is_dir() {
                if known.insert(resolved.clone())
                    && let Err(error) = self.enter(&path, &resolved, &mut waiting)
                {
                    self.skip(path, error.to_string());
                }
            } else if kind.is_file() {
                if known.insert(resolved) {
                    self.found.push(path);
                }
            } else {
                // Opening a named pipe would wait for its other end.
                self.skip(path, "not a regular file".to_owned());
            }
        }
    }

    fn enter(
        &mut self,
        path: &Path,
        resolved: &Path,
        waiting: &mut Vec<(PathBuf, PathBuf, FileType)>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(resolved)? {
            let entry = entry?;
            let (shown, really) = (path.join(entry.file_name()), entry.path());
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                match fs::canonicalize(&really).and_then(|to| Ok((fs::metadata(&to)?, to))) {
                    // Following these could go round in circles.
                    Ok((metadata, _)) if metadata.is_dir() => {
                        self.skip(shown, "a symbolic link to a directory".to_owned());
                    }
                    Ok((metadata, to)) => waiting.push((shown, to, metadata.file_type())),
                    Err(error) => self.skip(shown, error.to_string()),
                }
            } else if !(kind.is_dir() && is_left_out(&entry.file_name())) {
                waiting.push((shown, really, kind));
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: PathBuf, why: String) {
        self.skipped.push(Skipped { place: Place::file(path), why });
    }
}

fn is_left_out(name: &std::ffi::OsStr) -> bool {
    name == "target" || name == ".git"
}

//! What watching a task found.

use std::fmt;

use crate::error::Unsupported;
use crate::leak::Leak;

/// What watching a task found; its `Display` is a table.
///
/// ```
/// use cleanslate_sentinel as sentinel;
///
/// let (sum, report) = sentinel::watch(|| (1..=10).sum::<u32>());
/// assert_eq!(sum, 55);
/// assert!(report.leaks().is_empty());
/// assert_eq!(report.is_clean(), sentinel::supported().is_ok());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a report that nobody reads finds nothing"]
pub struct Report {
    found: Result<Vec<Leak>, Unsupported>,
}

impl Report {
    pub(super) fn new(leaks: Vec<Leak>) -> Report {
        Report { found: Ok(leaks) }
    }

    pub(super) fn of_unsupported(why: Unsupported) -> Report {
        Report { found: Err(why) }
    }

    /// Returns whether the task was watched and left every thread-local as it was.
    ///
    /// Returns `false` where the sentinel does not work, since nothing is known there.
    ///
    /// # Examples
    ///
    /// ```
    /// let ((), report) = cleanslate_sentinel::watch(|| ());
    /// assert_eq!(report.is_clean(), cleanslate_sentinel::supported().is_ok());
    /// ```
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found.as_ref().is_ok_and(Vec::is_empty)
    }

    /// Returns the thread-locals that the task left changed, module by module in order of their
    /// offsets, and after them the probes whose answers have changed.
    ///
    /// The slice is empty where the sentinel does not work.
    ///
    /// # Examples
    ///
    /// ```
    /// let ((), report) = cleanslate_sentinel::watch(|| ());
    /// assert!(report.leaks().is_empty());
    /// ```
    #[must_use]
    pub fn leaks(&self) -> &[Leak] {
        self.found.as_deref().unwrap_or_default()
    }

    /// Returns why nothing was watched, or `None` if the sentinel works here.
    ///
    /// # Examples
    ///
    /// ```
    /// let ((), report) = cleanslate_sentinel::watch(|| ());
    /// assert_eq!(report.unsupported().is_none(), cleanslate_sentinel::supported().is_ok());
    /// ```
    #[must_use]
    pub fn unsupported(&self) -> Option<&Unsupported> {
        self.found.as_ref().err()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaks = match &self.found {
            Err(unsupported) => return write!(f, "{unsupported}"),
            Ok(leaks) if leaks.is_empty() => {
                return f.write_str("no thread-local was left changed");
            }
            Ok(leaks) => leaks,
        };
        let head = ["thread-local", "crate", "module", "changed"].map(str::to_owned);
        let mut rows = vec![head];
        for leak in leaks {
            let crate_name = leak.crate_name().unwrap_or("-").to_owned();
            let first = if leak.is_first_touch() { ", first touch" } else { "" };
            let changed = format!("{}{first}", leak.change());
            rows.push([leak.label(), crate_name, leak.module().to_owned(), changed]);
        }
        // Formatting panics with a greater width. Names may be arbitrarily long.
        const WIDEST: usize = u16::MAX as usize;
        let mut widths = [0; 4];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().clamp(*width, WIDEST);
            }
        }
        let plural = if leaks.len() == 1 { " was" } else { "s were" };
        write!(f, "{} thread-local{plural} left changed:", leaks.len())?;
        for row in &rows {
            let [name, crate_name, module, changed] = row;
            let [a, b, c, _] = widths;
            write!(f, "\n  {name:a$}  {crate_name:b$}  {module:c$}  {changed}")?;
        }
        let mut unnamed: Vec<&str> =
            leaks.iter().filter(|leak| leak.path().is_none()).map(Leak::module).collect();
        unnamed.sort_unstable();
        unnamed.dedup();
        for module in unnamed {
            write!(f, "\n{module} has no symbols there, so rules by name cannot apply")?;
        }
        Ok(())
    }
}

//! What worker processes tell the test: one line of JSON each on their standard output.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::job::{Found, own_context};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    Done {
        id: u32,
        worker: String,
        found: Found,
    },
    Panics {
        id: u32,
    },
    Fails {
        id: u32,
    },
    /// It has this job and will not finish it.
    Holds {
        id: u32,
    },
    /// Something was set where no job runs.
    Dirty {
        worker: String,
        what: String,
    },
}

/// Tells records from what the test harness prints.
const MARK: &str = "record ";

impl Record {
    pub(crate) fn tell(&self) {
        let line = format!("\n{MARK}{}\n", serde_json::to_string(self).unwrap());
        // One call, so that lines stay whole.
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
    }

    pub(crate) fn read(line: &str) -> Option<Self> {
        Some(serde_json::from_str(line.strip_prefix(MARK)?).unwrap())
    }

    pub(crate) fn is_done_by(&self, name: &str) -> bool {
        matches!(self, Self::Done { worker, .. } if worker == name)
    }

    /// Whether a job has found another context than its own.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self, Self::Done { id, found, .. } if *found != own_context(*id))
    }
}

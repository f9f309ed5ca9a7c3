//! The rows of the table: which executor, with the session kept in what.

use std::error::Error;

use super::executors::{self, Served};
use super::job::{self, Request};
use super::store::{Declared, Plain};
use super::tally::Tally;

/// One row.
pub(super) struct Row {
    pub(super) executor: &'static str,
    pub(super) kept_in: &'static str,
    /// Whether cleanslate promises that nothing leaks here.
    pub(super) promised: bool,
    run: fn(&[Request], usize) -> Served,
}

pub(super) const ROWS: &[Row] = &[
    Row {
        executor: "a thread per task",
        kept_in: "thread_local!",
        promised: false,
        run: executors::threads::<Plain>,
    },
    Row {
        executor: "rayon",
        kept_in: "thread_local!",
        promised: false,
        run: executors::rayon::<Plain>,
    },
    #[cfg(feature = "rayon")]
    Row {
        executor: "rayon, isolated",
        kept_in: "task_local!",
        promised: true,
        run: executors::rayon_isolated::<Declared>,
    },
    Row {
        executor: "threadpool",
        kept_in: "thread_local!",
        promised: false,
        run: executors::threadpool::<Plain>,
    },
    Row {
        executor: "tokio spawn_blocking",
        kept_in: "thread_local!",
        promised: false,
        run: executors::spawn_blocking::<Plain>,
    },
    Row {
        executor: "cleanslate, Leaky",
        kept_in: "task_local!",
        promised: false,
        run: executors::leaky::<Declared>,
    },
    Row {
        executor: "cleanslate, Reset",
        kept_in: "task_local!",
        promised: true,
        run: executors::reset::<Declared>,
    },
    Row {
        executor: "cleanslate, Reset",
        kept_in: "thread_local!",
        promised: false,
        run: executors::reset::<Plain>,
    },
    Row {
        executor: "cleanslate, Reset",
        kept_in: "adopted",
        promised: true,
        run: executors::reset_adopting,
    },
];

impl Row {
    /// Runs the requests and counts what they saw.
    pub(super) fn serve(
        &self,
        requests: &[Request],
        workers: usize,
    ) -> Result<Tally, Box<dyn Error>> {
        job::begin_row();
        let (mut seen, took) = (self.run)(requests, workers)?;
        seen.sort_unstable_by_key(|seen| seen.request.number);
        Ok(Tally::of(&seen, took))
    }
}

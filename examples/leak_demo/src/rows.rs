//! The rows of the table: which executor, and what the session is kept in.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use indicatif::ProgressBar;

use super::executors::{self, Served};
use super::job::{Request, Run, Seen};
use super::place::Threads;
use super::store::{Declared, Plain};
use super::tally::Tally;

/// How many requests the picture shows.
pub(super) const PICTURED: usize = 150;

/// One row.
pub(super) struct Row {
    pub(super) executor: &'static str,
    pub(super) kept_in: &'static str,
    /// Whether cleanslate promises that nothing leaks here.
    pub(super) promised: bool,
    /// Whether the picture shows it.
    pub(super) pictured: bool,
    run: fn(&[Request], &Run) -> Served,
}

pub(super) const ROWS: &[Row] = &[
    Row {
        executor: "a thread per task",
        kept_in: "thread_local!",
        promised: false,
        pictured: false,
        run: executors::threads::<Plain>,
    },
    Row {
        executor: "rayon",
        kept_in: "thread_local!",
        promised: false,
        pictured: true,
        run: executors::rayon::<Plain>,
    },
    #[cfg(feature = "rayon")]
    Row {
        executor: "rayon, isolated",
        kept_in: "task_local!",
        promised: true,
        pictured: false,
        run: executors::rayon_isolated::<Declared>,
    },
    Row {
        executor: "threadpool",
        kept_in: "thread_local!",
        promised: false,
        pictured: false,
        run: executors::threadpool::<Plain>,
    },
    Row {
        executor: "tokio spawn_blocking",
        kept_in: "thread_local!",
        promised: false,
        pictured: false,
        run: executors::spawn_blocking::<Plain>,
    },
    Row {
        executor: "cleanslate, Leaky",
        kept_in: "task_local!",
        promised: false,
        pictured: false,
        run: executors::leaky::<Declared>,
    },
    Row {
        executor: "cleanslate, Reset",
        kept_in: "task_local!",
        promised: true,
        pictured: true,
        run: executors::reset::<Declared>,
    },
    Row {
        executor: "cleanslate, Reset",
        kept_in: "thread_local!",
        promised: false,
        pictured: false,
        run: executors::reset::<Plain>,
    },
    Row {
        executor: "cleanslate, Reset",
        kept_in: "adopted",
        promised: true,
        pictured: false,
        run: executors::reset_adopting,
    },
];

impl Row {
    /// Runs the requests and counts what they saw.
    pub(super) fn serve(
        &'static self,
        requests: &[Request],
        workers: usize,
        progress: ProgressBar,
    ) -> Result<Done, Box<dyn Error>> {
        let run = Run { workers, threads: Threads::new(), began: Instant::now(), progress };
        // Where the system refuses a thread, most executors panic.
        let served = catch_unwind(AssertUnwindSafe(|| (self.run)(requests, &run)));
        let (mut seen, took) = served.unwrap_or_else(|_panic| Err("it panicked".into()))?;
        seen.sort_unstable_by_key(|seen| seen.request.number);
        let tally = Tally::of(&seen, took);
        seen.truncate(if self.pictured { PICTURED } else { 0 });
        Ok(Done { row: self, tally, seen })
    }
}

/// A row that has run.
pub(super) struct Done {
    pub(super) row: &'static Row,
    pub(super) tally: Tally,
    /// The first [`PICTURED`] requests, if the picture shows this row.
    pub(super) seen: Vec<Seen>,
}

/// Whether nothing leaked where cleanslate promises that nothing does.
pub(super) fn kept_promise(done: &[Done]) -> bool {
    done.iter().all(|done| !done.row.promised || done.tally.is_clean())
}

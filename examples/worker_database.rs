//! Shows a database connection per worker, behind an object that is made for a path at run time.

pub(crate) mod cli;
mod temporary;

use cleanslate::{OwnedWorkerLocal, Pool};
use cli::{Cli, Failure, Opt, counted};
use rusqlite::{Connection, Params};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many connections of a database were opened and closed.
#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    closed: AtomicUsize,
}

/// A connection that is counted.
struct Counted {
    connection: Connection,
    counts: Arc<Counts>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Relaxed, here and below: read after a join or a shutdown.
        self.counts.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The handle: each worker that uses it has a connection of its own, which stays for the next task.
struct Database {
    path: PathBuf,
    connections: OwnedWorkerLocal<Option<Counted>>,
    counts: Arc<Counts>,
}

impl Database {
    fn create(path: PathBuf) -> rusqlite::Result<Self> {
        // A connection for one use: what is kept below belongs to the workers.
        Connection::open(&path)?.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE logs (task INTEGER UNIQUE, line TEXT NOT NULL);",
        )?;
        Ok(Self { path, connections: OwnedWorkerLocal::default(), counts: Arc::default() })
    }

    /// Uses the worker's connection, which is opened at its first use. If that fails, the next task
    /// tries again.
    fn with<R>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> rusqlite::Result<R> {
        self.connections.with(|kept| {
            let counted = match kept {
                Some(counted) => counted,
                None => {
                    let connection = Connection::open(&self.path)?;
                    connection.busy_timeout(Duration::from_secs(600))?;
                    self.counts.opened.fetch_add(1, Ordering::Relaxed);
                    kept.insert(Counted { connection, counts: Arc::clone(&self.counts) })
                }
            };
            f(&counted.connection)
        })
    }

    fn execute(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.with(|connection| connection.execute(sql, params))
    }

    fn count(&self) -> rusqlite::Result<i64> {
        self.with(|connection| {
            connection.query_row("SELECT count(*) FROM logs", [], |row| row.get(0))
        })
    }
}

/// What came out, for the two databases where there are two of something.
#[derive(Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) opened: [usize; 2],
    pub(crate) closed_before_the_stop: [usize; 2],
    pub(crate) closed: [usize; 2],
    pub(crate) rows: [i64; 2],
    /// The sentences of the tasks that failed.
    pub(crate) failed: Vec<String>,
    /// How many of them were to go well.
    pub(crate) failed_unplanned: usize,
}

/// Whether a task is to fail, by its statement or by a panic.
fn fails_as_planned(number: u32) -> bool {
    matches!(number % 10, 3 | 4)
}

/// Writes into one database and reads from both. Every tenth task's statement fails, and the task
/// after it panics while it has the connection.
fn task(number: u32, databases: &[Database; 2]) -> Result<i64, String> {
    let [own, other] = if number.is_multiple_of(2) { [0, 1] } else { [1, 0] };
    let (own, other) = (&databases[own], &databases[other]);
    let say = |error: rusqlite::Error| format!("task {number}: {error}");
    let line = match number % 10 {
        3 => None,
        4 => own.with(|_| std::panic::resume_unwind(Box::new("lost the thread"))).map_err(say)?,
        _ => Some(format!("worker says {number}")),
    };
    own.execute("INSERT INTO logs VALUES (?, ?)", (number, line)).map_err(say)?;
    Ok(own.count().map_err(say)? + other.count().map_err(say)?)
}

/// Runs the tasks against two databases in `directory`, and prints what came out.
pub(crate) fn run(
    directory: &Path,
    workers: usize,
    tasks: u32,
    out: &mut dyn Write,
) -> Result<Summary, Failure> {
    let [orders, events] = ["orders.sqlite", "events.sqlite"].map(|name| directory.join(name));
    let databases = [Database::create(orders)?, Database::create(events)?];
    let counts = |count: fn(&Counts) -> &AtomicUsize| {
        [0, 1].map(|index: usize| count(&databases[index].counts).load(Ordering::Relaxed))
    };

    let pool = Pool::new(workers)?;
    // Every worker uses both, so that the number of connections is certain.
    pool.broadcast(|| Ok(databases[0].count()? + databases[1].count()?))
        .into_iter()
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let results = pool.map_results(0..tasks, |number| task(number, &databases));
    let mut failed = Vec::new();
    let mut failed_unplanned = 0;
    for (number, result) in (0..tasks).zip(results) {
        let sentence = match result {
            Ok(Ok(_rows)) => continue,
            Ok(Err(sentence)) => sentence,
            Err(error) => format!("task {number}: {}", error.message().unwrap_or("no words")),
        };
        failed_unplanned += usize::from(!fails_as_planned(number));
        failed.push(sentence);
    }
    let rows = pool.try_map(&databases, Database::count)?;
    let closed_before_the_stop = counts(|counts| &counts.closed);
    pool.shutdown()?;
    let summary = Summary {
        opened: counts(|counts| &counts.opened),
        closed_before_the_stop,
        closed: counts(|counts| &counts.closed),
        rows: [rows[0], rows[1]],
        failed,
        failed_unplanned,
    };

    let (tasks, workers) = (counted(tasks, "task"), counted(workers, "worker"));
    writeln!(out, "{tasks} on {workers}, with two databases (orders, events):")?;
    writeln!(out, "  connections opened:            {:?}", summary.opened)?;
    writeln!(out, "  closed while the pool ran:     {:?}", summary.closed_before_the_stop)?;
    writeln!(out, "  closed when it had stopped:    {:?}", summary.closed)?;
    writeln!(out, "  rows:                          {:?}", summary.rows)?;
    writeln!(out, "  tasks that failed, alone:      {}", summary.failed.len())?;
    summary.failed.iter().take(4).try_for_each(|sentence| writeln!(out, "    {sentence}"))?;
    Ok(summary)
}

pub(crate) const CLI: Cli = Cli {
    name: "worker_database",
    about: "Shows a database connection per worker, behind an object made at run time.",
    options: &[
        Opt::Number { name: "--workers", help: "threads of the pool", range: 1..=64, default: 4 },
        Opt::Number { name: "--tasks", help: "tasks", range: 0..=100_000, default: 200 },
    ],
};

fn main() -> ExitCode {
    CLI.main(|args, out| {
        temporary::in_a_directory(|directory| {
            let summary = run(directory, args.number("--workers"), args.number("--tasks"), out)?;
            match summary.failed_unplanned {
                0 => Ok(()),
                n => Err(Failure::from(format!("{} failed unplanned", counted(n, "task")))),
            }
        })
    })
}

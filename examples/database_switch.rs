//! Shows an object that holds which database to use: each task can switch it for itself, and no row
//! ends up in the wrong file.
//!
//! The system is peewee's `ThreadSafeDatabaseMetadata`, whose switch belongs to a thread. On a
//! pool, that is not yet the same as belonging to a task.

pub(crate) mod cli;
mod temporary;

use cleanslate::{Isolation, OwnedLocal, OwnedWorkerLocal, Pool};
use cli::{Cli, Failure, Opt, counted, on_a_thread};
use rusqlite::Connection;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// A database, with a connection per worker.
struct Database {
    name: &'static str,
    path: PathBuf,
    connections: OwnedWorkerLocal<Option<Connection>>,
}

impl Database {
    fn create(directory: &Path, name: &'static str) -> rusqlite::Result<Arc<Self>> {
        let path = directory.join(name);
        let schema = "PRAGMA journal_mode = WAL; CREATE TABLE rows (task INTEGER, meant_for TEXT);";
        Connection::open(&path)?.execute_batch(schema)?;
        Ok(Arc::new(Self { name, path, connections: OwnedWorkerLocal::default() }))
    }

    fn insert(&self, task: u32, meant_for: &str) -> rusqlite::Result<()> {
        self.connections.with(|kept| {
            let connection = match kept {
                Some(connection) => connection,
                None => kept.insert(Connection::open(&self.path)?),
            };
            connection.busy_timeout(Duration::from_secs(600))?;
            connection.execute("INSERT INTO rows VALUES (?, ?)", (task, meant_for)).map(drop)
        })
    }

    /// The rows in the file, and how many of them were meant for another one.
    fn count(&self) -> rusqlite::Result<(i64, i64)> {
        Connection::open(&self.path)?.query_row(
            "SELECT count(*), count(nullif(meant_for, ?)) FROM rows",
            [self.name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    }
}

/// Which database a model lives in.
struct Metadata {
    default: Arc<Database>,
    switched: OwnedLocal<Option<Arc<Database>>>,
}

impl Metadata {
    /// The current task's database; the default, unless the task has switched.
    fn database(&self) -> Arc<Database> {
        self.switched.with(|switched| Arc::clone(switched.as_ref().unwrap_or(&self.default)))
    }

    fn switch(&self, database: &Arc<Database>) {
        self.switched.set(Some(Arc::clone(database)));
    }
}

/// For each of the two files, its rows and how many of them do not belong there.
#[derive(Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) main: (i64, i64),
    pub(crate) archive: (i64, i64),
    /// What threads outside the pool saw: by default, after switching, and then on another thread.
    pub(crate) threads: [&'static str; 3],
}

/// Runs the tasks on one kind of pool. Every third task switches to the archive.
fn on_pool(
    directory: &Path,
    isolation: Isolation,
    workers: usize,
    tasks: u32,
) -> Result<Summary, Failure> {
    std::fs::create_dir(directory)?;
    let main = Database::create(directory, "main.sqlite")?;
    let archive = Database::create(directory, "archive.sqlite")?;
    let metadata = Metadata { default: Arc::clone(&main), switched: OwnedLocal::default() };

    let pool = Pool::builder().workers(workers).isolation(isolation).build()?;
    pool.try_map(0..tasks, |task| {
        let meant_for = if task % 3 == 2 {
            metadata.switch(&archive);
            archive.name
        } else {
            main.name
        };
        // Far from the switch, and without a parameter:
        metadata.database().insert(task, meant_for)
    })?;

    let by_default = metadata.database().name;
    metadata.switch(&archive);
    let elsewhere = on_a_thread(|| metadata.database().name)?;
    let threads = [by_default, metadata.database().name, elsewhere];
    Ok(Summary { main: main.count()?, archive: archive.count()?, threads })
}

/// Runs the tasks on a leaky and on a clean pool, and counts.
pub(crate) fn run(
    directory: &Path,
    workers: usize,
    tasks: u32,
    out: &mut dyn Write,
) -> Result<[Summary; 2], Failure> {
    let leaky = on_pool(&directory.join("leaky"), Isolation::Leaky, workers, tasks)?;
    let clean = on_pool(&directory.join("clean"), Isolation::Reset, workers, tasks)?;
    for (pool, summary) in [("leaky", &leaky), ("clean", &clean)] {
        let tasks = counted(tasks, "task");
        writeln!(out, "{tasks} on a {pool} pool, every third switches to the archive:")?;
        for (file, (rows, wrong)) in [("main", summary.main), ("archive", summary.archive)] {
            let rows = counted(rows, "row");
            writeln!(out, "  {file:<8}{rows:>11}, {wrong:>4} of them in the wrong file")?;
        }
    }
    let [by_default, switched, elsewhere] = clean.threads;
    writeln!(
        out,
        "A thread uses {by_default}, then switches to {switched}; another uses {elsewhere}"
    )?;
    Ok([leaky, clean])
}

pub(crate) const CLI: Cli = Cli {
    name: "database_switch",
    about: "Shows an object that holds which database to use, switched per task.",
    options: &[
        Opt::Number { name: "--workers", help: "threads of each pool", range: 1..=64, default: 2 },
        Opt::Number { name: "--tasks", help: "tasks", range: 0..=100_000, default: 300 },
    ],
};

fn main() -> ExitCode {
    CLI.main(|args, out| {
        temporary::in_a_directory(|directory| {
            writeln!(out, "The databases are in {} meanwhile.", directory.display())?;
            out.flush()?;
            run(directory, args.number("--workers"), args.number("--tasks"), out).map(drop)
        })
    })
}

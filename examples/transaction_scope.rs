//! Shows a database transaction in a slot: committed on success, and rolled back on an error, on a
//! panic and when the task forgets about it.

pub(crate) mod cli;
mod temporary;

use cleanslate::{Isolation, OwnedLocal, Pool};
use cli::{Cli, Failure};
use rusqlite::Connection;
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Task = fn(&TransactionManager) -> Result<(), Failure>;

/// A transaction on a connection of its own, undone unless it is committed.
struct Transaction {
    connection: Connection,
}

impl Transaction {
    fn begin(path: &Path) -> Result<Self, Failure> {
        let connection = Connection::open(path)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(Self { connection })
    }

    fn commit(self) -> Result<(), Failure> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.connection.is_autocommit() {
            // If it fails, closing the connection, which comes next, rolls back as well.
            drop(self.connection.execute_batch("ROLLBACK"));
        }
    }
}

/// Knows the current task's transaction.
struct TransactionManager {
    path: PathBuf,
    current: OwnedLocal<Option<Transaction>>,
}

impl TransactionManager {
    /// Runs `f` in a transaction: the context manager.
    fn transaction<R>(&self, f: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
        self.refuse_nested()?;
        self.current.scope(Some(Transaction::begin(&self.path)?), || {
            let result = f()?;
            self.commit()?;
            Ok(result)
        })
    }

    /// Begins a transaction that ends with `commit`, or with the task.
    fn begin(&self) -> Result<(), Failure> {
        self.refuse_nested()?;
        self.current.set(Some(Transaction::begin(&self.path)?));
        Ok(())
    }

    fn commit(&self) -> Result<(), Failure> {
        self.current.take().flatten().ok_or("there is no transaction to commit")?.commit()
    }

    /// Called from deep inside, without a parameter that says which transaction.
    fn add(&self, line: &str) -> Result<(), Failure> {
        self.current.with(|current| {
            let transaction = current.as_ref().ok_or("there is no transaction to add to")?;
            transaction.connection.execute("INSERT INTO operations VALUES (?)", [line])?;
            Ok(())
        })
    }

    fn refuse_nested(&self) -> Result<(), Failure> {
        let is_nested = self.current.with(Option::is_some);
        if is_nested { Err("nested transactions are not supported".into()) } else { Ok(()) }
    }
}

/// The tasks, in their order: what each does, and how.
const TASKS: [(&str, Task); 6] = [
    ("succeeds", |manager| manager.transaction(|| manager.add("succeeds"))),
    ("fails", |manager| {
        manager.transaction(|| manager.add("fails").and(Err("the card was declined".into())))
    }),
    ("panics", |manager| {
        manager.transaction(|| {
            manager.add("panics")?;
            resume_unwind(Box::new("out of cards"))
        })
    }),
    ("nests", |manager| {
        manager.transaction(|| {
            manager.add("nests")?;
            match manager.begin() {
                Err(refused) => manager.add(&format!("refused: {refused}")),
                Ok(()) => manager.add("nested"),
            }
        })
    }),
    ("forgets", |manager| manager.begin().and_then(|()| manager.add("forgets"))),
    ("succeeds too", |manager| manager.transaction(|| manager.add("succeeds too"))),
];

/// What became of the tasks of one pool.
pub(crate) struct Outcome {
    /// For each task, why it failed, if it did.
    pub(crate) failures: Vec<Option<String>>,
    /// The table's contents, read by a stranger afterwards.
    pub(crate) rows: Vec<String>,
    /// Whether a stranger could write right after the last task.
    pub(crate) unlocked: bool,
}

fn on_pool(isolation: Isolation, path: PathBuf) -> Result<Outcome, Failure> {
    let stranger = Connection::open(&path)?;
    stranger.execute_batch("PRAGMA busy_timeout = 0; CREATE TABLE operations (line TEXT);")?;
    let manager = TransactionManager { path, current: OwnedLocal::default() };
    // One worker, so that it is certain which task follows which.
    let pool = Pool::builder().workers(1).isolation(isolation).build()?;
    let failures = pool
        .map_results(TASKS, |(_, task)| task(&manager).map_err(|error| error.to_string()))
        .into_iter()
        .map(|result| match result {
            Ok(result) => result.err(),
            Err(error) => Some(error.message().unwrap_or("no words").to_owned()),
        });
    let failures = failures.collect();
    // What a transaction still holds is locked, and this does not wait.
    let unlocked = stranger.execute_batch("BEGIN IMMEDIATE; ROLLBACK;").is_ok();
    pool.shutdown()?;
    let mut rows = stranger.prepare("SELECT line FROM operations ORDER BY rowid")?;
    let rows = rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(Outcome { failures, rows, unlocked })
}

/// Runs the tasks on a clean and on a leaky pool, and says what is in the tables.
pub(crate) fn run(directory: &Path, out: &mut dyn Write) -> Result<[Outcome; 2], Failure> {
    let clean = on_pool(Isolation::Reset, directory.join("clean.sqlite"))?;
    let leaky = on_pool(Isolation::Leaky, directory.join("leaky.sqlite"))?;
    for (pool, outcome) in [("clean", &clean), ("leaky", &leaky)] {
        writeln!(out, "Transactions on a {pool} pool:")?;
        for ((name, _), failure) in TASKS.iter().zip(&outcome.failures) {
            writeln!(out, "  a task that {name:<14}{}", failure.as_deref().unwrap_or("returned"))?;
        }
        writeln!(out, "  in the table:             {}", outcome.rows.join(", "))?;
        let others = if outcome.unlocked { "can write at once" } else { "find it locked" };
        writeln!(out, "  others:                   {others}")?;
    }
    Ok([clean, leaky])
}

pub(crate) const CLI: Cli = Cli {
    name: "transaction_scope",
    about: "Shows a database transaction in a slot, which no task can leave behind.",
    options: &[],
};

fn main() -> ExitCode {
    CLI.main(|_, out| temporary::in_a_directory(|directory| run(directory, out).map(drop)))
}

//! Contexts that travel through real queues: two worker processes, two tenants, 10,000 jobs, with
//! panics, retries, and a worker that is killed.
//!
//! `cargo test` runs those on SQLite. The others need a server: `scripts/queues` starts one.

mod job;
mod producer;
mod record;
mod storage;
mod worker;

use std::collections::HashMap;

use producer::{Run, run};
use record::Record;
use storage::Url;

/// What the processes print instead of being tests: see [`producer::Worker`].
#[test]
#[ignore = "runs as a process of the other tests"]
fn worker_process() {
    if let Some(orders) = worker::Orders::from_environment() {
        worker::work(&orders);
    }
}

#[test]
fn jobs_keep_their_contexts_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    keeps_contexts(&Url::sqlite(&directory.path().join("jobs.db")));
}

#[test]
#[ignore = "needs a server: scripts/queues"]
fn jobs_keep_their_contexts_on_redis() {
    keeps_contexts(&Url::from_environment("JOBS_REDIS"));
}

#[test]
#[ignore = "needs a server: scripts/queues"]
fn jobs_keep_their_contexts_on_postgres() {
    keeps_contexts(&Url::from_environment("JOBS_POSTGRES"));
}

/// Each job at least once and with its own context, none with another's, nothing left in between.
fn keeps_contexts(url: &Url) {
    let Run { sent: jobs, records, held } = run(url, 10_000, true);
    let mut done = HashMap::<u32, usize>::new();
    let (mut panicked, mut retried) = (0, 0);
    for record in &records {
        match record {
            Record::Done { id, worker, found, .. } => {
                assert_eq!(found, &job::own_context(*id), "job {id} on {worker}");
                *done.entry(*id).or_default() += 1;
            }
            Record::Panics { .. } => panicked += 1,
            Record::Fails { .. } => retried += 1,
            Record::Holds { .. } => {}
            Record::Dirty { worker, what } => panic!("{worker}: {what}"),
        }
    }
    let missing: Vec<_> = (0..jobs).filter(|id| !done.contains_key(id)).collect();
    assert!(missing.is_empty(), "never done: {missing:?}");
    assert!(panicked >= 1 && retried >= 1, "{panicked} panicked, {retried} were retried");
    let by = |name: &str| records.iter().filter(|record| record.is_done_by(name)).count();
    let (killed, pool, successor) = (by("killed"), by("pool"), by("successor"));
    assert!(killed >= 1 && pool >= 1 && successor >= 1, "{killed}, {pool}, {successor}");
    let held = held.expect("a worker was killed while it had a job");
    assert!(done[&held] >= 1);
    println!(
        "{jobs} jobs, {} runs: {killed} by the worker that was killed, {pool} on a pool, \
         {successor} by its successor; {panicked} panicked, {retried} were retried",
        records.len(),
    );
}

// The checks above have to fail with the middleware that everybody writes first.
#[test]
fn a_layer_that_only_sets_the_slots_is_caught() {
    let directory = tempfile::tempdir().unwrap();
    let Run { records, .. } = run(&Url::sqlite(&directory.path().join("jobs.db")), 200, false);
    let dirty = records.iter().filter(|record| matches!(record, Record::Dirty { .. })).count();
    let wrong = records.iter().filter(|record| record.is_wrong()).count();
    assert!(dirty >= 1 && wrong >= 1, "{dirty} times dirty, {wrong} jobs with a wrong context");
}

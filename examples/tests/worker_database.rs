//! The example `worker_database`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../worker_database.rs"]
pub(crate) mod example;

fn run(workers: usize, tasks: u32) -> example::Summary {
    let directory = tempfile::tempdir().unwrap();
    let summary = example::run(directory.path(), workers, tasks, &mut std::io::sink()).unwrap();
    for file in ["orders.sqlite", "events.sqlite"] {
        // Needs the file for itself, so no connection can be open any more.
        let file = rusqlite::Connection::open(directory.path().join(file)).unwrap();
        let mode = file.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0));
        assert_eq!(mode, Ok("delete".to_owned()));
    }
    directory.close().unwrap();
    summary
}

#[test]
fn there_is_one_connection_per_worker_and_database() {
    for (workers, tasks) in [(1, 10), (2, 100), (4, 200)] {
        let summary = run(workers, tasks);
        assert_eq!(summary.opened, [workers; 2]);
    }
}

#[test]
fn connections_stay_open_between_tasks_and_close_when_the_pool_stops() {
    let summary = run(3, 100);
    assert_eq!(summary.closed_before_the_stop, [0, 0]);
    assert_eq!(summary.closed, summary.opened);
}

#[test]
fn a_failing_task_costs_itself_only() {
    let summary = run(4, 200);
    // Of ten tasks, one's statement fails and one panics; even tasks write to the first database.
    assert_eq!((summary.failed.len(), summary.failed_unplanned), (40, 0));
    assert_eq!(summary.rows, [80, 80]);
    let failed = |number: u32, why: &str| {
        let start = format!("task {number}: ");
        summary.failed.iter().any(|line| line.starts_with(&start) && line.contains(why))
    };
    assert!(failed(3, "NOT NULL constraint failed"), "{:?}", summary.failed);
    assert!(failed(194, "lost the thread"), "{:?}", summary.failed);
}

#[test]
fn no_tasks_are_fine() {
    let summary = run(2, 0);
    assert_eq!((summary.rows, summary.failed), ([0, 0], vec![]));
}

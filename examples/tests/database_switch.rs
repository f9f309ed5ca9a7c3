//! The example `database_switch`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../database_switch.rs"]
pub(crate) mod example;

use example::Summary;

/// Runs it and returns what came out on the leaky and on the clean pool.
fn run(workers: usize, tasks: u32) -> [Summary; 2] {
    let directory = tempfile::tempdir().unwrap();
    example::run(directory.path(), workers, tasks, &mut std::io::sink()).unwrap()
}

#[test]
fn no_row_is_in_the_wrong_file() {
    for (workers, tasks) in [(1, 0), (1, 30), (2, 300), (4, 900)] {
        let [_, clean] = run(workers, tasks);
        let archived = i64::from(tasks / 3);
        assert_eq!(clean.archive, (archived, 0));
        assert_eq!(clean.main, (i64::from(tasks) - archived, 0));
    }
}

#[test]
fn on_a_leaky_pool_a_switch_outlives_its_task() {
    // With one worker it is certain: from the first switch on, every row goes to the archive.
    let [leaky, _] = run(1, 30);
    assert_eq!(leaky.main, (2, 0));
    assert_eq!(leaky.archive, (28, 18));
    let [leaky, _] = run(4, 900);
    assert!(leaky.archive.1 > 0);
}

#[test]
fn a_switch_is_seen_by_its_own_thread_only() {
    for summary in run(1, 1) {
        assert_eq!(summary.threads, ["main.sqlite", "archive.sqlite", "main.sqlite"]);
    }
}

//! The example `database_switch`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../database_switch.rs"]
pub(crate) mod example;

use example::Summary;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

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

/// Set for the process below.
const SWITCH: &str = "CLEANSLATE_TEST_SWITCH";

/// Not a test of its own, but the process that the next one interrupts.
#[test]
#[ignore = "works until it is interrupted"]
fn work_until_interrupted() {
    if std::env::var_os(SWITCH).is_none() {
        // Somebody runs the ignored tests, and nobody would interrupt it.
        return;
    }
    let ended = example::in_a_directory(2, u32::MAX, &mut std::io::stdout());
    assert_eq!(ended.unwrap_err().to_string(), "interrupted");
}

/// The directory was left behind once.
#[cfg(unix)]
#[test]
fn it_removes_its_directory_on_ctrl_c() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "database_switch::work_until_interrupted", "--ignored", "--nocapture"])
        .env(SWITCH, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("The databases are in ")).unwrap();
    let words = line.strip_prefix("The databases are in ").unwrap();
    let directory = Path::new(words.strip_suffix(" meanwhile.").unwrap());
    assert!(directory.is_dir());
    let interrupt = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
    let rest: Vec<_> = lines.collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert!(!directory.exists());
}

//! Tests of what there is once in each process.

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const MARK: &str = "CLEANSLATE_TEST_ALONE";

/// Runs the test of this name in a process of its own, and returns whether this is that one.
#[track_caller]
pub(crate) fn in_a_process_of_its_own(name: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    drop(run_alone(name));
    false
}

/// Runs the test of this name in a process of its own and returns what it has printed on standard
/// error; `None` if this is that process.
#[track_caller]
pub(crate) fn printed_in_a_process_of_its_own(name: &str) -> Option<String> {
    std::env::var_os(MARK).is_none().then(|| run_alone(name))
}

/// Runs the test of this name in processes of their own, one for each of `cases`, which have to
/// exit with success from within `f`.
#[track_caller]
pub(crate) fn exits_in_a_process_of_its_own(name: &str, cases: &[&str], f: impl FnOnce(&str)) {
    if let Ok(case) = std::env::var(MARK) {
        // An exit may hang as well.
        std::thread::spawn(|| {
            let (_keep, never) = mpsc::channel::<()>();
            let _timeout = never.recv_timeout(PATIENCE);
            std::process::abort();
        });
        f(&case);
        unreachable!("{case}: it was to exit");
    }
    for case in cases {
        let (succeeded, text, printed) = start(name, case);
        assert!(succeeded && !text.contains("test result"), "{case}: {text}{printed}");
    }
}

#[track_caller]
fn run_alone(name: &str) -> String {
    let (succeeded, text, printed) = start(name, "");
    assert!(succeeded && text.contains("test result: ok. 1 passed"), "{text}{printed}");
    printed
}

/// The test of this name in a process of its own.
pub(crate) fn alone(name: &str, mark: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args([name, "--exact", "--nocapture"]).env(MARK, mark);
    command
}

/// Returns whether it succeeded, and what it has printed.
#[track_caller]
fn start(name: &str, mark: &str) -> (bool, String, String) {
    let output = alone(name, mark).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

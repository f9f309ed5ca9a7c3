//! Tests of what there is once in each process.

use std::process::Command;

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

#[track_caller]
fn run_alone(name: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    let output = command.args([name, "--exact", "--nocapture"]).env(MARK, "").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let ran = output.status.success() && text.contains("test result: ok. 1 passed");
    assert!(ran, "{text}{printed}");
    printed
}

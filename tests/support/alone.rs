//! Tests of what there is once in each process.

use std::process::Command;

const MARK: &str = "CLEANSLATE_TEST_ALONE";

/// Runs the test of this name in a process of its own, and returns whether this is that one.
#[track_caller]
pub(crate) fn in_a_process_of_its_own(name: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = output.status.success() && text.contains("test result: ok. 1 passed");
    assert!(ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}

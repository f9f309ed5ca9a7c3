//! The directories of the examples with databases are gone afterwards.

use std::fs;
use std::process::{Command, Stdio};

use crate::program;

#[test]
fn none_is_left_at_the_end() {
    for example in ["database_switch", "transaction_scope", "worker_database"] {
        let Some(path) = program::beside_this_test(example) else { return };
        let directory = tempfile::tempdir().unwrap();
        let ended = Command::new(path).env("TMPDIR", directory.path()).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{example}");
    }
}

/// Was left behind once, or the process ended as if it had failed.
#[cfg(unix)]
#[test]
fn none_is_left_by_ctrl_c_which_ends_the_process() {
    for example in ["database_switch", "worker_database"] {
        let Some(path) = program::beside_this_test(example) else { return };
        for signal in ["INT", "TERM"] {
            let directory = tempfile::tempdir().unwrap();
            let files = |path| fs::read_dir(path).into_iter().flatten().map_while(Result::ok);
            let mut child = Command::new(&path)
                .args(["--tasks", "100000"])
                .env("TMPDIR", directory.path())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // Until it has begun to use it.
            while files(directory.path().into()).all(|made| files(made.path()).next().is_none()) {
                assert_eq!(child.try_wait().unwrap(), None, "{example} is over");
                std::thread::yield_now();
            }
            let interrupt = format!("kill -{signal} {}", child.id());
            assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
            let ended = child.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(130), "{example}");
            assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
            assert_eq!(files(directory.path().into()).count(), 0, "{example}");
        }
    }
}

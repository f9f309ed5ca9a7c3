//! What the program does where its output goes nowhere.

use std::process::{Command, Stdio};

// Broke: it panicked, and left its workers behind.
#[test]
fn it_ends_without_noise_when_nobody_reads_its_output() {
    for args in [&["--help"][..], &["--jobs", "5"]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_word_index"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(program.stdout.take());
        let ended = program.wait_with_output().unwrap();
        assert_eq!(
            (String::from_utf8_lossy(&ended.stderr).as_ref(), ended.status.code()),
            ("", Some(0))
        );
    }
}

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

#[test]
fn a_queue_that_is_not_there_is_named_without_its_password() {
    let ended = Command::new(env!("CARGO_BIN_EXE_word_index"))
        .args(["--redis", "redis://me:secret@127.0.0.1:1/"])
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("the queue at redis://127.0.0.1:1/: "), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(ended.status.code(), Some(1));
}

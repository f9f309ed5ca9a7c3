//! Tests of what there is once in each process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same for a whole process, which may be a program that is watched or sanitized.
const PATIENCE_ALONE: Duration = Duration::from_secs(300);

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
        abort_if_it_hangs();
        f(&case);
        unreachable!("{case}: it was to exit");
    }
    for case in cases {
        let (succeeded, text, printed) = start(name, case);
        assert!(succeeded && !text.contains("test result"), "{case}: {text}{printed}");
    }
}

/// Runs the test of this name in a process of its own, whose standard input is open until it has
/// printed `words` on standard error, and returns what it has printed there; `None` if this is that
/// process.
#[track_caller]
pub(crate) fn printed_until_input_ends(name: &str, words: &str) -> Option<String> {
    if std::env::var_os(MARK).is_some() {
        abort_if_it_hangs();
        return None;
    }
    let mut process = alone(name, "")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take();
    let mut printed = String::new();
    for line in BufReader::new(process.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains(words) {
            input = None;
        }
        printed.push_str(&line);
        printed.push('\n');
    }
    drop(input);
    assert!(process.wait().unwrap().success(), "{printed}");
    Some(printed)
}

/// Ends this process, with a failure, if it goes on for too long.
fn abort_if_it_hangs() {
    std::thread::spawn(|| {
        let (_keep, never) = mpsc::channel::<()>();
        let _timeout = never.recv_timeout(PATIENCE);
        std::process::abort();
    });
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
    // Where it is set, a pool has other than the default number of workers.
    command.env_remove("CLEANSLATE_NUM_THREADS");
    command
}

/// Returns whether it succeeded, and what it has printed. It is killed if it goes on for too long.
#[track_caller]
fn start(name: &str, mark: &str) -> (bool, String, String) {
    let mut process = alone(name, mark)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = [read(process.stdout.take().unwrap()), read(process.stderr.take().unwrap())];
    let [text, printed] = printed.map(|printed| match printed.recv_timeout(PATIENCE_ALONE) {
        Ok(printed) => printed,
        Err(_) => {
            process.kill().unwrap();
            let printed = printed.recv_timeout(PATIENCE).unwrap_or_default();
            format!("{printed}\n{name} {mark}: hangs\n")
        }
    });
    (process.wait().unwrap().success(), text, printed)
}

/// Reads what comes through a pipe, to its end, on a thread of its own.
fn read(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        // Nobody may wait for it any more.
        let _told = tell.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    told
}

//! The demonstration: its numbers, what it prints, its picture and its page.

#[path = "../../tests/browser.rs"]
mod browser;
#[path = "../src/main.rs"]
#[expect(dead_code, reason = "`main` is for the program")]
mod leak_demo;
#[path = "../../tests/patience.rs"]
mod patience;
#[path = "../../tests/program.rs"]
mod program;

mod command_line;
mod counts;
mod output;
mod page;
mod picture;
mod schema;

use std::process::Command;

use leak_demo::Screen;
use patience::ends;
use program::{Ran, call};
use serde_json::Value;

fn demo(args: &[&str]) -> Ran {
    call(args, |args, out, err| leak_demo::run(args, Screen::default(), out, err))
}

fn json(args: &[&str]) -> Value {
    let ran = demo(args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    serde_json::from_str(&ran.out).expect("the output is one JSON value")
}

/// A file for this test, in a place of its own.
fn file(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"))
}

/// If the environment forbids colours, runs the test of this name in a process of its own where it
/// does not, since what writes the colours asks the environment itself. Returns whether it has done
/// so.
fn has_run_without_no_color(name: &str) -> bool {
    const NO_COLOR: &str = "NO_COLOR";
    if std::env::var_os(NO_COLOR).is_none() {
        return false;
    }
    let mut alone = Command::new(std::env::current_exe().expect("this test is a file"));
    let ran = ends(alone.args([name, "--exact"]).env_remove(NO_COLOR));
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && text.contains("1 passed"), "{text}");
    true
}

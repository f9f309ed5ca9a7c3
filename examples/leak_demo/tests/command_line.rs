//! The command line, and the program as others start it.

use std::io::{self, Write};
use std::process::Command;

use serde_json::Value;

use crate::leak_demo::{self, Screen};
use crate::program::{beside_this_test, spawn};
use crate::{demo, ends, file};

#[test]
fn bad_arguments_get_the_usage_and_exit_2() {
    for args in [
        &["--tasks"][..],
        &["--tasks", "0"],
        &["--tasks", "-3"],
        &["--tasks", "many"],
        &["--tasks", "1000001"],
        &["--workers", "0"],
        &["--workers=257"],
        &["--json=yes"],
        &["--jason"],
        &["10"],
        &["--tasks", "5", "--tasks=5"],
        &["--workers=2", "--workers=2"],
        &["--json", "--json"],
        &["--svg"],
        &["--svg="],
        &["--html", "a", "--html", "b"],
        &[""],
    ] {
        let ran = demo(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains("usage: leak_demo"), "{args:?}: {}", ran.err);
    }
}

#[test]
fn the_help_names_every_option_and_exits_0() {
    let ran = demo(&["--help"]);
    assert_eq!(ran.code, 0);
    for option in ["--tasks", "--workers", "--json", "--svg", "--html", "--help", "NO_COLOR"] {
        assert!(ran.out.contains(option), "{option}");
    }
}

#[test]
fn the_program_does_what_its_code_does() {
    let Some(ran) = spawn("leak_demo", &["--tasks", "50", "--json"]) else { return };
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let all: Value = serde_json::from_str(&ran.out).expect("the output is one JSON value");
    assert_eq!(all["kept_promise"], true);

    let ran = spawn("leak_demo", &["--tasks", "none"]).expect("it is there");
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
}

#[test]
fn errors_name_the_option_and_what_it_takes() {
    for (args, words) in [
        (&["--tasks", "0"][..], "--tasks takes a number from 1 to 1000000"),
        (&["--workers", "-1"], "--workers takes a number from 1 to 256"),
        (&["--tasks", "3", "--tasks", "4"], "--tasks is given twice"),
        (&["--svg", "a.svg", "--svg", "b.svg"], "--svg is given twice"),
        (&["--svg", "a.svg", "--html", "a.svg"], "--svg and --html name the same file"),
        // Broke: one overwrote the other.
        (&["--svg", "a.svg", "--html", "./a.svg"], "--svg and --html name the same file"),
        (&["--html", ""], "--html takes the name of a file"),
        (&["--jason"], "--jason"),
        (&["extra"], "extra"),
    ] {
        let ran = demo(args);
        assert!(ran.err.contains(words), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_before_anything_runs() {
    for option in ["--svg", "--html"] {
        let ran = demo(&[option, "/no/such/folder/file"]);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""));
        assert!(ran.err.contains("/no/such/folder/file: "), "{}", ran.err);
    }
}

// Broke: it ended with a panic's code, which is none of those that `--help` lists.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn an_executor_that_cannot_be_started_is_named() {
    let Some(program) = beside_this_test("leak_demo") else { return };
    // A thread with such a stack cannot be had.
    let ran = ends(Command::new(program).env("RUST_MIN_STACK", (1_u64 << 60).to_string()));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("leak_demo: a thread per task: "), "{said}");
    assert_eq!(ran.status.code(), Some(3));
}

/// An output that cannot be written to, for this reason.
struct Cannot(io::ErrorKind);

/// A full disk.
const FULL: Cannot = Cannot(io::ErrorKind::StorageFull);

impl Write for Cannot {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// Broke: it panicked when it could not report that it had written a file.
#[test]
fn whoever_cannot_be_told_of_the_files_still_gets_them() {
    let (svg, html) = (file("untold.svg"), file("untold.html"));
    let args = ["--tasks", "50", "--svg", &svg, "--html", &html].map(Into::into);
    assert_eq!(leak_demo::run(args, Screen::default(), &mut Vec::new(), &mut { FULL }), 0);
    for path in [svg, html] {
        assert!(std::fs::metadata(&path).is_ok_and(|written| written.len() > 0), "{path}");
    }
    let told = demo(&["--tasks", "50", "--svg", &file("told.svg")]).err;
    assert_eq!(told, format!("wrote {}\n", file("told.svg")));
}

// Broke: the files were left empty, and the code said that all was well.
#[test]
fn who_reads_no_output_still_gets_the_files() {
    for (mut out, code) in [(Cannot(io::ErrorKind::BrokenPipe), 0), (FULL, 3)] {
        for more in [&[][..], &["--json"]] {
            let svg = file("unread.svg");
            let args = ["--tasks", "50", "--svg", &svg];
            let args = args.iter().chain(more).map(Into::into);
            let ended = leak_demo::run(args, Screen::default(), &mut out, &mut Vec::new());
            assert_eq!(ended, code, "{more:?}");
            assert!(std::fs::metadata(&svg).is_ok_and(|written| written.len() > 0), "{more:?}");
            std::fs::remove_file(svg).unwrap();
        }
    }
}

#[test]
fn colour_is_for_terminals_and_not_where_no_color_is_set() {
    let colour = |terminal, no_color: Option<&str>, term: Option<&str>| {
        Screen::of(terminal, terminal, |name| match name {
            "NO_COLOR" => no_color.map(Into::into),
            "TERM" => term.map(Into::into),
            _ => None,
        })
        .colour
    };
    assert!(colour(true, None, Some("xterm")));
    assert!(colour(true, Some(""), None), "an empty NO_COLOR says nothing");
    assert!(!colour(true, Some("1"), Some("xterm")));
    assert!(!colour(true, None, Some("dumb")));
    assert!(!colour(false, None, Some("xterm")));
}

/// The bars once waited for the lock of a standard error that the program kept to itself.
#[test]
fn on_a_terminal_there_is_a_bar_for_each_executor_and_an_end() {
    let Some(program) = beside_this_test("leak_demo") else { return };
    let mut script = Command::new("script");
    if !script.arg("--version").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no `script` here that could be a terminal");
        return;
    }
    let program = format!("stty cols 100; {} --tasks 300", program.display());
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &program, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
    let ran = ends(&mut terminal);
    let shown = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{shown}");
    for row in ["rayon ", "threadpool ", "cleanslate, Leaky "] {
        assert!(shown.contains(&format!("{row:20} ")), "{row}: {shown}");
    }
    assert!(shown.contains("300/300") && shown.contains("\x1b[38;5;9m"), "{shown}");
}

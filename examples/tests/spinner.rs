//! The example `spinner`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../spinner.rs"]
pub(crate) mod example;

use cleanslate::sync::Event;
use std::io::{self, Write};
use std::sync::Arc;

/// A terminal that keeps what was written, and sets an event at the third frame.
struct Terminal {
    written: Vec<u8>,
    turning: Arc<Event>,
}

impl Terminal {
    fn new() -> Self {
        Self { written: Vec::new(), turning: Arc::new(Event::new()) }
    }

    /// What a terminal of one line shows after all of it.
    fn screen(&self) -> String {
        let mut line: Vec<char> = Vec::new();
        let mut column = 0;
        for c in String::from_utf8(self.written.clone()).unwrap().chars() {
            match c {
                '\r' => column = 0,
                c if column < line.len() => {
                    line[column] = c;
                    column += 1;
                }
                c => {
                    line.push(c);
                    column += 1;
                }
            }
        }
        assert_eq!(column, 0, "the cursor is back at the start of the line");
        line.into_iter().collect()
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend(bytes);
        if String::from_utf8_lossy(&self.written).contains("/ thinking!") {
            self.turning.set();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn it_turns_while_the_task_runs_and_leaves_no_trace() {
    let mut terminal = Terminal::new();
    let turning = Arc::clone(&terminal.turning);
    let slow = move || {
        turning.wait();
        42
    };
    let summary = example::run(slow, Some(&mut terminal)).unwrap();
    assert_eq!(summary.answer, 42);
    assert!(summary.frames >= 3, "{summary:?}");
    let text = String::from_utf8(terminal.written.clone()).unwrap();
    assert!(text.starts_with("\r\\ thinking!\r| thinking!\r/ thinking!"), "{text:?}");
    assert_eq!(terminal.screen().trim(), "");
}

#[test]
fn a_task_that_is_done_at_once_shows_one_frame() {
    let mut terminal = Terminal::new();
    let summary = example::run(|| 1, Some(&mut terminal)).unwrap();
    // One, unless the task took longer to start than a frame lasts.
    assert!(summary.frames >= 1);
    assert_eq!(terminal.screen().trim(), "");
}

#[test]
fn it_stops_when_the_task_panics_and_says_why() {
    let mut terminal = Terminal::new();
    let gives_up = || -> u32 { std::panic::resume_unwind(Box::new("no idea")) };
    let error = example::run(gives_up, Some(&mut terminal)).unwrap_err();
    assert!(error.to_string().starts_with("task `slow task`"), "{error}");
    assert!(error.to_string().ends_with("no idea"), "{error}");
    assert_eq!(terminal.screen().trim(), "");
}

#[test]
fn it_is_quiet_where_there_is_no_terminal() {
    let summary = example::run(|| 7, None).unwrap();
    assert_eq!((summary.answer, summary.frames), (7, 0));
}

//! Shows an event that ends a spinner: it turns while a slow task runs on a pool, and leaves no
//! trace on the line. Where the output is no terminal it stays quiet.

pub(crate) mod cli;

use cleanslate::{Pool, sync::Event};
use cli::{Cli, Failure, Opt, counted};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const FRAMES: [char; 4] = ['\\', '|', '/', '-'];

/// Turns until the event is set, and then wipes its line. Returns the number of frames that it
/// drew.
fn spin(message: &str, done: &Event, out: &mut dyn Write) -> io::Result<usize> {
    let mut frames = 0;
    for frame in FRAMES.into_iter().cycle() {
        write!(out, "\r{frame} {message}")?;
        out.flush()?;
        frames += 1;
        if done.wait_timeout(Duration::from_millis(100)) {
            break;
        }
    }
    write!(out, "\r{:width$}\r", "", width = message.chars().count() + 2)?;
    out.flush()?;
    Ok(frames)
}

/// Sets an event when it is dropped, also if the task panics or is cancelled.
struct SetOnDrop(Arc<Event>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Summary<R> {
    pub(crate) answer: R,
    pub(crate) frames: usize,
}

/// Runs `slow` on a pool. Meanwhile the spinner turns on this thread, if `terminal` is one.
pub(crate) fn run<R: Send + 'static>(
    slow: impl FnOnce() -> R + Send + 'static,
    terminal: Option<&mut dyn Write>,
) -> Result<Summary<R>, Failure> {
    let pool = Pool::new(1)?;
    let done = Arc::new(Event::new());
    let set_at_the_end = SetOnDrop(Arc::clone(&done));
    let task = pool.named("slow task").submit(move || {
        let _set_at_the_end = set_at_the_end;
        slow()
    });
    let frames = match terminal {
        Some(terminal) => spin("thinking!", &done, terminal)?,
        None => 0,
    };
    Ok(Summary { answer: task.join()?, frames })
}

/// Real work that takes a while: counts the primes below `limit`, in the least clever way.
fn count_primes(limit: u64) -> usize {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..limit).filter(is_prime).count()
}

pub(crate) const CLI: Cli = Cli {
    name: "spinner",
    about: "Shows an event that ends a spinner, which turns while a slow task runs on a pool.",
    options: &[Opt::Number {
        name: "--below",
        help: "count the primes below this",
        range: 0..=100_000_000,
        default: 1_000_000,
    }],
};

fn main() -> ExitCode {
    CLI.main(|args, out| {
        let limit = args.number("--below");
        // Not where the results go, so that these can be piped while the spinner is seen.
        let mut terminal = io::stderr();
        let is_terminal = terminal.is_terminal();
        let terminal = is_terminal.then_some(&mut terminal as &mut dyn Write);
        let summary = run(move || count_primes(limit), terminal)?;
        if is_terminal {
            let frames = counted(summary.frames, "frame");
            writeln!(io::stderr(), "(the spinner drew {frames})")?;
        }
        let are = if summary.answer == 1 { "is" } else { "are" };
        let primes = counted(summary.answer, "prime");
        Ok(writeln!(out, "There {are} {primes} below {limit}.")?)
    })
}

//! What all examples share: the command line, with `--help`, a sentence for bad arguments, and a
//! quiet end when the reader of the output goes away; and threads, of which there may be too few.

#![allow(dead_code, reason = "no example takes every kind of option")]

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::thread::{self, Scope, ScopedJoinHandle};

use lexopt::prelude::*;

/// Why an example failed, in words for the user.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A number and its noun, which is in the plural unless there is one: `1 task`.
pub(crate) fn counted(number: impl Display, noun: &str) -> String {
    let number = number.to_string();
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Starts a thread, as `s.spawn(f)` does, which panics where the system refuses one.
pub(crate) fn start<'s, R: Send + 's>(
    s: &'s Scope<'s, '_>,
    f: impl FnOnce() -> R + Send + 's,
) -> io::Result<ScopedJoinHandle<'s, R>> {
    let started = thread::Builder::new().spawn_scoped(s, f);
    started.map_err(|error| saying("a thread could not be started", &error))
}

/// Runs `f` on a thread of its own.
pub(crate) fn on_a_thread<R: Send>(f: impl FnOnce() -> R + Send) -> Result<R, Failure> {
    thread::scope(|s| start(s, f)?.join().map_err(|_| "the thread panicked".into()))
}

/// An error of the system, which names its cause, but not what has failed.
fn saying(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// The standard output.
struct Output(io::Stdout);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| saying("cannot write", &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| saying("cannot write", &error))
    }
}

/// What an example takes.
pub(crate) struct Cli {
    pub(crate) name: &'static str,
    /// One sentence on what it shows.
    pub(crate) about: &'static str,
    pub(crate) options: &'static [Opt],
}

/// One option.
pub(crate) enum Opt {
    Flag {
        name: &'static str,
        help: &'static str,
    },
    /// A flag with which the example does something else. Some options have an effect only with
    /// it, and some only without.
    Mode {
        name: &'static str,
        help: &'static str,
        with: &'static [&'static str],
        without: &'static [&'static str],
    },
    Number {
        name: &'static str,
        help: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    },
}

impl Opt {
    fn name(&self) -> &'static str {
        match self {
            Self::Flag { name, .. } | Self::Mode { name, .. } | Self::Number { name, .. } => name,
        }
    }
}

/// What was asked for.
pub(crate) struct Args {
    numbers: Vec<(&'static str, u64)>,
    flags: Vec<&'static str>,
}

impl Args {
    /// Whether a flag was given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The value of a number, or its default.
    pub(crate) fn number<N: TryFrom<u64>>(&self, name: &str) -> N {
        let value = self.numbers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        match value.and_then(|value| N::try_from(value).ok()) {
            Some(value) => value,
            None => unreachable!("{name} is declared, with a range that fits"),
        }
    }
}

/// What the arguments ask the program to do.
pub(crate) enum Asked {
    Help(String),
    Run(Args),
}

impl Cli {
    /// Reads arguments, without the program's name.
    pub(crate) fn parse<A: Into<OsString>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Asked, lexopt::Error> {
        let mut args = Args { numbers: Vec::new(), flags: Vec::new() };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(arg) = parser.next()? {
            let name = match &arg {
                Short('h') | Long("help") => return Ok(Asked::Help(self.help())),
                Long(name) => format!("--{name}"),
                _ => return Err(arg.unexpected()),
            };
            let Some(option) = self.options.iter().find(|option| option.name() == name) else {
                return Err(arg.unexpected());
            };
            if args.flags.contains(&option.name()) || args.numbers.iter().any(|(n, _)| *n == name) {
                return Err(format!("{name} is given twice").into());
            }
            match option {
                Opt::Flag { name, .. } | Opt::Mode { name, .. } => args.flags.push(name),
                Opt::Number { name, range, .. } => {
                    let value = parser.value()?.parse_with(|text| {
                        let value = text.parse().ok().filter(|value| range.contains(value));
                        let (least, most) = (range.start(), range.end());
                        value.ok_or_else(|| format!("{name} takes a number from {least} to {most}"))
                    })?;
                    args.numbers.push((name, value));
                }
            }
        }
        self.refuse_what_has_no_effect(&args)?;
        for option in self.options {
            if let Opt::Number { name, default, .. } = option
                && !args.numbers.iter().any(|(known, _)| known == name)
            {
                args.numbers.push((name, *default));
            }
        }
        Ok(Asked::Run(args))
    }

    /// Looks at `args` as they were given, without defaults.
    fn refuse_what_has_no_effect(&self, args: &Args) -> Result<(), lexopt::Error> {
        for option in self.options {
            let Opt::Mode { name, with, without, .. } = option else { continue };
            let (useless, when) =
                if args.has(name) { (without, "with") } else { (with, "without") };
            if let Some((given, _)) = args.numbers.iter().find(|(given, _)| useless.contains(given))
            {
                return Err(format!("{given} has no effect {when} {name}").into());
            }
        }
        Ok(())
    }

    fn help(&self) -> String {
        let mut text = format!("{}\n\nUsage: {} [OPTIONS]\n\nOptions:\n", self.about, self.name);
        for option in self.options {
            text += &match option {
                Opt::Flag { name, help } | Opt::Mode { name, help, .. } => {
                    format!("  {name:<16}{help}\n")
                }
                Opt::Number { name, help, default, .. } => {
                    format!("  {:<16}{help} [{default}]\n", format!("{name} N"))
                }
            };
        }
        text + "  --help          says this\n"
    }

    /// Runs an example: `body` gets the arguments and the standard output. Exits with 2 for bad
    /// arguments, and with 1 if `body` fails.
    pub(crate) fn main(
        &self,
        body: impl FnOnce(&Args, &mut (dyn Write + Send)) -> Result<(), Failure>,
    ) -> ExitCode {
        let mut out = Output(io::stdout());
        let outcome = match self.parse(std::env::args_os().skip(1)) {
            Ok(Asked::Help(text)) => out.write_all(text.as_bytes()).map_err(Into::into),
            Ok(Asked::Run(args)) => body(&args, &mut out),
            Err(error) => {
                // Nobody is left to be told if this fails.
                drop(writeln!(io::stderr(), "{}: {error}; see --help", self.name));
                return ExitCode::from(2);
            }
        };
        match outcome.and_then(|()| Ok(out.flush()?)) {
            Ok(()) => ExitCode::SUCCESS,
            // `example | head`
            Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
            Err(error) => {
                drop(writeln!(io::stderr(), "{}: {}", self.name, in_full(&*error)));
                ExitCode::FAILURE
            }
        }
    }
}

/// An error's text, and what caused it, unless the text already contains that.
fn in_full(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

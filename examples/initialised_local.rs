//! Shows an object with a local inside, built with a default at run time: its initialiser runs once
//! per task, where that of a subclass of Python's `threading.local` runs once per thread.

pub(crate) mod cli;

use cleanslate::{BuildError, Isolation, OwnedLocal, Pool};
use cli::{Cli, Failure, Opt, counted, on_a_thread};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What each task, or thread, has of its own.
#[derive(Clone)]
struct State {
    value: String,
    visits: u32,
}

/// The object. Nothing of it is static: make as many as you like.
struct MyLocal {
    state: OwnedLocal<State>,
    initialised: Arc<AtomicUsize>,
}

impl MyLocal {
    fn new(default: &str) -> Self {
        let (default, initialised) = (default.to_owned(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&initialised);
        let state = OwnedLocal::new(move || {
            // Relaxed: read after the tasks were joined.
            counter.fetch_add(1, Ordering::Relaxed);
            State { value: default.clone(), visits: 0 }
        });
        Self { state, initialised }
    }

    /// Looks twice: the second look finds what the first one left.
    fn visit(&self) -> (String, u32) {
        self.state.with_mut(|state| state.visits += 1);
        self.state.with_mut(|state| {
            state.visits += 1;
            (state.value.clone(), state.visits)
        })
    }

    fn initialised(&self) -> usize {
        // Relaxed: read after the tasks were joined.
        self.initialised.load(Ordering::Relaxed)
    }
}

/// What came out.
pub(crate) struct Summary {
    /// What the main thread sees: before and after it sets a value; then a new thread.
    pub(crate) shown: [String; 3],
    /// On a pool of each kind: how often the initialiser ran, and the visits that each task
    /// counted.
    pub(crate) leaky: (usize, Vec<u32>),
    pub(crate) clean: (usize, Vec<u32>),
    /// How often it ran on a clean pool where only every second task looks.
    pub(crate) halved: usize,
}

fn on_pool(
    isolation: Isolation,
    workers: usize,
    tasks: usize,
) -> Result<(usize, Vec<u32>), BuildError> {
    let pool = Pool::builder().workers(workers).isolation(isolation).build()?;
    let local = MyLocal::new("default");
    let visits = pool.map(0..tasks, |_| local.visit().1);
    Ok((local.initialised(), visits))
}

/// Runs the tasks, and prints what came out.
pub(crate) fn run(workers: usize, tasks: usize, out: &mut dyn Write) -> Result<Summary, Failure> {
    let local = MyLocal::new("default");
    let before = local.visit().0;
    local.state.with_mut(|state| state.value = "main".to_owned());
    let after = local.visit().0;
    let elsewhere = on_a_thread(|| local.visit().0)?;

    let halved = MyLocal::new("default");
    Pool::new(workers)?.map(0..tasks, |n| (n % 2 == 0).then(|| halved.visit()));
    let summary = Summary {
        shown: [before, after, elsewhere],
        leaky: on_pool(Isolation::Leaky, workers, tasks)?,
        clean: on_pool(Isolation::Reset, workers, tasks)?,
        halved: halved.initialised(),
    };

    let tasks = counted(tasks, "task");
    let [before, after, elsewhere] = &summary.shown;
    writeln!(
        out,
        "Main thread: {before}; after it set a value: {after}; a new thread: {elsewhere}"
    )?;
    for (pool, (initialised, visits)) in [("leaky", &summary.leaky), ("clean", &summary.clean)] {
        writeln!(out, "{tasks} of two visits each on a {pool} pool of {workers}:")?;
        let most = visits.iter().max().copied().unwrap_or(0);
        let initialised = counted(initialised, "time");
        writeln!(out, "  initialised {initialised}; most visits that a task found: {most}")?;
    }
    writeln!(out, "{tasks} of which every second one looks, on a clean pool:")?;
    writeln!(out, "  initialised {}", counted(summary.halved, "time"))?;
    Ok(summary)
}

pub(crate) const CLI: Cli = Cli {
    name: "initialised_local",
    about: "Shows an object with a local inside, whose initialiser runs once per task.",
    options: &[
        Opt::Number { name: "--workers", help: "threads of each pool", range: 1..=64, default: 2 },
        Opt::Number { name: "--tasks", help: "tasks", range: 0..=1_000_000, default: 10 },
    ],
};

fn main() -> ExitCode {
    CLI.main(|args, out| run(args.number("--workers"), args.number("--tasks"), out).map(drop))
}

//! Shows a global that threads mix up, and a local of which each of them has a copy of its own.

pub(crate) mod cli;

use cleanslate::{Context, Pool, task_local};
use cli::{Cli, Failure, on_a_thread, start};
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Barrier, Mutex};
use std::thread;

/// One for all threads.
static GLOBAL: Mutex<Option<String>> = Mutex::new(None);

task_local! {
    /// One for each thread, and on a pool for each task.
    static LOCAL: Option<String> = None;
    /// Handed down to tasks, where the one above is not.
    #[inherit]
    static GREETING: Option<String> = None;
}

/// What each of the steps below came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Summary {
    /// What two threads found in the global after each had put its own name there.
    pub(crate) global: Vec<Option<String>>,
    /// The same with the local, and with a parameter.
    pub(crate) local: Vec<Option<String>>,
    pub(crate) passed: Vec<Option<String>>,
    /// Whether a thread that put nothing there has a value: before, with one of its own, and after
    /// it took that out; and what the main thread has at the end.
    pub(crate) is_set: [bool; 3],
    pub(crate) main: Option<String>,
    /// What two threads say for a greeting that only the main thread has set, and what two tasks
    /// say that inherit it.
    pub(crate) threads: Vec<String>,
    pub(crate) tasks: Vec<String>,
}

/// Two threads tell `put` their names, wait for each other, and then ask `deep` who is calling.
fn two_threads(
    put: impl Fn(&str) + Sync,
    deep: impl Fn(&str) -> Option<String> + Sync,
) -> Result<Vec<Option<String>>, Failure> {
    let both_put = Barrier::new(2);
    thread::scope(|s| {
        let call = |name| {
            let (put, deep, both_put) = (&put, &deep, &both_put);
            start(s, move || {
                put(name);
                both_put.wait();
                deep(name)
            })
        };
        let (one, two) = (call("Thread-1")?, call("Thread-2"));
        if two.is_err() {
            // Else the first one would wait for ever.
            both_put.wait();
        }
        Ok([one, two?].into_iter().filter_map(|call| call.join().ok()).collect())
    })
}

fn global() -> Option<String> {
    GLOBAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
}

fn set_global(name: &str) {
    *GLOBAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(name.to_owned());
}

fn greet(who: &str) -> String {
    match GREETING.get() {
        Some(greeting) => format!("{who}: {greeting}"),
        None => format!("{who}: nothing was set here"),
    }
}

/// Takes the steps, and prints what came out.
pub(crate) fn run(out: &mut dyn Write) -> Result<Summary, Failure> {
    // In a task of its own, so that nothing is left on the caller's thread.
    let summary = Context::empty().run(steps)?;
    let names = |found: &[Option<String>]| {
        found.iter().map(|name| name.as_deref().unwrap_or("nobody")).collect::<Vec<_>>().join(", ")
    };
    writeln!(out, "Two threads each note their name, and a function deep inside asks who calls:")?;
    writeln!(out, "  a global says         {}", names(&summary.global))?;
    writeln!(out, "  a local says          {}", names(&summary.local))?;
    writeln!(out, "  a parameter would say {}", names(&summary.passed))?;
    let [before, own, after] = summary.is_set;
    writeln!(out, "A thread beside one that has set the local (hasattr, and delattr in the end):")?;
    writeln!(out, "  is set before: {before}; with a value of its own: {own}; taken out: {after}")?;
    writeln!(
        out,
        "  and the main thread still has: {}",
        names(std::slice::from_ref(&summary.main))
    )?;
    writeln!(out, "A greeting that the main thread has set, and nobody else:")?;
    writeln!(
        out,
        "  on threads, where Python raises AttributeError (and one text promises a greeting)"
    )?;
    summary.threads.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
    writeln!(out, "  in tasks that inherit it")?;
    summary.tasks.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
    Ok(summary)
}

fn steps() -> Result<Summary, Failure> {
    LOCAL.set(Some("main".to_owned()));
    let is_set = on_a_thread(|| {
        let before = LOCAL.is_set();
        LOCAL.set(Some("thread2".to_owned()));
        let own = LOCAL.is_set();
        LOCAL.take();
        [before, own, LOCAL.is_set()]
    })?;

    GREETING.set(Some("Hello, World!".to_owned()));
    let pool = Pool::new(2)?;

    Ok(Summary {
        global: two_threads(set_global, |_| global())?,
        local: two_threads(|name| LOCAL.set(Some(name.to_owned())), |_| LOCAL.get())?,
        passed: two_threads(|_| (), |name| Some(name.to_owned()))?,
        is_set,
        main: LOCAL.get(),
        threads: vec![on_a_thread(|| greet("Thread-1"))?, on_a_thread(|| greet("Thread-2"))?],
        tasks: pool.map(["Task-1", "Task-2"], greet),
    })
}

pub(crate) const CLI: Cli = Cli {
    name: "own_copy",
    about: "Shows a global that threads mix up, and a local of which each has a copy of its own.",
    options: &[],
};

fn main() -> ExitCode {
    CLI.main(|_, out| run(out).map(drop))
}

//! Shows what a plain thread-local, a slot and an inherited slot do across threads, async tasks and
//! pool tasks: the table that compares `threading.local` with `contextvars`, where every cell comes
//! from a run.

pub(crate) mod cli;

use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, sync::Event, task_local};
use cli::{Cli, Failure, on_a_thread};
use comfy_table::{Table, presets};
use std::cell::Cell;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;

thread_local! {
    /// Python's `threading.local`.
    static PLAIN: Cell<u32> = const { Cell::new(0) };
}

task_local! {
    static FRESH: u32 = 0;
    /// Python's `ContextVar`.
    #[inherit]
    static INHERITED: u32 = 0;
}

/// A kind of local variable: 0, until it is set.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    get: fn() -> u32,
    set: fn(u32),
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "`thread_local!`, as `threading.local`",
        get: || PLAIN.get(),
        set: |value| PLAIN.set(value),
    },
    Kind { name: "`task_local!`", get: || FRESH.get(), set: |value| FRESH.set(value) },
    Kind {
        name: "`#[inherit]`, as `ContextVar`",
        get: || INHERITED.get(),
        set: |value| INHERITED.set(value),
    },
];

/// A runtime whose tasks all share the thread that calls `block_on`.
fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().build()?)
}

fn threads_are_isolated(Kind { get, set, .. }: Kind) -> Result<bool, Failure> {
    set(1);
    Ok(on_a_thread(get)? == 0)
}

fn async_tasks_are_isolated(Kind { get, set, .. }: Kind) -> Result<bool, Failure> {
    let both_set = Arc::new(Barrier::new(2));
    let task = |value| {
        let both_set = Arc::clone(&both_set);
        async move {
            set(value);
            both_set.wait().await;
            get() == value
        }
    };
    runtime()?.block_on(async {
        let [one, two] = [1, 2].map(|value| tokio::spawn(task(value).isolated()));
        Ok(one.await? && two.await?)
    })
}

fn follows_an_async_task(Kind { get, set, .. }: Kind) -> Result<bool, Failure> {
    let mut task = Box::pin(
        async move {
            set(1);
            tokio::task::yield_now().await;
            get() == 1
        }
        .isolated(),
    );
    // Polled once here, and to its end on another thread.
    runtime()?.block_on(async {
        tokio::select! { biased; _ = &mut task => {}, () = std::future::ready(()) => {} }
    });
    let elsewhere = runtime()?;
    on_a_thread(move || elsewhere.block_on(task))
}

fn pool_tasks_are_isolated(Kind { get, set, .. }: Kind) -> Result<bool, Failure> {
    let found = Pool::new(1)?.map(1..=2, |value| {
        let found = get();
        set(value);
        found
    });
    Ok(found == [0, 0])
}

/// A task is created after 1 was set, and runs after 2 was: does it see 1?
fn copied_for_an_async_task(Kind { get, set, .. }: Kind) -> Result<bool, Failure> {
    runtime()?.block_on(async {
        set(1);
        let task = tokio::spawn(async move { get() }.isolated());
        set(2);
        Ok(task.await? == 1)
    })
}

/// The same on a pool.
fn copied_for_a_pool_task(Kind { get, set, .. }: Kind) -> Result<bool, Failure> {
    let pool = Pool::new(1)?;
    let changed = Arc::new(Event::new());
    let was_changed = Arc::clone(&changed);
    set(1);
    let task = pool.submit(move || {
        was_changed.wait();
        get()
    });
    set(2);
    changed.set();
    Ok(task.join()? == 1)
}

type Run = fn(Kind) -> Result<bool, Failure>;

const ROWS: [(&str, Run); 6] = [
    ("threads are isolated", threads_are_isolated),
    ("async tasks on one thread are isolated", async_tasks_are_isolated),
    ("it follows an async task to another thread", follows_an_async_task),
    ("pool tasks on one worker are isolated", pool_tasks_are_isolated),
    ("an async task starts with a copy", copied_for_an_async_task),
    ("a pool task starts with a copy", copied_for_a_pool_task),
];

/// Fills every cell of the table by a run, and prints the table as docs/from-python.md has it.
pub(crate) fn run(out: &mut dyn Write) -> Result<Vec<[bool; 3]>, Failure> {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([""].into_iter().chain(KINDS.map(|kind| kind.name)));
    let mut found = Vec::new();
    for (row, find) in ROWS {
        let mut cells = [false; 3];
        for (cell, kind) in cells.iter_mut().zip(KINDS) {
            // A thread of its own, so that no cell sees what another one left.
            *cell = on_a_thread(|| Context::empty().run(|| find(kind)))??;
        }
        let words = cells.map(|cell| if cell { "yes" } else { "no" });
        table.add_row([row].into_iter().chain(words));
        found.push(cells);
    }
    writeln!(out, "{table}")?;
    Ok(found)
}

pub(crate) const CLI: Cli = Cli {
    name: "context_copies",
    about: "Shows what locals do across threads, async tasks and pool tasks, each cell by a run.",
    options: &[],
};

fn main() -> ExitCode {
    CLI.main(|_, out| run(out).map(drop))
}

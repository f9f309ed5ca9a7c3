//! The sentinel of a pool: what each action does, over all the ways into a pool.

mod always;
mod clean;
mod current;
mod panicking;
mod renewing;
mod reporting;
mod unread;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::support::{Bomb, Census, Fails, SHAPES, finishes, panic_of, quiet};
use cleanslate::foreign::adopt;
use cleanslate::sentinel::{Incident, Sentinel};
use cleanslate::{
    Context, Isolation, JoinHandle, Pool, PoolBuilder, TaskError, task_local, worker_local,
};

const HOUR: Duration = Duration::from_secs(3600);
const BURST: usize = 20_000;

thread_local! {
    static TENANT: Cell<u64> = const { Cell::new(0) };
    static USER: Cell<u64> = const { Cell::new(0) };
    static CACHE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// Its bytes never change after the first touch.
    static HEAP: Box<Cell<u64>> = Box::new(Cell::new(0));
}

/// What a callback was told, as values that can be kept.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    task: Option<String>,
    submitted: &'static Location<'static>,
    item: Option<usize>,
    worker: usize,
    /// Whether it was called on a worker of that index, inside of a task.
    renews: bool,
    paths: Vec<String>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Told>>>);

impl Log {
    fn of(&self, sentinel: Sentinel) -> Sentinel {
        let log = Arc::clone(&self.0);
        sentinel.report(move |incident: &Incident<'_>| {
            let leaks = incident.report().leaks();
            log.lock().unwrap().push(Told {
                task: incident.task().map(str::to_owned),
                submitted: incident.submitted(),
                item: incident.item(),
                worker: incident.worker(),
                renews: incident.renews(),
                paths: leaks.iter().map(|leak| leak.path().unwrap_or("?").to_owned()).collect(),
            });
        })
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn all(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }
}

/// Runs `test` for each shape with a pool of its own; a deadlock is a failure.
fn each_shape_of<P: 'static>(
    make: impl Fn(usize) -> P + Send + Sync + 'static,
    test: impl Fn(&P) + Send + Sync + 'static,
) {
    let both = Arc::new((make, test));
    for workers in SHAPES {
        let both = Arc::clone(&both);
        finishes(&format!("{workers} workers"), move || (both.1)(&(both.0)(workers)));
    }
}

fn pool(workers: usize, sentinel: Sentinel) -> Pool {
    builder(workers, sentinel).build().unwrap()
}

fn builder(workers: usize, sentinel: Sentinel) -> PoolBuilder {
    Pool::builder().workers(workers).sentinel(sentinel)
}

/// Leaves `TENANT` changed and returns what it held before.
fn dirty() -> u64 {
    TENANT.replace(TENANT.get() + 1)
}

#[track_caller]
fn message_of(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    *payload.downcast::<String>().expect("a report is a string")
}

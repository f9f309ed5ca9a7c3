//! The test's side: sends the jobs, starts the workers, kills one, and collects what they tell.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use apalis::prelude::{Task, TaskBuilder, TaskSink};
use cleanslate::Context;
use cleanslate_jobs::Wire;

use crate::job::{self, Job};
use crate::record::Record;
use crate::storage::{Storage, Url};
use crate::worker::Orders;

/// Longer than anything here takes without a sign of life, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many jobs are sent at a time, and how many lie in the queue before more are sent. The script
/// with which apalis fetches from Redis fails where some 8,000 are due at once.
const CHUNK: u32 = 1_000;
const AHEAD: usize = 2_000;

/// One of the jobs of the first batch that the worker to be killed fetches.
const HELD: u32 = 50;

pub(crate) struct Run {
    /// How many jobs were sent.
    pub(crate) sent: u32,
    pub(crate) records: Vec<Record>,
    /// The job that the killed worker had.
    pub(crate) held: Option<u32>,
}

/// Has `jobs` jobs done by two worker processes, one of which is killed in the middle and replaced;
/// or, not `isolated`, by one that only sets the slots. Each of them does some: SQLite may leave a
/// process waiting for its lock while another does thousands of jobs, so more are sent until then.
pub(crate) fn run(url: &Url, jobs: u32, isolated: bool) -> Run {
    let queue = format!("test-{}", std::process::id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut storage = runtime.block_on(Storage::create(url, &queue));
    let mut sent = CHUNK.min(jobs);
    runtime.block_on(send(&mut storage, 0..sent));
    runtime.block_on(storage.analyze());

    let (tell, told) = mpsc::channel();
    let start = |name: &str, hold_after| {
        let (url, queue) = (url.clone(), queue.clone());
        let orders = Orders { url, queue, name: name.to_owned(), isolated, hold_after };
        Worker::start(&orders, tell.clone())
    };
    let mut workers = Vec::new();
    let mut idle: Vec<&str>;
    if isolated {
        workers.push(start("killed", Some(HELD)));
        workers.push(start("pool", None));
        idle = vec!["killed", "pool", "successor"];
    } else {
        workers.push(start("naive", None));
        idle = vec!["naive"];
    }
    let (mut records, mut held) = (Vec::new(), None);
    let mut todo: HashSet<_> = (0..sent).collect();
    loop {
        if todo.is_empty() && sent >= jobs && idle.is_empty() {
            break;
        }
        if todo.is_empty() || sent < jobs && todo.len() < AHEAD {
            let ids = sent..sent + CHUNK;
            sent = ids.end;
            todo.extend(ids.clone());
            runtime.block_on(send(&mut storage, ids));
        }
        let record = next(&told);
        match &record {
            Record::Done { id, worker, .. } => {
                todo.remove(id);
                idle.retain(|name| name != worker);
            }
            Record::Holds { id } => {
                held = Some(*id);
                workers.remove(0).kill();
                workers.push(start("successor", None));
            }
            _ => {}
        }
        records.push(record);
    }
    for worker in workers {
        worker.stop();
    }
    records.extend(told.try_iter());
    Run { sent, records, held }
}

fn next(told: &Receiver<Record>) -> Record {
    told.recv_timeout(PATIENCE).expect("the workers make progress")
}

async fn send(storage: &mut Storage, ids: Range<u32>) {
    let wire = job::wire();
    let tasks = futures_util::stream::iter(ids.map(|id| task(&wire, id)));
    match storage {
        Storage::Sqlite(storage) => storage.push_all(tasks).await.unwrap(),
        Storage::Redis(storage) => storage.push_all(tasks).await.unwrap(),
        Storage::Postgres(storage) => storage.push_all(tasks).await.unwrap(),
    }
}

fn task(wire: &Wire, id: u32) -> Task<Job> {
    Context::empty().run(|| {
        job::send_as(id);
        TaskBuilder::new(Job { id }).metadata(&wire.capture().unwrap()).build()
    })
}

/// This program once more, as a worker.
struct Worker {
    process: Child,
    reader: JoinHandle<()>,
}

impl Worker {
    fn start(orders: &Orders, tell: Sender<Record>) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["worker_process", "--exact", "--ignored", "--nocapture"])
            .envs(orders.to_environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let reader = thread::spawn(move || {
            // The last line of one that was killed may be torn.
            for record in lines.map_while(Result::ok).filter_map(|line| Record::read(&line)) {
                if tell.send(record).is_err() {
                    break;
                }
            }
        });
        Self { process, reader }
    }

    /// With SIGKILL.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.reader.join().unwrap();
    }

    /// Closes its standard input, upon which it ends by itself.
    fn stop(mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().unwrap();
        self.reader.join().unwrap();
        assert!(status.success(), "{status}");
    }
}

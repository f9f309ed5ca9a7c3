//! What capturing and restoring cost per job, beside what the queue itself costs.
//!
//! `cargo bench`, or `scripts/queues figures` for Redis and PostgreSQL as well. Three slots: a
//! tenant, a language, and a user with three fields.

use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::{
    BackendExt, Data, Task, TaskBuilder, TaskSink, WorkerBuilder, WorkerContext, task_fn,
};
use apalis_core::task::metadata::{Metadata, MetadataStore};
use apalis_postgres::{PgPool, PostgresStorage};
use apalis_redis::RedisStorage;
use apalis_sqlite::{SqliteConnectOptions, SqlitePool, SqliteStorage};
use cleanslate::task_local;
use cleanslate_jobs::{JobLayer, Wire};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tower_layer::{Identity, Layer};
use tower_service::Service;

#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    roles: Vec<String>,
}

task_local! {
    #[inherit]
    static TENANT: String = "nobody".to_owned();
    #[inherit]
    static LANG: String = "en".to_owned();
    #[inherit]
    static USER: User = User { id: 0, name: String::new(), roles: Vec::new() };
}

const JOBS: usize = 5_000;
const ROUNDS: usize = 5;

fn wire() -> Wire {
    Wire::new().slot("tenant", &TENANT).slot("lang", &LANG).slot("user", &USER)
}

fn main() {
    // `cargo bench -- --test` asks whether it runs.
    let jobs = if std::env::args().any(|arg| arg == "--test") { 50 } else { JOBS };
    TENANT.set("acme".to_owned());
    LANG.set("de".to_owned());
    let roles = vec!["editor".to_owned(), "billing".to_owned()];
    USER.set(User { id: 4711, name: "Alice Example".to_owned(), roles });

    println!("per job, the median of {ROUNDS} rounds of {jobs}:");
    let captured = wire().capture().unwrap();
    println!("{:<48} {:>7} bytes", "metadata of three slots", captured.bytes());
    let wire = wire();
    row("capture, into the metadata", jobs, || {
        for _ in 0..jobs {
            let mut store = MetadataStore::new();
            wire.capture().unwrap().inject(&mut store).unwrap();
            black_box(store);
        }
    });
    let task = TaskBuilder::new(1u32).metadata(&captured).build();
    row("restore", jobs, || {
        for _ in 0..jobs {
            black_box(wire.restore(task.metadata()).unwrap());
        }
    });
    row("a service without the layer", jobs, || call(Identity::new(), &task, jobs));
    let layer = JobLayer::new(wire.clone());
    row("a service with it: restore, task, three reads", jobs, || call(layer.clone(), &task, jobs));

    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(storages(jobs));
}

/// Calls a handler that looks at the slots.
fn call<L>(layer: L, task: &Task<u32>, jobs: usize)
where
    L: Layer<apalis::prelude::TaskFn<fn(u32) -> std::future::Ready<()>, u32, ()>>,
    L::Service: Service<Task<u32>, Response = ()>,
    <L::Service as Service<Task<u32>>>::Error: std::fmt::Debug,
{
    fn look(_: u32) -> std::future::Ready<()> {
        TENANT.with(|tenant| _ = black_box(tenant));
        LANG.with(|lang| _ = black_box(lang));
        USER.with(|user| _ = black_box(user));
        std::future::ready(())
    }
    let mut service = layer.layer(task_fn(look));
    for _ in 0..jobs {
        service.call(task.clone()).now_or_never().unwrap().unwrap();
    }
}

fn row(name: &str, jobs: usize, f: impl Fn()) {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        f();
        start.elapsed()
    });
    print(name, jobs, rounds.collect());
}

fn print(name: &str, jobs: usize, mut rounds: Vec<Duration>) {
    rounds.sort();
    let micros = rounds[rounds.len() / 2].as_secs_f64() * 1e6 / jobs as f64;
    println!("{name:<48} {micros:>7.2} µs");
}

/// Sends and does `jobs` jobs, without the wire and with it in turns.
macro_rules! measure {
    ($name:literal, $jobs:expr, $open:expr, $sent:expr) => {{
        let (mut sent, mut done) = ([vec![], vec![]], [vec![], vec![]]);
        for round in 0..ROUNDS {
            for with in [0, 1] {
                let queue = format!("bench-{}-{round}-{with}", std::process::id());
                let mut storage = $open(queue);
                let wire = wire();
                let start = Instant::now();
                let tasks = (0..$jobs).map(|id| {
                    let task = TaskBuilder::new(id as u32);
                    if with == 1 { task.metadata(&wire.capture().unwrap()) } else { task }.build()
                });
                storage.push_all(futures_util::stream::iter(tasks)).await.unwrap();
                sent[with].push(start.elapsed());
                $sent.await;
                let left = Arc::new(AtomicUsize::new($jobs));
                let builder = WorkerBuilder::new(format!("worker-{round}-{with}"))
                    .backend(storage.poll_with_interval(Duration::from_millis(5)))
                    .data(left);
                let start = Instant::now();
                if with == 1 {
                    builder.layer(JobLayer::new(wire)).build(last_stops).run().await.unwrap();
                } else {
                    builder.build(last_stops).run().await.unwrap();
                }
                done[with].push(start.elapsed());
            }
        }
        let [sent_without, sent_with] = sent;
        let [done_without, done_with] = done;
        print(concat!($name, ": send, without a context"), $jobs, sent_without);
        print(concat!($name, ": send, with it"), $jobs, sent_with);
        print(concat!($name, ": fetch, do, acknowledge, without"), $jobs, done_without);
        print(concat!($name, ": fetch, do, acknowledge, with"), $jobs, done_with);
    }};
}

async fn last_stops(_: u32, left: Data<Arc<AtomicUsize>>, worker: WorkerContext) {
    if left.fetch_sub(1, Ordering::SeqCst) == 1 {
        worker.stop().unwrap();
    }
}

async fn storages(jobs: usize) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", directory.path().join("jobs.db").display());
    let options = SqliteConnectOptions::from_str(&url).unwrap();
    // As apalis sets it, but for all connections.
    let pool = SqlitePool::connect_with(options.pragma("synchronous", "OFF")).await.unwrap();
    SqliteStorage::setup(&pool).await.unwrap();
    let open = |queue: String| {
        let config = apalis_sqlite::Config::default().queue(queue).batch_size(100);
        SqliteStorage::<u32>::new(&pool).with_config(config)
    };
    // Without, it acknowledges a job by a search through all that the worker has ever done.
    let analyze = async || {
        sqlx::query("ANALYZE").execute(&pool).await.unwrap();
    };
    measure!("SQLite", jobs, open, analyze());
    if let Ok(url) = std::env::var("JOBS_REDIS") {
        let connection = apalis_redis::connect(url).await.unwrap();
        let open = |queue: String| {
            let config = apalis_redis::Config::default().queue(queue).batch_size(100);
            RedisStorage::<u32>::new(connection.clone()).with_config(config)
        };
        measure!("Redis", jobs, open, std::future::ready(()));
    }
    if let Ok(url) = std::env::var("JOBS_POSTGRES") {
        let pool = PgPool::connect(&url).await.unwrap();
        PostgresStorage::setup(&pool).await.unwrap();
        let open = |queue: String| {
            let config = apalis_postgres::Config::default().queue(queue).batch_size(100);
            PostgresStorage::<u32>::new(&pool).with_config(config)
        };
        measure!("PostgreSQL", jobs, open, std::future::ready(()));
    }
}

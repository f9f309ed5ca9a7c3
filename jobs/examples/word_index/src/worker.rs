//! A worker process: takes jobs until its standard input ends.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apalis::layers::WorkerBuilderExt;
use apalis::layers::retry::RetryPolicy;
use apalis::prelude::{
    BackendExt, Event, EventListenerExt, Task, WorkerBuilder, WorkerContext, WorkerError,
};
use cleanslate::Pool;
use cleanslate_jobs::{JobLayer, on_pool};

use crate::args::Post;
use crate::queue::{Document, Queue};
use crate::{Failure, TENANT, index, wire};

/// How often it asks for jobs while there are none.
const POLL: Duration = Duration::from_millis(100);

/// How often a job is begun before it has failed for good. The worker goes on at once after a
/// failure. The queue, which would deliver the job again after that, is told when it was sent.
pub(crate) const ATTEMPTS: usize = 4;

/// What a job needs beside its context.
struct Desk {
    worker: String,
    documents: PathBuf,
    pool: Pool,
}

pub(crate) fn run(post: &Post) -> Result<(), Failure> {
    // It reads the input, which ends when whoever sends the jobs has heard how this has ended. So
    // nobody must wait for it, and for the global pool nobody does.
    Pool::builder().workers(1).build_global()?;
    // With threads of its own, it would panic or hang where the system refuses one.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work(post))
}

async fn work(post: &Post) -> Result<(), Failure> {
    let pool = Pool::new(2)?;
    let desk =
        Desk { worker: post.name.clone(), documents: post.documents.clone(), pool: pool.clone() };
    let desk = Arc::new(desk);
    let handler = on_pool(pool, move |job: Task<Document>| index_document(&job.args, &desk));
    let name = format!("{}-of-{}", post.name, post.queue);
    // The three queues are of different types, the chain is the same.
    macro_rules! work_on {
        ($queue:expr) => {
            WorkerBuilder::new(name)
                .backend($queue.poll_with_interval(POLL))
                .retry(RetryPolicy::retries(ATTEMPTS - 1))
                .layer(JobLayer::new(wire()))
                .on_event(|_, event| tell_of(event))
                .build(handler)
                .run_with_ctx(until_input_ends)
                .await?
        };
    }
    match Queue::open(&post.url, &post.queue).await? {
        Queue::Sqlite(queue) => work_on!(queue),
        Queue::Postgres(queue) => work_on!(queue),
        Queue::Redis(queue) => work_on!(queue),
    }
    Ok(())
}

fn index_document(document: &Document, desk: &Desk) -> Result<(), Failure> {
    let Document { name } = document;
    let of_document = |error| format!("{name} of {}: {error}", TENANT.get());
    let words = index::index(&desk.documents, name, &desk.pool).map_err(of_document)?;
    Ok(log(desk, &format!("{name}: {words} different words"))?)
}

/// What a line begins with that says of a job that it has failed for the last time.
pub(crate) const FAILED: &str = "failed: ";

fn tell_of(event: &Event) {
    if let Event::Error(error) = event {
        // Whoever waits for the line is gone if this fails.
        drop(writeln!(io::stdout(), "{FAILED}{error}"));
    }
}

/// A line that says whose work this is, without having been told.
fn log(desk: &Desk, message: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{:<6} {} {message}", TENANT.get(), desk.worker)
}

async fn until_input_ends(worker: WorkerContext) -> Result<(), WorkerError> {
    let input = Pool::global().submit(|| io::read_to_string(io::stdin()));
    // However it ends, nobody waits for more work.
    let _ended = input.await;
    // The others may have done all of it before this one has started, and it could not be stopped.
    while worker.is_pending() {
        tokio::task::yield_now().await;
    }
    worker.stop()
}

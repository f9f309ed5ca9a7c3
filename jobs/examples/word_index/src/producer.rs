//! The process that a person starts: writes the documents, sends the jobs, starts two workers, and
//! looks at what they have made.

use std::fs;
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use apalis::prelude::{Task, TaskBuilder, TaskSink};
use cleanslate::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Plan, Post};
use crate::queue::{Document, Queue};
use crate::worker::{ATTEMPTS, FAILED};
use crate::{Failure, STOP_WORDS, TENANT, index, wire};

/// The tenants, and the words that each of them does not want to see in an index.
const TENANTS: [(&str, &[&str]); 2] =
    [("acme", &["the", "and", "of"]), ("globex", &["rockets", "is", "a"])];

pub(crate) fn run(plan: &Plan, out: &mut impl Write) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let documents = directory.path().join("documents");
    let url = plan.url.clone().unwrap_or_else(|| sqlite(&directory.path().join("jobs.db")));
    // Its name is no other run's, as a process's number may be, on another host or later.
    let unique = directory.path().file_name().unwrap_or_default().to_string_lossy();
    let queue = format!("word-index-{}", unique.trim_start_matches('.'));

    write_documents(&documents, plan.jobs)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(send(&url, &queue, plan.jobs))?;

    let start = Instant::now();
    // One for both: each line is written at once.
    let (told, tell) = io::pipe()?;
    let post = |name: &str| Post {
        url: url.clone(),
        queue: queue.clone(),
        name: name.to_owned(),
        documents: documents.clone(),
    };
    let workers = [
        Worker::start(&post("worker-1"), tell.try_clone()?)?,
        Worker::start(&post("worker-2"), tell)?,
    ];
    let bar = ProgressBar::new(plan.jobs as u64).with_style(style());
    let mut failed = 0;
    let written = BufReader::new(told).lines().take(plan.jobs).try_for_each(|line| {
        let line = line?;
        bar.inc(1);
        failed += usize::from(line.starts_with(FAILED));
        bar.suspend(|| writeln!(out, "{line}"))
    });
    bar.finish_and_clear();
    let took = start.elapsed();
    for worker in workers {
        worker.stop()?;
    }
    // Not before: what the workers read and write is removed at the end.
    written?;
    if failed != 0 {
        return Err(format!("{failed} of {} documents have no index", plan.jobs).into());
    }
    check(&documents, plan.jobs)?;
    Ok(writeln!(
        out,
        "{} document{} of {} tenants in {:.1} s: each index is for its own tenant",
        plan.jobs,
        if plan.jobs == 1 { "" } else { "s" },
        TENANTS.len(),
        took.as_secs_f64()
    )?)
}

/// The URL of a file, in which some signs have a meaning of their own.
fn sqlite(file: &Path) -> String {
    let path = file.display().to_string().replace('%', "%25").replace('?', "%3F");
    format!("sqlite://{path}?mode=rwc")
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {pos} of {len} documents, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The name of a document, and whose turn it is: both tenants have one of each name.
fn turns(jobs: usize) -> impl Iterator<Item = (String, usize)> {
    (0..jobs).map(|turn| (format!("report-{:03}", turn / TENANTS.len()), turn % TENANTS.len()))
}

/// Runs `f` on behalf of a tenant, as a server does with each request.
fn as_tenant<R>(tenant: usize, f: impl FnOnce() -> R) -> R {
    let (name, stop_words) = TENANTS[tenant];
    Context::empty().run(|| {
        TENANT.set(name.to_owned());
        STOP_WORDS.set(stop_words.iter().map(|&word| word.to_owned()).collect());
        f()
    })
}

fn write_documents(documents: &Path, jobs: usize) -> Result<(), Failure> {
    for (tenant, _) in TENANTS {
        fs::create_dir_all(documents.join(tenant))?;
    }
    for (name, tenant) in turns(jobs) {
        as_tenant(tenant, || {
            let paragraph = format!(
                "This is a report of {}, {name}. The rockets and the anvils are on the move; \
                 a number of them is late.",
                TENANT.get()
            );
            fs::write(index::document(documents, &name), vec![paragraph; 20].join("\n\n"))
        })?;
    }
    Ok(())
}

async fn send(url: &str, queue: &str, jobs: usize) -> Result<(), Failure> {
    let tasks: Result<Vec<_>, Failure> =
        turns(jobs).map(|(name, tenant)| as_tenant(tenant, || task(name))).collect();
    let tasks = futures_util::stream::iter(tasks?);
    match Queue::create(url, queue).await? {
        Queue::Sqlite(mut queue) => {
            queue.push_all(tasks).await?;
            // Without, it acknowledges a job by a search through all that the worker has ever done.
            sqlx::query("ANALYZE").execute(queue.pool()).await?;
        }
        Queue::Postgres(mut queue) => queue.push_all(tasks).await?,
        Queue::Redis(mut queue) => queue.push_all(tasks).await?,
    }
    Ok(())
}

/// A job, with the context of whoever asks for it.
fn task(name: String) -> Result<Task<Document>, Failure> {
    let task = TaskBuilder::new(Document { name }).metadata(&wire().capture()?);
    Ok(task.max_attempts(ATTEMPTS).build())
}

fn check(documents: &Path, jobs: usize) -> Result<(), Failure> {
    for (name, tenant) in turns(jobs) {
        let (other, _) = TENANTS[1 - tenant];
        let is_right = as_tenant(tenant, || index::is_right(documents, &name, other))?;
        if !is_right {
            return Err(format!("the index of {name} is not that of its tenant").into());
        }
    }
    Ok(())
}

/// This program once more, as a worker.
struct Worker(Child);

impl Worker {
    fn start(post: &Post, tell: PipeWriter) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?);
        process.args(post.to_args()).stdin(Stdio::piped()).stdout(tell);
        let started = process.spawn();
        Ok(Self(started.map_err(|error| format!("a worker could not be started: {error}"))?))
    }

    /// Closes its standard input, upon which it ends by itself.
    fn stop(mut self) -> Result<(), Failure> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a worker ended with {status}").into()) }
    }
}

//! Clients over TCP that look for somebody else's request in the answers.

use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::cli::{Failure, counted};
use super::service::{Service, runtime};
use super::{log, spans};

/// How long a client waits for an answer. The server is the same process, and with too few file
/// descriptors for both it never gets one for the client's connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the check is to run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) workers: usize,
    pub(crate) requests: u64,
    pub(crate) clients: usize,
}

/// What was mixed up.
#[derive(Debug, Default)]
struct Tally {
    answers: u64,
    mixed: u64,
    numbers: HashSet<String>,
    sample: Option<String>,
}

/// Checks both ways, and fails if the first one mixes anything up.
pub(crate) fn run(plan: &Plan, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    log::start(log::Sink::Memory)?;
    let clean = one_way(*plan, "/work", out)?;
    let leaky = Plan { requests: plan.requests / 10, ..*plan };
    let leaky = one_way(leaky, "/work?leaky", out)?;
    writeln!(out, "{leaky} mixed up where requests leak, {clean} where they are tasks")?;
    if clean == 0 { Ok(()) } else { Err("requests were mixed up".into()) }
}

/// Returns how much was mixed up, of answers, log lines and spans.
fn one_way(plan: Plan, path: &'static str, out: &mut dyn Write) -> Result<usize, Failure> {
    let runtime = runtime()?;
    let service = Service::new(plan.workers)?;
    let (tally, service) = runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(service.run(listener, async { drop(stopped.await) }));
        let tally = fire(plan, address, path).await?;
        drop(stop);
        Ok::<_, Failure>((tally, serving.await??))
    })?;
    service.end()?;
    let ((lines, foreign), (spans, lost)) = (log::count(), spans::count());
    let Tally { answers, mixed, numbers, sample } = tally;
    let twice = answers - numbers.len() as u64;
    let (answers, numbers) = (counted(answers, "answer"), counted(twice, "number"));
    writeln!(out, "{path}: {answers}, {mixed} with somebody else's data, {numbers} twice")?;
    let (lines, spans) = (counted(lines, "log line"), counted(spans, "span"));
    writeln!(out, "  {lines}, {foreign} of them under another request's name")?;
    writeln!(out, "  {spans} of workers, {lost} of them not in their request's trace")?;
    if let Some(sample) = sample {
        writeln!(out, "  for example, {sample}")?;
    }
    Ok(mixed as usize + twice as usize + foreign + lost)
}

/// Sends requests, as many at a time as there are clients: each from a user of its own, every
/// fourth from nobody.
async fn fire(plan: Plan, address: SocketAddr, path: &'static str) -> Result<Tally, Failure> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..plan.clients {
        let (client, next) = (client.clone(), Arc::clone(&next));
        clients.spawn(async move {
            let mut tally = Tally::default();
            loop {
                // Relaxed: the numbers only have to differ.
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= plan.requests {
                    return Ok::<_, Failure>(tally);
                }
                ask(&client, address, path, number, &mut tally).await?;
            }
        });
    }
    let mut sum = Tally::default();
    while let Some(tally) = clients.join_next().await {
        let Tally { answers, mixed, numbers, sample } = tally??;
        sum.answers += answers;
        sum.mixed += mixed;
        sum.numbers.extend(numbers);
        sum.sample = sum.sample.or(sample);
    }
    Ok(sum)
}

async fn ask(
    client: &Client<HttpConnector, Empty<Bytes>>,
    address: SocketAddr,
    path: &str,
    number: u64,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let user = (!number.is_multiple_of(4)).then(|| format!("user-{number}"));
    let mut request = Request::get(format!("http://{address}{path}"));
    if let Some(user) = &user {
        request = request.header("x-user", user);
    }
    let response = timeout(PATIENCE, client.request(request.body(Empty::new())?)).await;
    let response = response.map_err(|_| "the server did not answer a client")??;
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    let header = |name| -> Result<&str, Failure> {
        Ok(parts.headers.get(name).ok_or("an answer lacks a header")?.to_str()?)
    };
    let (id, answered, trace) = (header("x-request-id")?, header("x-user")?, header("x-trace")?);
    let own = user.as_deref().unwrap_or("anonymous");
    // What the handler said in the headers, and what the worker said in the body.
    let is_own = answered == own
        && body.starts_with(&format!("request {id} for {own} on "))
        && (path.contains("leaky") || body.ends_with(&format!(", trace {trace}\n")));
    tally.answers += 1;
    tally.numbers.insert(id.to_owned());
    if !is_own {
        tally.mixed += 1;
        tally.sample = Some(format!("asked as {own}, answered request {id} of {answered}: {body}"));
    }
    Ok(())
}

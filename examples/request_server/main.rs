//! Shows a web server on a pool: functions deep inside know which request they work for, without a
//! parameter, and nobody is answered with somebody else's data. `--leaky` shows how that goes
//! wrong.

#[path = "../cli/mod.rs"]
pub(crate) mod cli;
pub(crate) mod clients;
pub(crate) mod http;

use cleanslate::{BuildError, Isolation, Pool, sync::Event, task_local};
use cli::{Cli, Failure, Opt, counted, start};
use clients::Tally;
use http::Server;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

task_local! {
    /// Who asks: nobody, unless the request says so. Parallel steps of the request inherit it.
    #[inherit]
    static USER: Option<String> = None;
    #[inherit]
    static REQUEST: u64 = 0;
}

/// One part of a page, which another worker may render.
fn render(part: &str) -> String {
    let user = USER.get().unwrap_or_else(|| "anonymous".to_owned());
    format!("{part} for {user} (request {})\n", REQUEST.get())
}

/// Answers one request, and writes its line into the access log.
fn answer(pool: &Pool, request: &Parts, log: &Sender<String>) -> Response<String> {
    // The header stands for whatever identifies users. Anonymous requests come without it, and this
    // is where a pool that leaks answers them in the name of whoever came before.
    let user = request.headers.get("X-User").and_then(|user| user.to_str().ok());
    if let Some(user) = user.filter(|user| !user.is_empty()) {
        USER.set(Some(user.to_owned()));
    }
    let (method, target) = (&request.method, request.uri.to_string());
    let (status, body) = match (method.as_str(), request.uri.path()) {
        // hyper leaves out the body if only the head is asked for.
        ("GET" | "HEAD", "/") => (200, pool.map(["greeting", "inbox", "footer"], render).concat()),
        ("GET" | "HEAD", _) => (404, render("no such page")),
        _ => (405, render("only GET and HEAD")),
    };
    let who = USER.get().unwrap_or_else(|| "-".to_owned());
    // Escaped, as in `{:?}`: both may contain what a terminal obeys.
    let who = who.escape_debug();
    // An error means that nobody reads the log any more.
    drop(log.send(format!("#{} {who} {method} {target:?} {status}", REQUEST.get())));
    let mut response = Response::builder().status(status).header("X-Request-Id", REQUEST.get());
    if status == 405 {
        response = response.header("Allow", "GET, HEAD");
    }
    response
        .header("Content-Type", "text/plain; charset=utf-8")
        .body(body)
        .unwrap_or_else(|_| unreachable!("all of it is valid"))
}

/// The answer if the handler has failed.
fn failed() -> Response<String> {
    let mut response = Response::new("something went wrong\n".to_owned());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Answers requests until `stop` is set. Those that have arrived by then are answered before it
/// returns.
pub(crate) fn serve(
    server: &Server,
    pool: &Arc<Pool>,
    stop: &Event,
    log: &Sender<String>,
) -> Result<(), Failure> {
    let ids = Arc::new(AtomicU64::new(1));
    let (pool_of_all, log) = (Arc::clone(pool), log.clone());
    server.serve(stop, move |request| {
        // Relaxed: the numbers only have to differ.
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let (pool, log) = (Arc::clone(&pool_of_all), log.clone());
        let task = pool_of_all.submit(move || {
            REQUEST.set(id);
            answer(&pool, &request, &log)
        });
        // A handle is a future. An error means that the handler has panicked.
        async { task.await.unwrap_or_else(|_| failed()) }
    })?;
    Ok(pool.shutdown()?)
}

/// How the self-test is to run.
pub(crate) struct Plan {
    pub(crate) isolation: Isolation,
    pub(crate) workers: usize,
    pub(crate) requests: u64,
    pub(crate) clients: usize,
}

pub(crate) fn open(port: u16) -> Result<(Server, String), Failure> {
    let server = Server::open(("127.0.0.1", port))
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
    let url = format!("http://{}/", server.address);
    Ok((server, url))
}

pub(crate) fn pool(workers: usize, isolation: Isolation) -> Result<Arc<Pool>, BuildError> {
    Pool::builder().workers(workers).name("server").isolation(isolation).build().map(Arc::new)
}

/// Serves a batch of requests of its own, and prints what the clients found in the answers. Returns
/// that, and the access log.
pub(crate) fn run(plan: &Plan, out: &mut dyn Write) -> Result<(Tally, Vec<String>), Failure> {
    let (server, url) = open(0)?;
    let pool = pool(plan.workers, plan.isolation)?;
    let (log, lines) = mpsc::channel();
    let stop = Event::new();
    let tally = thread::scope(|s| {
        let serving = start(s, || {
            // If it fails, its port must be closed: else the clients would wait there for ever.
            let server = server;
            serve(&server, &pool, &stop, &log)
        })?;
        let tally = clients::fire(&url, plan.requests, plan.clients);
        stop.set();
        serving.join().map_err(|_| "the server panicked")??;
        tally
    })?;
    drop(log);
    let lines: Vec<_> = lines.into_iter().collect();

    let answers = counted(tally.answers, "answer");
    writeln!(out, "{answers}, {} of them to anonymous", tally.anonymous)?;
    writeln!(out, "  with the identity of somebody else: {}", tally.mixed)?;
    tally.sample.iter().try_for_each(|sample| writeln!(out, "  for example, {sample}"))?;
    writeln!(out, "the end of the access log:")?;
    lines.iter().rev().take(3).rev().try_for_each(|line| writeln!(out, "  {line}"))?;
    Ok((tally, lines))
}

/// Serves until Ctrl-C or a SIGTERM, and prints the access log. A second signal ends it at once.
pub(crate) fn serve_until_interrupted(
    port: u16,
    pool: &Arc<Pool>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    static STOP: Event = Event::new();
    // The second time at once: nobody may read the log.
    ctrlc::set_handler(|| if STOP.is_set() { std::process::exit(130) } else { STOP.set() })?;
    let (server, url) = open(port)?;
    writeln!(out, "listening on {url}, until Ctrl-C; say who you are with -H 'X-User: alice'")?;
    out.flush()?;
    let (log, lines) = mpsc::channel();
    thread::scope(|s| {
        let server = &server;
        let serving = start(s, move || serve(server, pool, &STOP, &log))?;
        let written = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
        // Also if nobody reads the log any more.
        STOP.set();
        serving.join().map_err(|_| "the server panicked")??;
        Ok(written.and_then(|()| writeln!(out, "stopped"))?)
    })
}

pub(crate) const CLI: Cli = Cli {
    name: "request_server",
    about: "Shows a web server that knows whose request it works for, and never mixes them up.\n\
            Without --serve it sends itself a batch of requests, and ends.",
    options: &[
        Opt::Flag { name: "--leaky", help: "with a pool that leaks: see users mixed up" },
        Opt::Mode {
            name: "--serve",
            help: "serve until Ctrl-C or SIGTERM instead of testing",
            with: &["--port"],
            without: &["--requests", "--clients"],
        },
        Opt::Number { name: "--port", help: "with --serve; 0: any", range: 0..=65535, default: 0 },
        Opt::Number { name: "--workers", help: "threads of the pool", range: 1..=64, default: 4 },
        Opt::Number {
            name: "--requests",
            help: "in the batch",
            range: 0..=1_000_000,
            default: 2000,
        },
        Opt::Number { name: "--clients", help: "at a time", range: 1..=256, default: 64 },
    ],
};

fn main() -> ExitCode {
    CLI.main(|args, out| {
        let isolation = if args.has("--leaky") { Isolation::Leaky } else { Isolation::Reset };
        let workers = args.number("--workers");
        if args.has("--serve") {
            let pool = pool(workers, isolation)?;
            return serve_until_interrupted(args.number("--port"), &pool, out);
        }
        let (requests, clients) = (args.number("--requests"), args.number("--clients"));
        run(&Plan { isolation, workers, requests, clients }, out).map(drop)
    })
}

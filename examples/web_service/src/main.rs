//! Shows a web service on axum and tokio that does its computing on a pool. Log lines, spans and
//! answers know which request they belong to, without a parameter, and nobody's are mixed up.
//! Requests with `?leaky` take a way on which they are.
//!
//! It serves as `axum::serve` does: with no time limit for a request's head or for reading the
//! answer, with no limit on the number of connections, and without an answer for a client that
//! closes its side before it has it. If strangers can reach it, it needs a proxy in front of it.
//! `request_server` has all of these limits except that of reading the answer, by hyper's own
//! builder. The log of this service goes to the standard output: while nobody reads that, it
//! answers nobody, and does not stop.

mod check;
#[path = "../../cli/mod.rs"]
mod cli;
mod history;
mod log;
mod page;
mod service;
mod spans;
mod task;

use std::io::Write;
use std::process::ExitCode;

use check::Plan;
use cli::{Cli, Failure, Opt};
use service::{Service, runtime};
use tokio::net::TcpListener;

/// Serves until Ctrl-C or a SIGTERM. Requests that have arrived by then are answered.
fn serve(port: u16, workers: usize, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    log::start(log::Sink::StandardOutput)?;
    let service = Service::new(workers)?;
    let runtime = runtime()?;
    let service = runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;
        let stop = stop_signal()?;
        let address = listener.local_addr()?;
        writeln!(out, "listening on http://{address}/, until Ctrl-C; /work works, / shows it")?;
        out.flush()?;
        service.run(listener, stop).await
    })?;
    service.end()?;
    writeln!(out, "stopped")?;
    Ok(())
}

/// A future that completes when the process is asked to stop. It listens from now on.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    #[cfg(unix)]
    let (mut terminate, mut interrupt) = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    Ok(async move {
        #[cfg(unix)]
        std::future::poll_fn(|cx| {
            let asked = terminate.poll_recv(cx).is_ready() || interrupt.poll_recv(cx).is_ready();
            if asked { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        #[cfg(not(unix))]
        drop(tokio::signal::ctrl_c().await);
    })
}

const CLI: Cli = Cli {
    name: "web_service",
    about: "Shows a service on axum that computes on a pool and never mixes up its requests.\n\
            Without --serve it sends itself requests, checks the answers, and ends.",
    options: &[
        Opt::Mode {
            name: "--serve",
            help: "serve until Ctrl-C or SIGTERM instead of checking",
            with: &["--port"],
            without: &["--requests", "--clients"],
        },
        Opt::Number { name: "--port", help: "with --serve; 0: any", range: 0..=65535, default: 0 },
        Opt::Number { name: "--workers", help: "threads of the pool", range: 1..=64, default: 4 },
        Opt::Number {
            name: "--requests",
            help: "to check with",
            range: 0..=1_000_000,
            default: 20_000,
        },
        Opt::Number { name: "--clients", help: "at a time", range: 1..=256, default: 64 },
    ],
};

fn main() -> ExitCode {
    CLI.main(|args, out| {
        let workers = args.number("--workers");
        if args.has("--serve") {
            return serve(args.number("--port"), workers, out);
        }
        let (requests, clients) = (args.number("--requests"), args.number("--clients"));
        check::run(&Plan { workers, requests, clients }, out)
    })
}

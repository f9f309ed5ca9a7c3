//! The clients: they send requests, and look for somebody else's identity in the answers.

use super::cli::{Failure, start};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What the clients made of the answers.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) answers: u64,
    pub(crate) anonymous: u64,
    /// Answers with somebody else's identity in them, and one of these.
    pub(crate) mixed: u64,
    pub(crate) sample: Option<String>,
}

/// How long a client waits for an answer. The server is the same process, and with too few file
/// descriptors for both it never gets one for the client's connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends requests. They go to this machine, so through no proxy that the environment names.
pub(crate) fn agent() -> ureq::Agent {
    // With a limit for the whole of a request, it would look up the address on a thread of its own.
    let config = ureq::Agent::config_builder().proxy(None).timeout_recv_response(Some(PATIENCE));
    config.build().new_agent()
}

/// Sends requests, as many at a time as there are clients: each from a user of its own, every
/// fourth from nobody.
pub(crate) fn fire(url: &str, requests: u64, clients: usize) -> Result<Tally, Failure> {
    let next = AtomicU64::new(0);
    let client = || {
        let (agent, mut tally) = (agent(), Tally::default());
        loop {
            // Relaxed: the numbers only have to differ.
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(tally);
            }
            let user = (!number.is_multiple_of(4)).then(|| format!("user-{number}"));
            let mut call = agent.get(url);
            if let Some(user) = &user {
                call = call.header("X-User", user);
            }
            let mut response = call.call()?;
            let body = response.body_mut().read_to_string()?;
            let id =
                response.headers().get("X-Request-Id").ok_or("an answer has no id")?.to_str()?;
            let own = format!(" for {} (request {id})", user.as_deref().unwrap_or("anonymous"));
            tally.answers += 1;
            tally.anonymous += u64::from(user.is_none());
            if body.lines().count() != 3 || !body.lines().all(|line| line.ends_with(&own)) {
                tally.mixed += 1;
                tally.sample = Some(format!("asked{own}, answered:\n{body}"));
            }
        }
    };
    thread::scope(|s| {
        let start_one = |_| start(s, client);
        let clients: Result<Vec<_>, _> = (0..clients).map(start_one).collect();
        // Those that have begun need not go on without the others.
        let clients = clients.inspect_err(|_| next.store(requests, Ordering::Relaxed))?;
        let tallies = clients.into_iter().map(|c| c.join().map_err(|_| "a client panicked")?);
        let sum = tallies.reduce(|sum, one: Result<_, Failure>| {
            let (sum, one) = (sum?, one?);
            Ok(Tally {
                answers: sum.answers + one.answers,
                anonymous: sum.anonymous + one.anonymous,
                mixed: sum.mixed + one.mixed,
                sample: sum.sample.or(one.sample),
            })
        });
        sum.unwrap_or_else(|| Ok(Tally::default()))
    })
}

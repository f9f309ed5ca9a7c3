//! The job: a request handler as you would write it, that also notes what it found.

use std::hint::black_box;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::place::{self, Place, Threads};
use super::store::{Borrowed, Login, Session, Store};
use super::watch;

/// The users, in the order of their colours in the picture.
pub(super) const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// How many parts the parallel step of a request has.
pub(super) const PARTS: u32 = 4;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) number: u32,
    /// `None` is a guest, who never logs in.
    pub(super) user: Option<&'static str>,
    /// Whether its handler holds the session borrowed while it waits for its parts.
    pub(super) lends: bool,
}

/// Every fourth request comes from a guest; half of the others lend their session to the step.
pub(super) fn requests(count: usize) -> Vec<Request> {
    (1..=count as u32)
        .map(|number| Request {
            number,
            user: (!number.is_multiple_of(4))
                .then(|| USERS[scramble(number) as usize % USERS.len()]),
            lends: number.is_multiple_of(2),
        })
        .collect()
}

/// A part of a request's parallel step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    request: u32,
    number: u32,
}

/// What a part did: nothing of note, or it found the session borrowed.
pub(super) type Did = Result<(), Borrowed>;

/// What a request saw, and where and when it ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) request: Request,
    pub(super) place: Place,
    /// When it began and ended, counted from the start of its row.
    pub(super) began: Duration,
    pub(super) ended: Duration,
    /// What the session held when the handler began; a fresh one is empty.
    pub(super) found: Session,
    /// What it held when the step was over, if that is not what the handler had put there.
    pub(super) became: Option<Session>,
    /// Whether the handler, or one of its parts, found the session borrowed by somebody else.
    pub(super) borrowed: Option<Borrowed>,
    /// Who the answer went to.
    pub(super) answered: Option<&'static str>,
}

/// What the requests of one row have in common.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) workers: usize,
    pub(super) threads: Threads,
    pub(super) began: Instant,
    pub(super) progress: ProgressBar,
}

impl Run {
    /// Serves a request while the sentinel watches: see [`serve`](Self::serve).
    pub(super) fn handle<S: Store>(
        &self,
        request: Request,
        step: impl FnOnce(Vec<Part>, fn(Part) -> Did) -> Vec<Did>,
    ) -> Seen {
        watch::over(request.number, || self.serve::<S>(request, step))
    }

    /// Serves `request`. `step` runs the parts in parallel, however the executor at hand does that,
    /// and returns what each of them did.
    pub(super) fn serve<S: Store>(
        &self,
        request: Request,
        step: impl FnOnce(Vec<Part>, fn(Part) -> Did) -> Vec<Did>,
    ) -> Seen {
        let began = self.began.elapsed();
        let (place, _entered) = self.threads.enter();
        let found = S::read(|session| *session);
        let written = S::write(|session| {
            session.request = Some(request.number);
            if let Some(user) = request.user {
                session.login = Some(Login { user, request: request.number });
            }
            *session
        });

        let parts = (1..=PARTS).map(|number| Part { request: request.number, number }).collect();
        let did = if request.lends && S::LENDS {
            S::read(|_session| {
                let _lent = place::lend(request.number);
                step(parts, part::<S>)
            })
        } else {
            step(parts, part::<S>)
        };

        let after = S::read(|session| *session);
        self.progress.inc(1);
        Seen {
            request,
            place,
            began,
            ended: self.began.elapsed(),
            found,
            became: written.ok().filter(|own| *own != after).map(|_own| after),
            borrowed: written.err().or_else(|| did.into_iter().find_map(Result::err)),
            answered: match written {
                Ok(_) => after.login.map(|login| login.user),
                // Most programs would have panicked by now, so nobody was answered as somebody
                // else.
                Err(_) => request.user,
            },
        }
    }
}

/// Does a part's work; like a well-behaved span it notes where it is and puts back what it found.
fn part<S: Store>(part: Part) -> Did {
    let before = S::write(|session| session.part.replace(part.number));
    work(part);
    let before = before?;
    S::write(|session| session.part = before)
}

/// A few microseconds of arithmetic; the last part of every fourth request waits, as for a
/// database.
fn work(part: Part) {
    let mut sum = part.request ^ (part.number << 24);
    for _ in 0..2_000 {
        sum = scramble(black_box(sum));
    }
    black_box(sum);
    if part.number == PARTS && part.request % 4 == 1 {
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn scramble(number: u32) -> u32 {
    let mixed = (number ^ (number >> 16)).wrapping_mul(0x045d_9f3b);
    mixed ^ (mixed >> 16)
}

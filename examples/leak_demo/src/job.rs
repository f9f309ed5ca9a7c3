//! The job: a request handler as one would write it, that also notes what it found.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::store::{Borrowed, Login, Session, Store};
use super::watch;

const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

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

/// What a request saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) request: Request,
    pub(super) worker: u32,
    /// What the session held when the handler began; a fresh one is empty.
    pub(super) found: Session,
    /// What it held when the step was over, if that is not what the handler had put there.
    pub(super) became: Option<Session>,
    /// The handler, or one of its parts, found the session borrowed by somebody else.
    pub(super) borrowed: bool,
    /// Whom the answer went to.
    pub(super) answered: Option<&'static str>,
}

/// Serves a request under the sentinel's eyes: see [`serve`].
pub(super) fn handle<S: Store>(
    request: Request,
    step: impl FnOnce(Vec<Part>, fn(Part) -> bool) -> Vec<bool>,
) -> Seen {
    watch::over(request.number, || serve::<S>(request, step))
}

/// Serves `request`. `step` runs the parts in parallel, however the executor at hand does that, and
/// says for each whether it found the session borrowed.
pub(super) fn serve<S: Store>(
    request: Request,
    step: impl FnOnce(Vec<Part>, fn(Part) -> bool) -> Vec<bool>,
) -> Seen {
    let worker = worker_number();
    let found = S::read(|session| *session);
    let written = S::write(|session| {
        session.request = Some(request.number);
        if let Some(user) = request.user {
            session.login = Some(Login { user, request: request.number, worker });
        }
        *session
    });

    let parts = (1..=PARTS).map(|number| Part { request: request.number, number }).collect();
    let parts_borrowed = if request.lends && S::LENDS {
        S::read(|_session| step(parts, part::<S>))
    } else {
        step(parts, part::<S>)
    };

    let after = S::read(|session| *session);
    Seen {
        request,
        worker,
        found,
        became: written.ok().filter(|own| *own != after).map(|_own| after),
        borrowed: written.is_err() || parts_borrowed.contains(&true),
        answered: match written {
            Ok(_) => after.login.map(|login| login.user),
            // Most programs have panicked by now, so that nobody was answered as somebody else.
            Err(Borrowed) => request.user,
        },
    }
}

/// Does a part's work; like a well-behaved span it notes where it is and puts back what it found.
/// Returns whether the session was borrowed.
fn part<S: Store>(part: Part) -> bool {
    let before = S::write(|session| session.part.replace(part.number));
    work(part);
    match before {
        Ok(before) => S::write(|session| session.part = before).is_err(),
        Err(Borrowed) => true,
    }
}

/// A few microseconds of arithmetic; the last part of every fourth request waits, as for a database.
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

static ROW: AtomicU32 = AtomicU32::new(0);
static WORKERS: AtomicU32 = AtomicU32::new(0);

/// Starts numbering the threads anew.
pub(super) fn begin_row() {
    WORKERS.store(0, Ordering::SeqCst);
    ROW.fetch_add(1, Ordering::SeqCst);
}

/// The number of this thread among those that served a request since [`begin_row`]: for the words
/// only.
fn worker_number() -> u32 {
    thread_local! { static NUMBER: Cell<(u32, u32)> = const { Cell::new((0, 0)) }; }
    let row = ROW.load(Ordering::SeqCst);
    let (numbered_in, number) = NUMBER.get();
    if numbered_in == row {
        return number;
    }
    let number = WORKERS.fetch_add(1, Ordering::SeqCst) + 1;
    NUMBER.set((row, number));
    number
}

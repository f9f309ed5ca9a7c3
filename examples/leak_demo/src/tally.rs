//! The counts of a row, and its first leak of each kind in words.

use std::time::Duration;

use super::job::{Request, Seen};
use super::store::Session;
use super::watch;

/// What the requests of one row saw.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) tasks: usize,
    /// Tasks that began with somebody else's data: the sequential leak.
    pub(super) began_dirty: usize,
    /// Tasks whose data changed while they waited for their own parts.
    pub(super) changed: usize,
    /// Tasks that found their cell borrowed by somebody else.
    pub(super) borrowed: usize,
    /// Tasks of the two kinds above: the interleaved leak.
    pub(super) interleaved: usize,
    /// Tasks that were answered as somebody else.
    pub(super) misanswered: usize,
    /// Thread-locals that the requests left changed, as far as the sentinel looked.
    pub(super) left: Vec<String>,
    pub(super) took: Duration,
    pub(super) words: Words,
}

/// One leak of each kind, in words.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) began_dirty: Option<String>,
    pub(super) changed: Option<String>,
    pub(super) borrowed: Option<String>,
    pub(super) misanswered: Option<String>,
}

impl Words {
    /// How many kinds of leak there were.
    pub(super) fn count(&self) -> usize {
        let all = [&self.began_dirty, &self.changed, &self.borrowed, &self.misanswered];
        all.into_iter().flatten().count()
    }
}

impl Tally {
    pub(super) fn of(seen: &[Seen], took: Duration) -> Self {
        let count = |is: fn(&Seen) -> bool| seen.iter().filter(|seen| is(seen)).count();
        Self {
            tasks: seen.len(),
            began_dirty: count(began_dirty),
            changed: count(|seen| seen.became.is_some()),
            borrowed: count(|seen| seen.borrowed),
            interleaved: count(|seen| seen.became.is_some() || seen.borrowed),
            misanswered: count(misanswered),
            left: watch::take(),
            took,
            words: Words {
                began_dirty: seen.iter().find_map(say_began_dirty),
                changed: seen.iter().find_map(say_changed),
                borrowed: seen.iter().find_map(say_borrowed),
                misanswered: seen.iter().find_map(say_misanswered),
            },
        }
    }

    pub(super) fn per_second(&self) -> f64 {
        self.tasks as f64 / self.took.as_secs_f64()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.began_dirty + self.interleaved + self.misanswered == 0
    }
}

fn began_dirty(seen: &Seen) -> bool {
    seen.found != Session::default()
}

fn misanswered(seen: &Seen) -> bool {
    seen.answered != seen.request.user
}

fn name(request: Request) -> String {
    format!("request {} of {}", request.number, request.user.unwrap_or("a guest"))
}

fn say_began_dirty(seen: &Seen) -> Option<String> {
    let user = seen.request.user?;
    let left = seen.found.login.filter(|left| left.user != user)?;
    Some(format!(
        "{} began as {}, left by request {} on worker {}",
        name(seen.request),
        left.user,
        left.request,
        left.worker
    ))
}

fn say_changed(seen: &Seen) -> Option<String> {
    let now = seen.became?.login.filter(|now| Some(now.user) != seen.request.user)?;
    Some(format!(
        "{} went on as {}: request {} had run on top of it on worker {}",
        name(seen.request),
        now.user,
        now.request,
        seen.worker
    ))
}

fn say_borrowed(seen: &Seen) -> Option<String> {
    let who = name(seen.request);
    seen.borrowed.then(|| {
        format!("{who} found its cell borrowed on worker {} (mostly, a panic)", seen.worker)
    })
}

fn say_misanswered(seen: &Seen) -> Option<String> {
    let answered = seen.answered.filter(|_| misanswered(seen))?;
    Some(format!("{} was answered as {answered}", name(seen.request)))
}

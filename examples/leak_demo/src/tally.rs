//! The counts of a row, and its first leak of each kind in words.

use std::time::Duration;

use super::findings::name;
use super::job::Seen;
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
    pub(super) disturbed: usize,
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
    /// Prefers those where somebody is taken for another user.
    fn of(seen: &[Seen]) -> Self {
        let example = |telling: fn(&Seen) -> bool, how: fn(&Seen) -> Option<String>| {
            let any = || seen.iter().find(|seen| how(seen).is_some());
            let seen = seen.iter().find(|seen| telling(seen)).or_else(any)?;
            let (name, worker) = (name(seen.request), seen.place.worker);
            Some(format!("{name}, on worker {worker}, {}", how(seen)?))
        };
        Self {
            began_dirty: example(
                |seen| seen.request.user.is_some() && is_another(seen, seen.found),
                Seen::how_it_began,
            ),
            changed: example(
                |seen| seen.became.is_some_and(|now| is_another(seen, now)),
                Seen::how_it_changed,
            ),
            borrowed: example(|seen| seen.borrowed.is_some(), Seen::how_it_was_borrowed),
            misanswered: example(Seen::misanswered, Seen::how_it_was_answered),
        }
    }

    /// How many kinds of leak there were.
    pub(super) fn count(&self) -> usize {
        let all = [&self.began_dirty, &self.changed, &self.borrowed, &self.misanswered];
        all.into_iter().flatten().count()
    }
}

fn is_another(seen: &Seen, session: Session) -> bool {
    session.login.is_some_and(|login| Some(login.user) != seen.request.user)
}

impl Tally {
    pub(super) fn of(seen: &[Seen], took: Duration) -> Self {
        let count = |is: fn(&Seen) -> bool| seen.iter().filter(|seen| is(seen)).count();
        Self {
            tasks: seen.len(),
            began_dirty: count(Seen::began_dirty),
            changed: count(|seen| seen.became.is_some()),
            borrowed: count(|seen| seen.borrowed.is_some()),
            disturbed: count(Seen::disturbed),
            misanswered: count(Seen::misanswered),
            left: watch::take(),
            took,
            words: Words::of(seen),
        }
    }

    pub(super) fn per_second(&self) -> f64 {
        self.tasks as f64 / self.took.as_secs_f64()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.began_dirty + self.disturbed + self.misanswered == 0
    }
}

//! How the current thread waits: it stays awake for a moment where that has paid lately, and parks.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use super::awake::{Awake, GLANCE, QUICK, RESULT, nanos};
use super::current;
use super::worker_slot::WorkerSlot;
#[cfg(loom)]
use crate::sync::seam::CellKey;
use crate::sync::seam::{self, Clock};

seam::thread_local! {
    /// What this thread has learned about its waits.
    static WAITS: Cell<Awake> = const { Cell::new(Awake::NEW) };
    /// Started when this thread's last wait for a result ended.
    static SINCE: Cell<Option<Clock>> = const { Cell::new(None) };
}

/// Lists what this module keeps per thread, for the sentinel to leave out.
#[cfg(feature = "sentinel")]
pub(super) fn list(ignored: &mut cleanslate_sentinel::Ignored) {
    ignored.key(&WAITS);
    ignored.key(&SINCE);
}

/// Returns whether this thread's last wait ended so recently that the next one should be over soon,
/// too.
fn is_quick() -> bool {
    let since = SINCE.replace(None);
    let is_quick = since.as_ref().is_some_and(|clock| clock.nanos() < nanos(QUICK));
    SINCE.set(since);
    is_quick
}

/// Returns whether this thread stays awake at the beginning of its next wait.
pub(crate) fn stays_awake() -> bool {
    WAITS.get().is_worth_it()
}

/// Stays awake until `done`, for a moment at most or not at all; returns whether it is done.
pub(crate) fn stay_awake_until(mut done: impl FnMut() -> bool) -> bool {
    // Taken out, since `done` may wait itself.
    let mut awake = WAITS.get();
    let limit = if is_quick() { RESULT } else { GLANCE };
    let is_done = awake.until(limit, &mut done);
    WAITS.set(awake);
    if is_done {
        SINCE.set(Some(Clock::start()));
    }
    is_done
}

/// Blocks until `done`, whose change must unpark this thread. A worker runs the tasks that are
/// directed to it meanwhile. Once `done` is true it is not asked again.
pub(crate) fn wait_until(done: impl FnMut() -> bool) {
    let _done = wait_until_or(done, || false);
}

/// Waits, and returns false if the wait is `hopeless`, which is asked before the thread parks.
pub(crate) fn wait_until_or(mut done: impl FnMut() -> bool, hopeless: impl Fn() -> bool) -> bool {
    let slot = current::slot();
    let is_directed = || slot.as_ref().is_some_and(|slot| slot.has_directed());
    // Once it is true it is not asked again: it may have taken what it found.
    let mut is_done = done();
    if !is_done {
        let _stop = stay_awake_until(|| {
            is_done = done();
            is_done || is_directed()
        });
    }
    if is_done {
        return true;
    }
    let is_done = park_until(done, slot, None, hopeless, note_wait);
    SINCE.set(Some(Clock::start()));
    is_done
}

/// Waits until `deadline`; returns whether it is done. The caller notes that it waits.
pub(crate) fn wait_directed_until(done: impl FnMut() -> bool, deadline: Option<Instant>) -> bool {
    park_until(done, current::slot(), deadline, || false, || ())
}

/// Blocks until `done` or until `deadline`, running nothing; returns whether it is done. Gives up
/// where it is `hopeless` to block.
pub(crate) fn wait_until_deadline(
    done: impl FnMut() -> bool,
    deadline: Option<Instant>,
    hopeless: impl Fn() -> bool,
) -> bool {
    park_until(done, None, deadline, hopeless, note_wait)
}

/// Notes that this thread is about to wait, and warns if it drives tokio's futures.
pub(crate) fn note_wait() {
    #[cfg(feature = "tokio")]
    // A worker drives no futures, and the look would leave its mark in tokio's thread-locals.
    if !current::is_worker() {
        crate::sync::driven::warn_if_driven();
    }
}

/// Calls `note` before it parks, if it does.
fn park_until(
    mut done: impl FnMut() -> bool,
    slot: Option<Arc<WorkerSlot>>,
    deadline: Option<Instant>,
    hopeless: impl Fn() -> bool,
    note: impl FnOnce(),
) -> bool {
    let mut note = Some(note);
    loop {
        if done() {
            return true;
        }
        if slot.as_ref().is_some_and(|slot| slot.run_directed()) {
            continue;
        }
        if hopeless() {
            return false;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        if let Some(note) = note.take() {
            note();
            // It may have taken a while.
            continue;
        }
        match left {
            None => seam::park(),
            Some(left) => seam::park_timeout(left),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    // Broke: a thread that waited once a millisecond stayed awake each time.
    #[test]
    fn a_wait_is_in_quick_succession_only_soon_after_another() {
        // On a thread of its own, which has waited for nothing yet.
        let waits = || {
            assert!(!is_quick());
            // The thread may lose its processor in between, but hardly each time.
            assert!((0..100).any(|_| {
                let mut asked = 0;
                wait_until(|| {
                    asked += 1;
                    asked == 2
                });
                is_quick()
            }));
            let began = Instant::now();
            while began.elapsed() < 2 * QUICK {}
            assert!(!is_quick());
        };
        std::thread::spawn(waits).join().unwrap();
    }
}

//! The outcomes of tasks, where several end together: the first panic goes on. All else, other
//! payloads and results alike, is dropped here, one by one and contained, before rayon sees it:
//! rayon would drop it while it unwinds, where a second panic aborts the process.

use parking_lot::Mutex;

use crate::frame::{self, Failure, discard};
use crate::panic::Payload;

/// The outcome of a task.
pub(super) type Outcome<R> = Result<R, Payload>;

/// Drops what the user gave in a frame of its own; a panic of that is a failure.
pub(super) fn drop_given<T>(given: T) -> Outcome<()> {
    frame::contained(|| drop(given)).map_err(Failure::into_payload)
}

/// Returns the result of the one task that there was, or resumes its panic.
pub(super) fn settle<R>(outcome: Outcome<R>) -> R {
    outcome.unwrap_or_else(|payload| payload.resume())
}

/// Returns two results, or resumes the first panic.
pub(super) fn settle_two<A, B>(a: Outcome<A>, b: Outcome<B>) -> (A, B) {
    match (a, b) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(first), b) => {
            discard(b);
            first.resume()
        }
        (Ok(a), Err(first)) => {
            discard(a);
            first.resume()
        }
    }
}

/// Returns all results, or resumes the first panic. `closure` is the outcome of dropping the tasks'
/// closure, which must not happen while a panic unwinds, either.
pub(super) fn settle_all<R>(outcomes: Vec<Outcome<R>>, closure: Outcome<()>) -> Vec<R> {
    let first = First::default();
    let results: Vec<_> = outcomes.into_iter().filter_map(|outcome| first.keep(outcome)).collect();
    first.keep(closure);
    match first.take() {
        None => results,
        Some(payload) => {
            results.into_iter().for_each(discard);
            payload.resume()
        }
    }
}

/// The first panic of several tasks.
#[derive(Default)]
pub(super) struct First(Mutex<Option<Payload>>);

impl First {
    /// Returns a task's result. Its panic is kept if it is the first, and discarded if not.
    pub(super) fn keep<R>(&self, outcome: Outcome<R>) -> Option<R> {
        let mut payload = match outcome {
            Ok(result) => return Some(result),
            Err(payload) => Some(payload),
        };
        let mut first = self.0.lock();
        if first.is_none() {
            *first = payload.take();
        }
        // What is left is user code, which may come here again when it is dropped.
        drop(first);
        None
    }

    /// Returns whether a task has panicked.
    pub(super) fn is_kept(&self) -> bool {
        self.0.lock().is_some()
    }

    pub(super) fn take(&self) -> Option<Payload> {
        self.0.lock().take()
    }
}

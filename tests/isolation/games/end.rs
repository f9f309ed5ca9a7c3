//! How a task of a game ends, and how it ought to.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::message;
use cleanslate::{RunError, TaskError};

use super::game::{Dropped, Game};

/// A task that panics does so with its seed. One that returns, returns its seed.
pub(super) struct OnPurpose(pub(super) u64);

pub(super) fn panics(seed: u64) -> bool {
    seed & 7 == 0
}

/// How a task ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    Returned(u64),
    Panicked(u64),
    NotCleanedUp,
    /// With these words.
    Otherwise(String),
}

impl End {
    pub(super) fn thrown(payload: Box<dyn Any + Send>) -> Self {
        // Rayon's tasks fail with what the drop has panicked with.
        if payload.is::<Dropped>() || payload.downcast_ref().is_some_and(RunError::is_cleanup) {
            return Self::NotCleanedUp;
        }
        match payload.downcast::<OnPurpose>() {
            Ok(seed) => Self::Panicked(seed.0),
            Err(payload) => Self::Otherwise(message(&*payload)),
        }
    }
}

impl Game {
    pub(super) fn joined(&self, seed: Option<u64>, joined: Result<u64, TaskError>) {
        let end = match joined {
            Ok(seed) => End::Returned(seed),
            Err(error) if error.is_cleanup() => End::NotCleanedUp,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => End::thrown(payload),
                Err(error) => End::Otherwise(error.to_string()),
            },
        };
        match (seed, end) {
            (Some(seed), end) => self.ended(seed, end),
            (None, End::Returned(seed)) => self.ended(seed, End::Returned(seed)),
            (None, End::Panicked(seed)) => self.ended(seed, End::Panicked(seed)),
            (None, End::NotCleanedUp) => self.cleanup_failed(),
            (None, end) => self.ended(0, end),
        }
    }

    /// Some task's clean-up has failed.
    pub(super) fn cleanup_failed(&self) {
        self.check(!self.failing.lock().unwrap().is_empty(), "a clean-up succeeds");
    }

    /// The same where panics are not caught.
    pub(super) fn calls(&self, seed: u64, f: impl FnOnce() -> u64) {
        let called = catch_unwind(AssertUnwindSafe(f));
        self.ended(seed, called.map_or_else(End::thrown, End::Returned));
    }

    /// Checks how the task with this seed ended.
    pub(super) fn ended(&self, seed: u64, end: End) {
        self.keeps_nothing(seed);
        let expected = if panics(seed) {
            End::Panicked(seed)
        } else if self.failing.lock().unwrap().contains(&seed) {
            End::NotCleanedUp
        } else {
            End::Returned(seed)
        };
        let is_cut_off = match &end {
            End::Otherwise(words) => {
                self.closes && tells_of_a_shutdown(words) || self.is_by_a_carrier(words)
            }
            _ => false,
        };
        if !is_cut_off && end != expected {
            self.note(format!("a task ends with {expected:?}, not with {end:?}"));
        }
    }

    /// Whether these are the words of an error or a panic because a carrier failed.
    pub(super) fn is_by_a_carrier(&self, words: &str) -> bool {
        self.fails && words.contains("carrier `ambient`")
    }
}

/// Whether these are the words of an error or a panic because a pool was shut down.
fn tells_of_a_shutdown(words: &str) -> bool {
    words.contains("shut down")
}

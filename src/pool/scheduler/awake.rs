//! Staying awake for a moment before parking.
//!
//! To park and be woken takes longer than many a wait. So a thread that waits first yields its
//! processor again and again: that costs nobody who has something to do. Whether it is worth it
//! shows:
//!
//! - If what the thread waits for comes meanwhile, it stays awake the next time as well.
//! - If it does not, it parks at once the next 1, 3, 7 and then [`MOST_SKIPPED`] times before it
//!   tries again. So a thread whose waits are long loses a small share of them, and one whose waits
//!   become short finds that out.
//! - If a single yield takes long, others want the processor, and whoever yields waits for its
//!   whole turn again. To be woken is quicker then: it parks at once for [`CROWDED_SKIPPED`] times.

use std::time::Duration;

use crate::sync::seam::{Clock, yield_now};

const MOST_SKIPPED: u8 = 15;
const CROWDED_SKIPPED: u8 = 250;
/// A yield that took longer means that the processor was given to somebody else.
const CROWDED: Duration = Duration::from_micros(50);

/// What a thread has learned about its waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Awake {
    /// How often it parks at once from now on.
    skips: u8,
    /// How often it did so after the last time in vain.
    last: u8,
}

impl Awake {
    /// A thread that waits for the first time.
    pub(crate) const NEW: Self = Self { skips: 0, last: 0 };

    /// Returns whether [`until`](Self::until) would stay awake now.
    pub(crate) fn is_worth_it(&self) -> bool {
        self.skips == 0
    }

    /// Stays awake until `done`, for at most `limit`, or not at all; returns whether it is done.
    pub(crate) fn until(&mut self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        if self.skips != 0 {
            self.skips -= 1;
            return false;
        }
        let clock = Clock::start();
        let mut before = 0;
        loop {
            if done() {
                self.last = 0;
                return true;
            }
            yield_now();
            let now = clock.nanos();
            if now - before > nanos(CROWDED) {
                self.skips = CROWDED_SKIPPED;
                return done();
            }
            if now > nanos(limit) {
                self.last = (2 * self.last + 1).min(MOST_SKIPPED);
                self.skips = self.last;
                return false;
            }
            before = now;
        }
    }
}

pub(crate) const fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(10);

    /// Returns how many of the next `n` waits are tried, if none is done meanwhile.
    fn tried(awake: &mut Awake, n: usize) -> usize {
        (0..n)
            .filter(|_| {
                let mut tried = false;
                let _done = awake.until(LIMIT, || {
                    tried = true;
                    false
                });
                tried
            })
            .count()
    }

    #[test]
    fn waits_in_vain_are_tried_more_and_more_rarely() {
        let mut awake = Awake::NEW;
        let tried = tried(&mut awake, 1000);
        // A descheduled yield makes them rarer still.
        assert!((1..=5 + 1000 / usize::from(MOST_SKIPPED)).contains(&tried), "{tried}");
    }

    #[test]
    fn a_wait_that_was_worth_it_is_followed_by_another() {
        let mut awake = Awake::NEW;
        for _ in 0..100 {
            assert!(awake.until(LIMIT, || true));
        }
    }
}

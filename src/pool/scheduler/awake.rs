//! Staying awake for a moment before parking.
//!
//! Parking and being woken takes longer than many a wait. So a waiting thread first yields its
//! processor again and again, which costs nobody who has something to do. It does so where things
//! have lately come in quick succession: what comes within [`QUICK`] of the last one finds the
//! thread awake, what comes once a millisecond finds it parked.
//!
//! | who waits | in quick succession | otherwise |
//! |---|---|---|
//! | a worker, for work | up to [`QUICK`] | not at all |
//! | whoever waits for a result | up to [`RESULT`] | a [`GLANCE`] |
//! | a helper of a map, for its turn at the iterator | up to 20 µs | the same |
//!
//! The glance is for a worker that was woken on the processor of the thread that waits: the worker
//! runs when that thread yields, and is often done when the thread runs again. The glance saves the
//! thread's own sleep, and costs a microsecond where the worker is elsewhere.
//!
//! Experience shows whether staying awake is worth it:
//!
//! - If what the thread waits for comes meanwhile, it stays awake the next time as well.
//! - If it does not, it parks at once the next 1, 3, 7 and then [`MOST_SKIPPED`] times before it
//!   tries again. So a thread whose waits are long loses a small share of their time, and one whose
//!   waits become short finds that out. A glance is too short to learn from.
//! - If a single yield takes long, others want the processor, and whoever yields again waits for
//!   another whole turn. Being woken is then quicker, so nobody in this process stays awake until
//!   [`CROWDED_FOR`] is over, and nobody glances until [`NO_GLANCE_FOR`] is. (Where each thread
//!   learned it for itself, some stayed awake, which to the system looks like work: it spread them
//!   over the busy processors, and woke them there.)
//!
//! `docs/engine.md` says what each of the constants was measured to buy.

use std::time::Duration;

use crate::sync::seam::{Clock, yield_now};

/// What comes within this time of the last one comes in quick succession. More than 100 µs: at gaps
/// of 100 µs, a limit of just that is paid in vain each time.
pub(crate) const QUICK: Duration = Duration::from_micros(150);
/// For how long a thread that waits for a result stays awake.
pub(crate) const RESULT: Duration = Duration::from_micros(60);
/// The same where results have not come in quick succession: a yield or two.
pub(crate) const GLANCE: Duration = Duration::from_micros(1);

const MOST_SKIPPED: u16 = 15;
/// A yield that took longer means that the processor was given to somebody else: the turn of a busy
/// thread is some milliseconds, what the pool's own threads do for one another a tenth of one.
const CROWDED: Duration = Duration::from_millis(1);
/// For how long that holds where work comes in quick succession: some tens of such turns.
const CROWDED_FOR: Duration = Duration::from_millis(100);
/// For how long that holds elsewhere. A glance saves little and may cost such a turn: of a hundred
/// short jobs a second beside a map, not even one in a hundred may pay for it.
const NO_GLANCE_FOR: Duration = Duration::from_secs(2);

/// Whether others want the processors: one answer for the process.
#[cfg(not(loom))]
mod crowd {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{CROWDED_FOR, Clock, Duration, GLANCE, NO_GLANCE_FOR, nanos};

    static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::start);
    /// When they last did, in nanoseconds of `CLOCK`; 0 if they never did.
    static LAST: AtomicU64 = AtomicU64::new(0);

    #[cold]
    pub(super) fn note() {
        // Relaxed: a hint.
        LAST.store(CLOCK.nanos(), Ordering::Relaxed);
    }

    /// Returns whether that is a reason not to stay awake for as long as `limit`.
    pub(super) fn is_on(limit: Duration) -> bool {
        // Relaxed: a hint.
        let last = LAST.load(Ordering::Relaxed);
        last != 0 && holds(CLOCK.nanos().saturating_sub(last), limit)
    }

    /// The same for others that wanted the processors so many nanoseconds ago.
    pub(super) fn holds(ago: u64, limit: Duration) -> bool {
        ago < nanos(if limit > GLANCE { CROWDED_FOR } else { NO_GLANCE_FOR })
    }
}

/// Nothing outlives the run of a model.
#[cfg(loom)]
mod crowd {
    pub(super) fn note() {}

    pub(super) fn is_on(_limit: super::Duration) -> bool {
        false
    }
}

/// What a thread has learned about its waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awake {
    /// How often it parks at once from now on.
    skips: u16,
    /// How often it did so after the last time in vain.
    last: u16,
}

impl Awake {
    /// A thread that waits for the first time.
    pub(crate) const NEW: Self = Self { skips: 0, last: 0 };

    /// Returns whether [`until`](Self::until) would stay awake now, in quick succession.
    pub(crate) fn is_worth_it(&self) -> bool {
        self.skips == 0 && !crowd::is_on(QUICK)
    }

    /// Stays awake until `done`, for at most `limit`, or not at all; returns whether it is done.
    /// Once `done` is true it is not asked again.
    pub(crate) fn until(&mut self, limit: Duration, done: &mut dyn FnMut() -> bool) -> bool {
        if cfg!(loom) {
            // When a thread yields, loom runs the others first: in no model would anybody sleep.
            return false;
        }
        if self.skips != 0 {
            self.skips -= 1;
            return false;
        }
        if crowd::is_on(limit) {
            return false;
        }
        let clock = Clock::start();
        let mut now = 0;
        loop {
            if done() {
                self.last = 0;
                return true;
            }
            if now > nanos(limit) {
                if limit > GLANCE {
                    self.last = (2 * self.last + 1).min(MOST_SKIPPED);
                    self.skips = self.last;
                }
                return false;
            }
            let before = now;
            yield_now();
            now = clock.nanos();
            if now - before > nanos(CROWDED) {
                crowd::note();
                return done();
            }
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
                let _done = awake.until(LIMIT, &mut || {
                    tried = true;
                    false
                });
                tried
            })
            .count()
    }

    /// Has `awake` wait until it stays awake for it: a machine may be crowded for a while.
    fn wait_awake(awake: &mut Awake, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let mut tried = false;
        loop {
            let is_done = awake.until(limit, &mut || {
                tried = true;
                done()
            });
            if tried {
                return is_done;
            }
        }
    }

    #[test]
    fn waits_in_vain_are_tried_more_and_more_rarely() {
        let mut awake = Awake::NEW;
        assert!(!wait_awake(&mut awake, LIMIT, || false));
        // A descheduled yield makes them rarer still.
        let tried = tried(&mut awake, 1000);
        assert!(tried <= 5 + 1000 / usize::from(MOST_SKIPPED), "{tried}");
    }

    #[test]
    fn a_glance_in_vain_teaches_nothing() {
        let mut awake = Awake::NEW;
        assert!(!wait_awake(&mut awake, GLANCE, || false));
        assert_eq!(awake.skips, 0);
    }

    // Broke: what was done during the last yield was taken for not done.
    #[test]
    fn what_the_last_yield_brought_is_seen() {
        let mut asked = 0;
        let mut awake = Awake::NEW;
        assert!(wait_awake(&mut awake, Duration::ZERO, || {
            asked += 1;
            asked == 2
        }));
    }

    #[test]
    fn a_wait_that_was_worth_it_is_followed_by_another() {
        let mut awake = Awake { skips: 0, last: MOST_SKIPPED };
        assert!(wait_awake(&mut awake, LIMIT, || true));
        assert_eq!((awake.skips, awake.last), (0, 0));
    }

    #[test]
    fn nobody_stays_awake_where_others_want_the_processor() {
        crowd::note();
        let (mut awake, mut asked) = (Awake::NEW, false);
        let done = awake.until(LIMIT, &mut || {
            asked = true;
            true
        });
        // Unless this thread lost its own processor for that long.
        assert!(!(done || asked) || !crowd::is_on(LIMIT));
    }

    // Broke: where every processor is busy for long, one in ten of a hundred short jobs a second
    // waited for a whole turn of somebody else's, to see whether it was still so.
    #[test]
    fn whoever_waits_rarely_looks_again_later() {
        let second = nanos(Duration::from_secs(1));
        assert!(crowd::holds(0, RESULT) && crowd::holds(0, GLANCE));
        assert!(!crowd::holds(second, RESULT) && crowd::holds(second, GLANCE));
        assert!(!crowd::holds(3 * second, GLANCE));
    }
}

//! [`ChunkSize`]: how many items a helper claims at a time.
//!
//! A chunk should take long enough to make its claim negligible and short enough to balance uneven
//! work. Nobody knows beforehand what an item costs, so a helper starts with one item and measures:
//! the next chunk is what would have taken [`TARGET`]; at first it is what would have taken
//! [`WORTH`], until the work has proved to be worth another helper. Where the number of items left
//! is known, no chunk exceeds a fair share of it, so the last chunks go down to single items
//! (guided self-scheduling: Polychronopoulos and Kuck, 1987).

use std::time::{Duration, Instant};

use crate::pool::scheduler::awake::nanos;

/// How long a chunk should take.
const TARGET: Duration = Duration::from_micros(40);
/// Work that is not worth sharing with another helper: a claim and a cache miss or two.
const TRIFLE: Duration = Duration::from_micros(1);
/// Work after which another helper is worth its wake-up.
const WORTH: Duration = Duration::from_micros(3);
/// The most items between two looks whether to go on: they may turn out to take longer than those
/// before. To items of a nanosecond such looks add some 4 %; a look every 64 items would add some
/// 10 %, one at each item a tenth to a third.
const BLOCK: usize = 256;
/// By what factor a chunk may exceed the one before.
const GROWTH: usize = 16;

/// What one helper has learned about the time that items take.
pub(crate) struct ChunkSize {
    helpers: usize,
    /// The largest chunk.
    most: usize,
    /// How many items take [`TARGET`], or [`WORTH`] at first.
    size: usize,
    /// How many items take [`TRIFLE`].
    trifle: usize,
    since: Instant,
    /// How long the helper has worked, until it has said that the work is worth another one.
    worked: Option<u64>,
}

impl ChunkSize {
    /// Starts to measure the chunks of one of `helpers` helpers.
    pub(crate) fn new(helpers: usize) -> Self {
        let (since, worked) = (Instant::now(), Some(0));
        Self { helpers, most: usize::MAX, size: 1, trifle: 1, since, worked }
    }

    /// Makes chunks of one item.
    pub(crate) fn one_by_one() -> Self {
        Self { most: 1, ..Self::new(1) }
    }

    /// Goes on where a helper that gave way has stopped.
    pub(crate) fn again(self) -> Self {
        Self { since: Instant::now(), worked: None, ..self }
    }

    /// Returns how many items to claim of those `left`, if that is known; at least one.
    #[inline]
    pub(crate) fn of(&self, left: Option<usize>) -> usize {
        match left {
            Some(left) => {
                let share = (left / (2 * self.helpers)).max(self.trifle);
                self.size.min(share)
            }
            None => self.size,
        }
    }

    /// Learns from a chunk of `len` items that is done. Returns true once: when the work so far
    /// would have been worth another helper.
    #[inline]
    pub(crate) fn done(&mut self, len: usize) -> bool {
        let now = Instant::now();
        let took = nanos(now.duration_since(self.since)).max(1);
        self.since = now;
        let fits = |target: Duration| {
            usize::try_from((len as u64).saturating_mul(nanos(target)) / took).unwrap_or(usize::MAX)
        };
        self.worked = self.worked.map(|worked| worked.saturating_add(took));
        let is_worth_it = self.worked.take_if(|worked| *worked >= nanos(WORTH)).is_some();
        let target = if self.worked.is_some() { WORTH } else { TARGET };
        self.size = fits(target).clamp(1, self.size.max(len).saturating_mul(GROWTH).min(self.most));
        self.trifle = fits(TRIFLE).clamp(1, self.size);
        is_worth_it
    }

    /// Returns how many items to pull, or to run, between two looks whether to go on: what takes
    /// about [`TRIFLE`], but at most [`BLOCK`]. At least one.
    #[inline]
    pub(crate) fn block(&self) -> usize {
        self.trifle.min(BLOCK)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_never_exceeds_a_fair_share_of_what_is_left() {
        let mut chunk = ChunkSize::new(2);
        chunk.size = 1_000_000;
        assert_eq!(chunk.of(Some(400)), 100);
        assert_eq!(chunk.of(Some(3)), 1);
        assert_eq!(chunk.of(Some(0)), 1, "of an input that promised less than it has");
        assert_eq!(chunk.of(None), 1_000_000);
    }

    // Broke: a chunk of 25 microseconds was claimed before others were called.
    #[test]
    fn a_helper_calls_another_one_before_it_takes_a_whole_chunk() {
        let mut chunk = ChunkSize::new(2);
        chunk.size = 1_000_000;
        // What began later than now takes a nanosecond.
        let later = Instant::now() + Duration::from_secs(3600);
        chunk.since = later;
        assert!(!chunk.done(1), "a nanosecond is not worth it");
        assert_eq!(chunk.of(None), 3_000, "items that take three microseconds");
        (chunk.since, chunk.worked) = (later, Some(nanos(WORTH)));
        assert!(chunk.done(1));
        assert_eq!(chunk.of(None), 40_000, "items that take a whole chunk");
        assert_eq!(chunk.block(), 256, "though 1,000 would take a microsecond");
    }

    #[test]
    fn one_quick_item_makes_no_large_chunk() {
        let later = Instant::now() + Duration::from_secs(3600);
        for (mut chunk, expected) in [(ChunkSize::new(2), 16), (ChunkSize::one_by_one(), 1)] {
            chunk.since = later;
            let _worth_another = chunk.done(1);
            assert_eq!(chunk.of(None), expected);
        }
    }

    #[test]
    fn slow_items_are_claimed_one_by_one() {
        let mut chunk = ChunkSize::new(2);
        chunk.size = 64;
        chunk.since = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        assert!(chunk.done(64), "a second of work is worth another helper");
        assert_eq!(chunk.of(Some(1_000_000)), 1);
        assert!(!chunk.done(1), "it has said so");
    }
}

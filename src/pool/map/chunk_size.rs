//! [`ChunkSize`]: how many items a helper claims at a time.
//!
//! A chunk should take long enough to make its claim negligible and short enough to balance uneven
//! work. Nobody knows beforehand what an item costs, so a helper starts with one item and measures:
//! the next chunk is what would have taken [`TARGET`]. Where the number of items left is known, no
//! chunk exceeds a fair share of it, so the last chunks go down to single items (guided
//! self-scheduling: Polychronopoulos and Kuck, 1987).

use std::time::{Duration, Instant};

/// How long a chunk should take.
const TARGET: Duration = Duration::from_micros(40);
/// Work that is not worth a share of another helper: a claim and a cache miss or two.
const TRIFLE: Duration = Duration::from_micros(1);
/// Work after which another helper is worth its wake-up.
const WORTH: Duration = Duration::from_micros(3);
/// By how much a chunk may exceed the one before.
const GROWTH: usize = 16;

/// What one helper has learned about the time that items take.
pub(crate) struct ChunkSize {
    helpers: usize,
    /// The largest chunk.
    most: usize,
    /// How many items take [`TARGET`].
    size: usize,
    /// How many items take [`TRIFLE`].
    trifle: usize,
    since: Instant,
    /// How long the helper has worked, until it has said that it is worth another one.
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
        self.size = fits(TARGET).clamp(1, self.size.max(len).saturating_mul(GROWTH).min(self.most));
        self.trifle = fits(TRIFLE).clamp(1, self.size);
        self.worked = self.worked.map(|worked| worked.saturating_add(took));
        self.worked.take_if(|worked| *worked >= nanos(WORTH)).is_some()
    }

    /// Returns how many items take about a microsecond; at least one.
    #[inline]
    pub(crate) fn trifle(&self) -> usize {
        self.trifle
    }
}

/// Returns the nanoseconds, of which a `u64` holds half a millennium.
const fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
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

//! How often workers may be replaced.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sync::seam::Mutex;

/// Allows at most a given number of renewals in any stretch of time of a given length.
#[derive(Debug)]
pub(crate) struct Budget {
    at_most: usize,
    per: Duration,
    /// When the renewals that still count were, oldest first.
    recent: Mutex<VecDeque<Instant>>,
}

impl Budget {
    pub(crate) fn new(at_most: u32, per: Duration) -> Budget {
        let at_most = usize::try_from(at_most).unwrap_or(usize::MAX);
        Budget { at_most, per, recent: Mutex::default() }
    }

    /// Takes one renewal at the time `now`; false if that would be too many.
    #[must_use]
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut recent = self.recent.lock();
        while recent
            .front()
            .is_some_and(|&oldest| now.saturating_duration_since(oldest) >= self.per)
        {
            recent.pop_front();
        }
        let is_free = recent.len() < self.at_most;
        if is_free {
            recent.push_back(now);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Budget;

    #[test]
    fn no_stretch_of_time_has_more_renewals_than_allowed() {
        let start = Instant::now();
        let budget = Budget::new(3, Duration::from_millis(100));
        let mut taken = Vec::new();
        for step in 0..100 {
            let now = start + Duration::from_millis(step * 7);
            if budget.take(now) {
                taken.push(now);
            }
        }
        for window in taken.windows(4) {
            assert!(window[3] - window[0] >= Duration::from_millis(100));
        }
        assert!(taken.len() >= 18, "{} renewals only", taken.len());
    }

    #[test]
    fn a_budget_of_none_gives_none() {
        assert!(!Budget::new(0, Duration::ZERO).take(Instant::now()));
    }

    #[test]
    fn clocks_that_disagree_do_no_harm() {
        let now = Instant::now();
        let budget = Budget::new(1, Duration::from_secs(1));
        assert!(budget.take(now + Duration::from_secs(1)));
        assert!(!budget.take(now));
    }
}

//! How a thread that waits sleeps, and that one of rayon's does not sleep for ever.
//!
//! A worker that calls a parallel iterator waits for a thread of rayon. If all of those wait for
//! pools in turn, for that very worker perhaps, none would ever come. So threads of rayon that wait
//! are counted, and one that has waited for [`PATIENCE`] while all others of its pool wait, too,
//! takes up what rayon has to do, as rayon's threads do wherever they wait for rayon.

use std::time::Duration;

#[cfg(all(feature = "rayon", not(loom)))]
use on_rayon::Waiting;
#[cfg(all(feature = "rayon", not(loom)))]
pub(crate) use on_rayon::is_on_rayon;

use crate::sync::seam;

/// For so long all threads of a rayon pool wait before one of them looks what rayon has to do.
/// Mostly what they wait for is over before.
#[cfg(all(feature = "rayon", not(loom)))]
const PATIENCE: Duration = Duration::from_millis(10);

/// A thread that waits, from when it first sleeps to the end of the wait.
pub(crate) struct Parking {
    #[cfg(all(feature = "rayon", not(loom)))]
    waiting: Option<Waiting>,
}

impl Parking {
    pub(crate) fn begin() -> Self {
        Self {
            #[cfg(all(feature = "rayon", not(loom)))]
            waiting: Waiting::begin(),
        }
    }

    /// Sleeps until somebody unparks the thread. `true`: it has been long enough for
    /// [`take_up`](Self::take_up).
    pub(crate) fn park(&mut self) -> bool {
        #[cfg(all(feature = "rayon", not(loom)))]
        if let Some(waiting) = &mut self.waiting {
            return waiting.park();
        }
        seam::park();
        false
    }

    /// Sleeps for `limit` at most. Such a wait ends by itself.
    #[expect(clippy::unused_self, reason = "the thread counts as one that waits")]
    pub(crate) fn park_timeout(&self, limit: Duration) {
        seam::park_timeout(limit);
    }

    /// Runs something that rayon has to do, if there is anything, on top of what waits.
    pub(crate) fn take_up(&mut self) {
        #[cfg(all(feature = "rayon", not(loom)))]
        if let Some(waiting) = &mut self.waiting {
            waiting.take_up();
        }
    }
}

/// Returns whether this is a thread of a rayon pool.
#[cfg(not(all(feature = "rayon", not(loom))))]
pub(crate) fn is_on_rayon() -> bool {
    false
}

#[cfg(all(feature = "rayon", not(loom)))]
mod on_rayon {
    use std::time::Instant;

    use ::rayon::{Yield, current_num_threads, current_thread_index, yield_now};

    use super::PATIENCE;
    use crate::foreign::not_in_carrier;
    use crate::pool::scheduler::current;
    use crate::sync::seam::atomic::{AtomicUsize, Ordering};
    use crate::sync::seam::park_timeout;

    /// Threads of rayon that sleep until a pool has done something. Of all of rayon's pools, since
    /// nobody can tell them apart: with several, some may lose their patience too early.
    static WAITING: AtomicUsize = AtomicUsize::new(0);

    pub(crate) fn is_on_rayon() -> bool {
        current_thread_index().is_some()
    }

    /// A thread of rayon that waits, counted.
    pub(super) struct Waiting {
        /// Rayon had something to do when it was asked last.
        is_busy: bool,
    }

    impl Waiting {
        pub(super) fn begin() -> Option<Self> {
            is_on_rayon().then(|| {
                count();
                Self { is_busy: false }
            })
        }

        /// Sleeps until somebody unparks the thread, for [`PATIENCE`] at most. Returns whether
        /// nobody has, and all others wait, too.
        pub(super) fn park(&mut self) -> bool {
            if !std::mem::take(&mut self.is_busy) {
                let began = Instant::now();
                park_timeout(PATIENCE);
                if began.elapsed() < PATIENCE {
                    return false;
                }
            }
            // Relaxed, as the counting: who has read an old count looks again soon.
            WAITING.load(Ordering::Relaxed) >= current_num_threads()
        }

        pub(super) fn take_up(&mut self) {
            self.is_busy = current::run_taken_up(run_one).unwrap_or(false);
        }
    }

    impl Drop for Waiting {
        fn drop(&mut self) {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn count() {
        WAITING.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs one thing that rayon has to do; returns whether there was any. Rayon contains panics.
    fn run_one() -> bool {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        let has_run = not_in_carrier(|| matches!(yield_now(), Some(Yield::Executed)));
        count();
        has_run
    }
}

//! How things that the user threw are dropped: payloads of panics, and errors of carriers.
//!
//! That may happen in the middle of a task that has nothing to do with them, such as the one below
//! the task that has panicked. So the `Drop`, which is user code, runs in a frame of its own: it
//! sees no task's slots, and what it touches is gone afterwards.

use std::any::Any;

use super::failure::Failure;
use super::leak::leak;
use super::task::contained;
use super::thread;
use crate::panic::{Contained, catch};

/// How many payloads are dropped in a row if the `Drop` of each panics with the next one. The last
/// is leaked.
const ROUNDS: usize = 8;

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let Some(value) = self.0.take() else { return };
        let thread = thread::current();
        // What panics on the way is dropped in the same frame, where its generations are counted:
        // one frame on top of the other would have no end. This is not so in a task that runs on
        // top of that frame.
        let outer = thread.discards.get();
        let is_inside = outer == Some(thread.depth());
        let mut thrown = drop_one(value, is_inside);
        for _ in 1..ROUNDS {
            thrown = thrown.and_then(|payload| drop_one(payload, is_inside));
        }
        thread.discards.set(outer);
        if let Some(payload) = thrown {
            leak(payload);
        }
    }
}

/// Drops a value; returns what its drop, or the end of what that has touched, has thrown.
fn drop_one<T>(value: T, is_inside: bool) -> Option<Box<dyn Any + Send>> {
    let dropped = match is_inside {
        true => catch(|| drop(value)).map_err(Failure::Panic),
        false => contained(|| {
            let thread = thread::current();
            thread.discards.set(Some(thread.depth()));
            drop(value);
        }),
    };
    match dropped.err()? {
        Failure::Panic(payload) => Some(payload.into_inner()),
        Failure::Cleanup(error) => error.try_into_panic().ok(),
        Failure::Carrier(_) => None,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::frame::leaked_values;

    static DROPS: AtomicUsize = AtomicUsize::new(0);

    /// Panics with another one of its kind in its drop, `0` times.
    struct Bomb(usize);

    impl Drop for Bomb {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
            if self.0 > 0 {
                std::panic::panic_any(Bomb(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_payload_whose_drop_panics_is_dropped_to_the_last_and_never_unwinds() {
        for (depth, dropped) in [(0, 1), (3, 4), (usize::MAX, ROUNDS)] {
            DROPS.store(0, Ordering::SeqCst);
            let leaked = leaked_values();
            let caught = catch(|| std::panic::panic_any(Bomb(depth))).unwrap_err();
            assert!(catch(|| drop(caught)).is_ok());
            assert!(depth < ROUNDS || leaked_values() > leaked);
            assert_eq!(DROPS.load(Ordering::SeqCst), dropped, "depth {depth}");
        }
    }
}

//! Loom models of the line for places: no place is lost, nobody waits for one for ever.

use std::sync::Arc;
use std::task::Waker;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::Capacity;
use crate::pool::error::Refused;
use crate::sync::model::explore;

/// Returns a queue with one place, which is taken.
fn full() -> Arc<Capacity> {
    let capacity = Arc::new(Capacity::new(1));
    assert_eq!(capacity.try_take(), Ok(()));
    capacity
}

fn on_a_thread<R: 'static>(
    capacity: &Arc<Capacity>,
    f: impl FnOnce(&Capacity) -> R + 'static,
) -> thread::JoinHandle<R> {
    let capacity = Arc::clone(capacity);
    thread::spawn(move || f(&capacity))
}

fn take(capacity: &Capacity) -> Result<(), Refused> {
    capacity.take(|| false)
}

#[test]
fn a_place_that_becomes_free_goes_to_whoever_blocks() {
    explore(3, || {
        let capacity = full();
        let inside = Arc::new(AtomicUsize::new(0));
        let takers = [0, 1].map(|_| {
            let inside = Arc::clone(&inside);
            on_a_thread(&capacity, move |capacity| {
                take(capacity).unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "there is one place");
                inside.fetch_sub(1, Ordering::SeqCst);
                capacity.release();
            })
        });
        capacity.release();
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!(capacity.try_take(), Ok(()), "it is free again");
        assert_eq!(capacity.try_take(), Err(Refused::Full), "and there is still one");
    });
}

#[test]
fn one_that_gives_up_passes_its_place_on() {
    explore(3, || {
        let capacity = full();
        let gives_up = on_a_thread(&capacity, |capacity| {
            let mut waiting = capacity.wait();
            if waiting.poll(Waker::noop()).is_ready() {
                capacity.release();
            }
        });
        let stays = on_a_thread(&capacity, |capacity| {
            take(capacity).unwrap();
            capacity.release();
        });
        capacity.release();
        gives_up.join().unwrap();
        stays.join().unwrap();
        assert_eq!(capacity.try_take(), Ok(()));
    });
}

#[test]
fn one_that_passes_over_the_limit_is_given_back_before_anybody_is_let_in() {
    explore(3, || {
        let capacity = full();
        capacity.take_anyway();
        let left = Arc::new(AtomicUsize::new(2));
        let taker = {
            let left = Arc::clone(&left);
            on_a_thread(&capacity, move |capacity| {
                take(capacity).unwrap();
                assert_eq!(left.load(Ordering::SeqCst), 0);
            })
        };
        let other = {
            let left = Arc::clone(&left);
            on_a_thread(&capacity, move |capacity| {
                left.fetch_sub(1, Ordering::SeqCst);
                capacity.release();
            })
        };
        left.fetch_sub(1, Ordering::SeqCst);
        capacity.release();
        other.join().unwrap();
        taker.join().unwrap();
        assert_eq!(capacity.try_take(), Err(Refused::Full));
    });
}

#[test]
fn the_closing_ends_every_wait() {
    explore(3, || {
        let capacity = full();
        let takers = [0, 1].map(|_| on_a_thread(&capacity, take));
        capacity.close();
        capacity.release();
        let taken = takers.map(|taker| taker.join().unwrap());
        // One may have come after the closing, or been handed the place before it; never both.
        assert!(taken.iter().filter(|taken| taken.is_ok()).count() <= 1);
        assert_eq!(capacity.try_take(), Err(Refused::ShutDown));
    });
}

//! What the drops of a carrier's values capture: they are its code. Each test in a process of its
//! own, since nothing takes installed carriers off the list.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::in_a_process_of_its_own;
use cleanslate::foreign::{self, BoxError, Carrier};
use cleanslate::{Context, Pool};

/// Captures in its drop.
struct Captures;

impl Drop for Captures {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
        drop(Context::try_capture());
    }
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

/// Keeps, or fails with, what captures in its drop.
struct Capturing {
    fails: bool,
}

#[derive(Debug)]
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        drop(Captures);
    }
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bad")
    }
}

impl std::error::Error for Bad {}

impl Carrier for Capturing {
    type Captured = Captures;
    type Attached = ();

    fn name(&self) -> &str {
        "capturing"
    }

    fn capture(&self) -> Result<Captures, BoxError> {
        if self.fails { Err(Bad.into()) } else { Ok(Captures) }
    }

    fn attach(&self, _: &Captures) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

// Broke: a drop of what it had captured was not the carrier's own code, so what that captured
// carried it, and so on until the stack was full.
#[test]
fn what_the_drop_of_something_captured_captures_does_not_carry_it() {
    let name = "own_code::what_the_drop_of_something_captured_captures_does_not_carry_it";
    if !in_a_process_of_its_own(name) {
        return;
    }
    foreign::install(Capturing { fails: false }).unwrap();
    drop(Context::capture());
    assert_eq!(DROPS.swap(0, Ordering::SeqCst), 1);
    let pool = Pool::new(1).unwrap();
    pool.submit(|| ()).join().unwrap();
    pool.shutdown().unwrap();
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
}

#[test]
fn what_the_drop_of_an_error_captures_does_not_fail_in_turn() {
    let name = "own_code::what_the_drop_of_an_error_captures_does_not_fail_in_turn";
    if !in_a_process_of_its_own(name) {
        return;
    }
    foreign::install(Capturing { fails: true }).unwrap();
    drop(Context::try_capture().unwrap_err());
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
}

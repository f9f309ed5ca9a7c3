//! What a capture allocates where carriers are installed.

use std::cell::Cell;

use crate::support::in_a_process_of_its_own;
use crate::{allocations, alone, least};
use cleanslate::foreign::{self, BoxError, Carrier, adopt};
use cleanslate::{Context, Pool, isolated};

thread_local! {
    static USER: Cell<u64> = const { Cell::new(0) };
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

struct User;

impl Carrier for User {
    type Captured = u64;
    type Attached = u64;

    fn name(&self) -> &str {
        "user"
    }

    fn capture(&self) -> Result<u64, BoxError> {
        Ok(USER.get())
    }

    fn attach(&self, user: &u64) -> Result<u64, BoxError> {
        Ok(USER.replace(*user))
    }

    fn detach(&self, before: u64) -> Result<(), BoxError> {
        USER.set(before);
        Ok(())
    }

    fn nothing(&self) -> Option<u64> {
        Some(0)
    }

    fn is_nothing(&self, user: &u64) -> bool {
        *user == 0
    }
}

#[test]
fn a_capture_of_nothing_allocates_nothing() {
    // To start a process allocates as well, while others count.
    let _alone = alone();
    if !in_a_process_of_its_own("installed::a_capture_of_nothing_allocates_nothing") {
        return;
    }
    foreign::install(adopt(&BUFFER)).unwrap();
    foreign::install(User).unwrap();
    let capture = || {
        for _ in 0..100 {
            drop(Context::capture());
            isolated(|| assert_eq!(USER.get(), 0))();
        }
    };
    assert_eq!(least(|| allocations(capture)), 0);
    let pool = Pool::new(1).unwrap();
    pool.submit(|| ()).join().unwrap();
    let submitted = allocations(|| (0..310).for_each(|_| pool.submit(|| ()).join().unwrap()));
    assert!((310..=310 + 10 + 60).contains(&submitted), "{submitted}");
    USER.set(7);
    // What one has captured, and two for the list with the other's nothing. Broke: the list grew,
    // which was one more.
    let captured = least(|| {
        allocations(|| {
            for _ in 0..100 {
                isolated(|| assert_eq!(USER.get(), 7))();
            }
        })
    });
    assert_eq!(captured, 300);
}

//! No file can be opened for a moment. A process of its own: the limit is the process's.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::catch_unwind;

use cleanslate_sentinel::{Sentinel, assert_clean, supported, try_watch, watch};
use sentinel_corpus::Library;

thread_local! { static TENANT: Cell<u64> = const { Cell::new(0) }; }

fn limit_descriptors(to: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it is valid for a write.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    // Nobody but root may raise the other one.
    limit.rlim_cur = to.min(limit.rlim_max);
    // SAFETY: the limit is a valid one, and is only read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Brings std's hash keys to life.
fn touch_std() -> usize {
    HashMap::<u8, u8>::new().len()
}

#[test]
fn symbols_that_cannot_be_read_for_a_moment_are_an_error_and_are_read_later() {
    limit_descriptors(0);
    let (len, report) = watch(touch_std);
    assert_eq!(len, 0);
    assert!(!report.is_clean() && report.leaks().is_empty());
    assert!(report.unsupported().is_some_and(|why| why.is_temporary()), "{report}");
    let text = report.to_string();
    assert!(text.contains("/proc/self/exe") && text.contains("os error 24"), "{text}");
    let error = try_watch(|| 3).unwrap_err();
    assert_eq!((error.unsupported().is_temporary(), (error.into_inner())()), (true, 3));
    assert!(Sentinel::new().watcher().unwrap_err().is_temporary());
    // An assertion that cannot be checked does not hold.
    assert!(catch_unwind(|| assert_clean(|| ())).is_err());
    // The system is one where the sentinel works.
    assert_eq!(supported(), Ok(()));

    limit_descriptors(1024);
    for _ in 0..3 {
        let (_, report) = std::thread::spawn(|| watch(touch_std)).join().unwrap();
        assert!(report.is_clean(), "{report}");
    }
    let (_, report) = watch(|| TENANT.set(1));
    assert_eq!(report.leaks()[0].path(), Some("descriptors::TENANT"));

    // A library that is used for the first time at such a moment is watched later.
    let library = Library::open("opened");
    let set = library.setter("opened_set_hidden");
    let mut watcher = Sentinel::new().watcher().unwrap();
    limit_descriptors(0);
    for round in 1..=2 {
        let (_, report) = watch(|| set(round));
        assert!(report.leaks().is_empty(), "{report}");
        assert!(report.unsupported().is_some_and(|why| why.is_temporary()), "{report}");
        watcher.begin();
        set(round + 10);
        TENANT.set(TENANT.get() + 1);
        // What can be judged is.
        let report = watcher.finish().expect("a leak");
        assert_eq!(report.leaks().len(), 1, "{report}");
    }
    limit_descriptors(1024);
    for round in 3..=4 {
        let (_, report) = watch(|| set(round));
        assert_eq!(report.leaks()[0].path(), Some("opened_hidden"));
        watcher.begin();
        set(round + 10);
        let report = watcher.finish().expect("a leak");
        assert_eq!(report.leaks()[0].path(), Some("opened_hidden"));
    }
}

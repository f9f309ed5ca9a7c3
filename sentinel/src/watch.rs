//! Watching a closure by the built-in rules.

use crate::error::{Unsupported, WatchError};
use crate::report::Report;
use crate::sentinel::Sentinel;
use crate::tls;

/// Returns whether the sentinel works on this system.
///
/// # Errors
///
/// Returns [`Unsupported`] on anything but Linux with glibc on x86-64 or AArch64.
///
/// ```
/// if let Err(why) = cleanslate_sentinel::supported() {
///     assert!(why.to_string().contains("not supported"));
/// }
/// ```
pub fn supported() -> Result<(), Unsupported> {
    tls::census().map(|_| ())
}

/// Runs a closure and reports the thread-locals that it left changed on this thread.
///
/// It works on any thread, inside other executors, nested in itself and in a destructor at the end
/// of a thread. Other threads are not watched: what the closure runs elsewhere is not seen. Where
/// the sentinel does not work, the closure runs all the same, and [`Report::unsupported`] returns
/// why nothing was watched; [`try_watch`] returns an error instead.
///
/// The first call in a process reads the program's symbol table, which takes milliseconds.
///
/// # Panics
///
/// A panic of the closure passes through, and no report is made; to have one, catch the panic
/// inside the closure.
///
/// ```
/// use std::cell::RefCell;
/// use cleanslate_sentinel as sentinel;
///
/// thread_local! { static USER: RefCell<String> = const { RefCell::new(String::new()) }; }
///
/// let (len, report) = sentinel::watch(|| {
///     USER.with_borrow_mut(|user| user.push_str("alice"));
///     USER.with_borrow(|user| user.len())
/// });
/// assert_eq!(len, 5);
/// if report.unsupported().is_none() {
///     assert!(!report.is_clean());
///     assert!(report.leaks()[0].to_string().contains("USER"));
/// }
/// ```
pub fn watch<R>(f: impl FnOnce() -> R) -> (R, Report) {
    Sentinel::new().watch(f)
}

/// Runs a closure as [`watch`] does, or hands it back if it cannot be watched.
///
/// # Errors
///
/// Returns [`WatchError`], with the closure, on systems where the sentinel does not work, and while
/// symbols cannot be read.
///
/// # Panics
///
/// Panics as [`watch`] does.
///
/// ```
/// let (four, report) = cleanslate_sentinel::try_watch(|| 2 + 2)
///     .unwrap_or_else(|error| cleanslate_sentinel::watch(error.into_inner()));
/// assert_eq!(four, 4);
/// assert!(report.leaks().is_empty());
/// ```
pub fn try_watch<R, F: FnOnce() -> R>(f: F) -> Result<(R, Report), WatchError<F>> {
    Sentinel::new().try_watch(f)
}

/// Runs a closure and panics if it left a thread-local changed.
///
/// It is meant for tests. The message is the report's table, followed by what can be done about a
/// leak.
///
/// # Panics
///
/// Panics if a thread-local was left changed, or where the sentinel does not work: an assertion
/// that cannot be checked does not hold. Ask [`supported`] first in tests that also run elsewhere.
/// A panic of the closure passes through as it is.
///
/// ```no_run
/// let sum = cleanslate_sentinel::assert_clean(|| (1..=10).sum::<u32>());
/// assert_eq!(sum, 55);
/// ```
#[track_caller]
pub fn assert_clean<R>(f: impl FnOnce() -> R) -> R {
    Sentinel::new().assert_clean(f)
}

//! Watching a closure on any thread.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::ignore::Ignored;
use crate::report::Report;
use crate::rule::Rules;
use crate::sentinel::Sentinel;
use crate::tls;
use crate::unsupported::Unsupported;
use crate::watcher::Watcher;

/// How many idle watchers a thread keeps: one for each level of nesting, mostly one.
const KEPT: usize = 4;

thread_local! {
    static IDLE: RefCell<Vec<Watcher>> = const { RefCell::new(Vec::new()) };
}

/// Lists what this file keeps per thread.
pub(crate) fn ignore_own(ignored: &mut Ignored) {
    ignored.key(&IDLE);
}

pub(crate) static BUILT_IN: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::built_in()));

/// A watcher on loan, given back also when the closure panics.
struct Lease(Option<Watcher>);

impl Lease {
    fn of(rules: &Arc<Rules>) -> Result<Lease, Unsupported> {
        let idle = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            let place = idle.iter().position(|idle| Arc::ptr_eq(idle.rules(), rules))?;
            Some(idle.swap_remove(place))
        });
        // A thread that is ending has nowhere to keep one.
        let watcher = match idle.ok().flatten() {
            Some(idle) => idle,
            None => Watcher::new(Arc::clone(rules))?,
        };
        Ok(Lease(Some(watcher)))
    }

    fn watcher(&mut self) -> &mut Watcher {
        self.0.as_mut().expect("a lease holds its watcher until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let watcher = self.0.take();
        // If the thread is ending there is nobody to give it back to, and it is dropped here.
        let _gone = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() == KEPT {
                drop(idle.remove(0));
            }
            idle.extend(watcher);
        });
    }
}

/// A closure could not be watched, and was not run.
pub struct WatchError<F> {
    unsupported: Unsupported,
    rejected: F,
}

impl<F> WatchError<F> {
    /// Returns the closure.
    #[must_use]
    pub fn into_inner(self) -> F {
        self.rejected
    }

    /// Returns why it could not be watched.
    #[must_use]
    pub fn unsupported(&self) -> &Unsupported {
        &self.unsupported
    }
}

impl<F> fmt::Debug for WatchError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchError").field("unsupported", &self.unsupported).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for WatchError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.unsupported, f)
    }
}

impl<F> std::error::Error for WatchError<F> {}

/// Returns whether the sentinel works on this system.
///
/// # Errors
///
/// [`Unsupported`] on anything but Linux with glibc on x86-64 or AArch64.
///
/// ```
/// if let Err(why) = cleanslate_sentinel::supported() {
///     assert!(why.to_string().contains("not supported"));
/// }
/// ```
pub fn supported() -> Result<(), Unsupported> {
    tls::census().map(|_| ())
}

/// Runs a closure and reports every thread-local that it left changed on this thread.
///
/// It works on any thread, inside other executors, nested in itself and in a destructor at the end
/// of a thread. Other threads are not watched: what the closure runs elsewhere is not seen. Where
/// the sentinel does not work the closure runs all the same, and [`Report::unsupported`] says why
/// nothing was watched; see [`try_watch`] for an error instead.
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
    watch_by(&BUILT_IN, f)
}

/// Runs a closure as [`watch`] does, or hands it back where it cannot be watched.
///
/// # Errors
///
/// [`WatchError`], with the closure, on systems where the sentinel does not work, and while
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
    try_watch_by(&BUILT_IN, f)
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

pub(crate) fn watch_by<R>(rules: &Arc<Rules>, f: impl FnOnce() -> R) -> (R, Report) {
    try_watch_by(rules, f).unwrap_or_else(|error| {
        let WatchError { unsupported, rejected } = error;
        (rejected(), Report::of_unsupported(unsupported))
    })
}

pub(crate) fn try_watch_by<R, F: FnOnce() -> R>(
    rules: &Arc<Rules>,
    f: F,
) -> Result<(R, Report), WatchError<F>> {
    let mut lease = match Lease::of(rules) {
        Ok(lease) => lease,
        Err(unsupported) => return Err(WatchError { unsupported, rejected: f }),
    };
    lease.watcher().begin();
    if let Some(unsupported) = lease.watcher().unread() {
        return Err(WatchError { unsupported, rejected: f });
    }
    let value = run(f);
    let report = lease.watcher().finish();
    let unread = || lease.watcher().unread().map(Report::of_unsupported);
    Ok((value, report.or_else(unread).unwrap_or_else(|| Report::new(Vec::new()))))
}

/// Keeps the closure from being merged with its surroundings: a store to a thread-local that
/// nobody else can see could otherwise be moved past the comparison.
#[inline(never)]
fn run<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// What a person can do about each leak, printed below the table.
pub(crate) const ADVICE: &str = "\
what can be done about each:
  your own state of one task   declare it with cleanslate::task_local!
  foreign, but of one task     give each task its own: cleanslate::foreign::adopt(&KEY), or
                               where KEY has no name a Carrier over the crate's functions
  kept per thread on purpose   worker_local!, or Sentinel::allow(\"its::path\")
  none of these                let the pool renew the worker: Sentinel::renew";

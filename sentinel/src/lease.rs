//! Watching a closure with a watcher that the thread keeps.

use std::cell::RefCell;
use std::sync::{Arc, Once};

use crate::error::{Unsupported, WatchError};
use crate::ignore::ignore;
use crate::policy::Policy;
use crate::report::Report;
use crate::watcher::Watcher;

/// How many idle watchers a thread keeps: one per level of nesting, which is mostly one.
const KEPT: usize = 4;

thread_local! {
    static IDLE: RefCell<Vec<Watcher>> = const { RefCell::new(Vec::new()) };
}

/// Returns a watcher of the calling thread.
///
/// What this file keeps per thread is named to the watcher before the first copy. By then the
/// watcher has initialised it, and with it the flag beside it by which std knows that it is alive;
/// in a file without symbols no address covers that flag.
pub(crate) fn watcher(policy: &Arc<Policy>) -> Result<Watcher, Unsupported> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| ignore(|ignored| ignored.key(&IDLE)));
    Watcher::new(Arc::clone(policy))
}

/// A watcher on loan, given back also when the closure panics.
struct Lease(Option<Watcher>);

impl Lease {
    fn of(policy: &Arc<Policy>) -> Result<Lease, Unsupported> {
        let idle = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            let place = idle.iter().position(|idle| Arc::ptr_eq(idle.policy(), policy))?;
            Some(idle.swap_remove(place))
        });
        // A thread that is ending has nowhere to keep one.
        let watcher = match idle.ok().flatten() {
            Some(idle) => idle,
            None => watcher(policy)?,
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
        // If the thread is ending, there is nobody to give it back to, and it is dropped here.
        let _gone = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() == KEPT {
                drop(idle.remove(0));
            }
            idle.extend(watcher);
        });
    }
}

/// Runs a closure and reports what it left changed, or why nothing was watched.
pub(crate) fn watch<R>(policy: &Arc<Policy>, f: impl FnOnce() -> R) -> (R, Report) {
    try_watch(policy, f).unwrap_or_else(|error| {
        let (unsupported, rejected) = error.into_parts();
        (rejected(), Report::of_unsupported(unsupported))
    })
}

/// Runs a closure like [`watch`], or hands it back where it cannot be watched.
pub(crate) fn try_watch<R, F: FnOnce() -> R>(
    policy: &Arc<Policy>,
    f: F,
) -> Result<(R, Report), WatchError<F>> {
    let mut lease = match Lease::of(policy) {
        Ok(lease) => lease,
        Err(unsupported) => return Err(WatchError::new(unsupported, f)),
    };
    lease.watcher().begin();
    if let Some(unsupported) = lease.watcher().unread() {
        return Err(WatchError::new(unsupported, f));
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

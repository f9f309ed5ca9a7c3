//! What the sentinel finds: the thread-locals that requests leave changed, by name, with nothing
//! registered. Without the feature `sentinel` it finds nothing and prints nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The names that the requests of the current row have left changed.
static LEFT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The names found since the last call.
pub(super) fn take() -> Vec<String> {
    let left = std::mem::take(&mut *LEFT.lock().unwrap_or_else(PoisonError::into_inner));
    left.into_iter().collect()
}

/// Watches one request where its executor runs it. The first few are enough: each costs a
/// microsecond.
#[cfg(feature = "sentinel")]
pub(super) fn over<R>(number: u32, request: impl FnOnce() -> R) -> R {
    const WATCHED: u32 = 64;
    if number > WATCHED {
        return request();
    }
    let (result, report) = cleanslate::sentinel::watch(request);
    note(&report);
    result
}

#[cfg(not(feature = "sentinel"))]
pub(super) fn over<R>(_number: u32, request: impl FnOnce() -> R) -> R {
    request()
}

/// For a pool that puts foreign state back after a task: the pool's own watch takes care of that.
#[cfg(feature = "sentinel")]
pub(super) fn by_pool(builder: cleanslate::PoolBuilder) -> cleanslate::PoolBuilder {
    let sentinel = cleanslate::sentinel::Sentinel::new();
    match sentinel.watcher() {
        Ok(_) => builder.sentinel(sentinel.report(|incident| note(incident.report()))),
        // Thread-locals cannot be watched everywhere.
        Err(_) => builder,
    }
}

#[cfg(not(feature = "sentinel"))]
pub(super) fn by_pool(builder: cleanslate::PoolBuilder) -> cleanslate::PoolBuilder {
    builder
}

#[cfg(feature = "sentinel")]
fn note(report: &cleanslate::sentinel::Report) {
    // The number of this thread is the demonstration's own.
    let paths = report.leaks().iter().filter_map(cleanslate::sentinel::Leak::path);
    let foreign = paths.filter(|path| !path.ends_with("::NUMBER")).map(str::to_owned);
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).extend(foreign);
}

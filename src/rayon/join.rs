//! Two tasks at a time, and one on another pool.

use rayon::ThreadPool;

use super::task::run;
use crate::context::Context;

/// Runs two closures, perhaps in parallel, each as a task: [`rayon::join`] with clean slots.
///
/// Both inherit what the current task hands down now.
///
/// # Panics
///
/// As [`Context::capture`] does; as [`rayon::join`] does, with the panic of one of the closures; and
/// with the payload of a clean-up that fails.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::join, task_local};
///
/// task_local! { static SEEN: bool = false; }
///
/// SEEN.set(true);
/// let dirty = join(|| SEEN.replace(true), || SEEN.replace(true));
/// assert_eq!((dirty, SEEN.get()), ((false, false), true));
/// ```
#[track_caller]
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    join_in(&Context::capture(), a, b)
}

/// Runs two closures like [`join`], in a context that you choose, with its carriers attached.
///
/// # Panics
///
/// As [`join`] does, and with a [`RunError`](crate::RunError) if a carrier cannot be attached.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, rayon::join_in};
///
/// assert_eq!(join_in(&Context::empty(), || 1, || 2), (1, 2));
/// ```
pub fn join_in<A, B, RA, RB>(context: &Context, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    rayon::join(|| run(context, a), || run(context, b))
}

/// Runs a closure on one of a pool's threads, as a task: [`rayon::ThreadPool::install`] with clean
/// slots.
///
/// A parallel iterator inside runs on that pool. It needs an isolation of its own: the closure is
/// one task, not its items.
///
/// # Panics
///
/// As [`Context::capture`] does, and with the panic of the closure or the payload of a clean-up
/// that fails.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::install, task_local};
///
/// task_local! { static N: u32 = 0; }
///
/// let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
/// let seen = [install(&pool, || N.replace(1)), install(&pool, || N.replace(1))];
/// assert_eq!(seen, [0, 0]);
/// ```
#[track_caller]
pub fn install<F, R>(pool: &ThreadPool, f: F) -> R
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    install_in(&Context::capture(), pool, f)
}

/// Runs a closure like [`install`], in a context that you choose, with its carriers attached.
///
/// # Panics
///
/// As [`install`] does, and with a [`RunError`](crate::RunError) if a carrier cannot be attached.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, rayon::install_in};
///
/// let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
/// assert_eq!(install_in(&Context::empty(), &pool, || 6 * 7), 42);
/// ```
pub fn install_in<F, R>(context: &Context, pool: &ThreadPool, f: F) -> R
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    pool.install(|| run(context, f))
}

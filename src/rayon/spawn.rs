//! Tasks that nobody waits for, and one on every thread.

use rayon::BroadcastContext;

use super::task::run;
use crate::context::Context;

/// Runs a closure some time later, as a task: [`rayon::spawn`] with clean slots.
///
/// It inherits what the current task hands down now, and not what the worker has by then.
///
/// # Panics
///
/// As [`Context::capture`] does. A panic of the closure, or of a clean-up, goes to the pool's panic
/// handler, and aborts the process if there is none, as with [`rayon::spawn`].
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::spawn, task_local};
/// use std::sync::mpsc::channel;
///
/// task_local! { #[inherit] static USER: u32 = 0; }
///
/// let (sender, receiver) = channel();
/// USER.scope(7, || spawn(move || sender.send(USER.get()).unwrap()));
/// assert_eq!(receiver.recv().unwrap(), 7);
/// ```
#[track_caller]
pub fn spawn<F>(f: F)
where
    F: FnOnce() + Send + 'static,
{
    spawn_in(&Context::capture(), f);
}

/// Runs a closure later like [`spawn`], in a context that you choose, with its carriers attached.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, rayon::spawn_in};
/// use std::sync::mpsc::channel;
///
/// let (sender, receiver) = channel();
/// spawn_in(&Context::empty(), move || sender.send(1).unwrap());
/// assert_eq!(receiver.recv().unwrap(), 1);
/// ```
pub fn spawn_in<F>(context: &Context, f: F)
where
    F: FnOnce() + Send + 'static,
{
    let context = context.clone();
    rayon::spawn(move || run(&context, f));
}

/// Runs a closure once on every thread of the current pool, each visit as a task:
/// [`rayon::broadcast`] with clean slots.
///
/// # Panics
///
/// As [`Context::capture`] does, and with the panic of a visit or the payload of a clean-up that
/// fails.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::broadcast, task_local};
///
/// task_local! { static VISITS: u32 = 0; }
///
/// let visits = broadcast(|_| VISITS.with_mut(|n| { *n += 1; *n }));
/// assert_eq!(visits, vec![1; rayon::current_num_threads()]);
/// ```
#[track_caller]
pub fn broadcast<F, R>(f: F) -> Vec<R>
where
    F: Fn(BroadcastContext<'_>) -> R + Sync,
    R: Send,
{
    broadcast_in(&Context::capture(), f)
}

/// Visits every thread like [`broadcast`], in a context that you choose, with its carriers attached.
///
/// # Panics
///
/// As [`broadcast`] does, and with a [`RunError`](crate::RunError) if a carrier cannot be attached.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, rayon::broadcast_in};
///
/// let places = broadcast_in(&Context::empty(), |visit| visit.index());
/// assert_eq!(places, (0..rayon::current_num_threads()).collect::<Vec<_>>());
/// ```
pub fn broadcast_in<F, R>(context: &Context, f: F) -> Vec<R>
where
    F: Fn(BroadcastContext<'_>) -> R + Sync,
    R: Send,
{
    rayon::broadcast(|visit| run(context, || f(visit)))
}

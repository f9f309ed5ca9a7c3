//! Tasks that nobody waits for.

use std::sync::Arc;

use parking_lot::Mutex;
use rayon::BroadcastContext;

use super::outcome::{Outcome, drop_given, settle};
use super::pool::RayonPool;
use super::task::attempt;
use crate::context::Context;
use crate::frame::discard;

/// Runs a closure some time later, as a task: [`rayon::spawn`] with clean slots.
///
/// It inherits what the current task hands down now, not what the worker has by then.
///
/// # Panics
///
/// Panics as [`Context::capture`] does. A panic of the closure, or of a clean-up, goes to the
/// pool's panic handler, and aborts the process if there is none, as with [`rayon::spawn`].
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
/// assert_eq!(receiver.recv(), Ok(7));
/// ```
#[track_caller]
pub fn spawn<F>(f: F)
where
    F: FnOnce() + Send + 'static,
{
    RayonPool::global().spawn(f);
}

/// Spawns like [`spawn`], but behind what the same thread has spawned in this way before:
/// [`rayon::spawn_fifo`] with clean slots.
///
/// # Panics
///
/// Panics as [`spawn`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::spawn_fifo;
/// use std::sync::mpsc::channel;
///
/// let (sender, receiver) = channel();
/// spawn_fifo(move || sender.send(7).unwrap());
/// assert_eq!(receiver.recv(), Ok(7));
/// ```
#[track_caller]
pub fn spawn_fifo<F>(f: F)
where
    F: FnOnce() + Send + 'static,
{
    RayonPool::global().spawn_fifo(f);
}

/// Runs a closure some time later once on every thread of the current pool, each visit as a task:
/// [`rayon::spawn_broadcast`] with clean slots.
///
/// # Panics
///
/// Panics as [`spawn`] does. A panic of the drop of the closure itself is not reported.
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::spawn_broadcast;
/// use std::sync::mpsc::channel;
///
/// let (sender, receiver) = channel();
/// spawn_broadcast(move |to| sender.send(to.index()).unwrap());
/// assert_eq!(receiver.iter().count(), rayon::current_num_threads());
/// ```
#[track_caller]
pub fn spawn_broadcast<F>(f: F)
where
    F: Fn(BroadcastContext<'_>) + Send + Sync + 'static,
{
    RayonPool::global().spawn_visits(f);
}

impl RayonPool {
    /// Runs a closure some time later, as a task, like [`spawn`] and
    /// [`ThreadPool::spawn`](rayon::ThreadPool::spawn).
    ///
    /// # Panics
    ///
    /// Panics as [`spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    /// use std::sync::mpsc::channel;
    ///
    /// let (sender, receiver) = channel();
    /// RayonPool::new(1)?.spawn(move || sender.send(7).unwrap());
    /// assert_eq!(receiver.recv(), Ok(7));
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, f: F)
    where
        F: FnOnce() + Send + 'static,
    {
        let (context, f) = self.context_for(f);
        let task = detached(context, f);
        match self.own() {
            Some(pool) => pool.spawn(task),
            None => rayon::spawn(task),
        }
    }

    /// Spawns like [`spawn`](Self::spawn), but behind what the same thread has spawned in this way
    /// before, as [`spawn_fifo`] and [`ThreadPool::spawn_fifo`](rayon::ThreadPool::spawn_fifo) do.
    ///
    /// # Panics
    ///
    /// Panics as [`spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    /// use std::sync::mpsc::channel;
    ///
    /// let (sender, receiver) = channel();
    /// let pool = RayonPool::new(1)?;
    /// pool.install(|| {
    ///     for n in 0..3 {
    ///         let sender = sender.clone();
    ///         pool.spawn_fifo(move || sender.send(n).unwrap());
    ///     }
    /// });
    /// drop(sender);
    /// assert_eq!(Vec::from_iter(receiver), [0, 1, 2]);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn spawn_fifo<F>(&self, f: F)
    where
        F: FnOnce() + Send + 'static,
    {
        let (context, f) = self.context_for(f);
        let task = detached(context, f);
        match self.own() {
            Some(pool) => pool.spawn_fifo(task),
            None => rayon::spawn_fifo(task),
        }
    }

    /// Runs a closure some time later once on every thread of the pool, each visit as a task.
    ///
    /// Like [`spawn_broadcast`], but takes the same kind of closure as
    /// [`broadcast`](Self::broadcast).
    ///
    /// # Panics
    ///
    /// Panics as [`spawn`] does. A panic of the drop of the closure itself is not reported.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    /// use std::sync::mpsc::channel;
    ///
    /// let (sender, receiver) = channel();
    /// RayonPool::new(3)?.spawn_broadcast(move || sender.send(()).unwrap());
    /// assert_eq!(receiver.iter().count(), 3);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn spawn_broadcast<F>(&self, f: F)
    where
        F: Fn() + Send + Sync + 'static,
    {
        self.spawn_visits(move |_| f());
    }

    #[track_caller]
    fn spawn_visits<F>(&self, f: F)
    where
        F: Fn(BroadcastContext<'_>) + Send + Sync + 'static,
    {
        let (context, f) = self.context_for(f);
        let visits = VisitedClosure::new(context, f);
        let visit = move |to: BroadcastContext<'_>| {
            // A failed drop is not reported: without a panic handler, that would abort the process.
            let (outcome, _dropped) = visits.visit(to.num_threads(), |f| f(to));
            settle(outcome);
        };
        match self.own() {
            Some(pool) => pool.spawn_broadcast(visit),
            None => rayon::spawn_broadcast(visit),
        }
    }
}

/// Makes a task of a closure that nobody waits for. Its context is dropped before the panic goes
/// on.
fn detached(context: Context, f: impl FnOnce()) -> impl FnOnce() {
    move || {
        let outcome = attempt(&context, f);
        discard(context);
        settle(outcome);
    }
}

/// What the visits of a spawned broadcast share.
///
/// The last visit drops it. Rayon drops its own closure later, where a panic aborts the process,
/// and, if it belongs to a scope, perhaps after the end of the scope from which it borrows.
pub(super) struct VisitedClosure<F>(Mutex<Remaining<F>>);

struct Remaining<F> {
    /// The visits that have begun.
    begun: usize,
    shared: Option<Arc<(F, Context)>>,
}

impl<F> VisitedClosure<F> {
    pub(super) fn new(context: Context, f: F) -> Self {
        Self(Mutex::new(Remaining { begun: 0, shared: Some(Arc::new((f, context))) }))
    }

    /// Runs one of `all` visits. Returns its outcome, and that of the closure's drop, if this was
    /// the last visit.
    pub(super) fn visit(&self, all: usize, call: impl FnOnce(&F)) -> (Outcome<()>, Outcome<()>) {
        let shared = {
            let mut remaining = self.0.lock();
            remaining.begun += 1;
            let is_last = remaining.begun == all;
            if is_last { remaining.shared.take() } else { remaining.shared.clone() }
        };
        let shared = shared.unwrap_or_else(|| unreachable!("every thread is visited once"));
        let outcome = attempt(&shared.1, || call(&shared.0));
        let Some((f, context)) = Arc::into_inner(shared) else { return (outcome, Ok(())) };
        let dropped = drop_given(f);
        discard(context);
        (outcome, dropped)
    }
}

//! Opening a scope, in which tasks may borrow, and waiting for them.

use super::pool::RayonPool;
use super::scoped::{Lent, Scope, ScopeData, ScopeFifo};
use super::task::attempt;
use crate::frame::discard;
use crate::panic::catch;

/// Runs a closure that can spawn tasks which borrow from outside, and waits for them:
/// [`rayon::scope`] with clean slots.
///
/// The closure is a task itself, since rayon may run it on another thread; each spawned closure is
/// another one, and inherits what its spawner hands down when it spawns it.
///
/// # Panics
///
/// Panics as [`Context::capture`](crate::Context::capture) does. Panics with the first panic of the
/// closure and the spawned ones, or with the payload of a failed clean-up, after all of them have
/// ended. The payloads of other panics are dropped.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::scope, task_local};
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// task_local! { static N: u32 = 1; }
///
/// let sum = AtomicU32::new(0);
/// scope(|s| (0..10).for_each(|_| s.spawn(|_| _ = sum.fetch_add(N.replace(9), Relaxed))));
/// assert_eq!(sum.into_inner(), 10);
/// ```
#[track_caller]
pub fn scope<'scope, OP, R>(op: OP) -> R
where
    OP: FnOnce(&Scope<'scope>) -> R + Send,
    R: Send,
{
    RayonPool::global().scope(op)
}

/// Opens a scope like [`scope`] whose tasks run in the order in which a thread has spawned them:
/// [`rayon::scope_fifo`] with clean slots.
///
/// # Panics
///
/// Panics as [`scope`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::scope_fifo;
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// let sum = AtomicU32::new(0);
/// scope_fifo(|s| (0..10).for_each(|_| s.spawn_fifo(|_| _ = sum.fetch_add(1, Relaxed))));
/// assert_eq!(sum.into_inner(), 10);
/// ```
#[track_caller]
pub fn scope_fifo<'scope, OP, R>(op: OP) -> R
where
    OP: FnOnce(&ScopeFifo<'scope>) -> R + Send,
    R: Send,
{
    RayonPool::global().scope_fifo(op)
}

/// Opens a scope like [`scope`], but runs the closure here and now, as a part of the current task:
/// [`rayon::in_place_scope`] with clean slots.
///
/// # Panics
///
/// Panics as [`scope`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::{rayon::in_place_scope, task_local};
///
/// task_local! { static NAMES: Vec<String> = vec![]; }
///
/// NAMES.with_mut(|names| names.push("alice".to_owned()));
/// let mut seen = None;
/// in_place_scope(|s| {
///     assert_eq!(NAMES.with(Vec::len), 1);
///     s.spawn(|_| seen = Some(NAMES.with(Vec::len)));
/// });
/// assert_eq!(seen, Some(0));
/// ```
pub fn in_place_scope<'scope, OP, R>(op: OP) -> R
where
    OP: FnOnce(&Scope<'scope>) -> R,
{
    RayonPool::global().in_place_scope(op)
}

/// Opens a scope like [`in_place_scope`] whose tasks run in the order in which a thread has spawned
/// them:
/// [`rayon::in_place_scope_fifo`] with clean slots.
///
/// # Panics
///
/// Panics as [`scope`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::in_place_scope_fifo;
///
/// let mut done = false;
/// in_place_scope_fifo(|s| s.spawn_fifo(|_| done = true));
/// assert!(done);
/// ```
pub fn in_place_scope_fifo<'scope, OP, R>(op: OP) -> R
where
    OP: FnOnce(&ScopeFifo<'scope>) -> R,
{
    RayonPool::global().in_place_scope_fifo(op)
}

impl RayonPool {
    /// Opens a scope like the function [`scope`] and
    /// [`ThreadPool::scope`](rayon::ThreadPool::scope).
    ///
    /// # Panics
    ///
    /// Panics as [`scope`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let mut squares = [1, 2, 3];
    /// RayonPool::new(2)?.scope(|s| {
    ///     for n in &mut squares {
    ///         s.spawn(move |_| *n *= *n);
    ///     }
    /// });
    /// assert_eq!(squares, [1, 4, 9]);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn scope<'scope, OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce(&Scope<'scope>) -> R + Send,
        R: Send,
    {
        let (context, op) = self.context_for(op);
        let shared = ScopeData::new(self);
        let body = |inner: &rayon::Scope<'scope>| {
            shared.first.keep(attempt(&context, || op(&Scope(Lent::new(inner, &shared)))))
        };
        let result = match self.own() {
            Some(pool) => pool.scope(body),
            None => rayon::scope(body),
        };
        discard(context);
        shared.settle(result)
    }

    /// Opens a scope like the function [`scope_fifo`] and
    /// [`ThreadPool::scope_fifo`](rayon::ThreadPool::scope_fifo).
    ///
    /// # Panics
    ///
    /// Panics as [`scope`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let mut done = false;
    /// RayonPool::new(2)?.scope_fifo(|s| s.spawn_fifo(|_| done = true));
    /// assert!(done);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    #[track_caller]
    pub fn scope_fifo<'scope, OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce(&ScopeFifo<'scope>) -> R + Send,
        R: Send,
    {
        let (context, op) = self.context_for(op);
        let shared = ScopeData::new(self);
        let body = |inner: &rayon::ScopeFifo<'scope>| {
            shared.first.keep(attempt(&context, || op(&ScopeFifo(Lent::new(inner, &shared)))))
        };
        let result = match self.own() {
            Some(pool) => pool.scope_fifo(body),
            None => rayon::scope_fifo(body),
        };
        discard(context);
        shared.settle(result)
    }

    /// Opens a scope like the function [`in_place_scope`] and
    /// [`ThreadPool::in_place_scope`](rayon::ThreadPool::in_place_scope).
    ///
    /// # Panics
    ///
    /// Panics as [`scope`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let here = std::thread::current().id();
    /// let there = RayonPool::new(1)?.in_place_scope(|_| std::thread::current().id());
    /// assert_eq!(here, there);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    pub fn in_place_scope<'scope, OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce(&Scope<'scope>) -> R,
    {
        let shared = ScopeData::new(self);
        let body = |inner: &rayon::Scope<'scope>| {
            shared.first.keep(catch(|| op(&Scope(Lent::new(inner, &shared)))))
        };
        let result = match self.own() {
            Some(pool) => pool.in_place_scope(body),
            None => rayon::in_place_scope(body),
        };
        shared.settle(result)
    }

    /// Opens a scope like the function [`in_place_scope_fifo`] and
    /// [`ThreadPool::in_place_scope_fifo`](rayon::ThreadPool::in_place_scope_fifo).
    ///
    /// # Panics
    ///
    /// Panics as [`scope`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::RayonPool;
    ///
    /// let mut done = false;
    /// RayonPool::new(2)?.in_place_scope_fifo(|s| s.spawn_fifo(|_| done = true));
    /// assert!(done);
    /// # Ok::<(), rayon::ThreadPoolBuildError>(())
    /// ```
    pub fn in_place_scope_fifo<'scope, OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce(&ScopeFifo<'scope>) -> R,
    {
        let shared = ScopeData::new(self);
        let body = |inner: &rayon::ScopeFifo<'scope>| {
            shared.first.keep(catch(|| op(&ScopeFifo(Lent::new(inner, &shared)))))
        };
        let result = match self.own() {
            Some(pool) => pool.in_place_scope_fifo(body),
            None => rayon::in_place_scope_fifo(body),
        };
        shared.settle(result)
    }
}

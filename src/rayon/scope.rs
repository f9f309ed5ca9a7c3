//! Tasks that may borrow, and are waited for.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;

use rayon::BroadcastContext;

use super::outcome::{First, discard};
use super::pool::RayonPool;
use super::spawn::VisitedClosure;
use super::task::attempt;
use crate::panic::catch;

/// Runs a closure that can spawn tasks which borrow from outside, and waits for them:
/// [`rayon::scope`] with clean slots.
///
/// The closure is a task itself, since rayon may run it on another thread; each spawned closure is
/// one, and inherits what its spawner hands down where it spawns.
///
/// # Panics
///
/// Panics as [`Context::capture`](crate::Context::capture) does; and with the first panic of the
/// closure and the spawned ones, or the payload of a clean-up that fails, after all of them have
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

/// Opens a scope like [`scope`], whose closure runs here and now, as a part of the current task:
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

/// What a scope shares with its tasks.
struct ScopeData {
    first: First,
    /// Says what spawned tasks inherit.
    pool: RayonPool,
}

impl ScopeData {
    fn new(pool: &RayonPool) -> Arc<Self> {
        Arc::new(Self { first: First::default(), pool: pool.clone() })
    }

    /// Returns the body's result, or resumes the scope's first panic. All tasks are over.
    fn settle<R>(self: Arc<Self>, result: Option<R>) -> R {
        let first = self.first.take();
        discard(self);
        match (first, result) {
            (None, Some(result)) => result,
            (Some(payload), result) => {
                discard(result);
                payload.resume()
            }
            (None, None) => unreachable!("a body without a result has panicked"),
        }
    }
}

/// Rayon's scope and ours. Users have references to it only.
struct Lent<S> {
    scope: NonNull<S>,
    shared: Arc<ScopeData>,
}

#[expect(unsafe_code, reason = "the pointer stands for a shared reference")]
// SAFETY: it is shared as `&S` and `&ScopeData` would be, which are `Send` under these bounds.
unsafe impl<S: Sync> Sync for Lent<S> {}

// What is shared are counters and locks.
impl<S> UnwindSafe for Lent<S> {}
impl<S> RefUnwindSafe for Lent<S> {}

impl<S> Lent<S> {
    /// To be lent to the user for as long as rayon lends `scope`, and no longer.
    fn new(scope: &S, shared: &Arc<ScopeData>) -> Self {
        Self { scope: NonNull::from(scope), shared: Arc::clone(shared) }
    }

    #[expect(unsafe_code, reason = "rayon's scope has a lifetime that `Scope` cannot name")]
    fn scope(&self) -> &S {
        // SAFETY: it came from a reference, which every caller of `new` has for longer than it
        // lends `self`; the user cannot move `self`, so it is not looked at later.
        unsafe { self.scope.as_ref() }
    }

    /// Makes a task of a spawned closure, which is lent the scope anew where it runs.
    #[track_caller]
    fn task<B>(&self, body: B) -> impl FnOnce(&S) + use<S, B>
    where
        B: FnOnce(Self),
    {
        let (context, body) = self.shared.pool.context_for(body);
        let shared = Arc::clone(&self.shared);
        move |scope| {
            let inner = Self::new(scope, &shared);
            let outcome = attempt(&context, || body(inner));
            discard(context);
            shared.first.keep(outcome);
        }
    }

    /// The same for one that is called on every thread.
    #[track_caller]
    fn visits<B>(&self, body: B) -> impl Fn(&S, BroadcastContext<'_>) + use<S, B>
    where
        B: Fn(Self, BroadcastContext<'_>),
    {
        let (context, body) = self.shared.pool.context_for(body);
        let visits = VisitedClosure::new(context, body);
        let shared = Arc::clone(&self.shared);
        move |scope, to| {
            let inner = Self::new(scope, &shared);
            shared.first.keep(visits.visit(to.num_threads(), |body| body(inner, to)));
        }
    }
}

/// Where a [`scope`]'s tasks are spawned: [`rayon::Scope`] with clean slots.
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::{Scope, scope};
///
/// fn fill<'scope>(s: &Scope<'scope>, places: &'scope mut [usize]) {
///     for (n, place) in places.iter_mut().enumerate() {
///         s.spawn(move |_| *place = n);
///     }
/// }
/// let mut places = [0; 3];
/// scope(|s| fill(s, &mut places));
/// assert_eq!(places, [0, 1, 2]);
/// ```
pub struct Scope<'scope>(Lent<rayon::Scope<'scope>>);

impl<'scope> Scope<'scope> {
    /// Runs a closure as a task before the scope ends.
    ///
    /// It inherits what the current task hands down now, or what the pool's handle says
    /// ([`RayonPool::in_context`]).
    ///
    /// # Panics
    ///
    /// Panics as [`Context::capture`](crate::Context::capture) does. The closure's panic resumes
    /// where the scope ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{rayon::scope, task_local};
    ///
    /// task_local! { #[inherit] static USER: u32 = 0; }
    ///
    /// let mut user = 0;
    /// scope(|s| USER.scope(7, || s.spawn(|_| user = USER.get())));
    /// assert_eq!(user, 7);
    /// ```
    #[track_caller]
    pub fn spawn<BODY>(&self, body: BODY)
    where
        BODY: FnOnce(&Scope<'scope>) + Send + 'scope,
    {
        self.0.scope().spawn(self.0.task(|inner| body(&Scope(inner))));
    }

    /// Runs a closure as a task on every thread before the scope ends. All visits inherit the same,
    /// as with [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Panics as [`spawn`](Self::spawn) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::scope;
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    ///
    /// let visits = AtomicUsize::new(0);
    /// scope(|s| s.spawn_broadcast(|_, _| _ = visits.fetch_add(1, Relaxed)));
    /// assert_eq!(visits.into_inner(), rayon::current_num_threads());
    /// ```
    #[track_caller]
    pub fn spawn_broadcast<BODY>(&self, body: BODY)
    where
        BODY: Fn(&Scope<'scope>, BroadcastContext<'_>) + Send + Sync + 'scope,
    {
        self.0.scope().spawn_broadcast(self.0.visits(move |inner, to| body(&Scope(inner), to)));
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(self.0.scope()).finish()
    }
}

/// Where a [`scope_fifo`]'s tasks are spawned: [`rayon::ScopeFifo`] with clean slots.
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::{ScopeFifo, scope_fifo};
///
/// fn fill<'scope>(s: &ScopeFifo<'scope>, places: &'scope mut [usize]) {
///     for (n, place) in places.iter_mut().enumerate() {
///         s.spawn_fifo(move |_| *place = n);
///     }
/// }
/// let mut places = [0; 3];
/// scope_fifo(|s| fill(s, &mut places));
/// assert_eq!(places, [0, 1, 2]);
/// ```
pub struct ScopeFifo<'scope>(Lent<rayon::ScopeFifo<'scope>>);

impl<'scope> ScopeFifo<'scope> {
    /// Runs a closure as a task before the scope ends, like [`Scope::spawn`], behind what the same
    /// thread has spawned before.
    ///
    /// # Panics
    ///
    /// Panics as [`Scope::spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::scope_fifo;
    ///
    /// let (mut a, mut b) = (0, 0);
    /// scope_fifo(|s| {
    ///     s.spawn_fifo(|_| a = 1);
    ///     s.spawn_fifo(|_| b = 2);
    /// });
    /// assert_eq!((a, b), (1, 2));
    /// ```
    #[track_caller]
    pub fn spawn_fifo<BODY>(&self, body: BODY)
    where
        BODY: FnOnce(&ScopeFifo<'scope>) + Send + 'scope,
    {
        self.0.scope().spawn_fifo(self.0.task(|inner| body(&ScopeFifo(inner))));
    }

    /// Runs a closure as a task on every thread before the scope ends, like
    /// [`Scope::spawn_broadcast`].
    ///
    /// # Panics
    ///
    /// Panics as [`Scope::spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::rayon::scope_fifo;
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    ///
    /// let visits = AtomicUsize::new(0);
    /// scope_fifo(|s| s.spawn_broadcast(|_, _| _ = visits.fetch_add(1, Relaxed)));
    /// assert_eq!(visits.into_inner(), rayon::current_num_threads());
    /// ```
    #[track_caller]
    pub fn spawn_broadcast<BODY>(&self, body: BODY)
    where
        BODY: Fn(&ScopeFifo<'scope>, BroadcastContext<'_>) + Send + Sync + 'scope,
    {
        self.0.scope().spawn_broadcast(self.0.visits(move |inner, to| body(&ScopeFifo(inner), to)));
    }
}

impl fmt::Debug for ScopeFifo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopeFifo").field(self.0.scope()).finish()
    }
}

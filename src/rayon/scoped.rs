//! [`Scope`] and [`ScopeFifo`]: where the tasks of a scope are spawned.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;

use rayon::BroadcastContext;

use super::outcome::First;
use super::pool::RayonPool;
use super::spawn::VisitedClosure;
use super::task::attempt;
use crate::frame::discard;

/// What a scope shares with its tasks.
pub(super) struct ScopeData {
    pub(super) first: First,
    /// Says what spawned tasks inherit.
    pool: RayonPool,
}

impl ScopeData {
    pub(super) fn new(pool: &RayonPool) -> Arc<Self> {
        Arc::new(Self { first: First::default(), pool: pool.clone() })
    }

    /// Returns the body's result, or resumes the scope's first panic. All tasks are over.
    pub(super) fn settle<R>(&self, result: Option<R>) -> R {
        match (self.first.take(), result) {
            (None, Some(result)) => result,
            (Some(payload), result) => {
                discard(result);
                payload.resume()
            }
            (None, None) => unreachable!("a body without a result has panicked"),
        }
    }
}

/// Rayon's scope and ours. Users only have references to it.
pub(super) struct Lent<S> {
    scope: NonNull<S>,
    shared: Arc<ScopeData>,
}

#[expect(unsafe_code, reason = "the pointer stands for a shared reference")]
// SAFETY: it is shared as `&S` and `&ScopeData` would be, which are `Send` under these bounds.
unsafe impl<S: Sync> Sync for Lent<S> {}

// Only counters and locks are shared.
impl<S> UnwindSafe for Lent<S> {}
impl<S> RefUnwindSafe for Lent<S> {}

impl<S> Lent<S> {
    /// Makes what is lent to the user for as long as rayon lends `scope`, and no longer.
    pub(super) fn new(scope: &S, shared: &Arc<ScopeData>) -> Self {
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

    /// Makes tasks of a closure that is called on every thread.
    #[track_caller]
    fn visits<B>(&self, body: B) -> impl Fn(&S, BroadcastContext<'_>) + use<S, B>
    where
        B: Fn(Self, BroadcastContext<'_>),
    {
        let (context, body) = self.shared.pool.context_for(body);
        let visits = VisitedClosure::new(context, body);
        let shared = Arc::downgrade(&self.shared);
        move |scope, to| {
            let shared = shared.upgrade().unwrap_or_else(|| unreachable!("the scope waits"));
            let inner = Self::new(scope, &shared);
            let (outcome, dropped) = visits.visit(to.num_threads(), |body| body(inner, to));
            shared.first.keep(outcome.and(dropped));
        }
    }
}

/// Where a [`scope`](super::scope())'s tasks are spawned: [`rayon::Scope`] with clean slots.
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
pub struct Scope<'scope>(pub(super) Lent<rayon::Scope<'scope>>);

impl<'scope> Scope<'scope> {
    /// Runs a closure as a task before the scope ends.
    ///
    /// It inherits what the current task hands down now, or what the pool's handle specifies
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

/// Where a [`scope_fifo`](super::scope_fifo)'s tasks are spawned: [`rayon::ScopeFifo`] with clean
/// slots.
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
pub struct ScopeFifo<'scope>(pub(super) Lent<rayon::ScopeFifo<'scope>>);

impl<'scope> ScopeFifo<'scope> {
    /// Runs a closure as a task before the scope ends, like [`Scope::spawn`], but behind what the
    /// same thread has spawned before.
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

//! Tasks that may borrow, and are waited for.

use std::fmt;

use super::task::run;
use crate::context::Context;

/// Runs a closure that can spawn tasks which borrow from outside, and waits for them:
/// [`rayon::scope`] with clean slots.
///
/// The closure is a task itself, since rayon may run it on another thread; each spawned closure is
/// one, and inherits what its spawner hands down where it spawns.
///
/// # Panics
///
/// As [`Context::capture`] does, and with the panic of the closure or of a spawned one, or the payload
/// of a clean-up that fails.
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
pub fn scope<'scope, F, R>(f: F) -> R
where
    F: FnOnce(&Scope<'_, 'scope>) -> R + Send,
    R: Send,
{
    scope_in(&Context::capture(), f)
}

/// Opens a scope like [`scope`], whose closure runs in a context that you choose, with its carriers
/// attached.
///
/// # Panics
///
/// As [`scope`] does, and with a [`RunError`](crate::RunError) if a carrier cannot be attached.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, rayon::scope_in};
///
/// let mut done = false;
/// scope_in(&Context::empty(), |s| s.spawn(|_| done = true));
/// assert!(done);
/// ```
pub fn scope_in<'scope, F, R>(context: &Context, f: F) -> R
where
    F: FnOnce(&Scope<'_, 'scope>) -> R + Send,
    R: Send,
{
    rayon::scope(|inner| run(context, || f(&Scope { inner })))
}

/// Where a [`scope`]'s tasks are spawned.
pub struct Scope<'s, 'scope> {
    inner: &'s rayon::Scope<'scope>,
}

impl<'scope> Scope<'_, 'scope> {
    /// Runs a closure as a task before the scope ends. It inherits what the current task hands down
    /// now.
    ///
    /// # Panics
    ///
    /// As [`Context::capture`] does. The closure's panic resumes where the scope ends.
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
    pub fn spawn<F>(&self, f: F)
    where
        F: FnOnce(&Scope<'_, 'scope>) + Send + 'scope,
    {
        self.spawn_in(&Context::capture(), f);
    }

    /// Spawns like [`spawn`](Self::spawn), in a context that you choose, with its carriers attached.
    ///
    /// # Panics
    ///
    /// The closure's panic, or a [`RunError`](crate::RunError) if a carrier cannot be attached,
    /// resumes where the scope ends.
    pub fn spawn_in<F>(&self, context: &Context, f: F)
    where
        F: FnOnce(&Scope<'_, 'scope>) + Send + 'scope,
    {
        let context = context.clone();
        self.inner.spawn(move |inner| run(&context, || f(&Scope { inner })));
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

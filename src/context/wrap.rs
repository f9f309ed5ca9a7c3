//! Closures that carry their context to whatever executor calls them.

use super::Context;

impl Context {
    /// Makes a closure that runs `f` as a task in this context, once, on whatever thread calls it.
    ///
    /// If the closure is dropped instead, `f` and the context are dropped with it.
    ///
    /// # Panics
    ///
    /// The closure panics as [`run`](Self::run) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static USER: u64 = 0;
    /// }
    ///
    /// let job = USER.scope(17, || Context::capture().wrap(|| USER.get()));
    /// assert_eq!(std::thread::spawn(job).join().unwrap(), 17);
    /// ```
    pub fn wrap<R>(self, f: impl FnOnce() -> R) -> impl FnOnce() -> R {
        move || self.run(f)
    }

    /// Makes a closure like [`wrap`](Self::wrap) that can be called any number of times: each call is
    /// a task of its own in the same context.
    ///
    /// # Panics
    ///
    /// The closure panics as [`run`](Self::run) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! { static CALLS: u32 = 0; }
    ///
    /// let count = Context::empty().wrap_fn(|| CALLS.with_mut(|n| { *n += 1; *n }));
    /// assert_eq!((count(), count()), (1, 1));
    /// ```
    pub fn wrap_fn<R>(self, f: impl Fn() -> R) -> impl Fn() -> R {
        move || self.run(&f)
    }
}

/// Makes a task of a closure: whatever executor calls it, it starts with fresh slots and inherits
/// what the current task hands down *now*, where it is wrapped.
///
/// Short for `Context::capture().wrap(f)`. Wrap where you submit, not inside the job: a context that
/// is captured on the worker is the worker's. Wrapping twice is harmless.
///
/// # Panics
///
/// As [`Context::capture`] does. The closure panics as [`Context::run`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::{isolated, task_local};
///
/// task_local! { static SEEN: bool = false; }
///
/// SEEN.set(true);
/// let fresh = std::thread::spawn(isolated(|| SEEN.get())).join().unwrap();
/// assert!(!fresh && SEEN.get());
/// ```
#[track_caller]
pub fn isolated<R>(f: impl FnOnce() -> R) -> impl FnOnce() -> R {
    Context::capture().wrap(f)
}

/// Makes a task of a closure like [`isolated`], in a context that you choose.
///
/// # Panics
///
/// The closure panics as [`Context::run`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, isolated_in};
///
/// let job = isolated_in(&Context::empty(), || 6 * 7);
/// assert_eq!(job(), 42);
/// ```
pub fn isolated_in<R, F: FnOnce() -> R>(context: &Context, f: F) -> impl FnOnce() -> R + use<R, F> {
    context.clone().wrap(f)
}

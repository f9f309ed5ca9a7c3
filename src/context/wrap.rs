//! Closures that carry their context to whatever executor calls them.

use std::panic::Location;

use super::{Context, Origin};
use crate::frame::{Framed, discard, thread};
use crate::panic::catch;

/// What a wrapped closure takes along: the context of its tasks, and where it was wrapped.
pub(crate) struct Wrapping {
    context: Context,
    /// `None`: somewhere in the crate.
    made: Option<&'static Location<'static>>,
}

impl Wrapping {
    #[track_caller]
    pub(crate) fn new(context: Context) -> Self {
        Self { context: context.submitted(), made: Some(Location::caller()) }
    }

    /// Takes a context along for code of the crate.
    #[cfg(feature = "tower")]
    pub(crate) fn unplaced(context: Context) -> Self {
        Self { context: context.submitted(), made: None }
    }

    /// Runs a closure as [`Context::run`] does.
    #[inline]
    pub(crate) fn call<R>(&self, f: impl FnOnce() -> R) -> R {
        match self.context.try_call(f) {
            Ok(result) => result,
            Err(error) => error.raise(self.made.map(Origin::Isolated)),
        }
    }

    /// The same, and lets go of the context, whose drop runs user code, too. If that fails, the
    /// result is not returned.
    #[inline]
    pub(crate) fn call_once<R>(self, f: impl FnOnce() -> R) -> R {
        let result = self.call(f);
        match catch(|| drop(self)) {
            Ok(()) => result,
            Err(payload) => {
                discard(result);
                payload.resume()
            }
        }
    }
}

impl Context {
    /// Makes a closure that runs `f` as a task in this context, once, on whatever thread calls it.
    ///
    /// If the closure is dropped instead, `f` and the context are dropped with it. Where that
    /// happens outside of every task, what their drops leave in slots is dropped too.
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
    #[track_caller]
    pub fn wrap<R>(self, f: impl FnOnce() -> R) -> impl FnOnce() -> R {
        let f = Framed::new(f);
        let context = Wrapping::new(self);
        move || context.call_once(|| f.into_inner()())
    }

    /// Makes a closure like [`wrap`](Self::wrap) that can be called any number of times: each call
    /// is a task of its own in the same context.
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
    #[track_caller]
    pub fn wrap_fn<R>(self, f: impl Fn() -> R) -> impl Fn() -> R {
        let f = Framed::new(f);
        let context = Wrapping::new(self);
        move || context.call(&*f)
    }

    /// Makes a closure like [`wrap_fn`](Self::wrap_fn) from one that changes what it owns from call
    /// to call. Slots are fresh in each call all the same.
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
    /// let mut total = 0;
    /// let mut count = Context::empty().wrap_fn_mut(|| {
    ///     total += 1;
    ///     CALLS.replace(total)
    /// });
    /// assert_eq!((count(), count()), (0, 0));
    /// drop(count);
    /// assert_eq!(total, 2);
    /// ```
    #[track_caller]
    pub fn wrap_fn_mut<R>(self, f: impl FnMut() -> R) -> impl FnMut() -> R {
        let mut f = Framed::new(f);
        let context = Wrapping::new(self);
        move || context.call(&mut *f)
    }
}

/// Returns whether the calling code runs as a task, so that the slots it sees are its own. A thread
/// outside of every task shares them with whatever else runs there, and so does a task of a
/// [leaky](crate::Isolation::Leaky) pool (unless it runs on top of an isolated one, whose slots it
/// shares). A task that runs where the thread's slots have ended, in a destructor of a
/// thread-local, has no slots.
///
/// It is for checks where isolation may have been forgotten:
/// `debug_assert!(cleanslate::is_isolated())`. A closure or future that belongs to a larger task is
/// a part of it, and so isolated.
///
/// # Examples
///
/// ```
/// use cleanslate::{is_isolated, isolated};
///
/// assert!(!is_isolated());
/// assert!(isolated(is_isolated)());
/// ```
#[must_use]
pub fn is_isolated() -> bool {
    thread::current().is_in_frame()
}

/// Makes a task of a closure: whatever executor calls it, it starts with fresh slots and inherits
/// what the current task hands down *now*, where it is wrapped.
///
/// Short for `Context::capture().wrap(f)`. Wrap where you submit, not inside the job: a context
/// that is captured on the worker is the worker's. Wrapping twice is harmless.
///
/// For a future there is [`FutureExt::isolated`](crate::future::FutureExt::isolated). The compiler
/// suggests `isolated(|| async { … })()`, whose task is over before the future runs.
///
/// # Panics
///
/// Panics as [`Context::capture`] does. The closure panics as [`Context::run`] does.
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
    let f = Framed::new(f);
    let context = Context::capture();
    context.wrap(f.into_inner())
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
#[track_caller]
pub fn isolated_in<R, F: FnOnce() -> R>(context: &Context, f: F) -> impl FnOnce() -> R + use<R, F> {
    context.clone().wrap(f)
}

/// Makes every call of a closure of one argument a task, for the `map` of any executor or iterator:
/// each call starts with fresh slots and inherits what the current task hands down *now*.
///
/// A key or comparison function of a sort does not fit: its arguments are references of any
/// lifetime ("implementation of `Fn` is not general enough"), or it has two. Capture once and run
/// each call in the context, as in the second example.
///
/// If anything is inherited, each call counts a reference to it: about 20 ns, or 100 where two
/// threads call at once. `.isolated()` on a rayon iterator, and pools, avoid that.
///
/// # Panics
///
/// Panics as [`Context::capture`] does. The closure panics as [`Context::run`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::{isolated_fn, task_local};
///
/// task_local! {
///     #[inherit]
///     static FACTOR: u32 = 1;
///     static CALLS: u32 = 0;
/// }
///
/// FACTOR.set(10);
/// let step = isolated_fn(|n: u32| (n * FACTOR.get(), CALLS.replace(1)));
/// assert_eq!([1, 2, 3].map(step), [(10, 0), (20, 0), (30, 0)]);
/// ```
///
/// ```
/// use cleanslate::{Context, task_local};
///
/// task_local! { static CALLS: usize = 0; }
///
/// let context = Context::capture();
/// let mut words = ["c", "bbb", "aa"];
/// words.sort_by_key(|word| context.run(|| CALLS.replace(1) + word.len()));
/// assert_eq!(words, ["c", "aa", "bbb"]);
/// ```
#[track_caller]
pub fn isolated_fn<A, R>(f: impl Fn(A) -> R) -> impl Fn(A) -> R {
    let f = Framed::new(f);
    let context = Context::capture();
    wrap_each(context, f.into_inner())
}

/// Makes every call of a closure a task like [`isolated_fn`], in a context that you choose.
///
/// It does not fit the functions of a sort either: call those in `context.run`.
///
/// # Panics
///
/// The closure panics as [`Context::run`] does.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, isolated_fn_in};
///
/// let double = isolated_fn_in(&Context::empty(), |n: u32| 2 * n);
/// assert_eq!([1, 2, 3].map(double), [2, 4, 6]);
/// ```
#[track_caller]
pub fn isolated_fn_in<A, R, F: Fn(A) -> R>(
    context: &Context,
    f: F,
) -> impl Fn(A) -> R + use<A, R, F> {
    wrap_each(context.clone(), f)
}

#[track_caller]
fn wrap_each<A, R, F: Fn(A) -> R>(context: Context, f: F) -> impl Fn(A) -> R + use<A, R, F> {
    let f = Framed::new(f);
    let context = Wrapping::new(context);
    move |argument| context.call(|| f(argument))
}

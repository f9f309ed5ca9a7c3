//! `task_local!` and its key type.

#[cfg(all(test, not(loom)))]
mod suspended;

use std::fmt;

use super::declaration::Declaration;
use super::error::{AccessError, Reason};
use super::place::{Place, SlotCell, ValueSource};
use super::scoped_future::ScopedFuture;
use crate::frame::permanent::{self, Key};
use crate::frame::thread::Thread;
use crate::panic::Guarded;

/// The key of a slot that [`task_local!`](crate::task_local) declares.
///
/// Every task has a value of its own, made by the declared initialiser at the first touch in that
/// task, and dropped when the task ends, before its end can be observed. Outside a task a slot
/// behaves like a [`std::thread_local!`] of its thread.
///
/// Access to a value that the task holds costs two loads and a comparison more than a plain
/// thread-local. The first touch allocates one box per slot and thread, which is reused from then
/// on. So a global allocator must not use slots: it would call itself for ever. Nor may the `Clone`
/// of an inherited value submit a task or capture a context while it is copied for one.
///
/// The methods panic where their `try_` twins return an [`AccessError`]: when the thread is ending
/// and its slots have been torn down, when the value is borrowed by an enclosing call that
/// conflicts with this one, and when an initialiser needs its own slot.
///
/// # Examples
///
/// ```
/// use cleanslate::{Pool, task_local};
///
/// task_local! { static REQUEST: Option<u32> = None; }
///
/// let pool = Pool::new(2)?;
/// let found = pool.map(0..100, |id| REQUEST.replace(Some(id)));
/// assert!(found.iter().all(Option::is_none));
/// # Ok::<_, cleanslate::BuildError>(())
/// ```
#[doc(alias = "ThreadLocal")]
#[doc(alias = "LocalKey")]
#[doc(alias = "contextvar")]
#[doc(alias = "MDC")]
pub struct TaskLocal<T: 'static> {
    // All that the hot path needs is in this constant, not behind `declaration`, so that it is
    // inlined into other crates, as with std's `LocalKey`.
    key: &'static Key<SlotCell<T>>,
    init: fn() -> T,
    is_inheritable: bool,
    declaration: &'static Declaration<T>,
}

impl<T: Send + 'static> fmt::Debug for TaskLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLocal").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl crate::Context {
    /// Returns a context in which an inheritable slot has this value.
    ///
    /// A task in it starts with a clone of the value, even if the slot is declared
    /// `#[inherit(with = f)]`: `f` is for captured values only.
    ///
    /// # Panics
    ///
    /// Panics if the slot [is not inherited](TaskLocal::is_inherited), or if the drop of a value
    /// that this one replaces panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{Context, task_local};
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static TENANT: &'static str = "nobody";
    /// }
    ///
    /// let context = Context::empty().with(&TENANT, "acme");
    /// assert_eq!((context.run(|| TENANT.get()), TENANT.get()), ("acme", "nobody"));
    /// ```
    #[track_caller]
    #[must_use = "the context with the value is returned"]
    pub fn with<T: Send + 'static>(self, slot: &TaskLocal<T>, value: T) -> Self {
        let value = Guarded::new(value);
        let declaration = slot.declaration;
        match &declaration.inherit {
            Some(inherit) => self.given(declaration, inherit.share(value.into_inner())),
            None => panic!("slot `{}` is not inherited", slot.name()),
        }
    }
}

impl<T: Send + 'static> ValueSource<T> for &TaskLocal<T> {
    fn init(&self) -> Result<T, Reason> {
        Ok((self.init)())
    }

    #[inline]
    fn is_inheritable(&self) -> bool {
        self.is_inheritable
    }

    fn inherits(&self, thread: &Thread) -> bool {
        self.is_inheritable && self.declaration.inherits(thread)
    }

    fn inherit(&self) -> Option<T> {
        if self.is_inheritable { ValueSource::inherit(&self.declaration) } else { None }
    }
}

/// What a slot can hold: everything that is `Send + 'static`. The trait exists for an error message
/// that says so once.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of a task-local slot, which has to be `Send`",
    label = "a slot of this type would be bound to a thread",
    note = "an isolated future takes its slots along to other threads",
    note = "for values that are not `Send` there are `worker_local!`, and `foreign::adopt` of a \
            `thread_local!`"
)]
pub trait SlotValue: Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Send + 'static> SlotValue for T {}

// The one place where a declaration asks for the bound.
impl<T: SlotValue> TaskLocal<T> {
    /// Makes the key, for the macro.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        key: &'static Key<SlotCell<T>>,
        declaration: &'static Declaration<T>,
        is_inheritable: bool,
        init: fn() -> T,
    ) -> Self {
        Self { key, init, is_inheritable, declaration }
    }
}

impl<T: Send + 'static> TaskLocal<T> {
    /// Returns the path under which the slot was declared, such as `shop::cart::USER`.
    ///
    /// # Examples
    ///
    /// ```
    /// cleanslate::task_local! { static USER: u32 = 0; }
    ///
    /// assert!(USER.name().ends_with("USER"));
    /// ```
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.declaration.path
    }

    /// Returns whether tasks inherit the slot: it is declared `#[inherit]` or
    /// `#[inherit(with = f)]`.
    ///
    /// # Examples
    ///
    /// ```
    /// cleanslate::task_local! {
    ///     #[inherit]
    ///     static TENANT: u32 = 0;
    ///     static SCRATCH: u32 = 0;
    /// }
    /// assert!(TENANT.is_inherited() && !SCRATCH.is_inherited());
    /// ```
    #[must_use]
    pub const fn is_inherited(&self) -> bool {
        self.is_inheritable
    }

    /// Binds a value while a future runs; between its polls and afterwards the slot is as it was
    /// before.
    ///
    /// This is [`scope`](Self::scope) for a part of an async task: it binds this slot only,
    /// whatever else the task holds. What the future sets belongs to the scope, and is dropped with
    /// the returned future, after the future inside it. So the returned future may be dropped at
    /// any time, and may run beside others of the same task.
    ///
    /// # Panics
    ///
    /// Polling panics if the future does, if the thread is ending, or if the value was lost, for
    /// example because a stackful coroutine that had borrowed it was suspended when an earlier poll
    /// returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
    ///
    /// cleanslate::task_local! { static USER: &'static str = "nobody"; }
    ///
    /// let mut alice = pin!(USER.scope_future("alice", async { USER.get() }));
    /// let poll = alice.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    /// assert_eq!((poll, USER.get()), (Poll::Ready("alice"), "nobody"));
    /// ```
    pub fn scope_future<F: Future>(&self, value: T, future: F) -> ScopedFuture<T, F> {
        ScopedFuture::new(self.declaration, value, future)
    }

    /// Returns the slot's place on this thread. There always is one.
    #[inline(always)]
    fn place(&self) -> Result<Place<'_, T, &Self>, AccessError> {
        Ok(Place { cell: permanent::get(self.key), source: self })
    }
}

super::methods! { TaskLocal
    /// use cleanslate::task_local;
    ///
    /// task_local! { static SLOT: Vec<u32> = vec![1]; }
}

/// Declares task-local slots, with the syntax of [`std::thread_local!`].
///
/// ```text
/// task_local! {
///     /// Attributes and docs as usual.
///     pub static USER: Option<String> = None;
///     #[inherit]
///     static TENANT: u32 = 0;
///     #[inherit(with = |depth| depth + 1)]
///     static DEPTH: u32 = const { 0 };
/// }
/// ```
///
/// A slot needs no `Cell` and no `RefCell`: `get`, `set`, `replace` and `with_borrow_mut` are
/// methods of the key. Leave those types out when a `thread_local!` becomes a slot.
///
/// Each declaration is a key of type [`TaskLocal<T>`](crate::TaskLocal); `T` must be
/// `Send + 'static`, since a future takes its slots along to other threads. (For other values there
/// are [`worker_local!`](crate::worker_local), and [`adopt`](crate::foreign::adopt) of a
/// `thread_local!`.) The initialiser runs at the first touch in a task, on the thread that runs it;
/// it may use other slots. A value is made on the stack and moved to its place: keep anything
/// larger than about 16 KiB in a `Box`.
///
/// - By default a task starts fresh.
/// - `#[inherit]`: a task starts with a clone of what its submitter held at `submit`. Needs
///   `T: Clone + Send + Sync`. A slot that the submitter has not touched yet hands nothing down:
///   each task runs the initialiser for itself. Where that makes an id, say, touch the slot first.
/// - `#[inherit(with = f)]`: a task starts with `f(&value)` of that clone, made at its first touch.
///   Needs the same.
///
/// A capture clones nothing if none of the inheritable slots was changed since the last one: by a
/// first touch, `set`, `replace`, `take`, `with_mut` or `scope`. Otherwise it clones the value of
/// each inheritable slot that the task holds, so keep a large one in an `Arc`. A change behind a
/// shared reference (an atomic inside the value) is not noticed.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, task_local};
///
/// task_local! {
///     static SEEN: Vec<u32> = Vec::new();
///     #[inherit(with = |depth| depth + 1)]
///     static DEPTH: u32 = 0;
/// }
///
/// SEEN.with_mut(|seen| seen.push(1));
/// DEPTH.set(4);
/// Context::capture().run(|| {
///     assert!(SEEN.with(Vec::is_empty));
///     assert_eq!(DEPTH.get(), 5);
/// });
/// assert_eq!(SEEN.take(), Some(vec![1]));
/// ```
#[doc(alias = "thread_local")]
#[doc(alias = "contextvar")]
#[doc(alias = "MDC")]
#[macro_export]
macro_rules! task_local {
    // One step for all declarations, so that their number meets no limit of the compiler.
    ($($(#[$($attribute:tt)*])* $vis:vis static $name:ident: $t:ty = $init:expr);* $(;)?) => {
        $($crate::__task_local! {
            [] [] $(#[$($attribute)*])* $vis static $name: $t = $init;
        })*
    };
    // For an error that says what is wrong.
    ($($declarations:tt)*) => {
        $crate::__task_local! { [] [] $($declarations)* }
    };
}

/// Reports what is wrong with a declaration.
#[doc(hidden)]
#[macro_export]
macro_rules! __misdeclared {
    ($name:ident $what:literal) => {
        ::core::compile_error!(::core::concat!("`", ::core::stringify!($name), "` ", $what));
    };
}

/// See above.
#[doc(hidden)]
#[macro_export]
macro_rules! __no_initialiser {
    ($name:ident) => {
        $crate::__misdeclared! {
            $name "needs an initialiser, which makes each value: `static NAME: Type = value;`"
        }
    };
}

/// See above.
#[doc(hidden)]
#[macro_export]
macro_rules! __no_semicolon {
    ($name:ident) => {
        $crate::__misdeclared! { $name "ends with a `;`, not with a `,`" }
    };
}

/// Takes declarations apart: `[attributes kept] [policy] rest`.
#[doc(hidden)]
#[macro_export]
macro_rules! __task_local {
    ([] []) => {};
    ([$($kept:tt)*] [$($policy:tt)+] #[inherit $($again:tt)*] $($rest:tt)*) => {
        ::core::compile_error!("a task_local! slot takes one #[inherit]");
    };
    ([$($kept:tt)*] [] #[inherit] $($rest:tt)*) => {
        $crate::__task_local! { [$($kept)*] [clone] $($rest)* }
    };
    ([$($kept:tt)*] [] #[inherit(with = $f:expr $(,)?)] $($rest:tt)*) => {
        $crate::__task_local! { [$($kept)*] [with $f] $($rest)* }
    };
    ([$($kept:tt)*] [] #[inherit $($odd:tt)*] $($rest:tt)*) => {
        ::core::compile_error!("expected #[inherit] or #[inherit(with = function)]");
    };
    ([$($kept:tt)*] [$($policy:tt)*] #[inherited $($odd:tt)*] $($rest:tt)*) => {
        ::core::compile_error!("expected #[inherit] or #[inherit(with = function)]");
    };
    // Many lines per step, since there is a limit of 128 steps.
    (
        [$($kept:tt)*] [$($policy:tt)*]
        #[doc $($a:tt)*] #[doc $($b:tt)*] #[doc $($c:tt)*] #[doc $($d:tt)*]
        #[doc $($e:tt)*] #[doc $($f:tt)*] #[doc $($g:tt)*] #[doc $($h:tt)*]
        #[doc $($i:tt)*] #[doc $($j:tt)*] #[doc $($k:tt)*] #[doc $($l:tt)*]
        #[doc $($m:tt)*] #[doc $($n:tt)*] #[doc $($o:tt)*] #[doc $($p:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__task_local! {
            [
                $($kept)*
                #[doc $($a)*] #[doc $($b)*] #[doc $($c)*] #[doc $($d)*]
                #[doc $($e)*] #[doc $($f)*] #[doc $($g)*] #[doc $($h)*]
                #[doc $($i)*] #[doc $($j)*] #[doc $($k)*] #[doc $($l)*]
                #[doc $($m)*] #[doc $($n)*] #[doc $($o)*] #[doc $($p)*]
            ]
            [$($policy)*] $($rest)*
        }
    };
    ([$($kept:tt)*] [$($policy:tt)*] #[$($attribute:tt)*] $($rest:tt)*) => {
        $crate::__task_local! { [$($kept)* #[$($attribute)*]] [$($policy)*] $($rest)* }
    };
    (
        [$($kept:tt)*] [$($policy:tt)*]
        $vis:vis static $name:ident: $t:ty = $init:expr; $($rest:tt)*
    ) => {
        $crate::__task_local! { @declare [$($kept)*] [$($policy)*] $vis $name, $t, $init }
        $crate::__task_local! { [] [] $($rest)* }
    };
    ([$($kept:tt)*] [$($policy:tt)*] $vis:vis static $name:ident: $t:ty $(; $($rest:tt)*)?) => {
        $crate::__no_initialiser! { $name }
    };
    (
        [$($kept:tt)*] [$($policy:tt)*]
        $vis:vis static $name:ident: $t:ty = $init:expr, $($rest:tt)*
    ) => {
        $crate::__no_semicolon! { $name }
    };
    ([$($kept:tt)*] [$($policy:tt)*] $vis:vis static $name:ident: $t:ty = $init:expr) => {
        $crate::__task_local! { @declare [$($kept)*] [$($policy)*] $vis $name, $t, $init }
    };
    (@declare [$($kept:tt)*] [$($policy:tt)*] $vis:vis $name:ident, $t:ty, $init:expr) => {
        $($kept)*
        $vis const $name: $crate::TaskLocal<$t> = {
            // Items in a block are visible to the caller's expressions in it, hence the long names.
            $crate::__private::permanent! {
                static __CLEANSLATE_CELL: $crate::__private::SlotCell<$t> =
                    __CLEANSLATE_DECLARATION.cell()
            }
            static __CLEANSLATE_DECLARATION: $crate::__private::Declaration<$t> =
                $crate::__private::Declaration::new(
                    ::core::concat!(::core::module_path!(), "::", ::core::stringify!($name)),
                    &__CLEANSLATE_CELL,
                    $crate::__task_local!(@inherit $t, $($policy)*),
                );
            $crate::TaskLocal::new(
                &__CLEANSLATE_CELL,
                &__CLEANSLATE_DECLARATION,
                $crate::__task_local!(@is_inheritable $($policy)*),
                || $init,
            )
        };
    };
    (@is_inheritable) => { false };
    (@is_inheritable $($policy:tt)+) => { true };
    (@inherit $t:ty,) => { ::core::option::Option::None };
    (@inherit $t:ty, clone) => {
        ::core::option::Option::Some($crate::__private::Inherit::<$t>::by_clone())
    };
    (@inherit $t:ty, with $f:expr) => {
        ::core::option::Option::Some($crate::__private::Inherit::<$t>::with($f))
    };
}

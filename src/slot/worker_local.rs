//! `worker_local!` and its key type: state that is meant to outlive tasks.

use std::fmt;
use std::ptr::NonNull;

use super::error::{AccessError, Reason};
use super::instances::{self, Lease};
use super::place::{Place, SlotCell, ValueSource};
use crate::frame::cell::{InFutures, RawCell, Slot};
use crate::frame::permanent::{self, Key};

/// The methods that declared and owned worker-locals share, on top of a `lend` that leases the
/// instance.
macro_rules! lends {
    // What the examples begin with: it makes `LOCAL`, of a `Vec<u32>` that is empty at first.
    ($(#[doc = $setup:literal])*) => {
        /// Calls `f` with the instance that the current task has on lease.
        ///
        /// # Panics
        ///
        /// Panics if [`try_with`](Self::try_with) returns an error, or if the initialiser or `f`
        /// panics. The instance is kept, in the state that it is in then.
        ///
        /// # Examples
        ///
        /// ```
        $(#[doc = $setup])*
        ///
        /// LOCAL.with(|values| values.push(7));
        /// assert_eq!(LOCAL.with(|values| values.len()), 1);
        /// ```
        #[track_caller]
        pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            match self.try_with(f) {
                Ok(result) => result,
                Err(error) => super::fail(error),
            }
        }

        /// Calls `f` like [`with`](Self::with), or returns an error.
        ///
        /// # Errors
        ///
        /// Returns an error if the task is inside `with` already (a helper must not silently get
        /// another connection, outside your transaction), if the initialiser needs the worker-local
        /// itself or fails, or if the thread is ending.
        ///
        /// # Panics
        ///
        /// Panics if the initialiser or `f` panics.
        ///
        /// # Examples
        ///
        /// ```
        $(#[doc = $setup])*
        ///
        /// assert_eq!(LOCAL.try_with(|values| values.len()), Ok(0));
        /// assert!(LOCAL.with(|_| LOCAL.try_with(|_| ())).is_err(), "it is in use");
        /// ```
        pub fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R, AccessError> {
            self.lend(|lease| f(lease.get()))
        }
    };
}

pub(super) use lends;

/// A `worker_local!` declaration.
#[doc(hidden)]
pub struct WorkerDeclaration<T: 'static> {
    name: &'static str,
    key: &'static Key<SlotCell<Lease<T>>>,
    init: fn() -> T,
}

impl<T: 'static> fmt::Debug for WorkerDeclaration<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerDeclaration").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T: 'static> WorkerDeclaration<T> {
    /// Makes a declaration, for the macro.
    pub const fn new(
        name: &'static str,
        key: &'static Key<SlotCell<Lease<T>>>,
        init: fn() -> T,
    ) -> Self {
        Self { name, key, init }
    }

    /// Makes the cell of one thread, for the macro.
    pub const fn cell(&'static self) -> SlotCell<Lease<T>> {
        SlotCell::from_raw(RawCell::declared(self, InFutures::EndsWithPoll, false))
    }
}

impl<T: 'static> Slot for WorkerDeclaration<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cell(&self) -> NonNull<RawCell> {
        NonNull::from(&permanent::get(self.key).raw)
    }
}

impl<T: 'static> ValueSource<Lease<T>> for &'static WorkerDeclaration<T> {
    fn init(&self) -> Result<Lease<T>, Reason> {
        let address = std::ptr::from_ref(*self).addr();
        instances::declared::<T>(self.name, address).lease(|| Ok((self.init)()))
    }
}

/// The key of a worker-local that [`worker_local!`](crate::worker_local) declares.
///
/// It is for state that is *meant* to stay with the worker: a connection, a buffer, a random
/// generator. An instance is made at the first use on a worker, as if for nobody (in an empty
/// context, where installed and attached carriers attach what they call nothing), and tasks lease
/// it one after the other: a task takes it at its first use and gives it back at its end. A task
/// that runs on top of another one that has the instance leases a second one; at most two wait on a
/// worker, and further ones end with their lease.
///
/// The instances end with the worker, before the destructors of its thread-locals; a panic of their
/// drop is contained, and reported to the pool's [hook](crate::PoolBuilder::panic_hook). A thread
/// that belongs to no pool keeps its instances in the same way, but nobody is told of panics; code
/// there that runs in no task keeps the instance that it has used until the thread ends, so tasks
/// lease another. A suspended future gives its lease back, so each poll may find another instance.
///
/// The next task finds what this one left in an instance, on purpose: use
/// [`task_local!`](crate::task_local) for everything that it should not find.
///
/// # Examples
///
/// ```
/// use cleanslate::{Pool, worker_local};
///
/// worker_local! { static BUFFER: Vec<u8> = Vec::with_capacity(4096); }
///
/// let pool = Pool::new(1)?;
/// let lengths = pool.map(0..3_u8, |n| BUFFER.with(|buffer| {
///     buffer.push(n);
///     buffer.len()
/// }));
/// assert_eq!(lengths, [1, 2, 3]);
/// # Ok::<_, cleanslate::BuildError>(())
/// ```
pub struct WorkerLocal<T: 'static> {
    declaration: &'static WorkerDeclaration<T>,
}

impl<T: 'static> fmt::Debug for WorkerLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerLocal").field("name", &self.declaration.name).finish()
    }
}

impl<T: 'static> WorkerLocal<T> {
    /// Makes the key, for the macro.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(declaration: &'static WorkerDeclaration<T>) -> Self {
        Self { declaration }
    }

    /// Returns the path under which it was declared.
    ///
    /// # Examples
    ///
    /// ```
    /// cleanslate::worker_local! { static BUFFER: Vec<u8> = Vec::new(); }
    ///
    /// assert!(BUFFER.name().ends_with("BUFFER"));
    /// ```
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.declaration.name
    }

    lends! {
        /// use cleanslate::worker_local;
        ///
        /// worker_local! { static LOCAL: Vec<u32> = Vec::new(); }
    }

    fn lend<R>(&self, f: impl FnOnce(&mut Lease<T>) -> R) -> Result<R, AccessError> {
        let source = self.declaration;
        Place { cell: permanent::get(source.key), source }.try_with_mut(f)
    }
}

/// Declares worker-locals, with the syntax of [`std::thread_local!`]: see [`WorkerLocal`].
///
/// An initialiser that fails can only panic here; for one that opens a connection, say, there is
/// [`OwnedWorkerLocal::fallible`](crate::OwnedWorkerLocal::fallible).
///
/// # Examples
///
/// ```
/// use cleanslate::worker_local;
///
/// worker_local! {
///     /// Words seen by this worker so far.
///     pub static WORDS: usize = 0;
/// }
///
/// WORDS.with(|words| *words += 2);
/// assert_eq!(WORDS.with(|words| *words), 2);
/// ```
#[macro_export]
macro_rules! worker_local {
    // One step for all declarations, so that their number meets no limit of the compiler.
    ($($(#[$($attribute:tt)*])* $vis:vis static $name:ident: $t:ty = $init:expr);* $(;)?) => {
        $($crate::__worker_local! { [$(#[$($attribute)*])*] $vis $name, $t, $init })*
    };
    // For an error that says what is wrong.
    ($(#[$($attribute:tt)*])* $vis:vis static $name:ident: $t:ty = $init:expr; $($rest:tt)*) => {
        $crate::__worker_local! { [$(#[$($attribute)*])*] $vis $name, $t, $init }
        $crate::worker_local! { $($rest)* }
    };
    ($(#[$($attribute:tt)*])* $vis:vis static $name:ident: $t:ty = $init:expr, $($rest:tt)*) => {
        $crate::__no_semicolon! { $name }
    };
    ($(#[$($attribute:tt)*])* $vis:vis static $name:ident: $t:ty $(; $($rest:tt)*)?) => {
        $crate::__no_initialiser! { $name }
    };
}

/// Declares one worker-local.
#[doc(hidden)]
#[macro_export]
macro_rules! __worker_local {
    ([$($kept:tt)*] $vis:vis $name:ident, $t:ty, $init:expr) => {
        $($kept)*
        $vis const $name: $crate::WorkerLocal<$t> = {
            $crate::__private::permanent! {
                static __CLEANSLATE_WORKER:
                    $crate::__private::SlotCell<$crate::__private::Lease<$t>> =
                    __CLEANSLATE_WORKER_DECLARATION.cell()
            }
            static __CLEANSLATE_WORKER_DECLARATION: $crate::__private::WorkerDeclaration<$t> =
                $crate::__private::WorkerDeclaration::new(
                    ::core::concat!(::core::module_path!(), "::", ::core::stringify!($name)),
                    &__CLEANSLATE_WORKER,
                    || $init,
                );
            $crate::WorkerLocal::new(&__CLEANSLATE_WORKER_DECLARATION)
        };
    };
}

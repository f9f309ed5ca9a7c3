//! How one slot's value gets from the submitter to the task: the policy that `task_local!` declares.
//!
//! A snapshot keeps one shared copy per slot, made at capture on the submitting thread. A task that
//! touches the slot makes its own value from that copy, on its own thread.
//!
//! | declared | copy at capture | a task's own value |
//! |---|---|---|
//! | `#[inherit]` | `T::clone` | `T::clone` |
//! | `#[inherit(with = f)]`, `T: Clone` | `T::clone` | `f`, so once per generation |
//! | `#[inherit(with = f)]`, other `T` | `f`, the only copier there is | `f` |

use std::any::Any;
use std::sync::Arc;

/// A slot's copy in a snapshot.
pub(crate) type Copied = Arc<dyn Any + Send + Sync>;

/// Makes the copy that a snapshot keeps; the second argument is the declared function.
pub(crate) type Copier<T> = fn(&T, fn(&T) -> T) -> T;

/// What a context needs to know of an inheritable slot, whatever its type.
pub(crate) trait Inheritance: Sync {
    /// Whether a task's value differs from the submitter's (`with = f`).
    fn derives(&self) -> bool;
    /// Copies the current task's value. `Ok(None)`: it holds none. `Err`: it is inside `with_mut`.
    fn copy_current(&self) -> Result<Option<Arc<dyn Any + Send + Sync>>, Borrowed>;
    /// Whether the current task has touched it.
    fn is_touched(&self) -> bool;
    /// Makes the current task hold its own value, if it inherits one and has not touched it yet.
    fn materialise(&self);
    /// The slot's path, for errors.
    fn name(&self) -> &'static str;
}

/// A value could not be copied, since its own `with_mut` is running.
#[derive(Debug)]
pub(crate) struct Borrowed;

/// The policy of one slot.
#[doc(hidden)]
#[derive(Debug)]
pub struct Inherit<T> {
    copy: Copier<T>,
    share: fn(T) -> Copied,
    make: fn(&T) -> T,
    derives: bool,
}

// The bounds are on the functions, so that the compiler names the one which a slot's type lacks.
impl<T: 'static> Inherit<T> {
    /// `#[inherit]`.
    pub const fn by_clone() -> Self
    where
        T: Clone + Send + Sync,
    {
        Self {
            copy: |value, _| value.clone(),
            share: |value| Arc::new(value),
            make: T::clone,
            derives: false,
        }
    }

    /// `#[inherit(with = f)]`; `copy` is [`CopyWith::COPY`] as the macro sees it.
    pub const fn with(copy: Copier<T>, f: fn(&T) -> T) -> Self
    where
        T: Send + Sync,
    {
        Self { copy, share: |value| Arc::new(value), make: f, derives: true }
    }
}

impl<T> Inherit<T> {
    pub(crate) fn derives(&self) -> bool {
        self.derives
    }

    /// The copy that a snapshot keeps.
    pub(crate) fn copy(&self, value: &T) -> Copied {
        (self.share)((self.copy)(value, self.make))
    }

    /// A task's own value.
    pub(crate) fn make(&self, copied: &T) -> T {
        (self.make)(copied)
    }
}

/// Picks the copier of a `with = f` slot: `Clone` where there is one.
///
/// An associated constant of the type itself is preferred to one of a trait, and exists only where
/// its bounds hold. So `<CopyWith<T>>::COPY` is the clone for a `T: Clone`, and `f` otherwise.
#[doc(hidden)]
#[derive(Debug)]
pub struct CopyWith<T>(std::marker::PhantomData<T>);

impl<T: Clone> CopyWith<T> {
    /// Clones.
    pub const COPY: Copier<T> = |value, _| value.clone();
}

/// See [`CopyWith`].
#[doc(hidden)]
pub trait CopyFallback<T> {
    /// Derives.
    const COPY: Copier<T> = |value, f| f(value);
}

impl<T> CopyFallback<T> for CopyWith<T> {}

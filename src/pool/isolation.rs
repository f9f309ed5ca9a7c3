//! Whether the tasks of a pool are isolated from one another.

use crate::context::{self, Call, Context, Once};
use crate::frame::{CleanupError, Failure, Frame};
use crate::panic::catch;

/// Whether the tasks of a pool start from a clean slate.
///
/// # Examples
///
/// ```
/// use cleanslate::{Isolation, Pool};
///
/// let pool = Pool::builder().workers(2).isolation(Isolation::Leaky).build().unwrap();
/// assert_eq!(pool.map([1, 2, 3], |n| n * 10), [10, 20, 30]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// Every single task starts with every slot fresh; what it put there is dropped when it ends.
    #[default]
    Reset,
    /// The classic pool, on purpose: slots live as long as the worker, nothing is inherited, and a
    /// task that runs on top of another shares its slots. For demonstrations, tests and as a
    /// baseline for benchmarks. Panics are still contained.
    Leaky,
}

impl Isolation {
    /// Runs one whole task.
    #[inline]
    pub(crate) fn run<R>(self, context: &Context, task: impl FnOnce() -> R) -> Result<R, Failure> {
        let mut task = Once::Closure(task);
        self.call(context, &mut task)?;
        Ok(task.into_result())
    }

    /// The same for a task that keeps its result.
    pub(crate) fn call(self, context: &Context, task: &mut dyn Call) -> Result<(), Failure> {
        match self {
            Self::Reset => context::call(context, task),
            Self::Leaky => catch(|| task.call()).map_err(Failure::Panic),
        }
    }
}

/// One task after another on one thread, with nothing but what separates them in between.
pub(crate) trait Tasks {
    /// Returns whether the task has left nothing to undo, so that `next_task` would do nothing.
    fn is_clean(&self) -> bool;
    /// Ends a task and begins the next.
    fn next_task(&mut self) -> Result<(), CleanupError>;
}

impl Tasks for Frame<'_> {
    #[inline]
    fn is_clean(&self) -> bool {
        Frame::is_clean(self)
    }

    #[inline]
    fn next_task(&mut self) -> Result<(), CleanupError> {
        Frame::next_task(self)
    }
}

/// The tasks of a leaky pool, and code outside of every task: nothing separates them.
pub(crate) struct Unseparated;

impl Tasks for Unseparated {
    #[inline]
    fn is_clean(&self) -> bool {
        true
    }

    #[inline]
    fn next_task(&mut self) -> Result<(), CleanupError> {
        Ok(())
    }
}

/// Either of the two. Matched once, outside of the innermost loop over items, so that an isolated
/// pool's loop has only the engine's one load and one branch per item, and a leaky pool's nothing.
pub(crate) enum Series<'c> {
    Isolated(Frame<'c>),
    Leaky(Unseparated),
}

impl<'c> Series<'c> {
    /// Begins the first task.
    #[inline]
    pub(crate) fn enter(isolation: Isolation, context: &'c Context) -> Self {
        match isolation {
            Isolation::Reset => Self::Isolated(Frame::enter(context.inherits())),
            Isolation::Leaky => Self::Leaky(Unseparated),
        }
    }

    /// Ends the last task.
    #[inline]
    pub(crate) fn end(self) -> Result<(), CleanupError> {
        match self {
            Self::Isolated(frame) => frame.end(),
            Self::Leaky(_) => Ok(()),
        }
    }
}

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
    /// Every task, one by one, starts with every slot fresh; what it put there is dropped when it
    /// ends.
    #[default]
    Reset,
    /// The classic pool, on purpose: slots live as long as the worker, nothing is inherited, and a
    /// task that runs on top of another shares its slots. For demonstrations, tests and as a
    /// baseline of benchmarks. Panics are still contained.
    Leaky,
}

impl Isolation {
    /// Runs one whole task.
    #[inline]
    pub(crate) fn run<R>(self, context: &Context, task: impl FnOnce() -> R) -> Result<R, Failure> {
        let mut task = Once::new(task);
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

/// One task after another on one thread, with nothing but what separates them in between: chosen
/// once, outside of a loop over items, so that the loop of an isolated pool has the engine's one
/// load and one branch an item, and that of a leaky one nothing.
pub(crate) trait Tasks<'c>: Sized {
    /// Begins the first task.
    fn enter(context: &'c Context) -> Self;
    /// Returns whether the task has left nothing to undo, so that `next_task` would do nothing.
    fn is_clean(&self) -> bool;
    /// Ends a task and begins the next.
    fn next_task(&mut self) -> Result<(), CleanupError>;
    /// Ends the last task.
    fn end(self) -> Result<(), CleanupError>;
}

impl<'c> Tasks<'c> for Frame<'c> {
    #[inline]
    fn enter(context: &'c Context) -> Self {
        Frame::enter(context.inherits())
    }

    #[inline]
    fn is_clean(&self) -> bool {
        Frame::is_clean(self)
    }

    #[inline]
    fn next_task(&mut self) -> Result<(), CleanupError> {
        Frame::next_task(self)
    }

    #[inline]
    fn end(self) -> Result<(), CleanupError> {
        Frame::end(self)
    }
}

/// The tasks of a leaky pool: nothing separates them.
pub(crate) struct Unseparated;

impl<'c> Tasks<'c> for Unseparated {
    #[inline]
    fn enter(_context: &'c Context) -> Self {
        Self
    }

    #[inline]
    fn is_clean(&self) -> bool {
        true
    }

    #[inline]
    fn next_task(&mut self) -> Result<(), CleanupError> {
        Ok(())
    }

    #[inline]
    fn end(self) -> Result<(), CleanupError> {
        Ok(())
    }
}

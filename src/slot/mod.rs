//! Slots: values that belong to a task.

mod error;
mod methods;
mod owned_local;
mod place;
mod table;
mod task_local;

pub use error::{AccessError, SetError};
use methods::methods;
pub use owned_local::OwnedLocal;
#[doc(hidden)]
pub use place::SlotCell;
pub(crate) use table::teardown as owned_teardown;
#[doc(hidden)]
pub use task_local::Declaration;
pub use task_local::TaskLocal;

/// The panicking methods' way out, kept off their hot path.
#[cold]
#[inline(never)]
#[track_caller]
fn fail(error: AccessError) -> ! {
    panic!("{error}")
}

/// The same for those that take a value, which is dropped here.
#[cold]
#[inline(never)]
#[track_caller]
fn fail_with<T>(refused: SetError<T>) -> ! {
    fail(refused.into())
}

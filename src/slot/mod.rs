//! Slots: values that belong to a task.

mod declaration;
mod error;
mod inherit;
mod instances;
mod methods;
mod owned_local;
mod owned_worker_local;
mod place;
mod scoped_future;
mod table;
mod task_local;
mod worker_local;

#[doc(hidden)]
pub use declaration::Declaration;
pub use error::{AccessError, SetError};
#[doc(hidden)]
pub use inherit::{Inherit, SharedValue};
#[doc(hidden)]
pub use instances::Lease;
pub(crate) use instances::end_worker;
#[cfg(feature = "sentinel")]
pub(crate) use instances::ignore_own;
use methods::methods;
pub use owned_local::OwnedLocal;
pub use owned_worker_local::OwnedWorkerLocal;
#[doc(hidden)]
pub use place::SlotCell;
pub use scoped_future::ScopedFuture;
#[doc(hidden)]
pub use task_local::SlotValue;
pub use task_local::TaskLocal;
#[doc(hidden)]
pub use worker_local::WorkerDeclaration;
pub use worker_local::WorkerLocal;

/// Panics with the error, off the hot path of the methods that do.
#[cold]
#[inline(never)]
#[track_caller]
fn fail(error: AccessError) -> ! {
    panic!("{error}")
}

/// Panics like [`fail`], for methods that take a closure. The closure is dropped first: a panic of
/// its drop while this one unwinds would be a second panic, and abort the process.
#[cold]
#[inline(never)]
#[track_caller]
fn fail_without<F>(error: AccessError, f: F) -> ! {
    let _contained = crate::panic::catch(|| drop(f));
    fail(error)
}

/// Panics like [`fail`], for methods that take a value, which is dropped here.
#[cold]
#[inline(never)]
#[track_caller]
fn fail_with<T>(refused: SetError<T>) -> ! {
    fail(refused.into())
}

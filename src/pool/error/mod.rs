//! What can go wrong with a pool, one type per way of failing.

mod build;
mod cause;
mod shutdown;
mod submit;
mod task;

pub use build::BuildError;
pub use shutdown::ShutdownError;
pub use submit::SubmitError;
pub use task::TaskError;

pub(crate) use build::{BuildErrorKind, MOST_WORKERS, WORKERS_VARIABLE};
pub(crate) use cause::{Cause, FORKED, Label, Labelled, Name, SHUT_DOWN, TOO_DEEP, Which};
pub(crate) use shutdown::ShutdownErrorKind;
pub(crate) use submit::Refused;

//! Every task starts from a clean slate.

mod adapter;
mod context;
pub mod foreign;
mod frame;
mod slot;

pub use adapter::Executor;
pub use adapter::future;
#[cfg(feature = "rayon")]
pub use adapter::rayon;
pub use context::{CaptureError, Context, RunError, isolated, isolated_in};
pub use frame::{CleanupError, leaked_values};
pub use slot::{AccessError, OwnedLocal, SetError, TaskLocal};

/// What the macros expand to.
#[doc(hidden)]
pub mod __private {
    pub use crate::context::{CopyFallback, CopyWith, Inherit};
    pub use crate::slot::{Declaration, SlotCell};
}

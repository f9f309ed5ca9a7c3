//! Every task starts from a clean slate.

mod adapter;
mod context;
pub mod foreign;
mod frame;
mod pool;
#[cfg(feature = "sentinel")]
pub mod sentinel;
mod slot;
pub mod sync;

pub use adapter::Executor;
pub use adapter::future;
#[cfg(feature = "rayon")]
pub use adapter::rayon;
pub use context::{CaptureError, Context, RunError, isolated, isolated_in};
pub use frame::{CleanupError, leaked_values};
pub use pool::{
    BuildError, Imap, ImapUnordered, Isolation, JoinHandle, Pool, PoolBuilder, RangeIndex, Scope,
    ScopedJoinHandle, ShutdownError, Stats, Submission, SubmitError, TaskError,
};
pub use slot::{AccessError, OwnedLocal, OwnedWorkerLocal, SetError, TaskLocal, WorkerLocal};

/// What the macros expand to.
#[doc(hidden)]
pub mod __private {
    pub use crate::context::{CopyFallback, CopyWith, Inherit};
    pub use crate::slot::{Declaration, Lease, SlotCell, WorkerDeclaration};
}

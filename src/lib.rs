//! Every task starts from a clean slate.

mod context;
mod frame;
mod pool;
pub mod sync;

pub use context::Context;
pub use pool::{
    BuildError, Imap, ImapUnordered, Isolation, JoinHandle, Pool, PoolBuilder, RangeIndex, Scope,
    ScopedJoinHandle, ShutdownError, Stats, Submission, SubmitError, TaskError,
};

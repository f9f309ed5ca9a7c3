//! The pool. `docs/engine.md` describes a task's way through it.

mod builder;
mod cancel_on_drop;
mod core;
mod error;
mod global;
mod group;
mod handle;
mod imap;
mod isolation;
mod job;
mod join;
mod leaks;
mod map;
mod maps;
mod permit;
#[expect(clippy::module_inception, reason = "the folder is named after its main noun")]
mod pool;
mod scheduler;
mod scope;
mod shutdown;
mod stats;
mod submission;
mod wait_idle;

pub use builder::PoolBuilder;
pub use cancel_on_drop::CancelOnDrop;
pub use error::{BuildError, ShutdownError, SubmitError, TaskError};
pub use handle::JoinHandle;
pub use imap::{Imap, ImapUnordered};
pub use isolation::Isolation;
pub use map::RangeIndex;
pub use permit::{Permit, Reserve, ReserveError};
pub use pool::{Pool, WeakPool};
pub use scope::{Scope, ScopedJoinHandle};
pub use stats::Stats;

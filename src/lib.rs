//! A thread-pool executor whose tasks cannot see what an earlier task left in a thread-local.
//!
//! A pool reuses its threads, so data that is *thread*-scoped is not *task*-scoped. It leaks in two
//! ways: to the next task on the thread; and between a waiting task and one that meanwhile runs on
//! top of its stack. Here every task starts from a clean slate, and keeps it.
//!
//! ```
//! use cleanslate::{Pool, task_local};
//!
//! task_local! { static USER: Option<&'static str> = None; }
//!
//! let pool = Pool::new(2)?;
//! let found = pool.map(["alice", "bob", "carol"], |name| USER.replace(Some(name)));
//! assert_eq!(found, [None, None, None]);
//! # Ok::<_, cleanslate::BuildError>(())
//! ```
//!
//! # A map of the crate
//!
//! | you want | you use |
//! |---|---|
//! | state that belongs to a task | [`task_local!`], [`TaskLocal`] |
//! | the same, owned by an object and made at run time | [`OwnedLocal`] |
//! | state of a worker, on purpose | [`worker_local!`], [`WorkerLocal`], [`OwnedWorkerLocal`] |
//! | to run tasks | [`Pool`]: `map`, `submit`, `scope`, `imap`, `broadcast` |
//! | to hand down what surrounds a submission, or choose it | `#[inherit]`, [`Context`] |
//! | tasks on an executor of others | [`isolated`], [`Context::wrap`] |
//! | tasks that are futures | [`future::FutureExt::isolated`] |
//! | thread state of code that you cannot change | [`foreign::adopt`], [`foreign::Carrier`] |
//! | the same in every task of the process | [`foreign::install`] |
//! | a flag that threads wait for | [`sync::Event`] |
//! | the classic pool, to compare with | [`Isolation::Leaky`] |
//!
//! The [guide] has the details, with pages for services [on tokio](mod@guide::async) and for those
//! who come [from rayon](guide::from_rayon) or [from Python](guide::from_python).
//!
//! # Between a `submit` and the next task
//!
//! 1. **Capture.** On the submitting thread, what is marked `#[inherit]` and what carriers carry
//!    becomes a [`Context`]. If nothing has changed since the last time, that costs a reference
//!    count.
//! 2. **Claim.** A worker, or a task that waits for this one, takes the job, whichever comes first.
//!    Unrelated work never lands on a waiting task's stack ([`Pool`]).
//! 3. **Enter.** Carriers attach; a new epoch makes every slot of the thread look untouched. The
//!    values of the tasks below stay where they are, borrows and all.
//! 4. **Run.** The first touch of a slot makes its value and notes it on the thread's trail.
//! 5. **Leave.** On return or panic, the trail is undone, newest first, with each value dropped in
//!    its turn; then carriers detach in reverse order. Only now can anybody see that the task is
//!    over.
//!
//! The [engine page](guide::engine) has the invariants behind this, and the [README] says what all
//! of it does *not* protect.
//!
//! # Features
//!
//! All are off by default.
//!
//! [README]: https://docs.rs/crate/cleanslate/latest/source/README.md
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![cfg_attr(
    not(feature = "document-features"),
    doc = "
- `rayon`: tasks on rayon: `.isolated()` on parallel iterators, `join`, `scope`, `RayonPool`
- `tokio`: tasks on tokio: `spawn`, `spawn_blocking`, `JoinSet`
- `tower`: requests as tasks, in axum, hyper, tonic
- `tracing`, `opentelemetry`: carriers for spans and contexts
- `sentinel`: finds what tasks left in thread-locals (on Linux with glibc)
"
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// Makes an error's `Debug` output its text, since that is what `main` prints if it returns one.
macro_rules! debug_as_text {
    ($error:ident $(<$parameter:ident>)?) => {
        impl $(<$parameter>)? ::std::fmt::Debug for $error $(<$parameter>)? {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!(stringify!($error), "({})"), self)
            }
        }
    };
}

mod context;
mod executor;
pub mod foreign;
mod frame;
pub mod future;
#[cfg(any(doc, doctest))]
pub mod guide;
#[cfg(doctest)]
mod misuse;
mod panic;
mod pool;
#[cfg(feature = "rayon")]
pub mod rayon;
#[cfg(feature = "sentinel")]
pub mod sentinel;
mod slot;
pub mod sync;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tower")]
pub mod tower;

pub use context::{
    CaptureError, Context, RunError, is_isolated, isolated, isolated_fn, isolated_fn_in,
    isolated_in,
};
pub use executor::Executor;
pub use frame::{CleanupError, leaked_values};
pub use pool::{
    BuildError, CancelOnDrop, Imap, ImapUnordered, Isolation, JoinHandle, Permit, Pool,
    PoolBuilder, RangeIndex, Reserve, ReserveError, Scope, ScopedJoinHandle, ShutdownError, Stats,
    SubmitError, TaskError, WeakPool,
};
pub use slot::{AccessError, OwnedLocal, OwnedWorkerLocal, SetError, TaskLocal, WorkerLocal};

/// What the macros expand to.
#[doc(hidden)]
pub mod __private {
    pub use crate::frame::permanent::{Key, permanent};
    pub use crate::slot::{
        Declaration, Inherit, Lease, SharedValue, SlotCell, SlotValue, WorkerDeclaration,
    };
}

/// Has the README's examples tested, which use rayon.
#[cfg(all(doctest, feature = "rayon"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
struct Readme;

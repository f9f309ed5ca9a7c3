//! [`RuntimeCarrier`].

use ::tokio::runtime::Handle;

use crate::foreign::{BoxError, ScopedCarrier};

/// Carries the tokio runtime that is current where a task is submitted, so that the task can spawn
/// on it, and use its timers and sockets.
///
/// A task that is submitted outside of any runtime finds whichever is current on its thread. On a
/// worker of a pool that is none, so it cannot spawn. It is for pools:
/// [installed](crate::foreign::install), it also takes what is isolated in one runtime and spawned
/// on another one back to the first.
///
/// Added in a [`Scoped`](crate::foreign::Scoped).
///
/// # Examples
///
/// ```
/// use cleanslate::{Pool, foreign::Scoped, tokio::RuntimeCarrier};
/// use tokio::{runtime::Runtime, task::spawn};
///
/// let pool = Pool::builder().workers(1).carry(Scoped(RuntimeCarrier)).build()?;
/// let runtime = Runtime::new()?;
/// let answer = runtime.block_on(async {
///     pool.submit(|| spawn(async { 6 * 7 })).await.unwrap().await.unwrap()
/// });
/// assert_eq!(answer, 42);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RuntimeCarrier;

impl ScopedCarrier for RuntimeCarrier {
    type Captured = Option<Handle>;

    fn name(&self) -> &str {
        "tokio runtime"
    }

    fn capture(&self) -> Result<Option<Handle>, BoxError> {
        Ok(Handle::try_current().ok())
    }

    fn around<R>(&self, handle: &Option<Handle>, body: impl FnOnce() -> R) -> Result<R, BoxError> {
        let _entered = handle.as_ref().map(Handle::enter);
        Ok(body())
    }

    fn nothing(&self) -> Option<Option<Handle>> {
        Some(None)
    }

    fn is_nothing(&self, handle: &Option<Handle>) -> bool {
        handle.is_none()
    }

    /// Returns whether nothing was entered: then nothing has changed.
    fn reattach(&self, handle: &Option<Handle>) -> bool {
        handle.is_none()
    }
}

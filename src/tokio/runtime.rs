//! [`RuntimeCarrier`].

use ::tokio::runtime::{Handle, Id};

use crate::foreign::{BoxError, ScopedCarrier};

/// Carries the tokio runtime that is current where a task is submitted, so that the task can spawn
/// on it, and use its timers and sockets.
///
/// A task that is submitted outside of any runtime finds whichever runtime is current on its
/// thread. On a worker of a pool, there is none, so it cannot spawn. A task fails if it leaves a
/// runtime entered, be it the same one once more, because it has forgotten the guard or keeps it
/// across an `.await`. This carrier is for pools: if it is [installed](crate::foreign::install), it
/// also takes what is isolated in one runtime and spawned on another one back to the first.
///
/// Add it in a [`Scoped`](crate::foreign::Scoped).
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
        let found = current();
        // Not where it is current already: tokio would panic in the drop of a future that it spawns
        // on a runtime which is shut down.
        let other = handle.as_ref().filter(|handle| Some(handle.id()) != found);
        let entered = other.map(Handle::enter);
        let result = body();
        // The guard checks whether it is the last one, but not where the thread unwinds below this
        // call.
        drop(entered);
        let left = current();
        match left.is_none() || left == found {
            true => Ok(result),
            false => Err("a runtime that the task entered is still current".into()),
        }
    }

    fn nothing(&self) -> Option<Option<Handle>> {
        Some(None)
    }

    fn is_nothing(&self, handle: &Option<Handle>) -> bool {
        handle.is_none()
    }

    /// Returns whether no runtime is current and none is to be.
    fn reattach(&self, handle: &Option<Handle>) -> bool {
        handle.is_none() && current().is_none()
    }
}

/// Returns which runtime is current on this thread.
fn current() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

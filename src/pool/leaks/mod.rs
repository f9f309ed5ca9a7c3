//! What a pool does about what tasks leave in thread-locals that nobody registered.

#[cfg(feature = "sentinel")]
mod budget;
#[cfg(feature = "sentinel")]
mod consequences;
#[cfg(feature = "sentinel")]
mod item;
#[cfg(feature = "sentinel")]
mod watch;
#[cfg(not(feature = "sentinel"))]
mod without_sentinel;

#[cfg(feature = "sentinel")]
pub(crate) use self::item::begin_item;
#[cfg(feature = "sentinel")]
pub(crate) use self::watch::LeakWatch;
#[cfg(not(feature = "sentinel"))]
pub(crate) use self::without_sentinel::{LeakWatch, begin_item};

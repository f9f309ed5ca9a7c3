//! What a pool does about what tasks leave in thread-locals that nobody registered.

#[cfg(feature = "sentinel")]
mod budget;
#[cfg(feature = "sentinel")]
mod consequences;
#[cfg(feature = "sentinel")]
mod item;
#[cfg(not(feature = "sentinel"))]
mod off;
#[cfg(feature = "sentinel")]
mod watch;

#[cfg(feature = "sentinel")]
pub(crate) use self::item::begin_item;
#[cfg(not(feature = "sentinel"))]
pub(crate) use self::off::{LeakWatch, begin_item};
#[cfg(feature = "sentinel")]
pub(crate) use self::watch::LeakWatch;

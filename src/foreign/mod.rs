//! Foreign thread state: how a value that somebody else keeps per thread gets to a task and away.
//!
//! A [`Carrier`] knows how to capture such a value where a task is submitted, how to attach it where
//! the task runs, and how to detach it afterwards. [`adopt`] makes one for a `std::thread_local!` of
//! code that cannot be changed.

mod adopt;
mod carrier;
mod error;
#[cfg(feature = "tracing")]
mod tracing;

pub use adopt::{Adoptable, Adopted, adopt, adopt_with};
pub use carrier::Carrier;
pub(crate) use carrier::{Carried, CarrierSet, SharedCarrier, attach_around, shared};
pub use error::{BoxError, CarrierError};
#[cfg(feature = "tracing")]
pub use tracing::{AttachedSpan, CapturedSpan, TracingCarrier};

//! Foreign thread state: how a value that somebody else keeps per thread gets to a task and away.
//!
//! A [`Carrier`] knows how to capture such a value where a task is submitted, how to attach it where
//! the task runs, and how to detach it afterwards. [`adopt`] makes one for a `std::thread_local!` of
//! code that cannot be changed.

mod adopt;
mod attached;
mod carried;
mod carrier;
mod error;
mod set;
#[cfg(feature = "tracing")]
mod tracing;

pub use adopt::{Adoptable, Adopted, adopt, adopt_with};
#[cfg_attr(not(test), expect(unused_imports, reason = "for initialisers of what is kept"))]
pub(crate) use carried::attach_nothing_around;
pub(crate) use carried::{Carried, SharedCarrier, attach_around, shared};
pub use carrier::Carrier;
pub use error::{BoxError, CarrierError};
pub(crate) use set::CarrierSet;
#[cfg(feature = "tracing")]
pub use tracing::{AttachedSpan, CapturedSpan, TracingCarrier};

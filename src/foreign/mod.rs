//! Foreign thread state: how to bring to a task what other code keeps per thread.
//!
//! A [`Carrier`] knows how to capture such a value where a task is submitted, how to attach it
//! where the task runs, and how to detach it afterwards. [`fn@adopt`] makes one for a
//! `std::thread_local!` of code that cannot be changed. A [`ScopedCarrier`] is for state that is
//! set only for the time of a call.
//!
//! A context carries what it was [given](crate::Context::carry), a pool carries [what its builder
//! was](crate::PoolBuilder::carry), and every captured context carries what is [installed](install)
//! in the process.
//!
//! ```
//! use cleanslate::foreign::adopt;
//! use std::cell::Cell;
//!
//! thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
//!
//! let context = cleanslate::Context::empty().carry(adopt(&LEVEL));
//! LEVEL.set(3);
//! assert_eq!(context.run(|| LEVEL.replace(9)), 0);
//! assert_eq!(LEVEL.get(), 3);
//! ```

mod adopt;
mod attached;
mod carried;
mod carrier;
mod carriers;
mod code;
mod error;
mod inherited;
mod installed;
mod kinds;
#[cfg(feature = "opentelemetry")]
mod opentelemetry;
mod scoped;
mod set;
mod shared;
#[cfg(feature = "tracing")]
mod tracing;

pub use adopt::{Adoptable, Adopted, adopt, adopt_with};
pub(crate) use carried::{Attached as AttachedCarriers, Carried};
pub use carrier::{Carrier, Identity};
pub(crate) use carriers::Carriers;
pub(crate) use carriers::attach_nothing_around;
pub(crate) use code::not_in_carrier;
pub(crate) use error::RenderedCause;
pub use error::{BoxError, CarrierError};
pub use inherited::Inherited;
pub(crate) use installed::INSTALLED;
pub use installed::{InstallError, install};
#[cfg(feature = "opentelemetry")]
pub use opentelemetry::{AttachedContext, OpenTelemetryCarrier};
pub use scoped::{Scoped, ScopedCarrier};
pub(crate) use set::CarrierSet;
pub use shared::Carry;
pub(crate) use shared::{SharedCarrier, share};
#[cfg(feature = "tracing")]
pub use tracing::{AttachedSpan, CapturedSpan, TracingCarrier};

//! Foreign thread state: carriers, what they carry, and what they cost when they fail.

#[path = "../support/mod.rs"]
mod support;

mod adopt;
mod carriers;
mod contained;
mod deep;
#[cfg(feature = "tracing")]
mod global_subscriber;
mod inherited;
mod installed;
#[cfg(feature = "tracing")]
mod late;
mod maps;
mod marks;
mod nothing;
#[cfg(feature = "opentelemetry")]
mod opentelemetry;
mod own_code;
mod returned;
mod scoped;
mod slots;
#[cfg(feature = "tracing")]
mod subscribers;
#[cfg(feature = "tower")]
mod tower;
#[cfg(feature = "tracing")]
mod tracing;
mod unwinding;

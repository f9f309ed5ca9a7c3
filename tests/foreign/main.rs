//! Foreign thread state: carriers, what they carry, and what they cost when they fail.

#[path = "../support/mod.rs"]
mod support;

mod adopt;
mod alone;
mod carriers;
mod contained;
#[cfg(feature = "tracing")]
mod late;
#[cfg(feature = "tracing")]
mod tracing;

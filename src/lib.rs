//! Every task starts from a clean slate.

#[cfg(feature = "sentinel")]
pub mod sentinel;
pub mod sync;

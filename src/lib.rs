//! Every task starts from a clean slate.

pub mod sync;

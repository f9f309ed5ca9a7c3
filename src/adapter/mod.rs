//! Tasks on executors of others.

pub mod future;

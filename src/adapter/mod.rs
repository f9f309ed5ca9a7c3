//! Tasks on executors of others.

mod executor;
pub mod future;
#[cfg(feature = "rayon")]
pub mod rayon;

pub use executor::Executor;

//! Why an isolated parallel iterator cannot be made.

use std::error::Error;
use std::fmt;

/// A context with carriers was given to a parallel iterator.
///
/// A carrier is attached and detached around a call, and an item of a parallel iterator is none:
/// the closures upstream of the isolation run outside of any call that the isolation makes. So this
/// is refused up front, rather than run items without their carriers.
/// [`RayonPool::map_in`](super::RayonPool::map_in), [`join_in`](super::join_in) and
/// [`scope_in`](super::scope_in) take such contexts.
///
/// # Examples
///
/// ```
/// use cleanslate::{Context, foreign::adopt, rayon::ParallelIteratorExt};
/// use rayon::prelude::*;
/// use std::cell::Cell;
///
/// thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }
///
/// let context = Context::empty().carry(adopt(&LEVEL).named("LEVEL"));
/// let refused = (0..4).into_par_iter().try_isolated_in(&context).unwrap_err();
/// assert_eq!(refused.carriers(), ["LEVEL"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriersRefused {
    carriers: Vec<String>,
}

impl CarriersRefused {
    pub(super) fn new(carriers: Vec<String>) -> Self {
        Self { carriers }
    }

    /// The names of the context's carriers.
    pub fn carriers(&self) -> &[String] {
        &self.carriers
    }
}

impl fmt::Display for CarriersRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a parallel iterator cannot attach carriers:")?;
        for (index, carrier) in self.carriers.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma} `{carrier}`")?;
        }
        Ok(())
    }
}

impl Error for CarriersRefused {}

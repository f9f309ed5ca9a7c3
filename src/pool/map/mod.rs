//! The map family: one group of helpers for many items, each item a task of its own.
//!
//! A [`Source`] says where the items come from and a [`Step`] what is done with one. The helpers
//! take turns ([`Turns`](turns::Turns)) at claiming a chunk: its items, and the places where their
//! results belong. [`ChunkSize`](chunk_size::ChunkSize) says how many.

mod chunk_size;
mod engine;
mod helper;
mod indexed;
mod kept;
mod output;
mod pull;
mod pulled;
mod reduce;
mod shared;
mod step;
mod turns;
mod verdict;

pub(crate) use engine::{Unfinished, run};
pub(crate) use indexed::Numbers;
pub use indexed::RangeIndex;
pub(crate) use kept::Lending;
pub(crate) use pulled::Pulled;
pub(crate) use reduce::{Reducing, Reduction};
pub(crate) use shared::drop_given;
pub(crate) use step::{Every, Plain, Step, Trying};

use self::pull::Pull;
use super::isolation::Series;
use crate::frame::Failure;

/// Where the items of a map come from. The helpers share it, one at a time.
pub(crate) trait Source: Send {
    /// What a task gets.
    type Item;
    /// Consecutive items that one helper has claimed; what it has not started is what is left in
    /// it.
    type Chunk: Iterator<Item = Self::Item> + Default;

    /// Whether `size_hint` can be believed.
    const EXACT: bool;

    /// Returns bounds of the number of items, as [`Iterator::size_hint`] does.
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Returns how many items a chunk has at most.
    fn most(&self) -> usize {
        usize::MAX
    }

    /// Puts the next `most` items into the empty `chunk`, fewer if there are no more or the map is
    /// over, and returns how many. User code is called through `pull`, each call one of `tasks`. If
    /// that fails or unwinds, the items before are in the chunk.
    fn take(
        &mut self,
        most: usize,
        chunk: &mut Self::Chunk,
        tasks: &mut Series<'_>,
        pull: &Pull<'_>,
    ) -> Result<usize, Failure>;
}

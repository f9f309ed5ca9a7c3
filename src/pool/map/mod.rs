//! The map family: one group of helpers for many items, each item a task of its own.

mod engine;
mod feed;
mod indexed;
mod output;
mod pace;
mod pulled;
mod step;

pub(crate) use engine::{Ended, run};
pub use indexed::RangeIndex;
pub(crate) use indexed::{Cursor, Range, Slice};
pub(crate) use pulled::Pulled;
pub(crate) use step::{Every, Plain, Step, Trying};

/// Where the items of a map come from. Shared by the helpers.
pub(crate) trait Source: Sync {
    /// What a task gets.
    type Item;
    /// What one helper has claimed and not yet started.
    type Buffer: Default;

    /// Whether claiming runs code of others, which then must not share a frame with the first item.
    const RUNS_OTHERS: bool;

    /// Claims the next chunk; `None` when there is nothing left.
    fn claim(&self, pace: &pace::Pace, buffer: &mut Self::Buffer) -> Option<Chunk>;

    /// The next `len` items of the claimed chunk, which begin at position `from`. What the iterator is
    /// dropped with stays in the buffer.
    fn items<'a>(
        &'a self,
        buffer: &'a mut Self::Buffer,
        from: usize,
        len: usize,
    ) -> impl Iterator<Item = Self::Item> + 'a;

    /// An item of the buffer that will not be started.
    fn unstarted(&self, buffer: &mut Self::Buffer) -> Option<Self::Item>;

    /// Starts nothing more.
    fn stop(&self);

    /// How many items there were, once they have all been claimed.
    fn total(&self) -> usize;
}

/// A chunk: consecutive items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// The position of its first item in the input.
    pub(crate) base: usize,
    /// How many there are; at least one.
    pub(crate) len: usize,
}

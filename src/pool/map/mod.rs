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

    /// The next `len` items of the claimed chunk, which begin at position `from`.
    fn items<'a>(
        &'a self,
        buffer: &'a mut Self::Buffer,
        from: usize,
        len: usize,
    ) -> impl Lane<Item = Self::Item> + 'a;

    /// The next item of the claimed chunk alone, which is at `position`.
    #[expect(unsafe_code, reason = "moves one item out of its lane")]
    fn item(&self, buffer: &mut Self::Buffer, position: usize) -> Self::Item {
        let mut one = self.items(buffer, position, 1);
        // SAFETY: the lane has one item, and it is moved out once.
        let item = unsafe { one.get(0) };
        one.moved_out(1);
        item
    }

    /// An item of the buffer that will not be started.
    fn unstarted(&self, buffer: &mut Self::Buffer) -> Option<Self::Item>;

    /// Starts nothing more.
    fn stop(&self);

    /// How many items there were, once they have all been claimed.
    fn total(&self) -> usize;
}

/// Consecutive items that are moved out by number, in order. One number then serves both for the item
/// and for the place of its result, which in the innermost loop is worth a few instructions.
pub(crate) trait Lane {
    type Item;

    fn len(&self) -> usize;

    /// Moves item `n` out.
    ///
    /// # Safety
    ///
    /// - `n` is below `len`.
    /// - No item is moved out twice.
    #[expect(unsafe_code, reason = "the callers count for themselves")]
    unsafe fn get(&mut self, n: usize) -> Self::Item;

    /// The first `n` items have been moved out; the others stay where they were.
    fn moved_out(&mut self, n: usize);
}

/// A chunk: consecutive items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// The position of its first item in the input.
    pub(crate) base: usize,
    /// How many there are; at least one.
    pub(crate) len: usize,
}

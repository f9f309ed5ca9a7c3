//! Items whose number is known and that are at hand: a slice or a range of integers.

use std::ops;
use std::slice;

use super::{Pull, Source};
use crate::frame::Failure;
use crate::pool::isolation::Series;

impl<'s, T: Sync> Source for &'s [T] {
    type Item = &'s T;
    type Chunk = slice::Iter<'s, T>;

    const EXACT: bool = true;

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }

    fn take(
        &mut self,
        most: usize,
        chunk: &mut slice::Iter<'s, T>,
        _tasks: &mut Series<'_>,
        _pull: &Pull<'_>,
    ) -> Result<usize, Failure> {
        let (taken, left) = self.split_at(most.min(self.len()));
        *self = left;
        *chunk = taken.iter();
        Ok(taken.len())
    }
}

/// Consecutive integers: a first one, and their offsets from it.
#[derive(Default)]
pub(crate) struct Numbers<N> {
    first: N,
    offsets: ops::Range<usize>,
}

impl<N: RangeIndex> Numbers<N> {
    /// Returns the numbers of a range; `None` if its length overflows `usize`.
    pub(crate) fn of(range: &ops::Range<N>) -> Option<Self> {
        Some(Self { first: range.start, offsets: 0..N::count(range)? })
    }
}

impl<N: RangeIndex> Iterator for Numbers<N> {
    type Item = N;

    #[inline(always)]
    fn next(&mut self) -> Option<N> {
        Some(self.first.plus(self.offsets.next()?))
    }
}

impl<N: RangeIndex> Source for Numbers<N> {
    type Item = N;
    type Chunk = Self;

    const EXACT: bool = true;

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.offsets.size_hint()
    }

    fn take(
        &mut self,
        most: usize,
        chunk: &mut Self,
        _tasks: &mut Series<'_>,
        _pull: &Pull<'_>,
    ) -> Result<usize, Failure> {
        let from = self.offsets.start;
        self.offsets.start += most.min(self.offsets.len());
        *chunk = Self { first: self.first, offsets: from..self.offsets.start };
        Ok(chunk.offsets.len())
    }
}

mod sealed {
    /// Keeps [`RangeIndex`](super::RangeIndex) to the integers.
    #[expect(unnameable_types, reason = "that is what seals the trait")]
    pub trait Sealed {}
}

/// An integer that [`Pool::map_range`](crate::Pool::map_range) can count with: all of std's.
///
/// # Examples
///
/// ```
/// use cleanslate::{Pool, RangeIndex};
///
/// fn count<N: RangeIndex>(pool: &Pool, from: N, to: N) -> usize {
///     pool.map_range(from..to, |_| ()).len()
/// }
///
/// assert_eq!(count(&Pool::new(2).unwrap(), -3_i8, 4), 7);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no integer of std's, so a range of it cannot be mapped by index",
    label = "not an integer",
    note = "`Pool::map` takes any iterator"
)]
pub trait RangeIndex: Copy + Default + Send + Sync + sealed::Sealed {
    /// Returns how many numbers there are from `range.start` up to `range.end`; `None` if that
    /// overflows `usize`.
    #[doc(hidden)]
    fn count(range: &ops::Range<Self>) -> Option<usize>;

    /// Returns this number and `n` more, modulo the number of values of the type.
    #[doc(hidden)]
    #[must_use]
    fn plus(self, n: usize) -> Self;
}

macro_rules! range_index {
    ($($int:ty)*) => {$(
        impl sealed::Sealed for $int {}

        impl RangeIndex for $int {
            fn count(range: &ops::Range<Self>) -> Option<usize> {
                if range.start >= range.end {
                    return Some(0);
                }
                usize::try_from(range.end.abs_diff(range.start)).ok()
            }

            #[inline(always)]
            fn plus(self, n: usize) -> Self {
                // In two's complement truncation and wrapping cancel out.
                self.wrapping_add(n as Self)
            }
        }
    )*};
}

range_index!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

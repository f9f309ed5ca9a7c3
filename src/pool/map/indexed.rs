//! Items by index: a slice or a range of integers. Helpers claim index ranges from one atomic cursor.

use std::ops;

use super::pace::Pace;
use super::{Chunk, Lane, Source};
use crate::sync::seam::atomic::{AtomicUsize, Ordering};

/// What can say its items by index.
pub(crate) trait Indexed: Sync {
    type Item;
    fn len(&self) -> usize;
    /// The `len` items from `from` on, all of which exist.
    fn items(&self, from: usize, len: usize) -> impl Lane<Item = Self::Item>;
}

/// The items of a slice.
pub(crate) struct Slice<'s, T>(pub(crate) &'s [T]);

impl<'s, T: Sync> Indexed for Slice<'s, T> {
    type Item = &'s T;

    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn items(&self, from: usize, len: usize) -> impl Lane<Item = &'s T> {
        Elements(&self.0[from..from + len])
    }
}

/// The numbers of a range.
pub(crate) struct Range<N> {
    pub(crate) start: N,
    pub(crate) len: usize,
}

impl<N: RangeIndex> Indexed for Range<N> {
    type Item = N;

    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn items(&self, from: usize, len: usize) -> impl Lane<Item = N> {
        Numbers { first: self.start.plus(from), len }
    }
}

/// Some elements of a slice.
struct Elements<'s, T>(&'s [T]);

impl<'s, T> Lane for Elements<'s, T> {
    type Item = &'s T;

    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "the caller has checked the bounds")]
    unsafe fn get(&mut self, n: usize) -> &'s T {
        // SAFETY: the caller's promise that `n` is below the length.
        unsafe { self.0.get_unchecked(n) }
    }

    fn moved_out(&mut self, _n: usize) {}
}

/// Some numbers of a range.
struct Numbers<N> {
    first: N,
    len: usize,
}

impl<N: RangeIndex> Lane for Numbers<N> {
    type Item = N;

    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "the trait's method is unsafe; this one asks for nothing")]
    unsafe fn get(&mut self, n: usize) -> N {
        self.first.plus(n)
    }

    fn moved_out(&mut self, _n: usize) {}
}

mod sealed {
    /// Keeps [`RangeIndex`](super::RangeIndex) to the integers.
    #[expect(unnameable_types, reason = "that is what seals the trait")]
    pub trait Sealed {}
}

/// An integer that [`Pool::map_range`](crate::Pool::map_range) can count with: all of std's.
pub trait RangeIndex: Copy + Send + Sync + sealed::Sealed {
    /// How many numbers there are from `range.start` up to `range.end`; `None` if a `usize` cannot say.
    #[doc(hidden)]
    fn count(range: &ops::Range<Self>) -> Option<usize>;

    /// This number and `n` more, where the range's end is not passed.
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
                // The sum lies inside the range; in two's complement truncation and wrapping cancel out.
                self.wrapping_add(n as Self)
            }
        }
    )*};
}

range_index!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// An indexed input with the cursor that its helpers share.
pub(crate) struct Cursor<I> {
    items: I,
    next: AtomicUsize,
}

impl<I: Indexed> Cursor<I> {
    pub(crate) fn new(items: I) -> Self {
        Self { items, next: AtomicUsize::new(0) }
    }
}

impl<I: Indexed> Source for Cursor<I> {
    type Item = I::Item;
    /// What is claimed is known by its positions.
    type Buffer = ();

    const RUNS_OTHERS: bool = false;

    fn claim(&self, pace: &Pace, _buffer: &mut ()) -> Option<Chunk> {
        let len = self.items.len();
        // Relaxed: the cursor only hands out numbers; the input was there before the helpers were.
        let mut base = self.next.load(Ordering::Relaxed);
        loop {
            let left = len - base;
            if left == 0 {
                return None;
            }
            let size = pace.chunk(Some(left)).min(left);
            match self.next.compare_exchange_weak(
                base,
                base + size,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Chunk { base, len: size }),
                Err(now) => base = now,
            }
        }
    }

    #[inline(always)]
    fn items<'a>(
        &'a self,
        _buffer: &'a mut (),
        from: usize,
        len: usize,
    ) -> impl Lane<Item = I::Item> + 'a {
        self.items.items(from, len)
    }

    fn unstarted(&self, _buffer: &mut ()) -> Option<I::Item> {
        None
    }

    fn stop(&self) {
        // Relaxed: as in `claim`; items that were claimed before are not this cursor's concern.
        self.next.store(self.items.len(), Ordering::Relaxed);
    }

    fn total(&self) -> usize {
        self.items.len()
    }
}

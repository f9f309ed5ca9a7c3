//! Work that takes a known time.

use std::hint::black_box;

/// About this many nanoseconds of work, seen alone: a core does several short ones at once. Returns
/// a number small enough for ten million of them to be added up.
#[inline(never)]
pub(crate) fn work(nanos: u64) -> u64 {
    // Not through memory: whether the processor forwards a word without waiting for its store is a
    // matter of luck, which at times made the same loop take twice as long.
    (0..nanos).fold(black_box(nanos), |x, _| step(x)) >> 24
}

/// A multiplication and a rotation, which the compiler cannot do for several numbers at once.
pub(crate) fn step(x: u64) -> u64 {
    x.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(1)
}

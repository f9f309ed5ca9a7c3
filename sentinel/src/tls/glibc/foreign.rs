//! Reading memory that Rust knows nothing about.
//!
//! - **F1 (no Rust reads).** The bytes include padding, values under a live `&mut` and words that
//!   other threads write. They are copied and compared by libc's `memcpy` and `memcmp`, called
//!   through a pointer that has been through an `asm!` block, so that the compiler cannot know what
//!   is called. In terms of Rust's abstract machine such a call fills *our* buffer with arbitrary
//!   bytes, or returns an arbitrary number; it reads no Rust value.

use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::ptr;

type CopyFn = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
type CompareFn = unsafe extern "C" fn(*const c_void, *const c_void, usize) -> c_int;

/// Copies `len` bytes at `from`.
///
/// # Safety
///
/// - `len` bytes at `from` are mapped and readable.
/// - `len` bytes at `to` are writable and nobody else's, and `from` is not among them.
#[inline]
pub(super) unsafe fn copy(from: usize, to: *mut u8, len: usize) {
    let mut copy: CopyFn = libc::memcpy;
    // SAFETY: the block is empty: it leaves every register and all memory alone.
    unsafe { asm!("/* {0} */", inout(reg) copy, options(nostack, preserves_flags)) };
    // SAFETY: both are valid for `len` bytes and do not overlap, by the caller's word; what is read
    // is no Rust value (F1).
    unsafe { copy(to.cast(), ptr::without_provenance(from), len) };
}

/// Returns whether `len` bytes at `now` are those at `old`.
///
/// # Safety
///
/// - `len` bytes at `now` are mapped and readable.
/// - `len` bytes at `old` are initialised, and nobody writes to them meanwhile.
#[inline]
pub(super) unsafe fn is_equal(now: usize, old: *const u8, len: usize) -> bool {
    let mut compare: CompareFn = libc::memcmp;
    // SAFETY: the block is empty: it leaves every register and all memory alone.
    unsafe { asm!("/* {0} */", inout(reg) compare, options(nostack, preserves_flags)) };
    // SAFETY: both are readable for `len` bytes, by the caller's word; what is read at `now` is no
    // Rust value (F1).
    unsafe { compare(old.cast(), ptr::without_provenance(now), len) == 0 }
}

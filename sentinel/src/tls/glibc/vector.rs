//! The thread's own list of its blocks, which glibc calls the dynamic thread vector.
//!
//! - **V1 (layout).** As glibc has had it since 2003: the vector's address is a word of the
//!   thread's control block, the second one on x86-64 and the first one on AArch64. Entries are two
//!   words. Entry `n` starts with the address of module `n`'s block, or with all bits set while
//!   there is none. The entry at -1 starts with the number of the last entry there is room for,
//!   entry 0 with the thread's generation. [`census`](super::census) compares every address found
//!   this way with the one that `dl_iterate_phdr` gives, and refuses to go on if one differs.

use std::arch::asm;

/// Two words: an address and what to free.
const ENTRY: usize = 2 * size_of::<usize>();

/// Returns the address of the calling thread's vector.
#[inline]
fn address() -> usize {
    let address: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `fs` holds the thread's control block, whose second word is the vector's address
    // (V1); the block only reads.
    unsafe {
        asm!("mov {}, fs:[8]", out(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: `tpidr_el0` holds the thread's control block, whose first word is the vector's
    // address (V1); the block only reads.
    unsafe {
        asm!("mrs {0}, tpidr_el0", "ldr {0}, [{0}]", out(reg) address,
            options(nostack, preserves_flags, readonly));
    }
    address
}

/// Reads a word that glibc owns.
///
/// # Safety
///
/// - `address` is that of a readable word.
#[inline]
unsafe fn peek(address: usize) -> usize {
    let word: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller promises that the word is readable; the block only reads it.
    unsafe {
        asm!("mov {}, [{}]", out(reg) word, in(reg) address,
            options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the caller promises that the word is readable; the block only reads it.
    unsafe {
        asm!("ldr {}, [{}]", out(reg) word, in(reg) address,
            options(nostack, preserves_flags, readonly));
    }
    word
}

/// Returns the generation that the vector has reached.
#[inline]
pub(super) fn generation() -> usize {
    // SAFETY: entry 0 starts with the generation (V1).
    unsafe { peek(address()) }
}

/// Returns the number of the last entry that the vector has room for.
#[inline]
pub(super) fn last_entry() -> usize {
    // SAFETY: the entry at -1 starts with that number (V1).
    unsafe { peek(address() - ENTRY) }
}

/// Returns the first word of a module's entry, or `None` if the vector has no room for it.
#[inline]
pub(super) fn entry(id: usize) -> Option<usize> {
    if id > last_entry() {
        return None;
    }
    // SAFETY: the vector has an entry `id`, as was just seen (V1).
    Some(unsafe { peek(address() + id * ENTRY) })
}

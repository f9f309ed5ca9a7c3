//! Thread-local storage under glibc, on x86-64 and AArch64.
//!
//! The unsafe code relies on invariants that are numbered where they are kept: the thread's list of
//! its blocks (V, in `vector`), the dynamic linker's list of modules (L, in `list`), reads of
//! memory that Rust knows nothing about (F, in `foreign`) and blocks (B, in `view`). What makes a
//! block safe to read is proven here, and nowhere else:
//!
//! - **P1 (the entry may be another module's).** While a module is being loaded it is listed, and
//!   has its number, before the linker has noted that the number changed hands. Until then a
//!   thread's entry of that number may still be the block of an unloaded module, of another size,
//!   and `dl_iterate_phdr` reports that very address.
//! - **P2 (one lock).** The linker loads and unloads under one lock, from before a module is listed
//!   until its number is noted. `dladdr` takes the same lock. So after it returns, every load that
//!   was listed before the call is complete: its number is noted with a generation of its own, and
//!   what `dl_iterate_phdr` reports of it from then on is the calling thread's block of *this*
//!   module, of the size in its one header of thread-locals (L3), or nothing.
//! - **P3 (loads in order).** A module that is followed by `n` others in the list is none of the
//!   last `n` that were loaded (L1). So it is complete if all loads but the last `n` are.
//! - **P4 (not from inside).** The lock is recursive, so P2 does not hold on a thread that is
//!   itself between the listing of a module and the note of its number. The only code of others
//!   that runs there are the resolvers of indirect functions and audit libraries (constructors run
//!   later), and those must not watch.

mod foreign;
mod list;
mod vector;
mod view;

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::list::{list, loads};
pub(crate) use self::view::View;
use self::view::{Block, Pending};
use super::{Listing, Loads, Unsupported};

/// How many loads, counted since the process started, are known to be complete (P2).
static COMPLETE: AtomicU64 = AtomicU64::new(0);

/// Lists the modules of which the calling thread has a block, with a view of those blocks.
pub(crate) fn census() -> Result<(Listing, View), Unsupported> {
    loop {
        // Acquire, before the list is read: what the linker noted of these loads is visible to
        // `dl_iterate_phdr` on this thread. Pairs with the release in `wait_for_loads`.
        let complete = COMPLETE.load(Ordering::Acquire);
        let generation = vector::generation();
        let (mut listing, addresses) = list::walk();
        let (mut blocks, mut pending) = (Vec::new(), Vec::new());
        let (mut is_proven, mut is_known) = (true, true);
        let mut addresses = addresses.into_iter();
        let loads = listing.loads;
        listing.modules.retain(|module| {
            let address = addresses.next().unwrap_or_default();
            let entry = vector::entry(module.id);
            if address == 0 {
                let may_be_hidden = module.id == vector::last_entry();
                pending.push(Pending { id: module.id, entry, may_be_hidden });
                return false;
            }
            is_proven &= is_complete(module.place, loads, complete);
            is_known &= entry == Some(address);
            blocks.push(Block { address, size: module.size });
            true
        });
        if vector::generation() != generation {
            // The allocations above have brought the vector up to date.
            continue;
        }
        if !is_proven {
            wait_for_loads(loads);
            continue;
        }
        if !is_known {
            return Err(Unsupported::new("glibc keeps its thread-locals in an unknown way"));
        }
        // B2: nothing has changed this thread's entries since the walk, all loads are complete
        // (P2), the sizes are those that the linker believes (L3), and V1 was compared.
        return Ok((listing, View::new(generation, blocks, pending)));
    }
}

/// Returns whether the module at `place` in the list was completely loaded when `complete` loads
/// were (P3).
fn is_complete(place: usize, loads: Loads, complete: u64) -> bool {
    let followers = loads.listed.saturating_sub(place + 1) as u64;
    loads.total.saturating_sub(followers) <= complete
}

/// Waits until the loads that `listed` counts are complete (P2).
#[cold]
fn wait_for_loads(listed: Loads) {
    let mut nothing = MaybeUninit::uninit();
    // SAFETY: no module contains the address, so nothing is written; if something were, `nothing`
    // is writable.
    unsafe { libc::dladdr(ptr::null(), nothing.as_mut_ptr()) };
    // Release: whoever sees the number has seen what the linker noted under its lock before.
    COMPLETE.fetch_max(listed.total, Ordering::Release);
}

//! The dynamic linker's list of loaded modules.
//!
//! - **L1 (order).** A module is put at the end of the list when it is loaded, and taken out of it
//!   when it is unloaded. Each time a module is put there, of whatever namespace, the count of
//!   loads grows by one.
//! - **L2 (mapped).** Modules are put there after they were mapped, and taken out before they are
//!   unmapped, under the lock that `dl_iterate_phdr` holds while it calls back.
//! - **L3 (headers that make sense).** The linker checks little of what a file says. Where there
//!   are several headers of thread-locals it believes the last one that is not empty, and it copies
//!   what a block starts with from wherever the header says, once a thread uses the block. So a
//!   module is only described if it has one such header, and if what its block starts with lies in
//!   a segment that the linker has mapped to be read.

use std::ffi::{CStr, c_int, c_void};
use std::{mem, slice};

use super::super::{Listing, Loaded, Loads};
use super::foreign;

/// Returns how often modules have been loaded so far, and how many are listed.
pub(crate) fn loads() -> Loads {
    unsafe extern "C" fn count(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: the dynamic linker passes a valid description, for the time of this call.
        let info = unsafe { &*info };
        // SAFETY: `data` is the exclusive borrow that the call below passed.
        let loads = unsafe { &mut *data.cast::<Loads>() };
        loads.total = info.dlpi_adds;
        loads.listed += 1;
        0
    }
    let mut loads = Loads::default();
    // SAFETY: `count` does not unwind, and `loads` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(count), (&raw mut loads).cast()) };
    loads
}

/// Returns the list as it is now.
pub(crate) fn list() -> Listing {
    walk().0
}

/// Returns the list, and where the calling thread's blocks are said to lie: zero for none.
///
/// The address is only right for a module that is completely loaded; see [`census`](super::census).
pub(super) fn walk() -> (Listing, Vec<usize>) {
    let (mut modules, mut bytes) = (16, 16 * 1024);
    loop {
        let mut walk = Walk {
            loads: Loads::default(),
            modules: Vec::with_capacity(modules),
            bytes: Vec::with_capacity(bytes),
            missing: (0, 0),
        };
        // SAFETY: `visit` does not unwind, and `walk` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut walk).cast()) };
        if walk.missing == (0, 0) {
            return walk.finish();
        }
        // Half as much again, for what is loaded in the meantime.
        modules += walk.missing.0 * 3 / 2 + 1;
        bytes += walk.missing.1 * 3 / 2;
    }
}

/// What one walk collects. The callback must not allocate: it runs under the dynamic linker's
/// lock, which an allocator that unwinds its callers takes while holding its own.
struct Walk {
    loads: Loads,
    modules: Vec<ListedModule>,
    bytes: Vec<u8>,
    /// What did not fit, to make room for it and walk again.
    missing: (usize, usize),
}

struct ListedModule {
    id: usize,
    place: usize,
    base: usize,
    size: usize,
    block: usize,
    /// Lengths of name, headers and image, which follow one another in `bytes`.
    lens: [usize; 3],
}

impl Walk {
    /// Notes a module whose name, headers and image lie at `parts`.
    ///
    /// # Safety
    ///
    /// - Each part is the address and length of memory that can be read.
    unsafe fn add(&mut self, entry: ListedModule, parts: [usize; 3]) {
        let len = entry.lens.iter().sum::<usize>();
        let room = self.bytes.spare_capacity_mut();
        if self.modules.len() == self.modules.capacity() || room.len() < len {
            self.missing = (self.missing.0 + 1, self.missing.1 + len);
            return;
        }
        let mut to = room.as_mut_ptr().cast::<u8>();
        for (from, len) in parts.into_iter().zip(entry.lens) {
            // SAFETY: the caller promises that the part is readable; there is room for all of them,
            // as was just checked, and they are not in our buffer.
            unsafe { foreign::copy(from, to, len) };
            to = to.wrapping_add(len);
        }
        // SAFETY: that many bytes more are within the capacity, and have just been written.
        unsafe { self.bytes.set_len(self.bytes.len() + len) };
        self.modules.push(entry);
    }

    fn finish(self) -> (Listing, Vec<usize>) {
        let mut rest = &self.bytes[..];
        let mut take = |len| {
            let (part, after) = rest.split_at(len);
            rest = after;
            part.to_vec()
        };
        let describe = |entry: &ListedModule| Loaded {
            id: entry.id,
            place: entry.place,
            base: entry.base,
            size: entry.size,
            name: take(entry.lens[0]),
            headers: take(entry.lens[1]),
            image: take(entry.lens[2]),
        };
        let modules = self.modules.iter().map(describe).collect();
        let blocks = self.modules.iter().map(|entry| entry.block).collect();
        (Listing { loads: self.loads, modules }, blocks)
    }
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker passes a valid description, for the time of this call.
    let info = unsafe { &*info };
    // SAFETY: `data` is the exclusive borrow that `walk` passed.
    let walk = unsafe { &mut *data.cast::<Walk>() };
    if size < mem::offset_of!(libc::dl_phdr_info, dlpi_tls_data) + size_of::<*mut c_void>() {
        // An old dynamic linker that does not report thread-locals.
        return 1;
    }
    let place = walk.loads.listed;
    walk.loads = Loads { total: info.dlpi_adds, listed: place + 1 };
    if info.dlpi_tls_modid == 0 {
        return 0;
    }
    // SAFETY: a listed module's program headers are mapped (L2), `dlpi_phnum` of them, and nobody
    // writes to them.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let Some(tls) = thread_locals(headers) else { return 0 };
    let name_len = if info.dlpi_name.is_null() {
        0
    } else {
        // SAFETY: the name is a C string that lives as long as its module is listed.
        unsafe { CStr::from_ptr(info.dlpi_name) }.count_bytes()
    };
    let base = info.dlpi_addr as usize;
    // Read as foreign memory: another thread that is still loading the module writes to it.
    let image = base.wrapping_add(tls.p_vaddr as usize);
    let entry = ListedModule {
        id: info.dlpi_tls_modid,
        place,
        base,
        size: tls.p_memsz as usize,
        block: info.dlpi_tls_data.addr(),
        lens: [name_len, size_of_val(headers), tls.p_filesz as usize],
    };
    let parts = [info.dlpi_name.addr(), info.dlpi_phdr.addr(), image];
    // SAFETY: the name and the headers are as long as was just found (of a name that is null, no
    // byte is read); the image is a part of the module that is mapped (L2) and readable (L3).
    unsafe { walk.add(entry, parts) };
    0
}

/// Returns the header of a module's thread-locals, if it makes sense (L3).
fn thread_locals(headers: &[libc::Elf64_Phdr]) -> Option<&libc::Elf64_Phdr> {
    let mut all = headers.iter().filter(|header| header.p_type == libc::PT_TLS);
    let (Some(tls), None) = (all.next(), all.next()) else { return None };
    let image = tls.p_vaddr..tls.p_vaddr.checked_add(tls.p_filesz)?;
    let has_image = |it: &libc::Elf64_Phdr| {
        let is_readable = it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_R != 0;
        let end = it.p_vaddr.saturating_add(it.p_memsz);
        is_readable && it.p_vaddr <= image.start && image.end <= end
    };
    (image.is_empty() || headers.iter().any(has_image)).then_some(tls)
}

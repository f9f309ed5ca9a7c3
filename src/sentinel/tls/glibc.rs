//! Thread-local storage under glibc, on x86-64 and AArch64.
//!
//! The unsafe code below relies on these invariants, which its SAFETY comments cite:
//!
//! 1. **A view stays on its thread.** [`View`] is neither `Send` nor `Sync`, so every method runs
//!    on the thread whose blocks [`census`] listed, and runs before that thread's storage is given
//!    back, which is after the last Rust destructor.
//! 2. **Blocks live as long as the generation.** glibc keeps a thread's block addresses in a vector
//!    (the DTV) whose first word counts generations. A block is freed only by its own thread, when
//!    that thread brings its vector up to date, which raises the count; or when the thread ends.
//!    So a block that the census listed is mapped while the count is what it was then. Other
//!    threads may *write* to a block (through a pointer they were lent), never unmap it.
//! 3. **Spans lie inside blocks.** [`View::watch`] checks each span against the size of a block
//!    that is allocated, and nothing else stores spans. Buffers are checked against the spans'
//!    end by each method that uses one.
//! 4. **The vector has the layout that glibc has used since 2003:** its address is a word of the
//!    thread's control block (the second on x86-64, the first on AArch64); entries are two words;
//!    entry `n` starts with the address of module `n`'s block; the entry at −1 starts with how many
//!    entries there are, entry 0 with the generation. [`census`] compares every address found this
//!    way with the one that `dl_iterate_phdr` gives and refuses to go on if one differs.
//! 5. **Reads of blocks are not Rust reads.** The bytes include padding, values under a live
//!    `&mut` and words that other threads write. They are copied and compared by libc's `memcpy`
//!    and `memcmp`, called through a pointer that has been through an `asm!` block, so that the
//!    compiler cannot know what is called. In terms of Rust's abstract machine such a call fills
//!    *our* buffer with arbitrary bytes, or returns an arbitrary number; it reads no Rust value.

use std::arch::asm;
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::{mem, ptr, slice};

use super::{Compared, Loaded, Loads, Span, Unsupported};

type CopyFn = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
type CompareFn = unsafe extern "C" fn(*const c_void, *const c_void, usize) -> c_int;

/// Two words: an address and what to free.
const ENTRY: usize = 2 * size_of::<usize>();

/// The calling thread's blocks, and which of their bytes to watch.
#[derive(Debug)]
pub(in crate::sentinel) struct View {
    generation: usize,
    /// Address (zero if not allocated) and size of each module's block, in the census's order.
    blocks: Vec<(usize, usize)>,
    /// Modules without a block so far: their number and what the vector said of them.
    pending: Vec<(usize, Option<usize>)>,
    spans: Vec<Span>,
    /// `spans` with addresses instead of modules; the same order.
    runs: Vec<Run>,
    /// How long a buffer has to be.
    total: usize,
    // Invariant 1.
    _here: PhantomData<*mut ()>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    address: usize,
    len: usize,
    at: usize,
}

impl View {
    /// Chooses the bytes that are copied and compared.
    ///
    /// # Panics
    ///
    /// If a span is not inside a block that this thread has.
    pub(in crate::sentinel) fn watch(&mut self, spans: Vec<Span>) {
        self.runs.clear();
        self.total = 0;
        for span in &spans {
            let (block, size) = self.blocks[span.module];
            let end = span.offset.checked_add(span.len);
            assert!(block != 0 && end.is_some_and(|end| end <= size), "a span outside its block");
            self.runs.push(Run { address: block + span.offset, len: span.len, at: span.at });
            let end = span.at.checked_add(span.len).expect("a buffer fits into memory");
            self.total = self.total.max(end);
        }
        self.spans = spans;
    }

    pub(in crate::sentinel) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether the thread still has the blocks that it had, and no more.
    #[inline]
    fn is_current(&self) -> bool {
        generation() == self.generation
            && self.pending.iter().all(|&(id, entry)| entry_of(id) == entry)
    }

    /// Copies the watched bytes, unless the blocks changed; says whether it did.
    ///
    /// # Panics
    ///
    /// If `to` is shorter than the spans need.
    #[inline]
    pub(in crate::sentinel) fn copy(&self, to: &mut [u8]) -> bool {
        assert!(to.len() >= self.total);
        if !self.is_current() {
            return false;
        }
        let copy = unknown_copy();
        for run in &self.runs {
            // SAFETY: `at` is inside `to` by the assertion and `watch` (invariant 3).
            let to = unsafe { to.as_mut_ptr().add(run.at) };
            let from = ptr::without_provenance(run.address);
            // SAFETY: `from` is readable for `len` bytes (invariants 1, 2 and 3), `to` is writable
            // for as many, they do not overlap because `to` is an exclusive borrow and no part of
            // a thread-local is lent to us, and what is read is no Rust value (invariant 5).
            unsafe { copy(to.cast(), from, run.len) };
        }
        true
    }

    /// Compares the watched bytes with a copy made earlier.
    ///
    /// # Panics
    ///
    /// If `with` is shorter than the spans need.
    #[inline]
    pub(in crate::sentinel) fn compare(&self, with: &[u8]) -> Compared {
        assert!(with.len() >= self.total);
        if !self.is_current() {
            return Compared::Stale;
        }
        let compare = unknown_compare();
        for run in &self.runs {
            // SAFETY: `at` is inside `with` by the assertion and `watch` (invariant 3).
            let old = unsafe { with.as_ptr().add(run.at) };
            let now = ptr::without_provenance(run.address);
            // SAFETY: `now` is readable for `len` bytes (invariants 1, 2 and 3), so is `old`, and
            // what is read at `now` is no Rust value (invariant 5).
            if unsafe { compare(old.cast(), now, run.len) } != 0 {
                return Compared::Different;
            }
        }
        Compared::Same
    }
}

/// `memcpy`, as something that the compiler knows nothing about (invariant 5).
#[inline]
fn unknown_copy() -> CopyFn {
    let mut f: CopyFn = libc::memcpy;
    // SAFETY: the block is empty: it leaves every register and all memory alone.
    unsafe { asm!("/* {0} */", inout(reg) f, options(nostack, preserves_flags)) };
    f
}

/// `memcmp`, as something that the compiler knows nothing about (invariant 5).
#[inline]
fn unknown_compare() -> CompareFn {
    let mut f: CompareFn = libc::memcmp;
    // SAFETY: the block is empty: it leaves every register and all memory alone.
    unsafe { asm!("/* {0} */", inout(reg) f, options(nostack, preserves_flags)) };
    f
}

/// The address of the calling thread's vector of blocks.
#[inline]
fn vector() -> usize {
    let vector: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `fs` holds the thread's control block, whose second word is the vector's address
    // (invariant 4); the block only reads.
    unsafe {
        asm!("mov {}, fs:[8]", out(reg) vector, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: `tpidr_el0` holds the thread's control block, whose first word is the vector's
    // address (invariant 4); the block only reads.
    unsafe {
        asm!("mrs {0}, tpidr_el0", "ldr {0}, [{0}]", out(reg) vector,
            options(nostack, preserves_flags, readonly));
    }
    vector
}

/// Reads a word that glibc owns.
///
/// # Safety
///
/// `address` is that of a readable word.
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

/// The generation that the thread's vector has reached.
#[inline]
fn generation() -> usize {
    // SAFETY: entry 0 of the vector starts with the generation (invariant 4).
    unsafe { peek(vector()) }
}

/// The address that the vector has for a module; `None` if it has no entry for it.
#[inline]
fn entry_of(id: usize) -> Option<usize> {
    let vector = vector();
    // SAFETY: the entry at -1 starts with how many entries there are (invariant 4).
    let entries = unsafe { peek(vector - ENTRY) };
    if id > entries {
        return None;
    }
    // SAFETY: the vector has an entry `id`, as was just seen (invariant 4).
    Some(unsafe { peek(vector + id * ENTRY) })
}

/// Lists the loaded modules that have thread-locals and looks up the calling thread's blocks.
pub(in crate::sentinel) fn census() -> Result<(Loads, Vec<Loaded>, View), Unsupported> {
    loop {
        let before = generation();
        let (loads, modules) = walk();
        let mut pending = Vec::new();
        let mut blocks = Vec::new();
        for module in &modules {
            let entry = entry_of(module.id);
            if module.block == 0 {
                pending.push((module.id, entry));
            } else if entry != Some(module.block) {
                return Err(Unsupported::new("glibc keeps its thread-locals in an unknown way"));
            }
            blocks.push((module.block, module.size));
        }
        // The allocations above may have brought the vector up to date.
        if generation() == before {
            let view = View {
                generation: before,
                blocks,
                pending,
                spans: Vec::new(),
                runs: Vec::new(),
                total: 0,
                _here: PhantomData,
            };
            return Ok((loads, modules, view));
        }
    }
}

/// How often modules have been loaded and unloaded so far.
pub(in crate::sentinel) fn loads() -> Loads {
    unsafe extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: the dynamic linker passes a valid description, for the time of this call.
        let info = unsafe { &*info };
        // SAFETY: `data` is the exclusive borrow that the call below passed.
        let loads = unsafe { &mut *data.cast::<Loads>() };
        *loads = Loads { added: info.dlpi_adds, removed: info.dlpi_subs };
        1
    }
    let mut loads = Loads::default();
    // SAFETY: `first` does not unwind, and `loads` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut loads).cast()) };
    loads
}

/// What one walk collects. The callback must not allocate: it runs under the dynamic linker's
/// lock, which an allocator that unwinds its callers takes while holding its own.
struct Walk {
    loads: Loads,
    modules: Vec<Entry>,
    bytes: Vec<u8>,
    /// What did not fit, to make room for it and walk again.
    missing: (usize, usize),
}

struct Entry {
    id: usize,
    base: usize,
    size: usize,
    block: usize,
    /// Lengths of name, headers and image, which follow one another in `bytes`.
    lens: [usize; 3],
}

fn walk() -> (Loads, Vec<Loaded>) {
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
            return (walk.loads, walk.loaded());
        }
        // Half as much again, for what is loaded meanwhile.
        modules += walk.missing.0 * 3 / 2 + 1;
        bytes += walk.missing.1 * 3 / 2;
    }
}

impl Walk {
    fn add(&mut self, entry: Entry, parts: [&[u8]; 3]) {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.modules.len() == self.modules.capacity()
            || self.bytes.capacity() - self.bytes.len() < len
        {
            self.missing = (self.missing.0 + 1, self.missing.1 + len);
            return;
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.modules.push(entry);
    }

    fn loaded(&self) -> Vec<Loaded> {
        let mut rest = &self.bytes[..];
        let mut take = |len| {
            let (part, after) = rest.split_at(len);
            rest = after;
            part.to_vec()
        };
        let describe = |entry: &Entry| Loaded {
            id: entry.id,
            base: entry.base,
            name: take(entry.lens[0]),
            headers: take(entry.lens[1]),
            image: take(entry.lens[2]),
            size: entry.size,
            block: entry.block,
        };
        self.modules.iter().map(describe).collect()
    }
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker passes a valid description, for the time of this call.
    let info = unsafe { &*info };
    // SAFETY: `data` is the exclusive borrow that `walk` passed.
    let walk = unsafe { &mut *data.cast::<Walk>() };
    if size < mem::offset_of!(libc::dl_phdr_info, dlpi_tls_data) + size_of::<*mut c_void>() {
        // An old dynamic linker that does not tell about thread-locals.
        return 1;
    }
    walk.loads = Loads { added: info.dlpi_adds, removed: info.dlpi_subs };
    if info.dlpi_tls_modid == 0 {
        return 0;
    }
    // SAFETY: a loaded module's program headers are mapped, `dlpi_phnum` of them, and are not
    // unmapped while the dynamic linker runs this call under its lock.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let Some(tls) = headers.iter().find(|header| header.p_type == libc::PT_TLS) else { return 0 };
    // SAFETY: the same memory as `headers`, as plain bytes; the type has no padding.
    let header_bytes =
        unsafe { slice::from_raw_parts(info.dlpi_phdr.cast::<u8>(), size_of_val(headers)) };
    let base = info.dlpi_addr as usize;
    let image = ptr::with_exposed_provenance::<u8>(base.wrapping_add(tls.p_vaddr as usize));
    let image: &[u8] = if tls.p_filesz == 0 {
        &[]
    } else {
        // SAFETY: the dynamic linker fills new blocks from these bytes, which nobody writes once
        // the module is relocated and which stay mapped during this call, as the headers do. The
        // unwinder reads a module's tables in the same way.
        unsafe { slice::from_raw_parts(image, tls.p_filesz as usize) }
    };
    let name: &[u8] = if info.dlpi_name.is_null() {
        &[]
    } else {
        // SAFETY: the name is a C string that lives as long as its module.
        unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes()
    };
    let entry = Entry {
        id: info.dlpi_tls_modid,
        base,
        size: tls.p_memsz as usize,
        block: info.dlpi_tls_data.addr(),
        lens: [name.len(), header_bytes.len(), image.len()],
    };
    walk.add(entry, [name, header_bytes, image]);
    0
}

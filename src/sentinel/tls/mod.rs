//! The thread-local storage blocks of the calling thread, and reading their bytes.
//!
//! Everything here that is unsafe hides behind [`View`], whose methods are safe: it knows which
//! blocks the calling thread has, notices when that stops being true, and never hands out a
//! reference to what it reads.

use std::fmt;

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#[expect(unsafe_code, reason = "thread-local storage is walked and read behind Rust's back")]
#[path = "glibc.rs"]
mod imp;

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
#[path = "other.rs"]
mod imp;

pub(super) use self::imp::{View, census, loads};

/// How often modules have been loaded into and unloaded from the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Loads {
    pub(super) added: u64,
    pub(super) removed: u64,
}

/// A loaded module that has thread-locals, as the dynamic linker describes it to this thread.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The dynamic linker's number for the module's thread-locals.
    pub(super) id: usize,
    /// The difference between the module's addresses in memory and in its file.
    pub(super) base: usize,
    /// The file's name as it was loaded; empty for the program itself.
    pub(super) name: Vec<u8>,
    /// The module's program headers, byte for byte.
    pub(super) headers: Vec<u8>,
    /// What a fresh block starts with; bytes after its end start as zero.
    pub(super) image: Vec<u8>,
    /// The size of the module's block, in bytes.
    pub(super) size: usize,
    /// Where the calling thread's block lies; zero while it has none.
    pub(super) block: usize,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("id", &self.id)
            .field("name", &String::from_utf8_lossy(&self.name))
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A run of bytes to watch, inside the block of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Which of the census's modules, by its place in the list.
    pub(super) module: usize,
    /// The first byte, counted from the start of the module's block.
    pub(super) offset: usize,
    /// How many bytes.
    pub(super) len: usize,
    /// Where they go in the buffer.
    pub(super) at: usize,
}

/// What comparing a [`View`] with an earlier copy found.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(
        target_os = "linux",
        target_env = "gnu",
        target_pointer_width = "64",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )),
    expect(dead_code, reason = "where nothing is read nothing differs")
)]
pub(super) enum Compared {
    /// Every byte is as it was.
    Same,
    /// Some byte differs.
    Different,
    /// The thread's blocks themselves changed, so nothing was read.
    Stale,
}

/// The sentinel cannot work on this system.
///
/// It needs Linux with glibc on x86-64 or AArch64; everywhere else, and where glibc keeps its
/// thread-locals in a way that this version does not know, this is what its functions return.
///
/// ```
/// # #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
/// assert!(cleanslate::sentinel::supported().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Unsupported {
    why: &'static str,
}

impl Unsupported {
    fn new(why: &'static str) -> Unsupported {
        Unsupported { why }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sentinel is not supported here: {}", self.why)
    }
}

impl fmt::Debug for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unsupported").field(&self.why).finish()
    }
}

impl std::error::Error for Unsupported {}

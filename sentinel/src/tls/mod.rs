//! The thread-local storage blocks of the calling thread, and reading their bytes.
//!
//! Everything here that is unsafe hides behind [`View`], whose methods are safe: it knows which
//! blocks the calling thread has, notices when that stops being true, and never hands out a
//! reference to what it reads.

use std::fmt;

use crate::error::Unsupported;

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#[expect(unsafe_code, reason = "thread-local storage is walked and read behind Rust's back")]
#[path = "glibc/mod.rs"]
mod imp;

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
#[path = "other.rs"]
mod imp;

pub(super) use self::imp::{View, census, list, loads};

/// How far the dynamic linker's list of modules has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Loads {
    /// How many modules have been loaded so far, in the life of the process.
    pub(super) total: u64,
    /// How many are in the list.
    pub(super) listed: usize,
}

impl Loads {
    /// Returns whether the module at `place` in this list was certainly in the list when `earlier`
    /// was taken.
    ///
    /// New modules are put at the end, so a module with at least as many behind it as have been
    /// loaded since is an old one. About others nothing is known: without those that have been
    /// unloaded since, there are fewer behind an old one.
    pub(super) fn had(self, place: usize, earlier: Loads) -> bool {
        let loaded_since = self.total.saturating_sub(earlier.total);
        let behind = self.listed.saturating_sub(place + 1) as u64;
        behind >= loaded_since
    }
}

/// The modules that have thread-locals, in the order in which they were loaded.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) loads: Loads,
    pub(super) modules: Vec<Loaded>,
}

impl Listing {
    /// Looks for a module of an earlier list. Returns `None` if it was unloaded.
    pub(super) fn find(&self, module: &Loaded, earlier: Loads) -> Option<Identity> {
        let found = self.modules.iter().find(|found| found.is_like(module))?;
        Some(found.identity(self.loads, earlier))
    }
}

/// How certain it is that two descriptions are of one module.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// It was there all the time.
    Same,
    /// It may have been unloaded, and the same file loaded in its place.
    PerhapsAnother,
}

/// A loaded module that has thread-locals.
#[derive(Clone)]
pub(super) struct Loaded {
    /// The dynamic linker's number for the module's thread-locals.
    pub(super) id: usize,
    /// Where it is in the list of all modules.
    pub(super) place: usize,
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
}

impl Loaded {
    /// Returns whether this module of the list `now` was there already when `earlier` was taken.
    pub(super) fn identity(&self, now: Loads, earlier: Loads) -> Identity {
        // The program itself, which has no name, is never unloaded.
        if self.name.is_empty() || now.had(self.place, earlier) {
            Identity::Same
        } else {
            Identity::PerhapsAnother
        }
    }

    /// Returns whether their descriptions do not tell the two apart: see [`Identity`].
    pub(super) fn is_like(&self, other: &Loaded) -> bool {
        (self.id, self.base, self.size) == (other.id, other.base, other.size)
            && self.name == other.name
            && self.headers == other.headers
            && self.image == other.image
    }

    /// Copies what a fresh block contains from `offset` on.
    pub(super) fn initial(&self, offset: usize, to: &mut [u8]) {
        let image = self.image_of(offset, to.len());
        to[..image.len()].copy_from_slice(image);
        to[image.len()..].fill(0);
    }

    /// Returns whether bytes that start at `offset` are as in a fresh block.
    pub(super) fn is_initial(&self, offset: usize, bytes: &[u8]) -> bool {
        let image = self.image_of(offset, bytes.len());
        let (old, zero) = bytes.split_at(image.len());
        // In chunks, which the compiler turns into wide instructions.
        let is_zero = |chunk: &[u8]| chunk.iter().fold(0, |all, byte| all | byte) == 0;
        image == old && zero.chunks(64).all(is_zero)
    }

    /// Returns whether a variable that starts at `offset` shows that nothing is set, as it does at
    /// first.
    ///
    /// If the compiler stores `None` as a number in the place of a variant, that number is in the
    /// image: what an earlier value left beside it means nothing. If `None` is a null pointer, the
    /// image is zero, and so must the whole variable be, except for the byte in which std notes
    /// that there is a destructor: a one, or since Rust 1.99 a zero instead of a one.
    pub(super) fn is_unset(&self, offset: usize, bytes: &[u8]) -> bool {
        if self.marks(offset, bytes.len()).next().is_some() {
            return self.marks(offset, bytes.len()).all(|(at, mark)| bytes[at] == mark);
        }
        let note = self.note(offset, bytes.len());
        let is_set = |(at, byte): &(usize, &u8)| **byte != 0 && note != Some(*at);
        let mut rest = bytes.iter().enumerate().filter(is_set);
        rest.next().is_none_or(|(_, &byte)| byte == 1 && note.is_none()) && rest.next().is_none()
    }

    /// Returns whether a variable that starts at `offset` shows the same in `a` as in `b` about
    /// what is set.
    pub(super) fn has_same_marks(&self, offset: usize, a: &[u8], b: &[u8]) -> bool {
        self.marks(offset, a.len()).all(|(at, _)| a[at] == b[at])
    }

    /// Returns the bytes of a variable that are not zero initially, with their places in it, except
    /// for std's note.
    fn marks(&self, offset: usize, len: usize) -> impl Iterator<Item = (usize, u8)> {
        let note = self.note(offset, len);
        let bytes = self.image_of(offset, len).iter().copied().enumerate();
        bytes.filter(move |&(at, byte)| byte != 0 && note != Some(at))
    }

    /// Returns the place of what looks like std's note that there is no destructor yet: a one
    /// behind the value, before nothing but padding. The value's size is a multiple of its
    /// alignment, which is what the note and the padding take; a word at most, where it matters.
    fn note(&self, offset: usize, len: usize) -> Option<usize> {
        let image = self.image_of(offset, len);
        let at = image.iter().rposition(|byte| *byte != 0)?;
        let alignment = len - at;
        let is_behind = matches!(alignment, 1 | 2 | 4 | 8) && at % alignment == 0;
        (image[at] == 1 && is_behind).then_some(at)
    }

    /// Returns what the image has of a variable; the rest of the variable starts as zero.
    fn image_of(&self, offset: usize, len: usize) -> &[u8] {
        let image = self.image.get(offset..).unwrap_or_default();
        &image[..len.min(image.len())]
    }
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
    /// The number of bytes.
    pub(super) len: usize,
    /// Where they go in the buffer.
    pub(super) at: usize,
}

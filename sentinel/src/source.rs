//! A file as the ELF reader reads it.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use object::{ReadCache, ReadRef};

/// How much of one file is read: its tables may have ten million symbols. They may also be holes,
/// which take no room on the disk, but in memory.
const LIMIT: u64 = 256 << 20;

/// A file of which parts are read and kept, up to a limit.
#[derive(Debug)]
pub(super) struct Source {
    cache: ReadCache<File>,
    left: Cell<u64>,
}

impl Source {
    pub(super) fn new(file: File) -> Source {
        Source { cache: ReadCache::new(file), left: Cell::new(LIMIT) }
    }
}

impl<'data> ReadRef<'data> for &'data Source {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        self.left.set(self.left.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, end: u8) -> Result<&'data [u8], ()> {
        // Of a few kibibytes, by itself.
        self.cache.read_bytes_at_until(range, end)
    }
}

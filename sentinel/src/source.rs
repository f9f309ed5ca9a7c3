//! A file as the ELF reader reads it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use object::{ReadCache, ReadRef};

/// How much of one file is read: its tables may have ten million symbols. They may also be holes,
/// which take no room on disk, but do in memory.
const LIMIT: u64 = 256 << 20;

/// A file whose parts are read and kept, up to a limit.
#[derive(Debug)]
pub(super) struct Source {
    cache: ReadCache<Input>,
    left: Cell<u64>,
}

impl Source {
    pub(super) fn new(file: File) -> Source {
        let input = Input { file, failure: None };
        Source { cache: ReadCache::new(input), left: Cell::new(LIMIT) }
    }

    /// Returns the system's error, if it could not read the file.
    pub(super) fn into_failure(self) -> Option<io::Error> {
        self.cache.into_inner().failure
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

/// An open file, and why it could not be read, which `object` does not tell.
#[derive(Debug)]
struct Input {
    file: File,
    failure: Option<io::Error>,
}

impl Input {
    fn note<R>(&mut self, result: io::Result<R>) -> io::Result<R> {
        result.map_err(|error| {
            let kind = error.kind();
            // After a signal the read is repeated.
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }
}

impl Read for Input {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let result = self.file.read(to);
        self.note(result)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let result = self.file.seek(to);
        self.note(result)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::File;

    use object::ReadRef;

    use super::Source;

    // Broke: it passed for a malformed file, which is for good.
    #[test]
    fn what_the_system_refuses_to_read_is_told_from_what_makes_no_sense() {
        let folder = Source::new(File::open("/").unwrap());
        assert!((&folder).read_bytes_at(0, 4).is_err());
        assert!(folder.into_failure().is_some());
        let empty = Source::new(File::open("/dev/null").unwrap());
        assert!((&empty).read_bytes_at(0, 4).is_err());
        assert!(empty.into_failure().is_none());
    }
}

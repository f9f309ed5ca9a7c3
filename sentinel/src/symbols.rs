//! Reading the thread-locals that an ELF file declares.

use std::cmp::Reverse;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use object::elf::{FileHeader32, FileHeader64, PT_TLS, SHN_UNDEF, STT_TLS};
use object::read::elf::{ElfFile, FileHeader, ProgramHeader, SectionHeader, Sym, SymbolTable};
use object::{Endianness, FileKind, Object, ObjectKind, ObjectSymbol, ReadRef, SymbolKind};

use crate::name::{Allowance, Name};
use crate::source::Source;

/// A thread-local that a file's symbol table names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol<N = Name> {
    pub(super) name: N,
    /// Counted from the start of the module's block.
    pub(super) offset: usize,
    pub(super) size: usize,
}

/// What a file says about its thread-locals.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Symbols {
    /// In order of their offsets, not overlapping.
    pub(super) list: Vec<Symbol>,
    /// The bytes that may belong to a variable without a name, in order.
    pub(super) unnamed: Vec<Range<usize>>,
    /// The size of a block, in bytes; zero if the file has no thread-locals.
    pub(super) block: usize,
    /// How many bytes at its start have an initial value in the file.
    pub(super) initialised: usize,
    /// The file's program headers, byte for byte.
    pub(super) headers: Vec<u8>,
}

/// Why a file's thread-locals could not be listed.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    NotAFile,
    NotElf,
    NotLinked,
    Malformed(object::Error),
    Stripped,
}

impl Failure {
    /// Returns whether the file may be readable later because, say, no descriptor or memory was
    /// free.
    ///
    /// Any other error of the system may be permanent.
    pub(super) fn is_temporary(&self) -> bool {
        use io::ErrorKind::{Interrupted, OutOfMemory, WouldBlock};
        let Failure::Io(error) = self else { return false };
        matches!(error.kind(), Interrupted | OutOfMemory | WouldBlock)
            || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
    }
}

/// Linux's numbers for no free descriptor, in the system and in the process. They have no
/// `ErrorKind`.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Io(error) => write!(f, "{error}"),
            Failure::NotAFile => f.write_str("not a regular file"),
            Failure::NotElf => f.write_str("not an ELF file"),
            Failure::NotLinked => f.write_str("neither a program nor a shared library"),
            Failure::Malformed(error) => write!(f, "a truncated or malformed ELF file: {error}"),
            Failure::Stripped => {
                f.write_str("stripped: it has thread-locals, but no names for them")
            }
        }
    }
}

impl Symbols {
    /// Reads what is needed of a file: its headers, symbols and names, not its code.
    pub(super) fn read(path: &Path) -> Result<Symbols, Failure> {
        let kind = fs::metadata(path).map_err(Failure::Io)?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            // Opening a named pipe would wait for its other end. A folder is refused as one when it
            // is read.
            return Err(Failure::NotAFile);
        }
        let mut file = File::open(path).map_err(Failure::Io)?;
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic).map_err(Failure::Io)?;
        if magic != b"\x7fELF" {
            return Err(Failure::NotElf);
        }
        let data = Source::new(file);
        let symbols = match FileKind::parse(&data).map_err(Failure::Malformed) {
            Ok(FileKind::Elf32) => collect::<FileHeader32<Endianness>>(&data),
            Ok(FileKind::Elf64) => collect::<FileHeader64<Endianness>>(&data),
            Ok(_) => Err(Failure::NotElf),
            Err(failure) => Err(failure),
        };
        // What the system refused to read merely looks malformed.
        data.into_failure().map_or(symbols, |error| Err(Failure::Io(error)))
    }
}

type Elf<'data, H> = ElfFile<'data, H, &'data Source>;

fn collect<H: FileHeader<Endian = Endianness>>(data: &Source) -> Result<Symbols, Failure> {
    let file = Elf::<H>::parse(data).map_err(Failure::Malformed)?;
    if !matches!(file.kind(), ObjectKind::Executable | ObjectKind::Dynamic) {
        // In a file that is not linked yet, a thread-local has no place in a block.
        return Err(Failure::NotLinked);
    }
    let endian = file.endian();
    let tls = file.elf_program_headers().iter().find(|header| header.p_type(endian) == PT_TLS);
    let number = |field: fn(&H::ProgramHeader, Endianness) -> H::Word| {
        tls.map_or(0, |tls| to_usize(field(tls, endian)))
    };
    let (block, initialised) = (number(ProgramHeader::p_memsz), number(ProgramHeader::p_filesz));
    let place =
        Place { start: number(ProgramHeader::p_vaddr), align: number(ProgramHeader::p_align) };
    let mut names = Names {
        symbols: Allowance::new(),
        paths: Allowance::new(),
        is_any_missing: !has_names(&file),
    };
    let mut list = Vec::new();
    for table in [file.elf_symbol_table(), file.elf_dynamic_symbol_table()] {
        let strings = strings(&file, table, data).map_err(Failure::Malformed)?;
        for symbol in table.symbols() {
            let offset = to_usize(symbol.st_value(endian));
            let is_undefined = symbol.st_shndx(endian) == SHN_UNDEF;
            if symbol.st_type() != STT_TLS || is_undefined || offset >= block {
                continue;
            }
            let Some(name) = names.read(data, &strings, symbol.st_name(endian)) else { continue };
            // The linker's own marker for the start of the block is not a variable.
            if name != "_TLS_MODULE_BASE_" {
                list.push(Symbol { name, offset, size: to_usize(symbol.st_size(endian)) });
            }
        }
    }
    let headers = object::pod::bytes_of_slice(file.elf_program_headers()).to_vec();
    let list = names.demangle(without_overlaps(list, block));
    let unnamed = unnamed(&list, block, (!names.is_any_missing).then_some(place));
    Ok(Symbols { list, unnamed, block, initialised, headers })
}

/// Returns where in the file the names of a table's symbols are, one after another.
fn strings<'data, H: FileHeader<Endian = Endianness>>(
    file: &Elf<'data, H>,
    table: &SymbolTable<'data, H, &'data Source>,
    data: &'data Source,
) -> object::Result<Range<u64>> {
    if table.is_empty() {
        return Ok(0..0);
    }
    let section = file.elf_section_table().section(table.string_section())?;
    let (start, len) = section.file_range(file.endian()).unwrap_or_default();
    let end = start.saturating_add(len);
    if data.len().is_ok_and(|all| all < end) {
        // This fails, with the reason.
        section.data(file.endian(), data)?;
    }
    Ok(start..end)
}

/// Reads names, and notes whether there was one that it could not read.
struct Names {
    symbols: Allowance,
    paths: Allowance,
    is_any_missing: bool,
}

impl Names {
    /// Returns the name that starts at `start`, or `None` if there is none that can be read.
    fn read<'data>(
        &mut self,
        data: &'data Source,
        strings: &Range<u64>,
        start: u32,
    ) -> Option<&'data str> {
        let bytes = self.bytes(data, strings.start.saturating_add(start.into())..strings.end);
        let name = bytes.and_then(|name| std::str::from_utf8(name).ok());
        let name = name.filter(|name| !name.is_empty());
        self.is_any_missing |= name.is_none();
        name
    }

    /// Returns what comes before the first zero. (`object` itself would look for it no further than
    /// four kibibytes.)
    fn bytes<'data>(&mut self, data: &'data Source, range: Range<u64>) -> Option<&'data [u8]> {
        let room = range.end.saturating_sub(range.start).min(self.symbols.left() as u64);
        let mut len = room.min(256);
        loop {
            let bytes = data.read_bytes_at(range.start, len).ok()?;
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                return self.symbols.spend(end).then_some(&bytes[..end]);
            }
            if len == room {
                // It counts all the same, or every symbol could cause as much to be read in vain.
                self.symbols.spend(bytes.len());
                return None;
            }
            len = room.min(len * 2);
        }
    }

    fn demangle(&mut self, list: Vec<Symbol<&str>>) -> Vec<Symbol> {
        let to_named = |Symbol { name, offset, size }| {
            let name = Name::within(&mut self.paths, name);
            self.is_any_missing |= name.is_none();
            Some(Symbol { name: name?, offset, size })
        };
        list.into_iter().filter_map(to_named).collect()
    }
}

/// Returns whether nothing was removed from a file's symbol table, as far as can be told: linkers
/// leave out the names of source files first, and `strip -x` leaves nothing else that is local.
/// (Without a table, only what is needed for linking has a name.)
fn has_names<H: FileHeader<Endian = Endianness>>(file: &Elf<'_, H>) -> bool {
    let has = |is_it: fn(SymbolKind) -> bool| {
        file.symbols().any(|symbol| symbol.is_local() && is_it(symbol.kind()))
    };
    has(|kind| kind == SymbolKind::File)
        && has(|kind| matches!(kind, SymbolKind::Text | SymbolKind::Data | SymbolKind::Tls))
}

/// Where a block lies, as far as the alignment of its variables is concerned.
#[derive(Clone, Copy)]
struct Place {
    /// An address that the block starts at, up to a multiple of its alignment.
    start: usize,
    align: usize,
}

impl Place {
    /// Returns whether this many bytes before `end` can be there for the alignment of what begins
    /// there, or of a block that ends there.
    fn explains(self, gap: &Range<usize>, block: usize) -> bool {
        let address = if gap.end == block { block } else { self.start.wrapping_add(gap.end) };
        gap.len() < self.align.min(address & address.wrapping_neg())
    }
}

/// Returns the bytes that may belong to a variable without a name: all bytes without a name, unless
/// every gap can be there for alignment. Without a `place`, names are missing.
fn unnamed<N>(list: &[Symbol<N>], block: usize, place: Option<Place>) -> Vec<Range<usize>> {
    let ends = list.iter().map(|symbol| symbol.offset + symbol.size);
    let starts = list.iter().map(|symbol| symbol.offset).chain([block]);
    let mut gaps: Vec<_> =
        [0].into_iter().chain(ends).zip(starts).map(|(start, end)| start..end).collect();
    gaps.retain(|gap| gap.start < gap.end);
    if place.is_some_and(|place| gaps.iter().all(|gap| place.explains(gap, block))) {
        gaps.clear();
    }
    gaps
}

fn to_usize(number: impl Into<u64>) -> usize {
    usize::try_from(number.into()).unwrap_or(usize::MAX)
}

/// Sorts, keeps one of several names for the same bytes, and gives what has no size (a label in
/// assembly) the bytes up to the next symbol.
fn without_overlaps(mut list: Vec<Symbol<&str>>, block: usize) -> Vec<Symbol<&str>> {
    list.sort_by_key(|symbol| (symbol.offset, Reverse(symbol.size), symbol.name.len()));
    let mut kept: Vec<Symbol<_>> = Vec::with_capacity(list.len());
    for symbol in list {
        if let Some(last) = kept.last_mut() {
            if last.size == 0 && last.offset < symbol.offset {
                last.size = symbol.offset - last.offset;
            }
            // The size comes from the file, so it may be anything.
            let end = last.offset.saturating_add(last.size);
            if symbol.offset < end || symbol.offset == last.offset {
                continue;
            }
        }
        kept.push(symbol);
    }
    for symbol in &mut kept {
        let room = block - symbol.offset;
        symbol.size = if symbol.size == 0 { room } else { symbol.size.min(room) };
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::{Failure, Place, Symbol, unnamed, without_overlaps};

    #[cfg(target_os = "linux")]
    #[test]
    fn what_may_pass_is_told_from_what_may_last() {
        let is_temporary = |error: io::Error| Failure::Io(error).is_temporary();
        for kind in [ErrorKind::Interrupted, ErrorKind::OutOfMemory, ErrorKind::WouldBlock] {
            assert!(is_temporary(kind.into()), "{kind}");
        }
        // `ENFILE` and `EMFILE`, and then `ELOOP` and `EACCES`.
        assert_eq!(
            [23, 24, 40, 13].map(io::Error::from_raw_os_error).map(is_temporary),
            [true, true, false, false]
        );
    }

    fn symbol(name: &str, offset: usize, size: usize) -> Symbol<&str> {
        Symbol { name, offset, size }
    }

    #[test]
    fn aliases_and_labels_without_size_leave_no_overlap() {
        let list = vec![
            symbol("label", 8, 0),
            symbol("again", 8, 0),
            symbol("__libc_errno", 0, 4),
            symbol("errno", 0, 4),
            symbol("tail", 16, 0),
            symbol("part", 12, 8),
            symbol("longer", 12, 400),
        ];
        let kept = without_overlaps(list, 24);
        let seen: Vec<_> = kept.iter().map(|s| (s.name, s.offset, s.size)).collect();
        assert_eq!(seen, [("errno", 0, 4), ("label", 8, 4), ("longer", 12, 12)]);
        let kept = without_overlaps(vec![symbol("tail", 16, 0)], 24);
        assert_eq!(kept, [symbol("tail", 16, 8)]);
    }

    // Broke: whatever had no name passed for padding, if there was a table of symbols.
    #[test]
    fn what_alignment_does_not_explain_has_lost_its_name() {
        let list = [symbol("a", 8, 4), symbol("b", 16, 1), symbol("c", 24, 8)];
        let bounds = |list: &[Symbol<&str>], block, place| {
            unnamed(list, block, place).iter().map(|gap| (gap.start, gap.end)).collect::<Vec<_>>()
        };
        let found = |end, start, align| bounds(&list, end, Some(Place { start, align }));
        // `a` begins where alignment cannot have put it, or the last of the three.
        let all = [(0, 8), (12, 16), (17, 24)];
        assert_eq!(found(32, 0x1000, 8), all);
        assert_eq!(found(32, 0x1008, 16), []);
        assert_eq!(found(32, 0x1004, 16), all);
        assert_eq!(bounds(&list, 32, None), all);
        // The linker may round up the end of a block, but of a whole one.
        let more = [(0, 8), (12, 16), (17, 24), (32, 40)];
        assert_eq!(found(40, 0x1008, 16), more);
        assert_eq!(found(64, 0x1008, 64), []);
        assert_eq!(bounds(&[], 0, Some(Place { start: 0, align: 0 })), []);
        assert_eq!(bounds(&[], 8, Some(Place { start: 8, align: 8 })), [(0, 8)]);
    }

    // Broke: the sum of place and size overflowed.
    #[test]
    fn a_size_beyond_memory_ends_with_the_block() {
        let kept = without_overlaps(vec![symbol("huge", 8, usize::MAX), symbol("next", 12, 4)], 24);
        assert_eq!(kept, [symbol("huge", 8, 16)]);
    }
}

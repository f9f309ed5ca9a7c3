//! Files that no linker makes: their names are too long, missing or too many.

#![cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cleanslate_sentinel::{Inventory, InventoryError};

const PROGRAM: u16 = 2;
const OBJECT: u16 = 1;

/// The places of the tables in the list of sections.
const SYMBOLS: usize = 1;
const STRINGS: usize = 2;

/// Where the table of symbols has a source file, a function, and the thread-local at a place.
const SOURCE_FILE: usize = 64 + 56 + 3 * 64 + 24;
const FUNCTION: usize = SOURCE_FILE + 24;
const fn symbol(place: usize) -> usize {
    FUNCTION + (place + 1) * 24
}

/// Where the fields of a symbol are that are changed here.
const KIND: usize = 4;
const SECTION: usize = 6;
const PLACE: usize = 8;

/// A file with thread-locals of eight bytes, side by side.
struct Made {
    kind: u16,
    /// The names of the symbols, each with a zero at its end.
    strings: Vec<u8>,
    /// Where the name of each thread-local starts there.
    names: Vec<u32>,
}

impl Made {
    fn with_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Made {
        let mut made = Made { kind: PROGRAM, strings: vec![0], names: Vec::new() };
        for name in names {
            made.names.push(made.strings.len() as u32);
            made.strings.extend(name.bytes().chain([0]));
        }
        made
    }

    /// Writes it as ELF, of 64 bits: a header for thread-locals, and tables of symbols and names.
    fn to_bytes(&self) -> Vec<u8> {
        const HEADER: u64 = 64;
        const SYMBOL: u64 = 24;
        let (programs, sections) = (HEADER, HEADER + 56);
        let symbols = sections + 3 * 64;
        // None first, a source file and a function: as if nothing had been stripped.
        let count = self.names.len() as u64 + 3;
        let strings = symbols + count * SYMBOL;
        let block = self.names.len() as u64 * 8;

        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        let mut put = |number: u64, len: usize| bytes.extend(&number.to_le_bytes()[..len]);
        let fields = [self.kind.into(), 62].map(|field: u64| (field, 2));
        let fields = fields.into_iter().chain([(1, 4), (0, 8), (programs, 8), (sections, 8)]);
        let sizes = [HEADER, 56, 1, 64, 3, 2].map(|size| (size, 2));
        fields.chain([(0, 4)]).chain(sizes).for_each(|(field, len)| put(field, len));
        let tls = [(7, 4), (4, 4), (0, 8), (0, 8), (0, 8), (0, 8), (block, 8), (16, 8)];
        tls.into_iter().for_each(|(field, len)| put(field, len));
        (0..8).for_each(|_| put(0, 8));
        let table = |kind, start, len: u64, entry| {
            let place = [(0, 4), (kind, 4), (0, 8), (0, 8), (start, 8), (len, 8)];
            place.into_iter().chain([(2, 4), (3, 4), (8, 8), (entry, 8)])
        };
        let tables = table(2, symbols, count * SYMBOL, SYMBOL).chain(table(
            3,
            strings,
            self.strings.len() as u64,
            0,
        ));
        tables.for_each(|(field, len)| put(field, len));
        let mut symbol = |name: u32, kind: u64, section: u64, place: u64, size: u64| {
            let fields = [(name.into(), 4), (kind, 1), (0, 1), (section, 2), (place, 8), (size, 8)];
            fields.into_iter().for_each(|(field, len)| put(field, len));
        };
        symbol(0, 0, 0, 0, 0);
        symbol(0, 4, 0xFFF1, 0, 0);
        symbol(0, 2, 1, 0, 8);
        for (place, &name) in (0..).zip(&self.names) {
            symbol(name, 6, 1, place * 8, 8);
        }
        bytes.extend(&self.strings);
        bytes
    }

    fn read(&self, file: &str) -> Result<Inventory, InventoryError> {
        read(&self.to_bytes(), file)
    }
}

/// The folder is that of all packages' tests, which may run at the same time.
fn read(bytes: &[u8], file: &str) -> Result<Inventory, InventoryError> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("inventory-{file}"));
    fs::write(&path, bytes).unwrap();
    Inventory::read(path)
}

fn paths(inventory: &Inventory) -> Vec<&str> {
    inventory.variables().iter().map(|variable| variable.path()).collect()
}

// Broke: one name of more than 4,095 bytes made the file malformed, and none had a name.
#[test]
fn a_name_may_be_long() {
    for len in [4_095, 4_096, 100_000] {
        let long = "x".repeat(len);
        let names = ["before", &long, "after"];
        let inventory = Made::with_names(names).read("long").unwrap();
        assert_eq!(paths(&inventory), names);
        assert!(inventory.is_complete());
    }
}

#[test]
fn a_name_that_cannot_be_read_costs_one_variable() {
    let names = ["before", "lost", "after"];
    let broken: [fn(&mut Made); 4] = [
        |made| made.names[1] = u32::MAX,
        |made| made.names[1] = 0,
        // Nothing ends it.
        |made| {
            made.names[1] = made.strings.len() as u32;
            made.strings.extend(b"lost");
        },
        |made| {
            let start = made.names[1] as usize;
            made.strings[start] = 0xFF;
        },
    ];
    for broken in broken {
        let mut made = Made::with_names(names);
        broken(&mut made);
        let inventory = made.read("lost").unwrap();
        assert_eq!(paths(&inventory), ["before", "after"]);
        assert!(!inventory.is_complete(), "eight bytes have no name");
    }
    // Broke: bytes whose name is no text passed for padding.
    let mut made = Made::with_names(["lost"]);
    made.strings[1] = 0xFF;
    assert!(made.read("lost").unwrap_err().is_stripped());
}

#[test]
fn a_symbol_without_a_place_in_the_block_is_none_of_its_variables() {
    let made = Made::with_names(["first", "_TLS_MODULE_BASE_", "elsewhere", "beyond"]);
    let mut bytes = made.to_bytes();
    // Another library's, and one behind the end.
    bytes[symbol(2) + SECTION] = 0;
    bytes[symbol(3) + PLACE] = 32;
    let inventory = read(&bytes, "places").unwrap();
    assert_eq!(paths(&inventory), ["first"]);
    assert!(!inventory.is_complete());
}

#[test]
fn a_gap_is_explained_by_alignment_if_no_names_were_taken() {
    const NOTHING: u8 = 0;
    const GLOBAL: u8 = 0x10;
    let mut bytes = Made::with_names(["before", "lost", "after"]).to_bytes();
    bytes[symbol(1) + KIND] = NOTHING;
    assert!(read(&bytes, "gap").unwrap().is_complete());
    let mut without_file = bytes.clone();
    without_file[SOURCE_FILE + KIND] = NOTHING;
    assert!(!read(&without_file, "without_file").unwrap().is_complete());
    for symbol in [FUNCTION, symbol(0), symbol(2)] {
        bytes[symbol + KIND] |= GLOBAL;
    }
    assert!(!read(&bytes, "without_locals").unwrap().is_complete());
}

#[test]
fn a_file_that_ends_too_early_is_malformed() {
    let bytes = Made::with_names(["before", "after"]).to_bytes();
    for missing in [1, 20, 200, bytes.len() - 4] {
        let error = read(&bytes[..bytes.len() - missing], "cut").unwrap_err();
        assert!(error.is_malformed(), "without {missing} bytes: {error}");
    }
}

// Broke: it passed for a program that keeps nothing per thread.
#[test]
fn a_file_that_is_not_linked_is_refused() {
    let made = Made { kind: OBJECT, ..Made::with_names(["counter"]) };
    let error = made.read("object.o").unwrap_err();
    assert!(error.to_string().ends_with("object.o: neither a program nor a shared library"));
    assert!(!error.is_not_elf() && !error.is_malformed() && !error.is_stripped(), "{error}");
}

#[test]
fn what_is_no_regular_file_is_refused_unread() {
    let error = Inventory::read("/dev/null").unwrap_err();
    assert_eq!(error.to_string(), "/dev/null: not a regular file");
}

// Broke: such files took gigabytes.
#[test]
fn a_small_file_does_not_fill_the_memory() {
    // All of them share the text of one name, of which each is another part.
    let mut made = Made::with_names(["x".repeat(1 << 20).as_str()]);
    made.names = (1..100).collect();
    let inventory = made.read("shared").unwrap();
    let len: usize = paths(&inventory).iter().map(|path| path.len()).sum();
    assert!((1 << 20..32 << 20).contains(&len), "{len} bytes");
    assert!(!inventory.is_complete());
}

// Broke: when the limit was reached, each further one was written out all the same.
#[test]
fn short_names_that_stand_for_long_paths_do_not_take_minutes() {
    // Pairs of pairs; each refers to what it repeats by a place in the symbol.
    let digits = "0123456789abcdefghijklmnopqrstuvwxyz";
    let pairs = (7..22).rev().map(|place| format!("B{}_E", &digits[place..=place]));
    let name = format!("_RINvC1a1f{}p{}E", "T".repeat(15), pairs.collect::<String>());
    let mut made = Made::with_names([name.as_str()]);
    made.names = vec![1; 10_000];
    let inventory = quickly(|| made.read("pairs").unwrap());
    assert!((1..10_000).contains(&inventory.variables().len()));
    assert!(!inventory.is_complete());
}

// Broke: each symbol had all of it searched for an end.
#[test]
fn a_long_name_without_an_end_is_searched_once() {
    let mut made = Made::with_names(["before"]);
    made.names.resize(50_000, made.strings.len() as u32);
    made.strings.resize(17 << 20, b'x');
    let inventory = quickly(|| made.read("endless").unwrap());
    assert_eq!(paths(&inventory), ["before"]);
}

/// Runs what took minutes once.
fn quickly<R>(f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
    result
}

// Broke: tables were read as a whole, holes included.
#[test]
fn holes_do_not_fill_the_memory() {
    let made = Made::with_names(["before", "after"]);
    let with = |table: usize, len: u64, file: &str| {
        let mut bytes = made.to_bytes();
        // The table is moved to the end, where a hole follows it.
        let [start, old] = [24, 32].map(|field| 64 + 56 + table * 64 + field);
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let content = number(start) as usize..(number(start) + number(old)) as usize;
        let end = bytes.len() as u64;
        bytes.extend_from_within(content);
        bytes[start..start + 8].copy_from_slice(&end.to_le_bytes());
        bytes[old..old + 8].copy_from_slice(&len.to_le_bytes());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("inventory-{file}"));
        fs::write(&path, &bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(end + len).unwrap();
        let inventory = Inventory::read(&path);
        fs::remove_file(&path).unwrap();
        inventory
    };
    assert_eq!(paths(&with(STRINGS, 1 << 40, "names").unwrap()), ["before", "after"]);
    assert_eq!(paths(&with(SYMBOLS, 24 << 10, "few").unwrap()), ["before", "after"]);
    assert!(with(SYMBOLS, 24 << 24, "many").unwrap_err().is_malformed());
}

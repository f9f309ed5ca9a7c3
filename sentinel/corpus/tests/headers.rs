//! Shared libraries with program headers that no linker writes.

use std::fs;
use std::path::Path;

use cleanslate_sentinel::watch;
use sentinel_corpus::{Library, on_fresh_thread};

const PT_TLS: u64 = 7;
/// Of no use to a library that nothing unwinds through.
const PT_GNU_EH_FRAME: u64 = 0x6474_E550;

/// How long a header is, and where in it are those fields that are changed here.
const HEADER: usize = 56;
const ADDRESS: usize = 16;
const LEN_IN_FILE: usize = 32;
const LEN_IN_MEMORY: usize = 40;

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Loads a copy of a library whose program headers were changed.
fn changed(name: &str, change: impl Fn(&mut [u8])) -> Library {
    let built = Path::new(env!("CORPUS_LIBRARIES")).join("libcorpus_opened.so");
    let mut bytes = fs::read(built).unwrap();
    let start = number(&bytes[32..40]) as usize;
    let count = number(&bytes[56..58]) as usize;
    change(&mut bytes[start..start + count * HEADER]);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // A new file in its place: the old one may still be mapped.
    drop(fs::remove_file(&file));
    fs::write(&file, bytes).unwrap();
    Library::open_file(&file)
}

/// Returns where the one header of a kind starts.
fn find(headers: &[u8], kind: u64) -> usize {
    let place = headers.chunks(HEADER).position(|header| number(&header[..4]) == kind);
    place.unwrap() * HEADER
}

fn set(headers: &mut [u8], field: usize, value: u64) {
    headers[field..field + 8].copy_from_slice(&value.to_le_bytes());
}

// Broke: the first header was believed, of a block that is larger than the thread's.
#[test]
fn of_two_blocks_none_is_read() {
    on_fresh_thread(|| {
        let library = changed("libtwo_blocks.so", |headers| {
            let [tls, other] = [PT_TLS, PT_GNU_EH_FRAME].map(|kind| find(headers, kind));
            headers.copy_within(tls..tls + HEADER, other);
            // glibc believes the last.
            let first = tls.min(other);
            set(headers, first + LEN_IN_FILE, 0);
            set(headers, first + LEN_IN_MEMORY, 64 << 20);
        });
        library.setter("opened_set_hidden")(1);
        let (_, report) = watch(|| library.setter("opened_set_hidden")(2));
        assert!(report.is_clean(), "{report}");
    });
}

// Broke: whatever the header named was copied, also where nothing is mapped.
#[test]
fn initial_values_that_lie_nowhere_are_not_read() {
    on_fresh_thread(|| {
        let _library = changed("libnowhere.so", |headers| {
            set(headers, find(headers, PT_TLS) + ADDRESS, 1 << 30);
        });
        // Nobody uses its thread-locals: glibc would copy them, too.
        let (_, report) = watch(|| ());
        assert!(report.is_clean(), "{report}");
    });
}

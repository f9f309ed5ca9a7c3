//! The list of a binary's thread-locals, as the `tls_inventory` example prints it.

#![cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use cleanslate::sentinel::Inventory;

#[path = "../tls_inventory.rs"]
#[expect(dead_code, reason = "its main is not called here")]
pub(crate) mod example;

thread_local! {
    static ZERO: Cell<u64> = const { Cell::new(0) };
    static PRESET: Cell<u32> = const { Cell::new(0x1234) };
}

/// Exit code, standard output and standard error.
fn run(arguments: &[&Path]) -> (u8, String, String) {
    let arguments: Vec<OsString> = arguments.iter().map(|it| it.as_os_str().to_owned()).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = example::run(&arguments, &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn this_program() -> PathBuf {
    ZERO.set(PRESET.get().into());
    std::env::current_exe().unwrap()
}

/// The folder is that of all packages' tests, which may run at the same time.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls_inventory-{name}"));
    fs::write(&path, bytes).unwrap();
    path
}

/// Leaves out the section headers, and with them all symbols; such a file still runs.
fn without_sections(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[0x28..0x30].fill(0);
    bytes[0x3C..0x40].fill(0);
    bytes
}

#[test]
fn every_thread_local_is_listed_with_crate_size_and_state() {
    let (code, out, err) = run(&[&this_program()]);
    assert_eq!((code, err.as_str()), (0, ""));
    let row = |path: &str| -> Vec<&str> {
        let line = out.lines().find(|line| line.ends_with(path)).unwrap_or_else(|| panic!("{out}"));
        line.split_whitespace().collect()
    };
    let name = "examples";
    assert_eq!(row("inventory::ZERO"), [name, "8", "zero", "examples::tls_inventory::ZERO"]);
    assert_eq!(row("::PRESET"), [name, "4", "initialised", "examples::tls_inventory::PRESET"]);
    assert_eq!(row("std::thread::current::CURRENT")[0], "std");
    let rows: Vec<&str> = out.lines().skip(1).collect();
    let (last, rows) = rows.split_last().unwrap();
    assert!(last.starts_with(&format!("{} thread-locals, ", rows.len())), "{out}");
    // What is not of Rust, if a sanitizer's runtime is there, comes last.
    let crates: Vec<_> = rows.iter().filter_map(|row| row.split(' ').next()).collect();
    let (rust, other) = crates.split_at(crates.iter().take_while(|it| **it != "-").count());
    assert!(rust.is_sorted() && other.iter().all(|it| *it == "-"), "{out}");
}

#[test]
fn a_file_that_is_no_elf_file_is_refused() {
    for (name, bytes) in [("text", &b"just some text, and enough of it"[..]), ("empty", b"")] {
        let path = file(name, bytes);
        assert!(Inventory::read(&path).unwrap_err().is_not_elf());
        let (code, out, err) = run(&[&path]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(err, format!("tls_inventory: {}: not an ELF file\n", path.display()));
    }
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let whole = fs::read(this_program()).unwrap();
    for part in [5, 16, 40, 64, 100, 1000, whole.len() / 2, whole.len() - 1] {
        let path = file("truncated", &whole[..part]);
        let error = Inventory::read(&path).expect_err("a part is no whole");
        assert!(error.is_malformed(), "{part} bytes: {error}");
        let (code, _, err) = run(&[&path]);
        assert_eq!(code, 1);
        assert!(err.contains("truncated or malformed"), "{err}");
    }
}

#[test]
fn damaged_files_give_errors_or_names_but_no_panic() {
    let whole = fs::read(this_program()).unwrap();
    let table = u64::from_le_bytes(whole[0x28..0x30].try_into().unwrap()) as usize;
    let mut state = 1_u64;
    let (mut good, mut bad) = (0, 0);
    for _ in 0..100 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            // In the header or in the table of sections, where damage matters most.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = (state >> 33) as usize;
            let place = if state >> 63 == 0 { 16 + place % 48 } else { table + place % 2000 };
            let place = place.min(bytes.len() - 1);
            bytes[place] = (state >> 40) as u8;
        }
        match Inventory::read(file("damaged", &bytes)) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(bad > 20, "{good} good, {bad} bad");
}

#[test]
fn a_stripped_file_is_refused() {
    let path = file("stripped", &without_sections(fs::read(this_program()).unwrap()));
    let error = Inventory::read(&path).unwrap_err();
    assert!(error.is_stripped() && !error.is_malformed() && !error.is_not_elf(), "{error}");
    let (code, out, err) = run(&[&path]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("stripped"), "{err}");
}

/// It passed for a program that keeps nothing per thread.
#[test]
fn an_object_file_is_refused() {
    let mut bytes = fs::read(this_program()).unwrap();
    bytes[16] = 1;
    let path = file("object.o", &bytes);
    let (code, out, err) = run(&[&path]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.ends_with("object.o: neither a program nor a shared library\n"), "{err}");
}

#[test]
fn a_long_name_is_shortened() {
    let shortened = |len| example::shortened(&format!("<{}>::ZERO", "ü".repeat(len)));
    assert_eq!(shortened(192), format!("<{}>::ZERO", "ü".repeat(192)));
    assert_eq!(shortened(5_000), format!("<{}…{}>::ZERO", "ü".repeat(99), "ü".repeat(93)));
}

#[test]
fn a_file_that_is_not_there_or_is_a_folder_is_refused() {
    let missing = Path::new(env!("CARGO_TARGET_TMPDIR")).join("missing");
    let (code, _, err) = run(&[&missing]);
    assert_eq!(code, 1);
    assert!(err.contains("missing: No such file"), "{err}");
    let (code, _, err) = run(&[Path::new("/")]);
    assert_eq!(code, 1);
    assert!(err.contains("directory"), "{err}");
}

/// It waited for the other end of a pipe.
#[test]
fn what_is_no_regular_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, Path::new("/dev/zero")] {
        let (code, out, err) = run(&[path]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(err, format!("tls_inventory: {}: not a regular file\n", path.display()));
    }
}

#[test]
fn wrong_arguments_give_the_usage_and_two() {
    let program = this_program();
    let program = program.as_path();
    for (arguments, fault) in [
        (vec![], "there is no binary"),
        (vec![program, program], "unexpected argument"),
        (vec![Path::new("")], "a name is empty"),
        (vec![Path::new("--list")], "invalid option '--list'"),
    ] {
        let (code, out, err) = run(&arguments);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with(&format!("tls_inventory: {fault}")), "{err}");
        assert!(err.contains("usage: tls_inventory PATH-TO-BINARY"), "{err}");
    }
    let (code, out, err) = run(&[Path::new("--help")]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("usage: "), "{out}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure_but_a_full_disk_is() {
    struct Broken(std::io::ErrorKind);
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let arguments = [this_program().into_os_string()];
    let mut err = Vec::new();
    let pipe = &mut Broken(std::io::ErrorKind::BrokenPipe);
    assert_eq!(example::run(&arguments, pipe, &mut err), 0);
    assert!(err.is_empty());
    let disk = &mut Broken(std::io::ErrorKind::StorageFull);
    assert_eq!(example::run(&arguments, disk, &mut err), 1);
    assert!(!err.is_empty());
}

//! A program without symbols: leaks are still found, and placed by module and offset.

#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use cleanslate_sentinel::{Inventory, Sentinel, watch};

thread_local! {
    static TENANT: Cell<[u64; 3]> = const { Cell::new([0; 3]) };
    static FLAG: Cell<bool> = const { Cell::new(false) };
}

const MARK: &str = "SENTINEL_TEST_STRIPPED";

#[test]
fn a_stripped_program_reports_module_and_offset() {
    // Without section headers there are no symbols; such a file still runs.
    in_a_copy("a_stripped_program_reports_module_and_offset", "stripped_program", |bytes| {
        bytes[0x28..0x30].fill(0);
        bytes[0x3C..0x40].fill(0);
    });
}

// Broke: what had no name in a file with other names passed for padding.
#[test]
fn so_does_a_program_without_the_names_of_local_symbols() {
    in_a_copy("so_does_a_program_without_the_names_of_local_symbols", "strip_x", |bytes| {
        change_symbols(bytes, |kind| kind == LOCAL_TLS);
    });
}

// Broke: where names had been taken, what alignment can explain passed for padding all the same.
#[test]
fn a_file_that_has_lost_other_names_may_have_lost_those_of_thread_locals() {
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let is_complete = |lost: &dyn Fn(u8) -> bool, file: &str| {
        let mut bytes = program.clone();
        change_symbols(&mut bytes, lost);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        fs::write(&path, bytes).unwrap();
        let inventory = Inventory::read(&path).unwrap();
        let named: usize = inventory.variables().iter().map(|variable| variable.size()).sum();
        assert!(named < inventory.size(), "there is padding");
        inventory.is_complete()
    };
    FLAG.set(TENANT.get()[0] == 0);
    assert!(is_complete(&|_| false, "whole"));
    assert!(!is_complete(&|kind| kind == LOCAL_FILE, "without_files"));
    let is_local = |kind: u8| kind >> 4 == 0 && ![LOCAL_FILE, LOCAL_SECTION].contains(&kind);
    assert!(!is_complete(&is_local, "without_locals"));
}

const LOCAL_SECTION: u8 = 3;
const LOCAL_FILE: u8 = 4;
const LOCAL_TLS: u8 = 6;

/// Takes their kinds away from symbols whose kind and binding is `lost`: they are nothing then.
fn change_symbols(bytes: &mut [u8], lost: impl Fn(u8) -> bool) {
    const SYMBOLS: u64 = 2;
    let number = |bytes: &[u8], at: usize, len: usize| {
        (0..len).rev().fold(0, |number, byte| number << 8 | u64::from(bytes[at + byte]))
    };
    let [sections, count] = [(0x28, 8), (0x3C, 2)].map(|(at, len)| number(bytes, at, len));
    for section in (0..count).map(|section| (sections + section * 64) as usize) {
        if number(bytes, section + 4, 4) != SYMBOLS {
            continue;
        }
        let [start, len] = [0x18, 0x20].map(|at| number(bytes, section + at, 8) as usize);
        for symbol in (start..start + len).step_by(24) {
            if lost(bytes[symbol + 4]) {
                bytes[symbol + 4] = 0;
            }
        }
    }
}

/// Runs a test in a copy of this program, changed by `strip`; there it calls [`in_the_copy`].
#[track_caller]
fn in_a_copy(test: &str, file: &str, strip: impl FnOnce(&mut [u8])) {
    if std::env::var_os(MARK).is_some() {
        return in_the_copy(file);
    }
    let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
    strip(&mut bytes);
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    let changed = copy.with_extension("changed");
    fs::write(&changed, bytes).unwrap();
    let inventory = Inventory::read(&changed);
    assert!(!inventory.is_ok_and(|inventory| inventory.is_complete()));
    // Copied by another process: what is started beside this test meanwhile would inherit the open
    // copy, and what is open to be written cannot be run ("text file busy").
    let output = Command::new("sh")
        .args(["-c", "cp \"$1\" \"$0\" && chmod 755 \"$0\" && shift && exec \"$0\" \"$@\""])
        .args([&copy, &changed])
        .args([test, "--exact", "--nocapture"])
        .env(MARK, "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("the copy saw the leak"), "{text}");
}

fn in_the_copy(file: &str) {
    a_watch_below_a_watcher_leaves_nothing();
    // Once before, for what std brings to life and no rule can know.
    drop(watch(|| TENANT.set([1; 3])));
    let (_, report) = watch(|| TENANT.set([2; 3]));
    let [leak] = report.leaks() else { panic!("{report}") };
    assert_eq!((leak.path(), leak.crate_name()), (None, None));
    assert_eq!((leak.module(), leak.size()), (file, 24));
    assert_eq!((leak.before()[8], leak.after()[8]), (1, 2));
    let place = format!("{file}+{:#x} (no symbol)", leak.offset());
    assert!(leak.to_string().starts_with(&place), "{leak}");
    assert!(report.to_string().contains(&format!("{file} has no symbols")), "{report}");
    let (_, report) = watch(|| TENANT.set([4, 2, 4]));
    assert_eq!(report.leaks().len(), 2, "{report}");
    assert_eq!(report.to_string().matches("has no symbols").count(), 1, "{report}");
    let lenient = Sentinel::new().allow(&format!("module:{file}"));
    assert!(lenient.watch(|| TENANT.set([3; 3])).1.is_clean());
    the_first_touch_of_what_has_no_name_can_be_allowed(file);
    println!("the copy saw the leak");
}

/// Broke: the list of the watchers that a thread keeps came to life below a watch, and the flag by
/// which std knows that has no name here.
fn a_watch_below_a_watcher_leaves_nothing() {
    let mut watcher = Sentinel::new().watcher().unwrap();
    watcher.begin();
    drop(watch(|| ()));
    let report = watcher.finish();
    assert!(report.is_none(), "{report:?}");
}

/// Broke: a rule for a module's first touches did not apply to what has no name.
fn the_first_touch_of_what_has_no_name_can_be_allowed(file: &str) {
    let once = Sentinel::new().allow_first_touch(&format!("module:{file}"));
    thread::spawn(move || {
        let (_, first) = once.watch(|| TENANT.set([4; 3]));
        assert!(first.is_clean(), "{first}");
        let (_, second) = once.watch(|| TENANT.set([5; 3]));
        assert_eq!(second.leaks().len(), 1, "{second}");
        assert!(!second.leaks()[0].is_first_touch());
    })
    .join()
    .unwrap();
}

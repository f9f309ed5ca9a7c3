//! A program without symbols: leaks are still found, and placed by module and offset.

#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cleanslate_sentinel::{Sentinel, watch};

thread_local! {
    static TENANT: Cell<[u64; 3]> = const { Cell::new([0; 3]) };
}

const MARK: &str = "SENTINEL_TEST_STRIPPED";

#[test]
fn a_stripped_program_reports_module_and_offset() {
    if std::env::var_os(MARK).is_some() {
        return in_the_copy();
    }
    let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
    // Without section headers there are no symbols; such a file still runs.
    bytes[0x28..0x30].fill(0);
    bytes[0x3C..0x40].fill(0);
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stripped_program");
    fs::write(&copy, bytes).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&copy)
        .args(["a_stripped_program_reports_module_and_offset", "--exact", "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("the copy saw the leak"), "{text}");
}

fn in_the_copy() {
    a_watch_below_a_watcher_leaves_nothing();
    // Once before, for what std brings to life and no rule can know.
    drop(watch(|| TENANT.set([1; 3])));
    let (_, report) = watch(|| TENANT.set([2; 3]));
    let [leak] = report.leaks() else { panic!("{report}") };
    assert_eq!((leak.path(), leak.crate_name()), (None, None));
    assert_eq!((leak.module(), leak.size()), ("stripped_program", 24));
    assert_eq!((leak.before()[8], leak.after()[8]), (1, 2));
    let place = format!("stripped_program+{:#x} (no symbol)", leak.offset());
    assert!(leak.to_string().starts_with(&place), "{leak}");
    assert!(report.to_string().contains("stripped_program has no symbols"), "{report}");
    let lenient = Sentinel::new().allow("module:stripped_program");
    assert!(lenient.watch(|| TENANT.set([3; 3])).1.is_clean());
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

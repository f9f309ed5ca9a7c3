//! Programs that get few threads.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

/// Runs a program that may have so many threads and hardly more: each wants a stack of 1 GiB, and
/// there is no more memory than for these.
pub(crate) fn with_threads(threads: u64, program: &Path) -> Command {
    let mut shell = Command::new("sh");
    let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", (threads << 20) + (1 << 19));
    shell.args(["-c", &limited]).arg(program).env("MALLOC_ARENA_MAX", "1");
    shell.env("RUST_MIN_STACK", (1 << 30).to_string());
    shell
}

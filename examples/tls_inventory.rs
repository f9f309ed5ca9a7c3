//! Shows what a binary keeps per thread: every thread-local, its crate, size and initial state.
//!
//! ```text
//! cargo run --features sentinel --example tls_inventory -- target/debug/my_app
//! ```

use std::io::{self, Write};
use std::process::ExitCode;

use cleanslate::sentinel::{Inventory, Variable};

const USAGE: &str = "\
usage: tls_inventory PATH-TO-BINARY

Lists every thread-local of an ELF program or shared library, sorted by crate:
crate, size in bytes, whether it starts initialised or zero, and path.";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match &arguments[..] {
        [only] if only == "--help" || only == "-h" => finish(writeln!(io::stdout(), "{USAGE}")),
        [only] if !only.to_string_lossy().starts_with('-') => match Inventory::read(only) {
            Ok(inventory) => finish(print(&inventory)),
            Err(error) => {
                eprintln!("tls_inventory: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// A reader that stops early, such as `head`, is no failure.
fn finish(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls_inventory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(inventory: &Inventory) -> io::Result<()> {
    let mut variables: Vec<&Variable> = inventory.variables().iter().collect();
    // What no crate declares (C) comes last.
    variables.sort_by_key(|variable| {
        let crate_name = variable.crate_name();
        (crate_name.is_none(), crate_name, variable.path())
    });
    let width = variables.iter().map(|variable| crate_of(variable).len()).max();
    let width = width.unwrap_or(0).max("crate".len());
    let mut out = io::BufWriter::new(io::stdout().lock());
    if !variables.is_empty() {
        writeln!(out, "{:width$} {:>7}  {:11}  path", "crate", "bytes", "starts as")?;
    }
    for variable in &variables {
        let state = if variable.is_initialised() { "initialised" } else { "zero" };
        let (crate_name, size) = (crate_of(variable), variable.size());
        writeln!(out, "{crate_name:width$} {size:>7}  {state:11}  {}", variable.path())?;
    }
    let (count, size) = (variables.len(), inventory.size());
    writeln!(out, "{count} thread-locals, {size} bytes for each thread, padding included")?;
    if !inventory.is_complete() {
        writeln!(out, "the file is stripped: only names that it exports are listed")?;
    }
    out.flush()
}

fn crate_of(variable: &Variable) -> &str {
    variable.crate_name().unwrap_or("-")
}

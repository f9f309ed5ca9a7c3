//! Shows what a binary keeps per thread: every thread-local, its crate, size and initial state.
//!
//! ```text
//! cargo run -p examples --example tls_inventory -- target/debug/my_app
//! ```

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use cleanslate::sentinel::{Inventory, Variable};
use comfy_table::{CellAlignment, Table, presets};
use lexopt::prelude::*;

const USAGE: &str = "\
usage: tls_inventory PATH-TO-BINARY

Lists every thread-local of an ELF program or shared library, sorted by crate:
crate, size in bytes, whether it starts initialised or zero, and path.";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut out = io::BufWriter::new(io::stdout().lock());
    ExitCode::from(run(&arguments, &mut out, &mut io::stderr()))
}

/// Returns the exit code: 0, or 1 if the binary cannot be listed, or 2 if the arguments are wrong.
pub(crate) fn run(arguments: &[OsString], out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let written = match parse(arguments) {
        Ok(Asked::Help) => writeln!(out, "{USAGE}"),
        Ok(Asked::List(path)) => match Inventory::read(path) {
            Ok(inventory) => print(&inventory, out),
            Err(error) => return fail(err, &format!("tls_inventory: {error}"), 1),
        },
        Err(error) => return fail(err, &format!("tls_inventory: {error}\n\n{USAGE}"), 2),
    };
    match written.and_then(|()| out.flush()) {
        // A reader that stops early, such as `head`, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(err, &format!("tls_inventory: cannot write: {error}"), 1)
        }
        _ => 0,
    }
}

enum Asked {
    Help,
    List(OsString),
}

fn parse(arguments: &[OsString]) -> Result<Asked, lexopt::Error> {
    let mut binary = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Asked::Help),
            Value(path) if path.is_empty() => return Err("a name is empty".into()),
            Value(path) if binary.is_none() => binary = Some(path),
            _ => return Err(argument.unexpected()),
        }
    }
    binary.map(Asked::List).ok_or_else(|| "there is no binary to list".into())
}

fn fail(err: &mut dyn Write, message: &str, code: u8) -> u8 {
    // Without standard error there is nobody left to tell.
    drop(writeln!(err, "{message}"));
    code
}

fn print(inventory: &Inventory, out: &mut dyn Write) -> io::Result<()> {
    let mut variables: Vec<&Variable> = inventory.variables().iter().collect();
    // What no crate declares (C) comes last.
    variables.sort_by_key(|variable| {
        let crate_name = variable.crate_name();
        (crate_name.is_none(), crate_name, variable.path())
    });
    if !variables.is_empty() {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["crate", "bytes", "starts as", "path"]);
        for variable in &variables {
            let state = if variable.is_initialised() { "initialised" } else { "zero" };
            let (crate_name, path) = (shortened(crate_of(variable)), shortened(variable.path()));
            table.add_row([crate_name, variable.size().to_string(), state.to_owned(), path]);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((u16::from(index > 0), 1));
            if index == 1 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{}", table.trim_fmt())?;
    }
    let counted = |number, noun| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let count = counted(variables.len(), "thread-local");
    let size = counted(inventory.size(), "byte");
    writeln!(out, "{count}, {size} for each thread, padding included")?;
    if !inventory.is_complete() && inventory.size() > 0 {
        writeln!(out, "the file is stripped: there may be others, without a name")?;
    }
    Ok(())
}

/// Leaves out the middle of a long name: a table is as wide as its longest name, and names of large
/// types can be of any length.
pub(crate) fn shortened(name: &str) -> String {
    const PART: usize = 100;
    let mut ends = name.char_indices().map(|(at, _)| at);
    match (ends.nth(PART), ends.nth_back(PART - 1)) {
        (Some(end), Some(start)) => format!("{}…{}", &name[..end], &name[start..]),
        _ => name.to_owned(),
    }
}

fn crate_of(variable: &Variable) -> &str {
    variable.crate_name().unwrap_or("-")
}

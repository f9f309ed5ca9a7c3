//! What is printed.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use super::args::Plan;
use super::index::Index;

/// How many files passed over, and how many remarks, are listed without `--all`.
const LISTED: usize = 10;

/// What was passed over and remarked on: for whoever watches, not for what reads the table.
pub(super) fn remarks(plan: &Plan, index: &Index, err: &mut impl Write) -> io::Result<()> {
    let passed: Vec<_> =
        index.skipped.iter().map(|file| format!("{}: {}", file.place, file.why)).collect();
    list(plan, "passed over", &passed, err)?;
    let remarks: Vec<_> =
        index.remarks.iter().map(|remark| format!("{}: {}", remark.place, remark.text)).collect();
    list(plan, "remarked", &remarks, err)
}

/// The table, and what it cost.
pub(super) fn print(plan: &Plan, index: &Index, out: &mut impl Write) -> io::Result<()> {
    let top = index.top(plan.top);
    if !top.is_empty() {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["word", "times", "files", "first at"]);
        for (word, uses) in top {
            let (times, files) = (uses.count.to_string(), uses.files.to_string());
            table.add_row([word, &times, &files, &uses.first.to_string()]);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((u16::from(index > 0), 1));
            if (1..=2).contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{}", table.trim_fmt())?;
    }
    let counted = |number, noun| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    writeln!(
        out,
        "\n{} in {}, {:.1} MB, passed over {}; {:.0} ms with {}",
        counted(index.words.len(), "word"),
        counted(index.files, "file"),
        index.bytes as f64 / 1e6,
        index.skipped.len(),
        index.took.as_secs_f64() * 1e3,
        counted(plan.workers, "worker")
    )?;
    out.flush()
}

fn list(plan: &Plan, what: &str, items: &[impl Display], out: &mut impl Write) -> io::Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let listed = if plan.all { items.len() } else { items.len().min(LISTED) };
    writeln!(out, "{what}:")?;
    for item in &items[..listed] {
        writeln!(out, "  {item}")?;
    }
    if listed < items.len() {
        writeln!(out, "  and {} more (--all lists them)", items.len() - listed)?;
    }
    writeln!(out)
}

//! What a terminal shows: the table, and what its columns mean.

use std::io::{self, Write};

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use super::args::Plan;
use super::job::PARTS;
use super::rows::{Done, kept_promise};
use super::tally::Tally;

/// Prints the table and the words around it.
pub(super) struct Text<W> {
    out: W,
    colour: bool,
}

/// The columns, as the JSON object and the page have them too.
pub(super) const COLUMNS: [&str; 6] =
    ["executor", "kept in", "began dirty", "disturbed", "wrong user", "tasks/s"];

/// The names that the sentinel found, without the path of the demonstration.
fn left_by(tally: &Tally) -> String {
    let names: Vec<_> =
        tally.left.iter().map(|path| path.rsplit("::").next().unwrap_or(path)).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

const RED: &str = "31";
const GREEN: &str = "32";
const BOLD: &str = "1";

impl<W: Write> Text<W> {
    pub(super) fn new(out: W, colour: bool) -> Self {
        Self { out, colour }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn open(&mut self, plan: &Plan) -> io::Result<()> {
        let (tasks, workers) = (counted(plan.tasks, "request"), counted(plan.workers, "worker"));
        writeln!(
            self.out,
            "The same {tasks} on each executor, with {workers}. A request looks who\n\
             is logged in, writes its own user and number, runs {PARTS} parts in parallel and \
             looks\n\
             again. It keeps that in a thread-local, as much code does. Nobody should see\n\
             anybody else.\n",
        )?;
        self.out.flush()
    }

    pub(super) fn close(&mut self, done: &[Done]) -> io::Result<()> {
        writeln!(self.out, "{}", self.table(done).trim_fmt())?;
        self.words(done)?;
        writeln!(
            self.out,
            "\nLeaky is the classic pool on purpose, for comparison. Reset empties what is\n\
             declared with task_local!. Of a thread_local! that nobody declared it cannot know,\n\
             so that leaks there too, until foreign::adopt names it (adopted).\n"
        )?;
        if cfg!(feature = "sentinel") {
            writeln!(
                self.out,
                "The sentinel names what a request left changed in any crate, with nothing\n\
                 registered. It leaves out the cells of task_local!, which the pool looks after.\n"
            )?;
        }
        let promised = || done.iter().filter(|done| done.row.promised).map(|done| &done.tally);
        let tasks = grouped(promised().map(|tally| tally.tasks).sum());
        let verdict = if kept_promise(done) {
            let kept = format!("None of the {tasks} tasks with declared or adopted state saw");
            self.paint(GREEN, &format!("{kept} another's data."))
        } else {
            let leaked = promised().filter(|tally| !tally.is_clean()).count();
            self.paint(RED, &format!("CLEANSLATE LEAKED, in {leaked} of its rows: that is a bug."))
        };
        writeln!(self.out, "{verdict}")
    }

    fn table(&self, done: &[Done]) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let more = cfg!(feature = "sentinel").then_some("left changed");
        let heads = COLUMNS.into_iter().chain(more);
        table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
        for Done { row, tally, .. } in done {
            let mut cells = vec![Cell::new(row.executor), Cell::new(row.kept_in)];
            for count in [tally.began_dirty, tally.disturbed, tally.misanswered] {
                let cell = Cell::new(grouped(count));
                cells.push(match count {
                    0 => cell.fg(Color::Green),
                    _ => cell.fg(Color::Red).add_attribute(Attribute::Bold),
                });
            }
            cells.push(Cell::new(grouped(tally.per_second() as usize)));
            if cfg!(feature = "sentinel") {
                cells.push(Cell::new(left_by(tally)));
            }
            table.add_row(cells);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            let first = index == 0;
            column.set_padding((if first { 0 } else { 1 }, 1));
            if (2..COLUMNS.len()).contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// What the columns mean, with the figures of the first executor that leaked in every way that
    /// it can.
    fn words(&mut self, done: &[Done]) -> io::Result<()> {
        // Of equal ones the last, which is the first row, since the order is reversed.
        let worst = done.iter().rev().max_by_key(|done| done.tally.words.count());
        let Some(Done { row, tally, .. }) = worst.filter(|done| !done.tally.is_clean()) else {
            return Ok(());
        };
        let words = &tally.words;
        let columns = [
            (
                "began dirty",
                "found what another task had left".to_owned(),
                vec![&words.began_dirty],
            ),
            (
                "disturbed",
                format!(
                    "its data changed while it waited for its parts ({}),\n    or somebody had \
                     its cell borrowed, mostly a panic ({})",
                    grouped(tally.changed),
                    grouped(tally.borrowed)
                ),
                vec![&words.changed, &words.borrowed],
            ),
            ("wrong user", "was answered as somebody else".to_owned(), vec![&words.misanswered]),
        ];
        writeln!(self.out, "\nFor example, on {}:", row.executor)?;
        for (column, meaning, examples) in columns {
            let column = self.paint(BOLD, column);
            writeln!(self.out, "  {column}: {meaning}")?;
            for example in examples.into_iter().flatten() {
                writeln!(self.out, "    - {example}")?;
            }
        }
        Ok(())
    }
}

/// A number and its noun, which is in the plural unless there is one.
pub(super) fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

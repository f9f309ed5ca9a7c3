//! What the demonstration prints.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::args::Plan;
use super::job::PARTS;
use super::rows::Row;
use super::tally::Tally;

/// The rows that have run.
type Done<'r> = [(&'r Row, Tally)];

/// Whether nothing leaked where cleanslate promises that nothing does.
pub(super) fn kept_promise(done: &Done<'_>) -> bool {
    done.iter().all(|(row, tally)| !row.promised || tally.is_clean())
}

/// The table and the words around it.
pub(super) struct Text<W> {
    out: W,
    colour: bool,
}

/// The column that the feature `sentinel` adds.
const SENTINEL_HEADS: [&str; 2] =
    if cfg!(feature = "sentinel") { ["  left changed,", "  says the sentinel"] } else { ["", ""] };

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
        let plural = |number, noun| {
            format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
        };
        let (tasks, workers) = (plural(plan.tasks, "request"), plural(plan.workers, "worker"));
        writeln!(
            self.out,
            "The same {tasks} on each executor, with {workers}. A request looks who\n\
             is logged in, writes its own user and number, runs {PARTS} parts in parallel and looks\n\
             again. It keeps that in a thread-local, as much code does. Nobody should see\n\
             anybody else.\n",
        )?;
        let heads = [
            "                                             began             answered",
            "executor             kept in          tasks    dirty  disturbed    wrong tasks/s",
        ];
        for (head, more) in heads.into_iter().zip(SENTINEL_HEADS) {
            let head = self.paint(BOLD, &format!("{head}{more}"));
            writeln!(self.out, "{}", head.trim_end())?;
        }
        self.out.flush()
    }

    pub(super) fn row(&mut self, row: &Row, tally: &Tally) -> io::Result<()> {
        write!(self.out, "{:<20} {:<14}", row.executor, row.kept_in)?;
        write!(self.out, "{:>8}", grouped(tally.tasks))?;
        for (count, width) in
            [(tally.began_dirty, 9), (tally.interleaved, 11), (tally.misanswered, 9)]
        {
            let count_text = format!("{:>width$}", grouped(count));
            let painted = self.paint(if count == 0 { GREEN } else { RED }, &count_text);
            write!(self.out, "{painted}")?;
        }
        write!(self.out, "{:>8}", grouped(tally.per_second() as usize))?;
        if cfg!(feature = "sentinel") {
            write!(self.out, "  {}", left_by(tally))?;
        }
        writeln!(self.out)?;
        self.out.flush()
    }

    pub(super) fn close(&mut self, done: &Done<'_>) -> io::Result<()> {
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
        let promised = || done.iter().filter(|(row, _)| row.promised).map(|(_, tally)| tally);
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

    /// What the columns mean, with what happened on the first executor that leaked in every way it can.
    fn words(&mut self, done: &Done<'_>) -> io::Result<()> {
        // Of equals, the last: seen from the end, the first row.
        let worst = done.iter().rev().max_by_key(|(_, tally)| tally.words.count());
        let Some((row, tally)) = worst.filter(|(_, tally)| !tally.is_clean()) else {
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
                    "its data changed while it waited for its parts ({}),\n    or somebody had its cell borrowed ({})",
                    grouped(tally.changed),
                    grouped(tally.borrowed)
                ),
                vec![&words.changed, &words.borrowed],
            ),
            (
                "answered wrong",
                "was answered as somebody else".to_owned(),
                vec![&words.misanswered],
            ),
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

/// The same as one JSON object.
pub(super) fn json(plan: &Plan, done: &Done<'_>, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<Value> = done.iter().map(|(row, tally)| row_json(row, tally)).collect();
    let all = json!({
        "tasks": plan.tasks,
        "workers": plan.workers,
        "parts": PARTS,
        "kept_promise": kept_promise(done),
        "rows": rows,
    });
    writeln!(out, "{all:#}")
}

fn row_json(row: &Row, tally: &Tally) -> Value {
    let words = &tally.words;
    json!({
        "executor": row.executor,
        "kept_in": row.kept_in,
        "promised_clean": row.promised,
        "tasks": tally.tasks,
        "sequential": tally.began_dirty,
        "interleaved": tally.interleaved,
        "changed": tally.changed,
        "borrowed": tally.borrowed,
        "answered_as_another": tally.misanswered,
        "seconds": tally.took.as_secs_f64(),
        "tasks_per_second": tally.per_second(),
        "left_changed": tally.left,
        "examples": {
            "sequential": words.began_dirty,
            "changed": words.changed,
            "borrowed": words.borrowed,
            "answered_as_another": words.misanswered,
        },
    })
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
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

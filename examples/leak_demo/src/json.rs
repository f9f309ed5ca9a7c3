//! The numbers for other programs: what `schema.json` describes.

use serde_json::{Value, json};

use super::args::Plan;
use super::job::PARTS;
use super::rows::{Done, kept_promise};

pub(super) fn object(plan: &Plan, done: &[Done]) -> Value {
    json!({
        "tasks": plan.tasks,
        "workers": plan.workers,
        "parts": PARTS,
        "kept_promise": kept_promise(done),
        "rows": done.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(done: &Done) -> Value {
    let Done { row, tally, .. } = done;
    let words = &tally.words;
    json!({
        "executor": row.executor,
        "kept_in": row.kept_in,
        "promised_clean": row.promised,
        "tasks": tally.tasks,
        "sequential": tally.began_dirty,
        "interleaved": tally.disturbed,
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

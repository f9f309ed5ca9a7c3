//! What it prints: the table, and the JSON object.

use serde_json::Value;

use crate::leak_demo::{self, Screen};
use crate::{call, demo, has_run_without_no_color, json, schema};

#[test]
fn the_table_says_it_in_words_and_without_escape_codes() {
    let ran = demo(&["--tasks", "200", "--workers", "2"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.contains(" began as "), "{}", ran.out);
    let promised = if cfg!(feature = "rayon") { 600 } else { 400 };
    assert!(ran.out.contains(&format!("None of the {promised} tasks")), "{}", ran.out);
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
}

#[test]
fn the_table_has_its_headers_on_one_line_and_fits_a_terminal() {
    let ran = demo(&["--tasks", "1000", "--workers", "2"]);
    let heads = ["executor", "kept in", "began dirty", "disturbed", "wrong user", "tasks/s"];
    let line = ran.out.lines().find(|line| line.starts_with("executor")).expect("a header");
    assert!(heads.iter().all(|head| line.contains(head)), "{line}");
    if !cfg!(feature = "sentinel") {
        let widest = ran.out.lines().max_by_key(|line| line.len()).expect("lines");
        assert!(widest.len() <= 100, "{widest}");
        assert!(line.len() <= 80, "{line}");
    }
}

#[test]
fn on_a_terminal_the_leaks_are_red() {
    if has_run_without_no_color("output::on_a_terminal_the_leaks_are_red") {
        return;
    }
    let screen = Screen { colour: true, progress: false };
    let args = ["--tasks", "200", "--workers", "2"];
    let ran = call(&args, |args, out, err| leak_demo::run(args, screen, out, err));
    let row = ran.out.lines().find(|line| line.starts_with("threadpool")).expect("a row");
    // Red and bold, and green; whatever the library writes for these.
    assert!(row.contains("\x1b[38;5;9m") && row.contains("\x1b[1m"), "{row:?}");
    assert!(row.contains("\x1b[38;5;10m"), "{row:?}");
}

#[test]
fn the_json_object_is_what_its_schema_says() {
    let schema: Value = serde_json::from_str(schema::TEXT).expect("the schema is JSON");
    for args in [&["--json", "--tasks=1"][..], &["--json", "--tasks", "300", "--workers=1"]] {
        let all = json(args);
        assert_eq!(schema::faults(&schema, &all), [""; 0], "{all:#}");
    }
}

#[test]
fn the_schema_refuses_what_it_does_not_describe() {
    let schema: Value = serde_json::from_str(schema::TEXT).expect("the schema is JSON");
    let good = json(&["--json", "--tasks=1"]);
    let changed = |change: fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        schema::faults(&schema, &bad)
    };
    assert_eq!(changed(|all| all["tasks"] = Value::from("1")), ["/tasks: type"]);
    assert_eq!(changed(|all| all["tasks"] = Value::from(0)), ["/tasks: minimum"]);
    assert_eq!(changed(|all| all["more"] = Value::Null), ["/more: additionalProperties"]);
    assert_eq!(
        changed(|all| all["rows"][1]["kept_in"] = "a pocket".into()),
        ["/rows/1/kept_in: enum"]
    );
    let without =
        |all: &mut Value| drop(all["rows"][0].as_object_mut().expect("a row").remove("seconds"));
    assert_eq!(changed(without), ["/rows/0/seconds: required"]);
}

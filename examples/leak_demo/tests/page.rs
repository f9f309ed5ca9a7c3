//! The page in a headless browser: it renders without errors, its numbers are those of `--json`,
//! and it can be used without a mouse.

use std::fs;

use serde_json::Value;

use crate::browser::{cells, rendered};
use crate::{demo, file};

/// Writes a page and returns its path and its numbers.
fn page(name: &str, tasks: &str) -> (String, Value) {
    let path = file(name);
    let ran = demo(&["--json", "--tasks", tasks, "--workers", "2", "--html", &path]);
    assert_eq!((ran.code, ran.err), (0, format!("wrote {path}\n")));
    (path, serde_json::from_str(&ran.out).expect("the output is one JSON value"))
}

#[test]
fn the_page_renders_without_errors_and_shows_the_numbers_of_the_json_object() {
    let (path, numbers) = page("numbers.html", "700");
    let Some(page) = rendered(&format!("file://{path}"), &format!("{path}.profile")) else {
        return;
    };
    assert!(!page.contains("data-error"), "{page}");
    assert!(page.contains("data-requests=\"300\""), "two runs of 150 requests each");

    let cells = cells(&page, "<table", "</table>");
    let rows = numbers["rows"].as_array().expect("rows");
    assert_eq!(cells.len(), rows.len() + 1);
    let heads = ["executor", "kept in", "began dirty", "disturbed", "wrong user", "tasks/s"];
    assert_eq!(cells[0], heads);
    for (shown, row) in cells[1..].iter().zip(rows) {
        let count = |name: &str| row[name].as_u64().expect("a count").to_string();
        assert_eq!(shown[0], row["executor"].as_str().expect("a name"));
        assert_eq!(shown[1], row["kept_in"].as_str().expect("a name"));
        let counts = ["sequential", "interleaved", "answered_as_another"].map(count);
        assert_eq!(shown[2..5], counts, "{row:#}");
        let rate = row["tasks_per_second"].as_f64().expect("a rate") as u64;
        assert_eq!(shown[5].replace(',', ""), rate.to_string());
    }

    let inside = page.split("id=\"numbers\">").nth(1).expect("the object is in the page");
    let inside: Value =
        serde_json::from_str(inside.split("</script>").next().expect("it ends")).expect("JSON");
    assert_eq!(inside, numbers);
}

#[test]
fn the_keys_go_from_request_to_request_and_each_says_what_it_found() {
    let (path, _) = page("keys.html", "200");
    let original = fs::read_to_string(&path).expect("the page was written");
    let test = r#"<script>
        const log = [];
        const press = key => {
          const event = new KeyboardEvent("keydown", { key, bubbles: true });
          document.activeElement.dispatchEvent(event);
          const it = document.activeElement;
          const run = it.parentElement.getAttribute("aria-label");
          log.push(`${key} ${run} ${it.dataset.number} ${!tip.hidden}`);
        };
        const first = document.querySelector(".q[tabindex='0']");
        first.focus();
        const lane = [...first.parentElement.children].map(it => it.dataset.number);
        const keys = ["ArrowRight", "ArrowLeft", "End", "Home", "ArrowDown", "ArrowUp", "Escape"];
        keys.forEach(press);
        root.dataset.keys = log.join("; ");
        // A worker that had to wait for its processor may have served a single one.
        root.dataset.lane = `${lane[0]} ${lane[1] ?? lane[0]} ${lane.at(-1)}`;
        root.dataset.lanes = first.closest("svg").querySelectorAll("[role=list]").length;
        root.dataset.stops = document.querySelectorAll(".q[tabindex='0']").length;
        const silent = it => !it.getAttribute("aria-label");
        root.dataset.silent = [...document.querySelectorAll(".q")].filter(silent).length;
        </script></body>"#;
    fs::write(&path, original.replace("</body>", test)).expect("it can be written");
    let Some(page) = rendered(&format!("file://{path}"), &format!("{path}.profile")) else {
        return;
    };
    let data = |name: &str| {
        let value = page.split(&format!("data-{name}=\"")).nth(1).expect("the script has run");
        value.split('"').next().expect("it ends").to_owned()
    };
    assert!(!page.contains("data-error"), "{}", data("error"));
    let lane = data("lane");
    let [first, second, last] = lane.split(' ').collect::<Vec<_>>()[..] else { panic!("{lane}") };
    let keys = data("keys");
    let expected = [
        format!("ArrowRight worker 1 {second} true"),
        format!("ArrowLeft worker 1 {first} true"),
        format!("End worker 1 {last} true"),
        format!("Home worker 1 {first} true"),
    ];
    let pressed: Vec<_> = keys.split("; ").collect();
    assert_eq!(pressed[..4], expected);
    // A worker that came late has served nobody, and has no lane.
    let below = if data("lanes") == "1" { 1 } else { 2 };
    assert!(pressed[4].starts_with(&format!("ArrowDown worker {below} ")), "{keys}");
    assert!(pressed[5].starts_with("ArrowUp worker 1 "), "{keys}");
    assert!(pressed[6].ends_with(" false"), "Escape takes the tooltip away: {keys}");
    assert_eq!((data("stops").as_str(), data("silent").as_str()), ("2", "0"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let (path, _) = page("alone.html", "20");
    let page = fs::read_to_string(path).expect("the page was written");
    for foreign in ["http:", "https:", "//", "@import", "url(h", "<link", "src="] {
        // Comments of the script aside.
        let found =
            page.lines().any(|line| line.contains(foreign) && !line.trim_start().starts_with("//"));
        assert!(!found, "{foreign}");
    }
}

//! The numbers: the leaks of others, and none of ours.

use serde_json::Value;

use crate::json;

fn row<'v>(all: &'v Value, executor: &str, kept_in: &str) -> &'v Value {
    let rows = all["rows"].as_array().expect("there are rows");
    rows.iter()
        .find(|row| row["executor"] == executor && row["kept_in"] == kept_in)
        .unwrap_or_else(|| panic!("no row for {executor}, {kept_in}"))
}

#[track_caller]
fn assert_clean(row: &Value, tasks: usize) {
    assert_eq!(row["tasks"], tasks, "{row:#}");
    for count in ["sequential", "interleaved", "changed", "borrowed", "answered_as_another"] {
        assert_eq!(row[count], 0, "{count}: {row:#}");
    }
}

#[test]
fn declared_and_adopted_state_is_clean_with_any_number_of_workers() {
    for workers in ["1", "2", "5"] {
        let all = json(&["--tasks", "600", "--workers", workers, "--json"]);
        assert_eq!(all["kept_promise"], true);
        assert_clean(row(&all, "cleanslate, Reset", "task_local!"), 600);
        assert_clean(row(&all, "cleanslate, Reset", "adopted"), 600);
        assert_clean(row(&all, "a thread per task", "thread_local!"), 600);
        if cfg!(feature = "rayon") {
            assert_clean(row(&all, "rayon, isolated", "task_local!"), 600);
        }
    }
}

#[test]
fn what_nobody_isolates_leaks_in_a_burst() {
    let (tasks, workers) = (600, 2);
    let all = json(&["--tasks=600", "--workers=2", "--json"]);
    for (executor, kept_in) in [
        ("rayon", "thread_local!"),
        ("threadpool", "thread_local!"),
        ("tokio spawn_blocking", "thread_local!"),
        ("cleanslate, Leaky", "task_local!"),
        ("cleanslate, Reset", "thread_local!"),
    ] {
        let row = row(&all, executor, kept_in);
        assert_eq!(row["tasks"], tasks);
        // All but the first on each worker.
        assert!(row["sequential"].as_u64().expect("a count") >= tasks - workers, "{row:#}");
        assert!(row["answered_as_another"].as_u64().expect("a count") > 0, "{row:#}");
        assert!(row["examples"]["sequential"].is_string(), "{row:#}");
    }
}

#[test]
fn a_waiting_worker_lends_its_stack_where_nothing_is_isolated() {
    // One worker, so the parts of a request can run nowhere else.
    let all = json(&["--tasks", "100", "--workers", "1", "--json"]);
    for (executor, kept_in) in [
        ("rayon", "thread_local!"),
        ("cleanslate, Leaky", "task_local!"),
        ("cleanslate, Reset", "thread_local!"),
    ] {
        let row = row(&all, executor, kept_in);
        assert_eq!(row["borrowed"], 50, "half of the requests lend their session: {row:#}");
    }
    assert_clean(row(&all, "cleanslate, Reset", "task_local!"), 100);
}

#[test]
fn one_task_leaks_nothing_anywhere() {
    let all = json(&["--tasks", "1", "--json"]);
    for row in all["rows"].as_array().expect("there are rows") {
        assert_eq!(row["sequential"], 0, "{row:#}");
    }
}

/// In a process of its own: the names that are found are kept in one place per process, so the
/// other tests would take them. The program beside this test may have been built without the
/// feature.
#[cfg(all(feature = "sentinel", target_os = "linux", target_env = "gnu"))]
#[test]
fn the_sentinel_names_what_nobody_declared_and_nothing_else() {
    const ALONE: &str = "LEAK_DEMO_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let alone =
            std::process::Command::new(std::env::current_exe().expect("this test is a file"))
                .args([
                    "counts::the_sentinel_names_what_nobody_declared_and_nothing_else",
                    "--exact",
                ])
                .env(ALONE, "1")
                .output()
                .expect("it starts again");
        let text = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let all = json(&["--tasks", "100", "--json"]);
    for (executor, kept_in, found) in [
        ("rayon", "thread_local!", true),
        ("threadpool", "thread_local!", true),
        ("tokio spawn_blocking", "thread_local!", true),
        ("cleanslate, Reset", "thread_local!", true),
        ("cleanslate, Reset", "task_local!", false),
        ("cleanslate, Reset", "adopted", false),
    ] {
        let left = row(&all, executor, kept_in)["left_changed"].as_array().expect("names").clone();
        let names: Vec<_> = left.iter().filter_map(Value::as_str).collect();
        if found {
            assert!(
                matches!(names[..], [name] if name.ends_with("::PLAIN")),
                "{executor}: {names:?}"
            );
        } else {
            assert!(names.is_empty(), "{executor}, {kept_in}: {names:?}");
        }
    }
}

//! The example `cleanup_pattern`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../cleanup_pattern.rs"]
pub(crate) mod example;

use example::Leak;

#[test]
fn the_manual_pattern_leaks_where_the_end_is_not_reached() {
    let summary = example::run(10, &mut std::io::sink()).unwrap();
    // Task 3 returns early and task 6 panics.
    assert_eq!(summary.by_hand, [Leak { task: 4, found: 3 }, Leak { task: 7, found: 6 }]);
}

#[test]
fn scopes_and_the_clean_pool_do_not_leak() {
    for tasks in [0, 1, 10, 1000] {
        let summary = example::run(tasks, &mut std::io::sink()).unwrap();
        assert_eq!(summary.by_scope, []);
        assert_eq!(summary.clean_pool, []);
        assert_eq!(summary.by_hand.len() as u32, tasks / 10 * 2, "of {tasks}");
    }
}

#[test]
fn the_output_counts_and_names_the_leaks() {
    let mut out = Vec::new();
    example::run(10, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("by hand, on a leaky pool: 2 of 10"), "{text}");
    assert!(text.contains("  task 7 found 6"), "{text}");
    assert!(text.contains("clean pool: 0 of 10"), "{text}");
}

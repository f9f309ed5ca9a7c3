//! The example `executor_leak`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../executor_leak.rs"]
pub(crate) mod example;

#[test]
fn only_the_leaky_pool_shows_previous_tasks() {
    for (workers, tasks) in [(1, 1), (1, 10), (2, 10), (4, 1000)] {
        let mut out = Vec::new();
        let summary = example::run(workers, tasks, &mut out).unwrap();

        let clean: Vec<_> = (0..tasks).map(|n| format!("Task {n} (previous: none)")).collect();
        assert_eq!(summary.clean, clean);

        // A worker's first task finds nothing; every other one finds the task before it.
        let fresh = summary.leaky.iter().filter(|line| line.ends_with("(previous: none)")).count();
        assert!((1..=workers).contains(&fresh), "{fresh} of {tasks} on {workers} workers");
        assert_eq!(summary.leaky.len(), clean.len());

        let text = String::from_utf8(out).unwrap();
        assert!(summary.leaky.iter().chain(&summary.clean).all(|line| text.contains(&**line)));
    }
}

#[test]
fn with_one_worker_each_task_sees_the_one_before() {
    let summary = example::run(1, 3, &mut std::io::sink()).unwrap();
    let expected = ["none", "0", "1"].into_iter().enumerate();
    let expected: Vec<_> = expected.map(|(n, p)| format!("Task {n} (previous: {p})")).collect();
    assert_eq!(summary.leaky, expected);
}

#[test]
fn no_tasks_are_fine() {
    let summary = example::run(2, 0, &mut std::io::sink()).unwrap();
    assert!(summary.leaky.is_empty() && summary.clean.is_empty());
}

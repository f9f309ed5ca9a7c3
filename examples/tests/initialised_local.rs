//! The example `initialised_local`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../initialised_local.rs"]
pub(crate) mod example;

#[test]
fn the_initialiser_runs_once_per_task() {
    for (workers, tasks) in [(1, 0), (1, 1), (2, 10), (4, 1000)] {
        let summary = example::run(workers, tasks, &mut std::io::sink()).unwrap();
        assert_eq!(summary.clean, (tasks, vec![2; tasks]));
        assert_eq!(summary.halved, tasks.div_ceil(2), "a task that does not look pays nothing");
    }
}

#[test]
fn on_a_leaky_pool_it_runs_once_per_thread() {
    for (workers, tasks) in [(1, 10), (2, 10), (4, 1000)] {
        let (initialised, visits) =
            example::run(workers, tasks, &mut std::io::sink()).unwrap().leaky;
        assert!((1..=workers).contains(&initialised));
        let fresh = visits.iter().filter(|visits| **visits == 2).count();
        assert_eq!(fresh, initialised, "all other tasks go on where one before them stopped");
        assert!(visits.iter().sum::<u32>() > 2 * visits.len() as u32);
    }
}

#[test]
fn a_value_that_was_set_is_seen_by_its_own_thread_only() {
    let summary = example::run(1, 1, &mut std::io::sink()).unwrap();
    assert_eq!(summary.shown, ["default", "main", "default"]);
}

//! The example `transaction_scope`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../transaction_scope.rs"]
pub(crate) mod example;

use example::Outcome;

const NESTED: &str = "nested transactions are not supported";

/// Runs it and returns the outcomes on the clean and on the leaky pool.
fn run() -> [Outcome; 2] {
    let directory = tempfile::tempdir().unwrap();
    example::run(directory.path(), &mut std::io::sink()).unwrap()
}

fn failures(outcome: &Outcome) -> Vec<Option<&str>> {
    outcome.failures.iter().map(Option::as_deref).collect()
}

#[test]
fn only_what_was_committed_is_in_the_table() {
    let [clean, _] = run();
    let refused = format!("refused: {NESTED}");
    assert_eq!(clean.rows, ["succeeds", "nests", &refused, "succeeds too"]);
}

#[test]
fn errors_and_panics_reach_the_caller_and_forgetting_is_no_error() {
    let [clean, _] = run();
    let expected = [None, Some("the card was declined"), Some("out of cards"), None, None, None];
    assert_eq!(failures(&clean), expected);
}

#[test]
fn a_forgotten_transaction_is_over_when_its_task_is() {
    let [clean, _] = run();
    assert!(clean.unlocked, "nobody holds the lock after the last task");
}

#[test]
fn on_a_leaky_pool_it_stays_and_spoils_the_next_task() {
    let [_, leaky] = run();
    assert_eq!(leaky.failures.last().unwrap().as_deref(), Some(NESTED));
    assert!(!leaky.unlocked);
    assert_eq!(leaky.rows, ["succeeds", "nests", &format!("refused: {NESTED}")]);
}

//! The example `logging_context`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../logging_context.rs"]
pub(crate) mod example;

use example::Summary;
use std::sync::{Mutex, PoisonError};

/// Runs it and returns what was logged on the leaky and on the clean pool. One at a time, since
/// there is one log.
fn run(workers: usize, requests: u32) -> [Summary; 2] {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    example::run(workers, requests, &mut std::io::sink()).unwrap()
}

#[test]
fn every_line_of_a_task_has_its_request_and_no_other_has() {
    for (workers, requests) in [(1, 20), (2, 200), (4, 1000)] {
        let [_, clean] = run(workers, requests);
        // A request begins, and logs twice in each of three parts; then there is the housekeeping.
        assert_eq!(clean.lines, requests as usize * 8);
        assert_eq!((clean.brackets, clean.spans), (0, 0));
        let of_the_library = |line: &&String| line.contains("imaging: shrunk photo");
        assert_eq!(clean.log.iter().filter(of_the_library).count(), requests as usize * 3);
    }
}

#[test]
fn lines_look_as_they_should() {
    let [_, clean] = run(1, 1);
    let spans = "[0] request{id=0} examples::logging_context::example";
    let mut expected = vec![format!("{spans}: begins with 0")];
    for part in 1..=3 {
        expected.push(format!("{spans}: part {part} of 0"));
        expected.push(format!("{spans}::imaging: shrunk photo 0"));
    }
    expected.push("[-] examples::logging_context::example: housekeeping for nobody".to_owned());
    assert_eq!(clean.log, expected);
}

#[test]
fn on_a_leaky_pool_the_next_task_logs_in_the_name_of_the_one_before() {
    // With one worker it is certain: request 3 leaves its id and its span behind.
    let [leaky, _] = run(1, 5);
    assert_eq!(leaky.lines, 5 * 8);
    // The housekeeping after it has both. The next request has its own id again, in both spans.
    let housekeeping =
        "[3] request{id=3} examples::logging_context::example: housekeeping for nobody";
    assert_eq!(leaky.log[4 * 8 - 1], housekeeping);
    assert_eq!(leaky.brackets, 1);
    assert_eq!(leaky.spans, 1 + 8);
}

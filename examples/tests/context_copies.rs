//! The example `context_copies`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../context_copies.rs"]
pub(crate) mod example;

#[test]
fn each_cell_of_the_table_is_as_the_documents_say() {
    let mut out = Vec::new();
    // In the order of the columns: thread_local!, task_local!, #[inherit].
    let expected = [
        // Threads are isolated.
        [true, true, true],
        // Async tasks are, and keep their values when they move.
        [false, true, true],
        [false, true, true],
        // So are pool tasks.
        [false, true, true],
        // A task starts with a copy, on tokio and on the pool.
        [false, false, true],
        [false, false, true],
    ];
    assert_eq!(example::run(&mut out).unwrap(), expected);

    let text = String::from_utf8(out).unwrap();
    let cells = expected.concat();
    let count = |word| text.split_whitespace().filter(|w| *w == word).count();
    assert_eq!(count("yes"), cells.iter().filter(|cell| **cell).count());
    assert_eq!(count("no"), cells.iter().filter(|cell| !**cell).count());
}

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
    let page = include_str!("../../docs/from-python.md");
    let start = page.find("| | `thread_local!`").expect("the page has the table");
    let table: Vec<_> = page[start..].lines().take_while(|line| line.starts_with('|')).collect();
    let printed: Vec<_> = text.lines().collect();
    assert_eq!(cells(&printed), cells(&table));
}

/// The words of each row, without the line below the header.
fn cells(table: &[&str]) -> Vec<Vec<String>> {
    let rows = table.iter().filter(|row| !row.contains("--"));
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

//! The example `own_copy`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../own_copy.rs"]
pub(crate) mod example;

/// The example's global is one for all threads, so for those of other tests too: one run at a time.
fn run(out: &mut dyn std::io::Write) -> example::Summary {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    example::run(out).unwrap()
}

fn names(names: [&str; 2]) -> Vec<Option<String>> {
    names.map(|name| Some(name.to_owned())).into()
}

#[test]
fn the_global_is_mixed_up_and_the_local_is_not() {
    let summary = run(&mut std::io::sink());
    // Both find the same name, of whoever was the last to write: one of them is wrong.
    assert_eq!(summary.global[0], summary.global[1]);
    assert!(names(["Thread-1", "Thread-2"]).contains(&summary.global[0]));
    assert_eq!(summary.local, names(["Thread-1", "Thread-2"]));
    assert_eq!(summary.passed, summary.local);
}

#[test]
fn a_thread_has_what_it_set_itself_and_nothing_else() {
    let summary = run(&mut std::io::sink());
    assert_eq!(summary.is_set, [false, true, false]);
    assert_eq!(summary.main.as_deref(), Some("main"));
}

#[test]
fn nobody_is_greeted_but_those_who_inherit() {
    let mut out = Vec::new();
    let summary = run(&mut out);
    let nothing = ["Thread-1: nothing was set here", "Thread-2: nothing was set here"];
    assert_eq!(summary.threads, nothing);
    assert_eq!(summary.tasks, ["Task-1: Hello, World!", "Task-2: Hello, World!"]);
    let text = String::from_utf8(out).unwrap();
    assert!(nothing.iter().all(|line| text.contains(line)), "{text}");
}

#[test]
fn nothing_is_left_on_the_thread_that_ran_it() {
    let first = run(&mut std::io::sink());
    let second = run(&mut std::io::sink());
    assert_eq!((first.local, first.threads), (second.local, second.threads));
}

//! Tests of frames as such.

use super::task::{Open, run};
use super::thread::{self, DEPTH, INDIRECT};

#[test]
fn a_frame_whose_depth_starts_anew_puts_back_what_is_below() {
    let state = || (thread::current().epoch.get(), thread::current().flags.get());
    run(None, || {
        let flags = &thread::current().flags;
        let mine = flags.replace(flags.get() | DEPTH);
        let below = state();
        run(None, || assert_eq!(state().1 & DEPTH, 0)).unwrap();
        assert_eq!(state(), below);
        flags.set(mine);
    })
    .unwrap();
    assert!(thread::current().is_on_root());
}

#[test]
fn a_frame_of_other_flags_leaves_the_thread_as_it_was() {
    let mut poll = Open::<INDIRECT>::new();
    poll.enter(None);
    assert_eq!(thread::current().flags.get(), INDIRECT);
    assert!(poll.close().is_none() && thread::current().is_on_root());
}

/// Marks the process in which the test is the child.
const CHILD: &str = "CLEANSLATE_SUSPENDS_IN_A_DROP";

/// Its drop leaves a frame open on top of its task's, like a coroutine that the drop suspends.
struct Suspends;

impl Drop for Suspends {
    fn drop(&mut self) {
        let mut on_top = Box::new(Open::<0>::new());
        on_top.enter(None);
        crate::frame::leak(on_top);
    }
}

crate::task_local! { static SUSPENDS: Option<Suspends> = None; }

// Broke: nothing was checked after the drops, and the frames were closed in the wrong order.
#[test]
fn a_drop_that_suspends_its_coroutine_is_noticed_when_it_comes_back() {
    if std::env::var_os(CHILD).is_some() {
        let ended = run(None, || SUSPENDS.set(Some(Suspends)));
        unreachable!("{ended:?}");
    }
    let name =
        "frame::task_tests::a_drop_that_suspends_its_coroutine_is_noticed_when_it_comes_back";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("a coroutine was suspended"), "{said}");
}

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

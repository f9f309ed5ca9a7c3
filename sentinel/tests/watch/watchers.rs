//! Watchers that their owner keeps, and those that the crate keeps for a thread.

use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use cleanslate_sentinel::{self as sentinel, Sentinel};

use crate::{OTHER, TENANT, paths};

#[test]
fn the_last_begin_counts_and_what_has_finished_is_not_compared_again() {
    let mut watcher = Sentinel::new().watcher().unwrap();
    assert!(watcher.finish().is_none(), "nothing has begun");
    watcher.begin();
    OTHER.set(10);
    watcher.begin();
    TENANT.set(10);
    assert_eq!(paths(&watcher.finish().unwrap()), ["watch::TENANT"]);
    TENANT.set(11);
    assert!(watcher.finish().is_none(), "nothing has begun since");
}

#[test]
fn a_rule_that_is_added_after_a_watch_holds_in_the_next() {
    let add = || TENANT.set(TENANT.get() + 1);
    // On a thread that ends, and with it the watcher that it kept.
    let watched = |sentinel: Sentinel| {
        let body = move || {
            let leaks = sentinel.watch(add).1.leaks().len();
            (sentinel, leaks)
        };
        thread::spawn(body).join().unwrap()
    };
    let (sentinel, leaks) = watched(Sentinel::new().allow("*::OTHER"));
    assert_eq!(leaks, 1);
    assert_eq!(watched(sentinel.allow("*::TENANT")).1, 0);
}

#[test]
fn a_list_of_what_is_ignored_may_wait_for_a_thread_that_adds_another() {
    static IS_ADDED: OnceLock<bool> = OnceLock::new();
    sentinel::ignore(|_| {
        IS_ADDED.get_or_init(|| {
            let (sender, receiver) = mpsc::channel();
            thread::spawn(move || {
                sentinel::ignore(|_| ());
                sender.send(())
            });
            receiver.recv_timeout(Duration::from_secs(60)).is_ok()
        });
    });
    assert!(sentinel::watch(|| ()).1.is_clean());
    assert_eq!(IS_ADDED.get(), Some(&true));
}

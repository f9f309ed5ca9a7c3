//! What an isolated future has captured, or what was captured in it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::support::{Census, Counted, OnDrop, on_a_thread, panic_of, quiet};
use cleanslate::foreign::adopt;
use cleanslate::future::FutureExt;
use cleanslate::{Context as Captured, OwnedLocal, task_local};
use futures_lite::future::yield_now;

task_local! {
    #[inherit]
    static TENANT: Option<Arc<()>> = None;
    #[inherit]
    static USER: Option<Counted> = None;
    static NUMBER: u32 = 0;
}

/// Polls a future that was isolated where a tenant is set; returns how often that is held then.
fn held_after<F: Future>(
    future: F,
    poll: impl FnOnce(&mut dyn FnMut() -> Poll<F::Output>),
) -> usize {
    let tenant = Arc::new(());
    let isolated = TENANT.scope(Some(Arc::clone(&tenant)), || future.isolated());
    let mut isolated = pin!(isolated);
    assert!(Arc::strong_count(&tenant) > 1);
    poll(&mut || isolated.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    Arc::strong_count(&tenant) - 1
}

// Broke: it was held until the future was dropped.
#[test]
fn a_future_that_is_over_holds_nothing_that_it_has_captured() {
    quiet();
    assert_eq!(held_after(async { drop(TENANT.get()) }, |poll| assert!(poll().is_ready())), 0);
    let panics = async { panic!("on purpose") };
    let held = held_after::<_>(panics, |poll| {
        let _words: String = panic_of(|| {
            let _poll: Poll<()> = poll();
        });
    });
    assert_eq!(held, 0);
    let pending = async {
        let tenant = TENANT.get();
        std::future::pending::<()>().await;
        drop(tenant);
    };
    assert!(held_after(pending, |poll| assert!(poll().is_pending())) > 0);
    // The task has no value any more of those that it hands down.
    let captures = async {
        TENANT.scope(None, || ());
        drop(Captured::capture());
        yield_now().await;
    };
    let held = held_after(captures, |poll| assert!(poll().is_pending() && poll().is_ready()));
    assert_eq!(held, 0);
}

// Broke: each poll copied all of it anew.
#[test]
fn a_capture_is_copied_anew_only_if_something_has_changed_also_in_another_poll() {
    for (moves, owner) in [(false, None), (true, None), (false, Some(OwnedLocal::new(|| 0)))] {
        let census = Census::new();
        let theirs = census.clone();
        let (mut found, seen) = (Vec::new(), |captured: Captured| {
            captured.run(|| USER.with(|user| user.as_ref().map(|user| user.name)))
        });
        let mut task = Box::pin(
            async {
                USER.set(Some(theirs.one("alice")));
                NUMBER.set(owner.as_ref().map_or(1, |owner| owner.replace(1) + 1));
                for round in 0..12 {
                    let before = theirs.cloned();
                    drop((Captured::capture(), Captured::capture()));
                    found.push(theirs.cloned() - before);
                    match round {
                        3 => USER.set(Some(theirs.one("bob"))),
                        5 => NUMBER.with_mut(|number| *number += 1),
                        7 => USER.scope_future(None, yield_now()).await,
                        9 => drop(USER.take()),
                        _ => yield_now().await,
                    }
                }
                assert_eq!(seen(Captured::capture()), None);
                USER.set(Some(theirs.one("carol")));
                assert_eq!(seen(Captured::capture()), Some("carol"));
                std::future::pending::<()>().await;
            }
            .isolated(),
        );
        let mut poll = || task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        for _ in 0..10 {
            assert!(if moves { on_a_thread(&mut poll) } else { poll() });
            assert!(!USER.is_set());
        }
        drop(task);
        assert_eq!(found, [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], "moves: {moves}");
        assert_eq!(census.alive(), 0);
    }
}

#[test]
fn an_owner_that_is_gone_changes_nothing_that_a_capture_has() {
    let census = Census::new();
    let theirs = census.clone();
    let touched = || {
        let owner = OwnedLocal::new(|| 0);
        owner.set(1);
        owner
    };
    let mut task = Box::pin(
        async move {
            USER.set(Some(theirs.one("alice")));
            let owner = touched();
            yield_now().await;
            drop(Captured::capture());
            drop(owner);
            yield_now().await;
            drop(Captured::capture());
            drop(touched());
            yield_now().await;
            drop(Captured::capture());
        }
        .isolated(),
    );
    let mut poll = || task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
    while !poll() {}
    assert_eq!(census.cloned(), 1);
}

#[test]
fn a_capture_that_is_kept_between_polls_ends_with_the_task() {
    let census = Census::new();
    let theirs = census.clone();
    let mut task = Box::pin(
        async move {
            USER.set(Some(theirs.one("alice")));
            drop(Captured::capture());
            yield_now().await;
            yield_now().await;
        }
        .isolated(),
    );
    let mut poll = || task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
    assert!(!poll() && !poll());
    assert_eq!(census.alive(), 2);
    assert!(poll());
    assert_eq!(census.alive(), 0);
}

#[test]
fn the_drop_of_a_value_whose_owner_is_gone_finds_what_the_task_has_captured() {
    for moves in [false, true] {
        let census = Census::new();
        let theirs = census.clone();
        let owner = Arc::new(OwnedLocal::new(|| None));
        let (held, owned) = (Arc::downgrade(&owner), theirs.clone());
        let mut task = Box::pin(
            async move {
                USER.set(Some(theirs.one("alice")));
                drop(Captured::capture());
                let captures = OnDrop::new(move || {
                    let before = owned.cloned();
                    drop(Captured::capture());
                    assert_eq!(owned.cloned(), before, "it is still what a new one would give");
                });
                held.upgrade().unwrap().set(Some(captures));
                yield_now().await;
                assert_eq!(USER.with(|user| user.as_ref().unwrap().name), "alice");
            }
            .isolated(),
        );
        let mut poll = || task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(!poll());
        drop(owner);
        // Fails if the drop did.
        assert!(if moves { on_a_thread(poll) } else { poll() });
        assert_eq!(census.alive(), 0, "moves: {moves}");
    }
}

/// One whose copies touch a slot in their drop and panic.
struct FailsInDrop {
    is_copy: bool,
}

impl Clone for FailsInDrop {
    fn clone(&self) -> Self {
        Self { is_copy: true }
    }
}

impl Drop for FailsInDrop {
    fn drop(&mut self) {
        if self.is_copy {
            NUMBER.set(NUMBER.get() + 1);
            panic!("a copy");
        }
    }
}

task_local! {
    #[inherit]
    static FAILING: Option<FailsInDrop> = None;
}

thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }

#[test]
fn what_is_given_up_at_the_end_touches_slots_and_fails_on_its_own() {
    quiet();
    let poll = |mut task: Pin<&mut dyn Future<Output = u8>>| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        }));
        assert!(!NUMBER.is_set());
        polled.map_err(|payload| payload.downcast_ref::<&str>().copied())
    };
    for carries in [false, true] {
        let context = || {
            let original = FailsInDrop { is_copy: false };
            let context = FAILING.scope(Some(original), Captured::capture);
            if carries { context.carry(adopt(&LEVEL)) } else { context }
        };
        let ready = pin!(async { 7 }.isolated_in(&context()));
        assert_eq!(poll(ready), Ok(Poll::Ready(7)), "carries: {carries}");
        let panics = pin!(async { panic!("on purpose") }.isolated_in(&context()));
        assert_eq!(poll(panics), Err(Some("on purpose")), "carries: {carries}");
    }
}

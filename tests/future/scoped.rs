//! A value that is bound while a future runs.

use std::cell::RefCell;
use std::future::{Future, Ready, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as PollContext, Poll, Waker};

use cleanslate::future::{FutureExt, ScopedFuture};
use cleanslate::{Context, task_local};
use futures_lite::future::{block_on, yield_now, zip};

use crate::support::{
    Census, Counted, OnDrop, exits_in_a_process_of_its_own, on_a_thread, panic_of,
};

task_local! {
    static USER: &'static str = "nobody";
    static LEVEL: u32 = 0;
    static CALL: fn(&str) -> &str = |name| name;
    static HELD: Option<Counted> = None;
    static HOOK: Option<OnDrop> = None;
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut PollContext::from_waker(Waker::noop()))
}

async fn see_twice() -> (&'static str, &'static str) {
    let before = USER.get();
    yield_now().await;
    (before, USER.get())
}

#[test]
fn it_binds_one_slot_and_leaves_the_others_of_the_task_alone() {
    let seen = block_on(
        async {
            USER.set("carol");
            LEVEL.set(1);
            let inside = USER
                .scope_future("alice", async {
                    LEVEL.set(LEVEL.get() + 1);
                    let seen = see_twice().await;
                    USER.set("changed");
                    (seen, LEVEL.scope_future(9, async { (USER.get(), LEVEL.get()) }).await)
                })
                .await;
            (inside, USER.get(), LEVEL.get())
        }
        .isolated(),
    );
    assert_eq!(seen, ((("alice", "alice"), ("changed", 9)), "carol", 2));
}

#[test]
fn futures_that_run_beside_each_other_have_a_value_each() {
    let both = zip(USER.scope_future("alice", see_twice()), USER.scope_future("bob", see_twice()));
    assert_eq!(block_on(both), (("alice", "alice"), ("bob", "bob")));
    assert!(!USER.is_set());
}

#[test]
fn one_that_is_dropped_in_the_middle_ends_inside_its_scope() {
    let census = Census::new();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let told = Arc::clone(&seen);
    USER.set("outer");
    {
        let guard = OnDrop::new(move || *told.lock().unwrap() = Some(USER.get()));
        let mut inner = pin!(HELD.scope_future(
            Some(census.one("value")),
            USER.scope_future("alice", async move {
                let _guard = guard;
                std::future::pending::<()>().await
            })
        ));
        assert!(poll(inner.as_mut()).is_pending());
        assert!(!HELD.is_set());
        assert_eq!((USER.get(), census.alive()), ("outer", 1));
    }
    assert_eq!(*seen.lock().unwrap(), Some("alice"));
    assert_eq!((USER.get(), census.alive()), ("outer", 0));
}

#[test]
fn it_goes_from_thread_to_thread_and_gives_its_value_back() {
    let mut future = Box::pin(LEVEL.scope_future(5, async {
        LEVEL.with_mut(|level| *level += 1);
        yield_now().await;
        LEVEL.with_mut(|level| *level += 1);
    }));
    let mut future = on_a_thread(move || {
        assert!(poll(future.as_mut()).is_pending());
        future
    });
    assert!(poll(future.as_mut()).is_ready());
    assert_eq!((future.as_mut().take_value(), future.as_mut().take_value()), (Some(7), None));
}

#[test]
fn several_drops_that_panic_cost_one_failure() {
    let fails = |words: &'static str| OnDrop::new(move || panic!("{words}, on purpose"));
    let pending = || {
        let guard = fails("the future");
        let mut future = Box::pin(HOOK.scope_future(Some(fails("the value")), async move {
            let _guard = guard;
            std::future::pending::<()>().await
        }));
        assert!(poll(future.as_mut()).is_pending());
        future
    };
    assert!(panic_of(|| drop(pending())).contains("the future"));
    let first = panic_of(AssertUnwindSafe(|| {
        let _future = pending();
        panic!("the first, on purpose");
    }));
    assert!(first.contains("the first"));
    let unpolled = HOOK.scope_future(Some(fails("the value")), async {});
    assert!(panic_of(|| drop(unpolled)).contains("the value"));
    let output = HOOK.scope_future(None, async {
        let _guard = fails("the future");
        fails("the output")
    });
    assert!(panic_of(|| drop(block_on(output))).contains("on purpose"));
    assert!(!HOOK.is_set());
}

// It compiles and cannot be made not to: the closure returns at once, and the scope with it.
#[test]
fn a_scope_around_a_closure_that_makes_a_future_is_over_before_it_runs() {
    let late = block_on(USER.scope("alice", || async { USER.get() }));
    assert_eq!(late, "nobody");
    let made = block_on(USER.scope_future("alice", async { USER.get() }));
    assert_eq!(made, "alice");
}

// Broke: with a type that borrows for ever, such a future could not be spawned. What it awaits is
// seen without its lifetimes there, so an implementation of `Send` must not ask for `'static`.
#[test]
fn one_can_be_awaited_in_what_is_spawned_whatever_its_type() {
    fn spawned<F: Future<Output: Send> + Send + 'static>(future: F) -> F::Output {
        std::thread::spawn(|| block_on(future)).join().unwrap()
    }
    let inner = || USER.scope_future("alice", see_twice());
    assert_eq!(spawned(async move { inner().await }), ("alice", "alice"));
    let outer = || CALL.scope_future(|name| &name[1..], async { CALL.get()("alice") });
    assert_eq!(spawned(async move { outer().await }.isolated()), "lice");
}

#[test]
fn one_says_which_slot_it_binds_and_whether_it_is_over() {
    let mut future = Box::pin(USER.scope_future("alice", async {}));
    let before = format!("{future:?}");
    assert!(before.contains("scoped::USER") && before.contains("is_over: false"), "{before}");
    assert!(poll(future.as_mut()).is_ready());
    assert!(format!("{future:?}").contains("is_over: true"));
}

/// A future that is ready at once and holds something until it is dropped.
fn ready_holding<T, R>(held: T, output: impl FnOnce() -> R) -> impl Future<Output = R> {
    let mut output = Some(output);
    poll_fn(move |_| {
        let _ = &held;
        Poll::Ready(output.take().unwrap()())
    })
}

#[test]
fn one_that_is_over_has_ended_inside_its_scope_and_cannot_be_polled() {
    let census = Census::new();
    let guard = || {
        let census = census.clone();
        OnDrop::new(move || census.note(USER.get()))
    };
    let mut returns = Box::pin(USER.scope_future("alice", ready_holding(guard(), || ())));
    assert!(poll(returns.as_mut()).is_ready());
    assert_eq!(census.notes(), ["alice"]);
    assert!(panic_of(|| poll(returns.as_mut())).contains("polled after it had ended"));
    let panics = ready_holding(guard(), || panic!("the poll, on purpose"));
    let mut panics = Box::pin(USER.scope_future("bob", panics));
    let words = panic_of(|| {
        let _poll: Poll<()> = poll(panics.as_mut());
    });
    assert!(words.contains("the poll"), "{words}");
    assert_eq!(census.notes(), ["bob"]);
    assert_eq!((panics.as_mut().take_value(), USER.is_set()), (Some("bob"), false));
}

#[test]
fn of_a_poll_the_future_and_its_output_the_first_panic_goes_on() {
    let fails = |words: &'static str| OnDrop::new(move || panic!("{words}, on purpose"));
    let output = ready_holding(fails("the future"), || fails("the output"));
    let words = panic_of(|| drop(block_on(LEVEL.scope_future(1, output))));
    assert!(words.contains("the future"), "{words}");
    let mut panics = Box::pin(LEVEL.scope_future(
        1,
        ready_holding(fails("the future"), || -> () { panic!("the poll, on purpose") }),
    ));
    let words = panic_of(|| poll(panics.as_mut()));
    assert!(words.contains("the poll"), "{words}");
    assert!(!LEVEL.is_set());
}

// It is in its slot then, and not the future's to drop.
#[test]
fn an_exit_from_within_a_poll_leaves_the_value_in_its_slot() {
    type Bound = Pin<Box<dyn Future<Output = ()>>>;
    thread_local! {
        static ASKS: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
        static KEPT: RefCell<Option<Bound>> = const { RefCell::new(None) };
    }
    let name = "scoped::an_exit_from_within_a_poll_leaves_the_value_in_its_slot";
    exits_in_a_process_of_its_own(name, &["exits"], |_| {
        let census = Census::new();
        let exits = async {
            yield_now().await;
            std::process::exit(0);
        };
        // What was used last ends first: the future, what asks, and the slots.
        HELD.with(|_| ());
        ASKS.with_borrow(|_| ());
        KEPT.set(Some(Box::pin(HELD.scope_future(Some(census.one("the scope's")), exits))));
        ASKS.set(Some(OnDrop::new(move || {
            let held = HELD.with(|held| held.as_ref().map(|held| held.name));
            if (held, census.dropped()) != (Some("the scope's"), 0) {
                std::process::abort();
            }
        })));
        for _ in 0..2 {
            KEPT.with_borrow_mut(|kept| {
                assert!(poll(kept.as_mut().unwrap().as_mut()).is_pending())
            });
        }
    });
}

// Broke: the value was put into its slot twice, where it stayed when the future was dropped.
#[test]
fn an_exit_from_within_a_poll_leaves_it_there_also_if_the_future_is_polled_again() {
    type Bound = Pin<Box<dyn Future<Output = ()>>>;
    struct PollsAgain(RefCell<Option<Bound>>);
    impl Drop for PollsAgain {
        fn drop(&mut self) {
            let future = self.0.get_mut().as_mut().unwrap();
            if catch_unwind(AssertUnwindSafe(|| poll(future.as_mut()))).is_ok() {
                std::process::abort();
            }
        }
    }
    thread_local! {
        static KEPT: PollsAgain = const { PollsAgain(RefCell::new(None)) };
    }
    let name =
        "scoped::an_exit_from_within_a_poll_leaves_it_there_also_if_the_future_is_polled_again";
    exits_in_a_process_of_its_own(name, &["exits"], |_| {
        // What was used last ends first.
        HELD.with(|_| ());
        let exits = poll_fn(|_| -> Poll<()> { std::process::exit(0) });
        KEPT.with(|PollsAgain(kept)| {
            let bound = HELD.scope_future(Some(Census::new().one("the scope's")), exits);
            *kept.borrow_mut() = Some(Box::pin(bound));
            let _never = poll(kept.borrow_mut().as_mut().unwrap().as_mut());
        });
    });
}

// Broke: so was this one, and it was dropped twice.
#[test]
fn an_exit_while_the_value_is_put_into_its_slot_leaves_it_there() {
    #[derive(Clone)]
    struct Exits(Arc<AtomicBool>);
    impl Drop for Exits {
        fn drop(&mut self) {
            if self.0.swap(false, Ordering::Relaxed) {
                std::process::exit(0);
            }
        }
    }
    type Bound = Pin<Box<ScopedFuture<Option<Exits>, Ready<()>>>>;
    task_local! {
        #[inherit]
        static EXITS: Option<Exits> = None;
    }
    thread_local! { static KEPT: RefCell<Option<Bound>> = const { RefCell::new(None) }; }
    let name = "scoped::an_exit_while_the_value_is_put_into_its_slot_leaves_it_there";
    exits_in_a_process_of_its_own(name, &["exits"], |_| {
        let is_armed = Arc::new(AtomicBool::new(false));
        EXITS.set(Some(Exits(Arc::clone(&is_armed))));
        // The thread keeps it, and what is bound is something else.
        drop(Context::capture());
        let other = Exits(Arc::default());
        KEPT.set(Some(Box::pin(EXITS.scope_future(Some(other), ready(())))));
        is_armed.store(true, Ordering::Relaxed);
        let _never = KEPT.with_borrow_mut(|kept| poll(kept.as_mut().unwrap().as_mut()));
    });
}

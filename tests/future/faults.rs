//! What went wrong once: exits from within a poll, and owners that are gone.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use cleanslate::foreign::adopt_with;
use cleanslate::future::FutureExt;
use cleanslate::{Context as Captured, OwnedLocal, task_local, worker_local};

use crate::support::{
    Census, Counted, FailsAsCopy, OnDrop, Refuses, exits_in_a_process_of_its_own, message,
    on_a_thread, panic_of, quiet, retiring,
};

type Polled<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn poll<T>(future: &mut Polled<T>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Leaves the poll once.
async fn pause() {
    let mut polled = false;
    poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

/// Ends the process if it is dropped twice.
struct Once(Box<AtomicUsize>);

impl Once {
    fn new() -> Option<Self> {
        Some(Self(Box::default()))
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        if self.0.fetch_add(1, Ordering::SeqCst) != 0 {
            std::process::abort();
        }
    }
}

task_local! {
    static FIRST: Option<Once> = None;
    static SECOND: Option<Once> = None;
    static NUMBER: u64 = 0;
}

// Broke: the thread's end and the future, which a thread-local owns, both dropped the future's
// values.
#[test]
fn an_exit_from_within_a_poll_drops_no_value_twice() {
    thread_local! { static KEPT: RefCell<Option<Polled<()>>> = const { RefCell::new(None) }; }
    let cases = [
        "one",
        "several",
        "slots first",
        "several, slots first",
        "one, moved",
        "several, moved",
        "moved, slots first",
        "several, moved, slots first",
    ];
    let name = "faults::an_exit_from_within_a_poll_drops_no_value_twice";
    exits_in_a_process_of_its_own(name, &cases, |case| {
        if case.contains("slots first") {
            // Whichever was touched last ends first.
            FIRST.set(Once::new());
        }
        let several = case.contains("several");
        let future = async move {
            FIRST.set(Once::new());
            if several {
                NUMBER.set(1);
                SECOND.set(Once::new());
            }
            pause().await;
            std::process::exit(0);
        };
        let mut future: Polled<()> = Box::pin(future.isolated());
        if case.contains("moved") {
            // So this thread has to find its cells anew.
            on_a_thread(|| assert!(poll(&mut future).is_pending()));
        }
        KEPT.set(Some(future));
        for _ in 0..2 {
            KEPT.with_borrow_mut(|kept| assert!(poll(kept.as_mut().unwrap()).is_pending()));
        }
    });
}

// The poll's values lie on top of the thread's own, and belong to a task that has not ended.
#[test]
fn an_exit_from_within_a_poll_ends_the_threads_own_value_and_not_the_polls() {
    thread_local! {
        static LAST: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
        static ASKS: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
        static KEPT: RefCell<Option<Polled<()>>> = const { RefCell::new(None) };
    }
    let name = "faults::an_exit_from_within_a_poll_ends_the_threads_own_value_and_not_the_polls";
    exits_in_a_process_of_its_own(name, &["one", "several"], |case| {
        let (census, several) = (Census::new(), case == "several");
        let made = census.clone();
        let future = async move {
            HELD.set(Some(made.one("the poll's")));
            if several {
                NUMBER.set(1);
            }
            pause().await;
            std::process::exit(0);
        };
        // What was used last ends first: the future, what asks, the slots, and what looks.
        LAST.with_borrow(|_| ());
        HELD.set(Some(census.one("the thread's")));
        ASKS.with_borrow(|_| ());
        KEPT.set(Some(Box::pin(future.isolated())));
        ASKS.set(Some(OnDrop::new(|| {
            if HELD.with(|held| held.as_ref().unwrap().name) != "the poll's" {
                std::process::abort();
            }
        })));
        LAST.set(Some(OnDrop::new(move || {
            if census.notes() != ["the thread's"] {
                std::process::abort();
            }
        })));
        for _ in 0..2 {
            KEPT.with_borrow_mut(|kept| assert!(poll(kept.as_mut().unwrap()).is_pending()));
        }
    });
}

type Owners = [OwnedLocal<Option<OnDrop>>; 3];

/// Holds a value of each owner, the first one's first, of which the last one's drop panics.
fn holds_three(owners: &Arc<Owners>, census: &Census) -> Polled<&'static str> {
    let (owners, census) = (Arc::clone(owners), census.clone());
    let task = async move {
        for (owner, name) in owners.iter().zip(["first", "second", "third"]) {
            let census = census.clone();
            owner.set(Some(OnDrop::new(move || {
                census.note(name);
                assert_eq!(name, "second", "a drop, on purpose");
            })));
        }
        NUMBER.set(5);
        drop(owners);
        pause().await;
        assert_eq!(NUMBER.get(), 5, "what is left is in place");
        "output"
    };
    Box::pin(task.isolated())
}

// Broke: the oldest went first, and the panic was swallowed.
#[test]
fn the_values_of_owners_that_are_gone_end_youngest_first_and_their_panic_is_the_tasks() {
    quiet();
    let make = || -> Arc<Owners> { Arc::new(std::array::from_fn(|_| OwnedLocal::new(|| None))) };
    for moves in [false, true] {
        let (owners, census) = (make(), Census::new());
        let mut future = holds_three(&owners, &census);
        assert!(poll(&mut future).is_pending());
        drop(owners);
        assert!(census.notes().is_empty(), "they are the future's");
        let mut poll = || catch_unwind(AssertUnwindSafe(|| poll(&mut future)));
        let payload = if moves { on_a_thread(poll) } else { poll() }.unwrap_err();
        assert_eq!(census.notes(), ["third", "second", "first"]);
        let said = message(&*payload);
        assert!(said.contains("OwnedLocal") && said.contains("a drop, on purpose"), "{said}");
    }
    // The same where it is dropped instead of polled.
    let (owners, census) = (make(), Census::new());
    let mut future = holds_three(&owners, &census);
    assert!(poll(&mut future).is_pending());
    drop(owners);
    let payload = catch_unwind(AssertUnwindSafe(|| drop(future))).unwrap_err();
    assert_eq!(census.notes(), ["third", "second", "first"]);
    assert!(message(&*payload).contains("a drop, on purpose"));
}

#[test]
fn the_panic_of_the_only_value_whose_owner_is_gone_is_the_tasks() {
    quiet();
    let owner = Arc::new(OwnedLocal::new(|| None));
    let theirs = Arc::clone(&owner);
    let task = async move {
        theirs.set(Some(OnDrop::new(|| panic!("a drop, on purpose"))));
        drop(theirs);
        pause().await;
    };
    let mut future: Polled<()> = Box::pin(task.isolated());
    assert!(poll(&mut future).is_pending());
    drop(owner);
    let payload = catch_unwind(AssertUnwindSafe(|| poll(&mut future))).unwrap_err();
    assert!(message(&*payload).contains("a drop, on purpose"));
}

// Alone it is linked on a shorter way than beside others.
#[test]
fn the_only_value_of_a_future_ends_with_its_owner() {
    for moves in [false, true] {
        let (owner, census) = (Arc::new(OwnedLocal::new(|| None)), Census::new());
        let (theirs, made) = (Arc::clone(&owner), census.clone());
        let task = async move {
            theirs.set(Some(made.token()));
            drop(theirs);
            pause().await;
            made.alive()
        };
        let mut future: Polled<usize> = Box::pin(task.isolated());
        assert!(poll(&mut future).is_pending());
        drop(owner);
        assert_eq!(census.alive(), 1);
        let mut poll = || poll(&mut future);
        assert_eq!(if moves { on_a_thread(poll) } else { poll() }, Poll::Ready(0));
    }
}

#[test]
fn an_output_that_fails_in_its_drop_does_not_hide_how_the_task_failed() {
    task_local! { static FAILS: Option<OnDrop> = None; }
    quiet();
    let task = async {
        FAILS.set(Some(OnDrop::new(|| panic!("a value's drop, on purpose"))));
        OnDrop::new(|| panic!("the output's drop, on purpose"))
    };
    let mut future: Polled<OnDrop> = Box::pin(task.isolated());
    let payload = catch_unwind(AssertUnwindSafe(|| drop(poll(&mut future)))).unwrap_err();
    let said = message(&*payload);
    assert!(said.contains("FAILS") && said.contains("a value's drop"), "{said}");
    // Broke: nobody heard of it.
    assert!(said.contains("the output's drop"), "{said}");
}

// It is no `async` block: that owns nothing any more when its poll has panicked.
#[test]
fn a_future_that_fails_in_its_drop_hides_nothing_else() {
    task_local! { static FAILS: Option<OnDrop> = None; }
    let fails = || OnDrop::new(|| panic!("the future's drop, on purpose"));
    let (own, mut output) = (fails(), None);
    let task = poll_fn(move |_| {
        let _owns = &own;
        output.take().map_or_else(|| panic!("a poll, on purpose"), Poll::Ready)
    });
    let mut future: Polled<()> = Box::pin(task.isolated());
    assert_eq!(panic_of(|| poll(&mut future)), "a poll, on purpose");

    let (own, mut output) = (fails(), Some(OnDrop::new(|| panic!("the output's, on purpose"))));
    let task = poll_fn(move |_| {
        let _owns = &own;
        FAILS.set(Some(OnDrop::new(|| panic!("the value's, on purpose"))));
        Poll::Ready(output.take())
    });
    let mut future: Polled<Option<OnDrop>> = Box::pin(task.isolated());
    let said = panic_of(|| poll(&mut future));
    let places = ["the future's", "the value's", "the output's"].map(|whose| said.find(whose));
    assert!(places.is_sorted() && places[0].is_some(), "in this order: {said}");
}

#[test]
fn of_what_fails_where_a_future_is_given_up_the_futures_own_panic_goes_on() {
    task_local! { static FAILS: Option<OnDrop> = None; }
    let own = OnDrop::new(|| panic!("the future's drop, on purpose"));
    let task = poll_fn(move |_| {
        let _owns = &own;
        FAILS.set(Some(OnDrop::new(|| panic!("the value's, on purpose"))));
        Poll::Pending
    });
    let mut future: Polled<()> = Box::pin(task.isolated());
    assert!(poll(&mut future).is_pending());
    assert_eq!(panic_of(|| drop(future)), "the future's drop, on purpose");
}

#[test]
fn a_poll_whose_carrier_cannot_be_detached_fails_behind_what_else_has_failed() {
    task_local! { static FAILS: Option<OnDrop> = None; }
    let poll = |task: Polled<u32>| panic_of(|| poll(&mut { task }));
    let said = poll(Box::pin(async { 1 }.isolated_in(&retiring())));
    assert!(said.contains("stuck"), "{said}");
    let fails = async {
        FAILS.set(Some(OnDrop::new(|| panic!("a value, on purpose"))));
        1
    };
    let said = poll(Box::pin(fails.isolated_in(&retiring())));
    let (value, carrier) = (said.find("a value"), said.find("stuck"));
    assert!(value.is_some() && value < carrier, "in this order: {said}");
    let panics = async { panic!("a poll, on purpose") };
    assert_eq!(poll(Box::pin(panics.isolated_in(&retiring()))), "a poll, on purpose");
}

#[test]
fn what_is_dropped_between_two_polls_ends_with_its_carriers_attached() {
    thread_local! { static USER: Cell<&'static str> = const { Cell::new("nobody") }; }
    let seen = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&seen);
    let context = cleanslate::Context::empty().carry(adopt_with(&USER, || "fresh"));
    USER.set("bob");
    let task = async move {
        let _tells = OnDrop::new(move || *theirs.lock().unwrap() = Some(USER.get()));
        pause().await;
    };
    let mut future: Polled<()> = Box::pin(task.isolated_in(&context));
    assert!(poll(&mut future).is_pending());
    drop(future);
    assert_eq!((*seen.lock().unwrap(), USER.get()), (Some("fresh"), "bob"));
}

#[test]
fn what_is_dropped_between_two_polls_ends_even_if_its_carriers_are_refused() {
    let (census, asked) = (Census::new(), Arc::new(AtomicUsize::new(0)));
    let made = census.clone();
    let task = async move {
        let _own = made.one("future");
        HELD.set(Some(made.one("value")));
        pause().await;
    };
    let asks = Arc::clone(&asked);
    // All but the first time.
    let carrier = Refuses(move || asks.fetch_add(1, Ordering::SeqCst) != 0);
    let context = Captured::empty().carry(carrier);
    let mut future: Polled<()> = Box::pin(task.isolated_in(&context));
    assert!(poll(&mut future).is_pending());
    drop(future);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_eq!(census.notes(), ["future", "value"]);
}

task_local! {
    #[inherit]
    static USER_OF_TASK: Option<Counted> = None;
    #[inherit]
    static COPIED: FailsAsCopy = FailsAsCopy::default();
    static HELD: Option<Counted> = None;
    static LATER: Option<Counted> = None;
}

/// Pauses for ever; says what it found in a slot that it has set before.
fn keeps_two(census: &Census) -> Polled<u64> {
    let census = census.clone();
    let task = async move {
        let _own = census.one("future");
        NUMBER.set(5);
        HELD.set(Some(census.one("first")));
        LATER.set(Some(census.one("second")));
        loop {
            pause().await;
            if let Ok(found) = NUMBER.try_get() {
                return found;
            }
        }
    };
    Box::pin(task.isolated())
}

/// Polls a future on a thread of its own, and calls `f` with it when the slots there have ended.
fn at_the_end_of_a_thread(mut future: Polled<u64>, f: impl FnOnce(Polled<u64>) + Send + 'static) {
    // Destructors run in reverse order of the first use, on the systems that are tested.
    thread_local! { static LAST: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    on_a_thread(move || {
        LAST.with_borrow(|_| ());
        assert!(poll(&mut future).is_pending());
        LAST.set(Some(OnDrop::new(move || f(future))));
    });
}

// Broke: the values went before the future.
#[test]
fn a_future_that_ends_where_slots_have_ended_goes_before_its_values() {
    let census = Census::new();
    at_the_end_of_a_thread(keeps_two(&census), drop);
    assert_eq!(census.notes(), ["future", "second", "first"]);
}

#[test]
fn a_future_that_ends_where_slots_have_ended_gives_up_what_it_has_captured() {
    let census = Census::new();
    let theirs = census.clone();
    let task = async move {
        USER_OF_TASK.set(Some(theirs.one("user")));
        drop(Captured::capture());
        std::future::pending::<()>().await;
        0
    };
    at_the_end_of_a_thread(Box::pin(task.isolated()), drop);
    assert_eq!((census.cloned(), census.alive()), (1, 0));
}

#[test]
fn what_fails_as_a_future_ends_where_slots_have_ended_costs_nothing_else() {
    task_local! { static FAILS: Option<OnDrop> = None; }
    quiet();
    let census = Census::new();
    let made = census.clone();
    let task = async move {
        HELD.set(Some(made.one("first")));
        FAILS.set(Some(OnDrop::new(|| panic!("a value, on purpose"))));
        LATER.set(Some(made.one("second")));
        COPIED.set(FailsAsCopy::default());
        drop(Captured::capture());
        std::future::pending::<()>().await;
        0
    };
    let (tell, told) = std::sync::mpsc::channel();
    at_the_end_of_a_thread(Box::pin(task.isolated()), move |future| {
        let caught = catch_unwind(AssertUnwindSafe(|| drop(future)));
        tell.send(caught.err().map(|payload| message(&*payload))).unwrap();
    });
    assert_eq!(told.recv().unwrap().as_deref(), Some("a value, on purpose"));
    assert_eq!(census.notes(), ["second", "first"]);
}

#[test]
fn the_leases_of_a_poll_end_youngest_first_and_what_they_leave_and_throw_is_the_tasks() {
    worker_local! {
        static ONE: Option<OnDrop> = None;
        static OTHER: Option<OnDrop> = None;
    }
    quiet();
    let census = Census::new();
    let (first, second, last) = (census.clone(), census.clone(), census.clone());
    let lease = || (ONE.with(|_| ()), OTHER.with(|_| ()));
    let task = async move {
        let first = move || {
            first.note("first");
            NUMBER.set(7);
        };
        let second = move || {
            second.note("second");
            panic!("an instance, on purpose");
        };
        ONE.with(|hook| *hook = Some(OnDrop::new(first)));
        OTHER.with(|hook| *hook = Some(OnDrop::new(second)));
        // Those that wait, so that the poll's own end with it.
        Captured::empty().run(lease);
        pause().await;
        last.note(NUMBER.get().to_string());
    };
    let mut future: Polled<()> = Box::pin(task.isolated());
    let words = on_a_thread(move || {
        Captured::empty().run(|| {
            lease();
            assert!(poll(&mut future).is_pending());
            panic_of(|| poll(&mut future))
        })
    });
    assert!(words.contains("an instance, on purpose"), "{words}");
    assert_eq!(census.notes(), ["second", "first", "7"]);
}

// Broke: they were dropped there, and the next poll found its slots fresh.
#[test]
fn a_poll_where_slots_have_ended_leaves_the_values_to_the_next_one() {
    let census = Census::new();
    let (give, given) = std::sync::mpsc::channel();
    at_the_end_of_a_thread(keeps_two(&census), move |mut future| {
        let found = poll(&mut future);
        assert!(found.is_pending() || cfg!(cleanslate_keyed));
        give.send((future, found)).unwrap();
    });
    let (mut future, found) = given.recv().unwrap();
    if found.is_pending() {
        assert_eq!((census.alive(), poll(&mut future)), (3, Poll::Ready(5)));
    }
    assert_eq!(census.notes(), ["future", "second", "first"]);
}

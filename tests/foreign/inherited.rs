//! Thread-locals of code that cannot be changed, whose values are handed down.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cleanslate::foreign::{Carrier, Inherited, adopt, adopt_with};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Isolation, Pool};
use futures_lite::future::block_on;

use crate::support::{SHAPES, in_a_process_of_its_own, quiet};

thread_local! {
    static USER: RefCell<String> = const { RefCell::new(String::new()) };
    static LEVEL: Cell<u32> = const { Cell::new(0) };
}

/// Returns what it finds, and leaves something else.
fn look(n: u32) -> (String, u32) {
    (USER.replace(format!("left by {n}")), LEVEL.replace(n + 100))
}

fn pool(workers: usize) -> Pool {
    Pool::builder()
        .workers(workers)
        .carry(adopt(&USER).inherited())
        .carry(adopt_with(&LEVEL, || 7).inherited())
        .build()
        .unwrap()
}

#[test]
fn every_task_starts_with_what_the_submitter_had_and_no_other_sees_what_it_leaves() {
    for workers in SHAPES {
        let pool = pool(workers);
        USER.set("alice".to_owned());
        LEVEL.set(3);
        let alice = ("alice".to_owned(), 3);
        assert!(pool.map(0..20_000, look).iter().all(|found| *found == alice));
        assert!(pool.imap(0..200, look).all(|found| found == alice));
        assert!(pool.broadcast(|| look(1)).iter().all(|found| *found == alice));
        assert!(pool.map_results(0..200, look).into_iter().all(|found| found.unwrap() == alice));
        pool.scope(|s| {
            for n in 0..200 {
                s.submit(move || assert_eq!(look(n), ("alice".to_owned(), 3)));
            }
        });
        let (a, b) = pool.join(|| look(1), || look(2));
        assert!(a == alice && b == alice);
        let inner = pool.clone();
        let below = pool.submit(move || {
            USER.set("bob".to_owned());
            (inner.map(0..100, look), look(0))
        });
        let (nested, own) = below.join().unwrap();
        assert!(nested.iter().all(|found| *found == ("bob".to_owned(), 3)), "{nested:?}");
        assert_eq!(own, ("bob".to_owned(), 3));
        assert_eq!((USER.take(), LEVEL.take()), alice, "what was here is as it was");
    }
}

// Broke: what a pool's carrier captures was left out there, so that such tasks found what others of
// their kind had left.
#[test]
fn what_inherits_nothing_starts_with_nothing_and_leaves_nothing() {
    for workers in SHAPES {
        let pool = pool(workers);
        USER.set("alice".to_owned());
        let nothing = (String::new(), 7);
        let detached = pool.detached();
        assert!(detached.map(0..2_000, look).iter().all(|found| *found == nothing));
        for n in 0..200 {
            assert_eq!(detached.submit(move || look(n)).join().unwrap(), nothing);
        }
        let given = pool.in_context(&Context::empty());
        assert!(given.map(0..2_000, look).iter().all(|found| *found == nothing));
        let own = Context::empty().carry(adopt(&USER).inherited());
        let found = pool.in_context(&own).submit(|| look(1)).join().unwrap();
        assert_eq!(found, ("alice".to_owned(), 7), "the nearest counts");
        drop(USER.take());
    }
}

thread_local! {
    static SHARES: RefCell<Arc<Mutex<u32>>> = RefCell::default();
    static INITS: Cell<u32> = const { Cell::new(0) };
}

/// Counts its calls on this thread.
fn counts() -> Arc<Mutex<u32>> {
    INITS.set(INITS.get() + 1);
    Arc::default()
}

// Broke: one initial value was made for all of them, of which each got a clone; and the submitter
// made one for each capture.
#[test]
fn what_inherits_nothing_has_an_initial_value_of_its_own_and_the_submitter_makes_none() {
    let carrier = adopt_with(&SHARES, counts).inherited();
    let pool = Pool::builder().workers(1).carry(carrier).build().unwrap();
    let count = |_| SHARES.with_borrow(|shared| std::mem::replace(&mut *shared.lock().unwrap(), 1));
    assert_eq!(pool.detached().map(0..9, count), [0; 9]);
    assert_eq!(pool.submit(move || count(0)).join().unwrap(), 0);
    assert_eq!(pool.submit(move || count(0)).join().unwrap(), 1, "the submitter's, shared");
    assert_eq!(INITS.get(), 0);
}

#[test]
fn a_leaky_pool_does_not_ask_for_the_initial_value() {
    let carrier = adopt_with(&LEVEL, || panic!("on purpose")).inherited();
    let leaky = Pool::builder().workers(1).isolation(Isolation::Leaky).carry(carrier).build();
    assert_eq!(leaky.unwrap().submit(|| 1).join().unwrap(), 1);
}

// Broke: what keeps a pool's tasks apart took the place of what the context had captured.
#[test]
fn what_is_installed_and_captured_in_a_given_context_counts() {
    if !in_a_process_of_its_own(
        "inherited::what_is_installed_and_captured_in_a_given_context_counts",
    ) {
        return;
    }
    let pool = pool(1);
    cleanslate::foreign::install(elsewhere::carrier()).unwrap();
    USER.set("alice".to_owned());
    let context = Context::capture();
    USER.set("bob".to_owned());
    for _ in 0..2 {
        let given = pool.in_context(&context).submit(|| look(1)).join().unwrap();
        assert_eq!(given, ("alice".to_owned(), 7));
        assert_eq!(pool.submit(|| look(1)).join().unwrap(), ("bob".to_owned(), 0));
        assert_eq!(pool.detached().submit(|| look(1)).join().unwrap(), (String::new(), 7));
    }
}

/// Tells what is in its key when it is dropped, unless that is nothing.
#[derive(Clone)]
struct Tells(&'static str);

impl Drop for Tells {
    fn drop(&mut self) {
        let seen = TELLS.try_with(|key| key.try_borrow().map(|tells| tells.0)).ok();
        if let Some(Ok(seen)) = seen.filter(|_| self.0 == "left") {
            TOLD.set(Some(seen));
        }
    }
}

thread_local! {
    static TELLS: RefCell<Tells> = const { RefCell::new(Tells("")) };
    static TOLD: Cell<Option<&'static str>> = const { Cell::new(None) };
}

// Broke: what the task had left was dropped when the submitter's value was back.
#[test]
fn what_a_task_leaves_is_leaked_if_there_is_no_initial_value_to_take_its_place() {
    quiet();
    let carrier = adopt_with(&TELLS, || panic!("on purpose")).inherited();
    drop(TELLS.replace(Tells("submitter")));
    let context = Context::empty().carry(carrier);
    let leaked = cleanslate::leaked_values();
    let error = context.try_run(|| drop(TELLS.replace(Tells("left")))).unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert_eq!((TOLD.take(), TELLS.with_borrow(|tells| tells.0)), (None, "submitter"));
    assert!(cleanslate::leaked_values() > leaked);
    drop(TELLS.replace(Tells("")));
}

/// Carriers that have another identity, mostly.
mod elsewhere {
    pub(super) fn carrier() -> super::Inherited<super::Key> {
        super::adopt(&super::USER).inherited()
    }
}

type Key = RefCell<String>;

#[test]
fn each_poll_of_a_future_starts_with_what_was_captured() {
    USER.set("alice".to_owned());
    let context = Context::empty().carry(adopt(&USER).inherited());
    USER.set("surroundings".to_owned());
    let seen = block_on(
        async {
            let before = USER.replace("changed".to_owned());
            futures_lite::future::yield_now().await;
            (before, USER.take())
        }
        .isolated_in(&context),
    );
    assert_eq!(seen, ("alice".to_owned(), "alice".to_owned()));
    assert_eq!(USER.take(), "surroundings");
}

#[test]
fn a_leaky_pool_hands_nothing_down() {
    let pool = Pool::builder().workers(1).isolation(Isolation::Leaky);
    let pool = pool.carry(adopt(&LEVEL).inherited()).build().unwrap();
    LEVEL.set(5);
    assert_eq!(pool.submit(|| LEVEL.get()).join().unwrap(), 0);
    LEVEL.set(0);
}

#[test]
fn a_borrowed_ref_cell_is_captured_unless_it_is_mutably_borrowed() {
    USER.set("alice".to_owned());
    let capture = || Context::empty().try_carry(adopt(&USER).inherited().named("app::USER"));
    let shared = USER.with_borrow(|_| capture()).unwrap();
    let error = USER.with_borrow_mut(|_| capture()).unwrap_err().to_string();
    assert!(error.contains("`app::USER`") && error.contains("mutably borrowed"), "{error}");
    assert_eq!(USER.take(), "alice");
    assert_eq!(shared.run(|| USER.take()), "alice");
}

/// What a clone does.
struct Clones(fn());

impl Default for Clones {
    fn default() -> Self {
        Self(|| ())
    }
}

impl Clone for Clones {
    fn clone(&self) -> Self {
        (self.0)();
        Self(self.0)
    }
}

thread_local! {
    static IN_CELL: Cell<Clones> = Cell::default();
    static IN_REF_CELL: RefCell<Clones> = RefCell::default();
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn a_clone_that_panics_fails_the_capture_and_the_key_keeps_its_value() {
    quiet();
    let fails = || panic!("a clone on purpose");
    IN_CELL.set(Clones(fails));
    IN_REF_CELL.set(Clones(fails));
    for error in [
        Context::empty().try_carry(adopt(&IN_CELL).inherited()).unwrap_err(),
        Context::empty().try_carry(adopt(&IN_REF_CELL).inherited()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("a clone on purpose"), "{error}");
    }
    assert!(std::ptr::fn_addr_eq(IN_CELL.take().0, fails as fn()));
    assert!(std::ptr::fn_addr_eq(IN_REF_CELL.take().0, fails as fn()));
}

#[test]
fn what_a_clone_puts_into_its_own_key_is_gone() {
    let counts = || {
        SEEN.set(SEEN.get() + 1);
        let _mine = IN_CELL.replace(Clones(|| panic!("it is not what was captured")));
    };
    IN_CELL.set(Clones(counts));
    let context = Context::empty().carry(adopt(&IN_CELL).inherited());
    assert_eq!(SEEN.get(), 1);
    assert!(std::ptr::fn_addr_eq(IN_CELL.take().0, counts as fn()));
    context.run(|| assert!(std::ptr::fn_addr_eq(IN_CELL.take().0, counts as fn())));
    assert_eq!(SEEN.get(), 2);
}

thread_local! {
    static TRACE: RefCell<Option<Arc<()>>> = const { RefCell::new(None) };
}

#[test]
fn captures_and_copies_are_dropped() {
    let traced = Arc::new(());
    TRACE.set(Some(Arc::clone(&traced)));
    let pool = Pool::builder().workers(2).carry(adopt(&TRACE).inherited()).build().unwrap();
    assert!(pool.map(0..1_000, |_| TRACE.take().is_some()).into_iter().all(|found| found));
    pool.map(0..1_000, drop);
    pool.shutdown().unwrap();
    assert_eq!(Arc::strong_count(&traced), 2, "the submitter's own");
    drop(TRACE.take());
}

/// Submits where the thread's keys end.
struct AtTheEnd(Pool);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let found = self.0.submit(|| TRACED_LATE.with_borrow(String::clone));
        assert_eq!(found.join().unwrap(), "nobody");
        ENDED.store(true, Ordering::SeqCst);
    }
}

thread_local! {
    static TRACED_LATE: RefCell<String> = RefCell::new("the thread".to_owned());
    static AT_THE_END: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

static ENDED: AtomicBool = AtomicBool::new(false);

#[test]
fn a_thread_whose_key_has_ended_hands_down_nothing() {
    let carrier = adopt_with(&TRACED_LATE, || "nobody".to_owned()).inherited();
    let pool = Pool::builder().workers(1).carry(carrier).build().unwrap();
    let thread = std::thread::spawn(move || {
        // Registered first, so that it ends last.
        AT_THE_END.set(Some(AtTheEnd(pool)));
        TRACED_LATE.with_borrow(|_| ());
    });
    thread.join().unwrap();
    assert!(ENDED.load(Ordering::SeqCst));
}

// Plain values are exchanged between two items, and nothing is detached.
#[test]
fn an_inherited_number_is_the_submitters_for_every_item() {
    LEVEL.set(3);
    let context = Context::empty().carry(adopt(&LEVEL).inherited());
    LEVEL.set(4);
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap().in_context(&context);
        assert_eq!(pool.map(0..200, |_| LEVEL.replace(8)), [3; 200]);
        assert_eq!(pool.detached().broadcast(|| LEVEL.get()), vec![0; workers]);
    }
}

#[test]
fn it_is_for_the_same_state_as_the_carrier_that_it_was_made_of() {
    let [user, level] = [adopt(&USER).identity(), adopt(&LEVEL).identity()];
    assert_eq!(adopt(&USER).inherited().identity(), user);
    assert_ne!(user, level);
}

thread_local! { static AGAIN: RefCell<Again> = RefCell::default(); }

/// Puts another one in its place, a few times.
#[derive(Clone, Default)]
struct Again(u32);

impl Drop for Again {
    fn drop(&mut self) {
        if let Some(left) = self.0.checked_sub(1) {
            let _gone = AGAIN.try_with(|place| place.replace(Again(left)));
        }
    }
}

#[test]
fn what_an_item_leaves_and_its_drops_put_there_ends_before_the_next_item() {
    let pool = Pool::new(1).unwrap();
    let pool = pool.in_context(&Context::empty().carry(adopt(&AGAIN).inherited()));
    let found = pool.map(0..1_000, |n| {
        let found = AGAIN.with_borrow(|left| left.0);
        AGAIN.set(Again(n % 3));
        found
    });
    assert_eq!(found, vec![0; 1_000]);
}

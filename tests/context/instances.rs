//! Instances of worker-locals: where they are kept, in which order they end, and in which task.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use crate::support::{Census, OnDrop, finishes, on_a_thread, panic_of};
use cleanslate::{Context, OwnedWorkerLocal, Pool, task_local, worker_local};

task_local! {
    static NUMBER: u32 = 0;
    static HOOK: Option<OnDrop> = None;
}

thread_local! { static LATE: Cell<Option<OnDrop>> = const { Cell::new(None) }; }

fn task<R>(f: impl FnOnce() -> R) -> R {
    Context::empty().run(f)
}

#[test]
fn the_instance_that_was_given_back_last_ends_first() {
    let census = Census::new();
    let theirs = census.clone();
    let made = AtomicUsize::new(0);
    let owned = OwnedWorkerLocal::new(move || {
        theirs.one(["the worker's own", "the spare"][made.fetch_add(1, Ordering::SeqCst)])
    });
    on_a_thread(|| task(|| owned.with(|_| task(|| owned.with(|_| ())))));
    assert_eq!(census.notes(), ["the worker's own", "the spare"]);
}

/// Says so when it ends, and uses the next one of three.
struct Chained(Option<(usize, Sender<usize>)>);

impl Drop for Chained {
    fn drop(&mut self) {
        if let Some((n, tell)) = self.0.take() {
            tell.send(n).unwrap();
            use_chained(n + 1, tell);
        }
    }
}

worker_local! {
    static FIRST: Chained = Chained(None);
    static SECOND: Chained = Chained(None);
    static THIRD: Chained = Chained(None);
}

fn use_chained(n: usize, tell: Sender<usize>) {
    if let Some(local) = [FIRST, SECOND, THIRD].get(n) {
        local.with(|chained| chained.0 = Some((n, tell)));
    }
}

#[test]
fn what_the_end_of_an_instance_uses_ends_with_the_worker_as_well() {
    let (tell, told) = channel();
    let pool = Pool::new(1).unwrap();
    pool.broadcast(|| {
        use_chained(0, tell.clone());
        let tell = tell.clone();
        // Of all thread-locals the first one to be destroyed.
        LATE.set(Some(OnDrop::new(move || tell.send(100).unwrap())));
    });
    drop(tell);
    pool.shutdown().unwrap();
    assert_eq!(told.iter().collect::<Vec<_>>(), [0, 1, 2, 100]);
}

#[test]
fn an_instance_that_is_made_anew_whenever_it_ends_does_not_hold_up_its_worker() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct ComesBack;
    impl Drop for ComesBack {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
            let _ended = COMES_BACK.try_with(|_| ());
        }
    }
    worker_local! { static COMES_BACK: ComesBack = ComesBack; }
    finishes("a worker's end", || {
        let pool = Pool::new(1).unwrap();
        pool.broadcast(|| COMES_BACK.with(|_| ()));
        pool.shutdown().unwrap();
    });
    let drops = DROPS.load(Ordering::SeqCst);
    assert!((2..100).contains(&drops), "{drops}");
}

#[test]
fn the_drop_of_an_instance_for_which_there_is_no_room_may_use_its_own_worker_local() {
    static USES: AtomicUsize = AtomicUsize::new(0);
    struct UsesItsOwn;
    impl Drop for UsesItsOwn {
        fn drop(&mut self) {
            USES.fetch_add(usize::from(ITS_OWN.try_with(|_| ()).is_ok()), Ordering::SeqCst);
        }
    }
    worker_local! { static ITS_OWN: UsesItsOwn = UsesItsOwn; }
    finishes("use within a drop", || {
        // Three at a time, of which two are kept.
        let nested = || ITS_OWN.with(|_| task(|| ITS_OWN.with(|_| task(|| ITS_OWN.with(|_| ())))));
        task(nested);
        assert_eq!(USES.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn instances_that_end_with_their_owner_leave_nothing_in_the_task_that_drops_it() {
    let census = Census::new();
    let theirs = census.clone();
    let owned = OwnedWorkerLocal::new(move || {
        let token = theirs.token();
        OnDrop::new(move || {
            NUMBER.set(NUMBER.get() + 1);
            HOOK.set(Some(OnDrop::new(|| panic!("a drop, on purpose"))));
            drop(token);
        })
    });
    // One waits, and one is on lease.
    owned.with(|_| task(|| owned.with(|_| ())));
    assert_eq!(census.alive(), 2);
    NUMBER.set(7);
    assert!(panic_of(|| drop(owned)).contains("a drop, on purpose"));
    assert_eq!((census.alive(), NUMBER.get(), HOOK.is_set()), (0, 7, false));
}

#[test]
fn an_instance_that_a_thread_makes_while_it_ends_ends_with_it() {
    worker_local! { static OTHER: u32 = 0; }
    let census = Census::new();
    let theirs = census.clone();
    let owned = Arc::new(OwnedWorkerLocal::new(move || theirs.one("late")));
    let late = Arc::clone(&owned);
    on_a_thread(move || {
        // Runs after what is kept of worker-locals has ended, and before the slots have.
        NUMBER.set(1);
        LATE.set(Some(OnDrop::new(move || late.with(|_| ()))));
        OTHER.with(|_| ());
    });
    assert_eq!((census.made(), census.alive()), (1, 0), "the owner is still there");
    drop(owned);
}

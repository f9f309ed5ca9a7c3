//! Thread-locals of code that cannot be changed.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::LocalKey;

use cleanslate::foreign::{adopt, adopt_with};
use cleanslate::{Context, Pool};

use crate::support::{OnDrop, SHAPES, panic_of, quiet};

thread_local! {
    static CELL: Cell<u32> = const { Cell::new(0) };
    static LIST: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn adopted_thread_locals_are_empty_in_every_task_and_put_back_after() {
    for workers in SHAPES {
        let left = Arc::new(Mutex::new(Vec::new()));
        let (start, stop) = (|_| (CELL.set(9), LIST.set(vec![9])).0, Arc::clone(&left));
        let pool = Pool::builder()
            .workers(workers)
            .carry(adopt(&CELL))
            .carry(adopt_with(&LIST, || vec![1]))
            .on_worker_start(start)
            .on_worker_stop(move |_| stop.lock().unwrap().push((CELL.get(), LIST.take())))
            .build()
            .unwrap();
        let look = |n: u32| (CELL.replace(n + 1), LIST.replace(vec![n; 3]));
        let clean = (0, vec![1]);
        assert!(pool.map(0..20_000, look).iter().all(|found| *found == clean));
        assert!(pool.imap(0..200, look).all(|found| found == clean));
        pool.scope(|s| {
            for n in 0..200 {
                s.submit(move || assert_eq!(look(n), (0, vec![1])));
            }
        });
        let detached = pool.detached().submit(move || look(1));
        assert_eq!(
            detached.join().unwrap(),
            clean,
            "it inherits nothing, so neither from the worker"
        );
        pool.shutdown().unwrap();
        assert_eq!(
            *left.lock().unwrap(),
            vec![(9, vec![9]); workers],
            "what was there is put back"
        );
    }
}

#[test]
fn adopting_a_borrowed_ref_cell_is_an_error_that_names_it() {
    let context = Context::empty().carry(adopt(&CELL)).carry(adopt(&LIST).named("app::LIST"));
    CELL.set(5);
    LIST.with_borrow_mut(|list| {
        list.push(3);
        let error = context.try_run(|| unreachable!()).unwrap_err();
        assert!(error.is_carrier(), "{error}");
        assert!(
            error.to_string().contains("`app::LIST`") && error.to_string().contains("borrowed")
        );
        assert_eq!((CELL.get(), list.as_slice()), (5, &[3][..]), "the first one was put back");
    });
    LIST.with_borrow(|_| assert!(context.try_run(|| ()).is_err(), "it cannot be emptied"));
    context.run(|| assert_eq!((CELL.get(), LIST.take()), (0, vec![])));
    assert_eq!((CELL.get(), LIST.take()), (5, vec![3]));
}

// Broke: the error said that the code around the task had borrowed it.
#[test]
fn a_ref_cell_that_a_task_leaves_borrowed_is_an_error_that_says_so() {
    let pool = Pool::builder().workers(1).carry(adopt(&LIST).named("app::LIST")).build().unwrap();
    let leaves = |_| LIST.with(|list| _ = ManuallyDrop::new(list.borrow()));
    let of_item = pool.map_results([()], leaves).remove(0).unwrap_err().to_string();
    for error in [pool.submit(move || leaves(())).join().unwrap_err().to_string(), of_item] {
        assert!(error.contains("`app::LIST` failed to detach: it was left borrowed"), "{error}");
    }
    assert_eq!(pool.submit(|| LIST.take()).join().unwrap(), [], "the worker was replaced");
}

// Between two items, what needs no drop is replaced by a fresh value, and nothing else is done.
#[test]
fn an_item_finds_no_ref_cell_that_the_one_before_has_left_borrowed() {
    thread_local! { static COUNT: RefCell<u32> = const { RefCell::new(0) }; }
    quiet();
    let pool = Pool::builder().workers(1).carry(adopt(&COUNT)).build().unwrap();
    // At least one of these is not the last item of its chunk.
    for leaves in [400, 401] {
        let failed = panic_of(|| {
            pool.map(0..1_000, |n| {
                COUNT.with(|count| {
                    let borrowed = count.try_borrow_mut().expect("it is fresh");
                    if n == leaves {
                        let _stays = ManuallyDrop::new(borrowed);
                    }
                });
            })
        });
        assert!(failed.contains("it was left borrowed"), "{failed}");
    }
}

thread_local! {
    static TRACE: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
    static SEEN: Cell<Option<bool>> = const { Cell::new(None) };
}

// Broke: the drop of what a task left in an adopted thread-local found the surrounding value there,
// and a drop that set it again took its place.
#[test]
fn the_drop_of_an_adopted_value_neither_sees_nor_replaces_the_surrounding_one() {
    let context = Context::empty().carry(adopt(&TRACE));
    TRACE.set(Some(OnDrop::new(|| SEEN.set(Some(true)))));
    let outer = TRACE.with_borrow(|trace| std::ptr::from_ref(trace.as_ref().unwrap()).addr());
    context.run(|| {
        TRACE.set(Some(OnDrop::new(|| {
            CELL.set(u32::from(TRACE.with_borrow(Option::is_some)));
            TRACE.set(Some(OnDrop::new(|| ())));
        })));
    });
    assert_eq!(CELL.get(), 0, "it saw the value of another task");
    assert_eq!(SEEN.get(), None, "the outer value is alive");
    let now = TRACE.with_borrow(|trace| std::ptr::from_ref(trace.as_ref().unwrap()).addr());
    assert_eq!(now, outer);
    drop(TRACE.take());
    assert_eq!(SEEN.get(), Some(true), "and it is the very one");
}

#[test]
fn a_panicking_drop_of_an_adopted_value_fails_its_task_and_restores_all_the_same() {
    quiet();
    let context = Context::empty().carry(adopt(&TRACE));
    TRACE.set(Some(OnDrop::new(|| SEEN.set(Some(true)))));
    let error = context
        .try_run(|| TRACE.set(Some(OnDrop::new(|| panic!("a drop on purpose")))))
        .unwrap_err();
    assert!(error.to_string().contains("a drop on purpose"), "{error}");
    SEEN.set(None);
    drop(TRACE.take());
    assert_eq!(SEEN.get(), Some(true));
}

/// Fills the key again when it is dropped, this many times. Counts the drops that find it empty.
struct Again(u32, &'static LocalKey<RefCell<Option<Again>>>);

impl Drop for Again {
    fn drop(&mut self) {
        DROPPED.set(DROPPED.get() + u32::from(self.1.with_borrow(Option::is_none)));
        if self.0 > 0 {
            self.1.set(Some(Again(self.0 - 1, self.1)));
        }
    }
}

thread_local! {
    static AGAIN: RefCell<Option<Again>> = const { RefCell::new(None) };
    static DROPPED: Cell<u32> = const { Cell::new(0) };
}

// Broke: what the drop of a left value left in turn was dropped when the surrounding value was
// back, and put another one in its place.
#[test]
#[expect(clippy::mem_forget, reason = "it would never end")]
fn what_drops_put_into_an_adopted_key_ends_with_the_task() {
    quiet();
    let context = Context::empty().carry(adopt(&AGAIN));
    AGAIN.set(Some(Again(100, &AGAIN)));
    for times in 0..3 {
        DROPPED.set(0);
        context.run(|| AGAIN.set(Some(Again(times, &AGAIN))));
        assert!(AGAIN.with_borrow(|kept| kept.as_ref().is_some_and(|kept| kept.0 == 100)));
        assert_eq!(DROPPED.get(), times + 1);
    }
    std::mem::forget(AGAIN.take());
}

// An adopted key whose values need a drop is not just given a fresh value between two items: what
// the drop puts there would be found by the next one.
#[test]
fn what_an_item_leaves_and_its_drops_put_there_ends_before_the_next_item() {
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let pool = pool.in_context(&Context::empty().carry(adopt(&AGAIN)));
        let found = pool.map(0..1_000, |n| {
            let found = AGAIN.with_borrow(|left| left.as_ref().map(|again| again.0));
            AGAIN.set(Some(Again(n % 3, &AGAIN)));
            found
        });
        assert_eq!(found, vec![None; 1_000], "{workers} workers");
    }
}

thread_local! {
    static BROKEN: Cell<Option<OnDrop>> = panic!("an initialiser, on purpose");
}

// Broke: the value that the key was to be given was dropped by the unwinding; its panic aborted.
#[test]
fn a_key_whose_initialiser_panics_fails_its_task() {
    quiet();
    let context = Context::empty()
        .carry(adopt_with(&BROKEN, || Some(OnDrop::new(|| panic!("a drop, on purpose")))));
    let error = context.try_run(|| ()).unwrap_err();
    assert!(error.to_string().contains("an initialiser, on purpose"), "{error}");
}

#[test]
fn what_is_put_in_for_a_time_is_dropped() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Default for Counted {
        fn default() -> Counted {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            Counted
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    thread_local! { static COUNTED: RefCell<Counted> = RefCell::default(); }

    Context::empty().carry(adopt(&COUNTED)).run(|| ());
    assert_eq!(ALIVE.load(Ordering::SeqCst), 1, "the key's own");
}

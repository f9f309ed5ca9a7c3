//! Every method of a slot, over declared and over owned ones.

use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, Once};

use crate::support::{Census, Fails, SHAPES, on_a_thread, panic_of, quiet};
use cleanslate::{Context, OwnedLocal, Pool, task_local};

/// Runs each body twice: `$slot` is a reference to a declared slot, then to an owned one.
macro_rules! on_both {
    ($($(#[$attribute:meta])* fn $name:ident($slot:ident: $t:ty = $init:expr) $body:block)*) => {
        mod declared {
            use super::*;
            $($(#[$attribute])* #[test] fn $name() {
                task_local! { static SLOT: $t = $init; }
                let $slot = &SLOT;
                assert!($slot.name().contains("SLOT"));
                $body
            })*
        }
        mod owned {
            use super::*;
            $($(#[$attribute])* #[test] fn $name() {
                let slot = OwnedLocal::<$t>::new(|| $init);
                let $slot = &slot;
                assert!($slot.name().starts_with("cleanslate::OwnedLocal<"), "{}", $slot.name());
                assert!($slot.name().contains("made at"));
                $body
            })*
        }
    };
}

/// Runs as a task.
fn task<R>(f: impl FnOnce() -> R) -> R {
    Context::empty().run(f)
}

/// Returns the line of the panic that `f` has to end with.
#[track_caller]
fn line_of_panic<R>(f: impl FnOnce() -> R) -> u32 {
    thread_local! { static LINE: Cell<u32> = const { Cell::new(0) }; }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        quiet();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            LINE.set(info.location().map_or(0, Location::line));
            before(info);
        }));
    });
    panic_of(f);
    LINE.get()
}

on_both! {
    fn the_initialiser_runs_once_per_task_at_the_first_touch(slot: Vec<u32> = vec![1]) {
        assert!(!slot.is_set());
        assert_eq!(slot.with(Vec::len), 1);
        assert!(slot.is_set());
        slot.with_mut(|values| values.push(2));
        assert_eq!(slot.get(), [1, 2]);
        assert_eq!(task(|| slot.get()), [1]);
        assert_eq!(slot.get(), [1, 2]);
    }

    fn set_does_not_run_the_initialiser(slot: u32 = panic!("it ran")) {
        slot.set(4);
        assert_eq!(slot.get(), 4);
        task(|| {
            slot.try_set(5).unwrap();
            assert_eq!(slot.try_get().unwrap(), 5);
            task(|| slot.scope(6, || assert_eq!(slot.get(), 6)));
        });
        assert_eq!(slot.get(), 4);
    }

    fn replace_runs_the_initialiser(slot: String = "fresh".to_owned()) {
        assert_eq!(slot.replace("a".to_owned()), "fresh");
        assert_eq!(slot.try_replace("b".to_owned()).unwrap(), "a");
        task(|| assert_eq!(slot.replace("c".to_owned()), "fresh"));
        assert_eq!(slot.get(), "b");
    }

    fn take_empties_and_the_initialiser_fills_again(slot: String = "fresh".to_owned()) {
        assert_eq!(slot.take(), None);
        assert!(!slot.is_set(), "nothing was touched");
        slot.set("a".to_owned());
        assert_eq!(slot.take().as_deref(), Some("a"));
        assert!(!slot.is_set());
        assert_eq!(slot.try_take().unwrap(), None);
        assert_eq!(slot.get(), "fresh");
        assert_eq!(slot.try_take().unwrap().as_deref(), Some("fresh"));
        slot.set("b".to_owned());
        assert_eq!(slot.get(), "b");
    }

    fn a_scope_binds_and_unbinds(slot: String = "fresh".to_owned()) {
        let inside = slot.scope("a".to_owned(), || {
            let before = slot.get();
            slot.set("b".to_owned());
            slot.scope("c".to_owned(), || assert_eq!(slot.take().as_deref(), Some("c")));
            (before, slot.get())
        });
        assert_eq!(inside, ("a".to_owned(), "b".to_owned()));
        assert!(!slot.is_set());
        slot.set("outer".to_owned());
        assert_eq!(slot.try_scope("d".to_owned(), || slot.take()).unwrap().as_deref(), Some("d"));
        assert_eq!(slot.get(), "outer");
        slot.scope("e".to_owned(), || {
            slot.take();
            assert_eq!(slot.get(), "fresh", "a scope whose value was taken has a cell");
        });
        assert_eq!(slot.get(), "outer");
    }

    fn a_scope_ends_when_its_closure_panics(slot: Option<crate::support::Counted> = None) {
        let census = Census::new();
        slot.set(Some(census.one("outer")));
        panic_of(|| slot.scope(Some(census.one("scoped")), || panic!("on purpose")));
        assert_eq!((census.notes(), census.alive()), (vec!["scoped".to_owned()], 1));
        assert_eq!(slot.with(|v| v.as_ref().unwrap().name), "outer");
    }

    fn a_scope_over_a_borrowed_slot_has_a_cell_of_its_own(slot: Vec<u32> = vec![1]) {
        slot.with_mut(|outer| {
            slot.scope(vec![7], || {
                slot.with_mut(|inner| inner.push(8));
                assert_eq!(slot.get(), [7, 8]);
            });
            outer.push(2);
        });
        slot.with(|outer| {
            slot.scope(vec![9], || slot.set(vec![]));
            assert_eq!(outer, &[1, 2]);
        });
    }

    fn shared_borrows_nest_and_end_in_any_order(slot: Vec<u32> = vec![1]) {
        let address = |value: &Vec<u32>| std::ptr::from_ref(value);
        slot.with(|a| {
            slot.with(|b| slot.with(|c| assert_eq!([a, b, c].map(address), [address(a); 3])));
        });
        panic_of(|| slot.with(|_| slot.with(|_| panic!("on purpose"))));
        slot.with_mut(|values| values.clear());
        panic_of(|| slot.with_mut(|_| panic!("on purpose")));
        slot.with_mut(|values| values.push(3));
        assert_eq!(slot.get(), [3]);
    }

    fn what_a_borrowed_slot_refuses_names_it(slot: String = "fresh".to_owned()) {
        let name = slot.name().to_string();
        let check = |error: &cleanslate::AccessError| {
            assert!(error.is_borrowed() && !error.is_recursive() && !error.is_destroyed());
            assert_eq!(error.slot(), name);
            assert!(error.to_string().contains(&name));
        };
        slot.with(|_| {
            check(&slot.try_with_mut(|_| ()).unwrap_err());
            check(&slot.try_take().unwrap_err());
            let refused = slot.try_set("mine".to_owned()).unwrap_err();
            check(refused.error());
            assert_eq!(refused.into_inner(), "mine");
            let refused = slot.try_replace("mine".to_owned()).unwrap_err();
            check(refused.error());
            assert_eq!(refused.into_inner(), "mine");
            for words in [
                panic_of(|| slot.with_mut(|_| ())),
                panic_of(|| slot.take()),
                panic_of(|| slot.set(String::new())),
                panic_of(|| slot.replace(String::new())),
            ] {
                assert!(words.contains(&name) && words.contains("borrowed"), "{words}");
            }
            assert!(slot.is_set());
            task(|| slot.set("a task may".to_owned()));
        });
        slot.with_mut(|_| {
            check(&slot.try_with(|_| ()).unwrap_err());
            check(&slot.try_get().unwrap_err());
            check(&slot.try_with_mut(|_| ()).unwrap_err());
            check(&slot.try_take().unwrap_err());
            check(slot.try_set(String::new()).unwrap_err().error());
            assert!(panic_of(|| slot.get()).contains("with_mut"));
            assert!(slot.is_set());
        });
        assert_eq!(slot.get(), "fresh", "nothing of that did anything");
    }

    fn an_address_is_stable_while_tasks_nest_to_depth_64(slot: [u64; 9] = [0; 9]) {
        type With<'w> = &'w dyn Fn(&mut dyn FnMut(&[u64; 9]));

        fn nest(slot: With<'_>, depth: u64, check: &dyn Fn(u64)) {
            if depth == 64 {
                return;
            }
            task(|| slot(&mut |value| {
                let before = std::ptr::from_ref(value);
                assert_eq!(value[8], 0);
                check(depth);
                nest(slot, depth + 1, check);
                assert_eq!(before, std::ptr::from_ref(value));
                assert_eq!(value[8], 0);
            }));
        }
        nest(&|f| slot.with(|value| f(value)), 0, &|depth| {
            task(|| slot.set([depth; 9]));
            slot.scope([depth; 9], || assert_eq!(slot.get()[3], depth));
        });
    }

    fn over_aligned_and_zero_sized_values_are_fine(slot: Aligned = Aligned(3)) {
        for _ in 0..3 {
            task(|| slot.with(|a| {
                assert_eq!(std::ptr::from_ref(a).addr() % 256, 0);
                task(|| slot.with(|b| assert_eq!(std::ptr::from_ref(b).addr() % 256, 0)));
            }));
        }
        let zero = OwnedLocal::new(|| ());
        zero.set(());
        assert_eq!((zero.take(), zero.take()), (Some(()), None));
    }

    fn the_initialiser_may_panic_and_is_asked_again(slot: u32 = {
        if TRIES.replace(TRIES.get() + 1) == 0 { panic!("first try, on purpose") }
        TRIES.get()
    }) {
        TRIES.set(0);
        assert!(panic_of(|| slot.get()).contains("first try"));
        assert!(!slot.is_set());
        assert_eq!(slot.try_take().unwrap(), None);
        assert_eq!(slot.get(), 2);
        assert_eq!(slot.get(), 2);
        TRIES.set(0);
        assert!(panic_of(|| task(|| slot.get())).contains("first try"));
        assert_eq!(task(|| slot.get()), 2);
    }

    fn a_clone_that_panics_leaves_the_value_usable(slot: Uncloneable = Uncloneable(5)) {
        assert!(panic_of(|| slot.get()).contains("on purpose"));
        slot.with_mut(|value| value.0 += 1);
        assert_eq!(slot.with(|value| value.0), 6);
        assert!(panic_of(|| task(|| slot.get())).contains("on purpose"));
    }

    // A value without drop glue is written over what its place holds.
    fn a_plain_value_is_set_in_whatever_state_its_slot_is(slot: u32 = 5) {
        slot.set(1);
        for n in [2, 3] {
            // In one frame after the other, and in one within another.
            task(|| {
                slot.set(n);
                slot.set(n + 10);
                assert_eq!((slot.get(), slot.take(), slot.is_set()), (n + 10, Some(n + 10), false));
                slot.set(n + 20);
                slot.with(|value| {
                    assert!(slot.try_set(0).unwrap_err().error().is_borrowed());
                    assert_eq!(*value, n + 20);
                    task(|| slot.set(0));
                    assert_eq!(*value, n + 20);
                });
                slot.with_mut(|_| assert!(slot.try_set(0).unwrap_err().error().is_borrowed()));
                slot.scope(7, || {
                    slot.set(8);
                    assert_eq!(slot.get(), 8);
                });
                assert_eq!(slot.get(), n + 20);
            });
        }
        assert_eq!(slot.get(), 1, "the root's own");
        task(|| assert_eq!(slot.get(), 5));
    }

    fn a_method_that_panics_says_where_it_was_called(slot: u32 = 0) {
        slot.with(|_| {
            assert_eq!(line_of_panic(|| slot.set(1)), line!());
            assert_eq!(line_of_panic(|| slot.with_mut(|_| ())), line!());
            assert_eq!(line_of_panic(|| slot.take()), line!());
        });
        slot.with_mut(|_| {
            assert_eq!(line_of_panic(|| slot.with(|_| ())), line!());
            assert_eq!(line_of_panic(|| slot.get()), line!());
            assert_eq!(line_of_panic(|| slot.replace(1)), line!());
        });
    }

    // Broke: the closure was dropped while the refusal unwound, and a panic of that drop aborted.
    fn a_closure_that_is_refused_is_dropped_before_the_panic(slot: u32 = 0) {
        let census = Census::new();
        slot.with(|_| {
            let fails = Fails::new(&census);
            let words = panic_of(|| slot.with_mut(move |_| fails.held()));
            assert!(words.contains(&slot.name().to_string()), "{words}");
        });
        slot.with_mut(|_| {
            let fails = Fails::new(&census);
            let words = panic_of(|| slot.with(move |_| fails.held()));
            assert!(words.contains(&slot.name().to_string()), "{words}");
        });
        assert_eq!((census.made(), census.alive()), (2, 0));
    }

    fn a_value_sees_no_other_threads_value(slot: u64 = 0) {
        slot.set(1);
        on_a_thread(|| {
            assert!(!slot.is_set());
            slot.set(2);
        });
        assert_eq!(slot.get(), 1);
        for workers in SHAPES {
            let pool = Pool::new(workers).unwrap();
            assert_eq!(pool.map_range(0..1000_u64, |n| slot.replace(n)), [0; 1000]);
        }
        assert_eq!(slot.get(), 1);
    }

    fn tasks_outside_and_inside_a_pool_are_all_alike(slot: Vec<u32> = vec![]) {
        let pool = Pool::new(2).unwrap();
        slot.set(vec![1]);
        let found = slot.with_mut(|_| pool.map(0..100, |n| {
            let before = slot.replace(vec![n]);
            pool.map(0..3, |_| slot.with_mut(|v| v.push(9)));
            before.is_empty() && slot.get() == [n]
        }));
        assert!(found.iter().all(|fine| *fine));
    }

    fn values_of_types_that_are_not_sync_stay_on_their_thread(slot: Cell<u32> = Cell::new(1)) {
        slot.with(|cell| cell.set(2));
        task(|| slot.with(|cell| assert_eq!(cell.replace(9), 1)));
        assert_eq!(slot.with(Cell::get), 2);
    }
}

thread_local! { static TRIES: Cell<u32> = const { Cell::new(0) }; }

#[repr(align(256))]
struct Aligned(#[expect(dead_code, reason = "gives it a size")] u8);

struct Uncloneable(u32);

impl Clone for Uncloneable {
    fn clone(&self) -> Self {
        panic!("a clone that fails on purpose")
    }
}

#[test]
fn results_and_closures_may_be_bound_to_their_thread() {
    task_local! { static SLOT: u32 = 3; }
    let local = Rc::new(4);
    let sum = SLOT.with(|n| Rc::new(n + *local));
    assert_eq!(*SLOT.scope(5, || Rc::clone(&sum)), 7);
}

#[test]
fn keys_can_be_shared_and_shown() {
    task_local! { static SLOT: u32 = 3; }
    fn is_shared<T: Send + Sync + std::fmt::Debug>(_: &T) {}
    let owned = Arc::new(OwnedLocal::new(|| Cell::new(1)));
    is_shared(&SLOT);
    is_shared(&*owned);
    assert!(format!("{SLOT:?}").contains("slots::methods::SLOT"));
    assert!(format!("{owned:?}").contains("tests/slots/methods.rs"));
    assert_eq!(OwnedLocal::<u8>::default().get(), 0);
    let error = SLOT.with(|_| SLOT.try_set(1)).unwrap_err();
    fn is_error<E: std::error::Error + Send + Sync + 'static>(_: &E) {}
    is_error(&error);
    is_error(error.error());
    assert!(format!("{error:?} {error}").contains("slots::methods::SLOT"));
}

mod recursion {
    use super::*;

    task_local! {
        static ITSELF: u32 = ITSELF.get() + 1;
        static PING: u32 = PONG.get() + 1;
        static PONG: u32 = PING.get() + 1;
        static SETTER: u32 = {
            assert!(SETTER.try_set(1).unwrap_err().error().is_recursive());
            7
        };
        static OUTER: u32 = INNER.get() * 10;
        static INNER: u32 = 4;
        static SCOPED: u32 = SCOPED.scope(5, || SCOPED.get() + 1);
        static ASKS: bool = ASKS.is_set();
    }

    #[test]
    fn an_initialiser_that_needs_its_own_slot_is_an_error_that_names_it() {
        for _ in 0..2 {
            let words = panic_of(|| ITSELF.get());
            assert!(
                words.contains("recursion::ITSELF") && words.contains("own initialiser"),
                "{words}"
            );
            assert!(!ITSELF.is_set());
            let words = panic_of(|| PING.get());
            assert!(words.contains("recursion::PING"), "{words}");
            let words = panic_of(|| PONG.get());
            assert!(words.contains("recursion::PONG"), "{words}");
        }
        ITSELF.set(3);
        assert_eq!(ITSELF.get(), 3);
        PING.set(1);
        assert_eq!(PONG.get(), 2);
    }

    #[test]
    fn an_owned_one_is_named_by_its_place_of_birth() {
        let slot: Arc<OwnedLocal<u32>> =
            Arc::new_cyclic(|me: &std::sync::Weak<OwnedLocal<u32>>| {
                let me = me.clone();
                OwnedLocal::new(move || me.upgrade().unwrap().get() + 1)
            });
        let words = panic_of(|| slot.get());
        assert!(
            words.contains("tests/slots/methods.rs") && words.contains("own initialiser"),
            "{words}"
        );
        slot.set(1);
        assert_eq!(slot.get(), 1);
    }

    #[test]
    fn initialisers_may_use_other_slots_and_scopes_of_their_own() {
        assert_eq!((SETTER.get(), OUTER.get(), SCOPED.get()), (7, 40, 6));
        assert!(!ASKS.get() && ASKS.is_set());
        INNER.set(5);
        assert_eq!((OUTER.get(), task(|| OUTER.get())), (40, 40));
    }
}

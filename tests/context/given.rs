//! Contexts that are given values, and closures in them.

use std::sync::Arc;

use cleanslate::{Context, isolated_fn, isolated_fn_in, task_local};

use crate::support::{Census, Fails, panic_of};

task_local! {
    #[inherit]
    static TENANT: &'static str = "nobody";
    #[inherit(with = |depth| depth + 1)]
    static DEPTH: u32 = 0;
    static CALLS: u32 = 0;
    #[inherit]
    static OTHER: u32 = 0;
}

#[test]
fn a_value_that_is_given_is_found_as_it_is() {
    TENANT.set("captured");
    OTHER.set(4);
    let context = Context::capture().with(&TENANT, "acme").with(&DEPTH, 7).with(&DEPTH, 8);
    context.run(|| {
        assert_eq!((TENANT.get(), DEPTH.get(), OTHER.get()), ("acme", 8, 4));
        // From here on it is derived as usual.
        assert_eq!(Context::capture().run(|| DEPTH.get()), 9);
    });
    assert_eq!(context.run(|| Context::capture().run(|| DEPTH.get())), 9, "untouched in between");
    assert_eq!((TENANT.get(), DEPTH.get()), ("captured", 0));
}

#[test]
fn only_inheritable_slots_can_be_given() {
    assert!(TENANT.is_inherited() && DEPTH.is_inherited() && !CALLS.is_inherited());
    let words = panic_of(|| Context::empty().with(&CALLS, 1));
    assert!(words.contains("given::CALLS`"), "{words}");
}

#[test]
fn a_value_for_a_slot_that_cannot_be_given_costs_no_second_panic() {
    task_local! { static ALONE: Option<Fails> = None; }
    let census = Census::new();
    let words = panic_of(|| Context::empty().with(&ALONE, Some(Fails::new(&census))));
    assert!(words.contains("ALONE` is not inherited"), "{words}");
    assert_eq!((census.made(), census.alive()), (1, 0));
}

#[test]
fn each_call_of_an_isolated_function_is_a_task() {
    TENANT.set("acme");
    let step = isolated_fn(|n: u32| (n, CALLS.replace(n), TENANT.get()));
    TENANT.set("other");
    assert_eq!([1, 2].map(&step), [(1, 0, "acme"), (2, 0, "acme")]);
    let given = isolated_fn_in(&Context::empty(), |n: u32| (n, CALLS.replace(n), TENANT.get()));
    assert_eq!(std::thread::scope(|s| s.spawn(|| given(3)).join().unwrap()), (3, 0, "nobody"));
    assert!(!CALLS.is_set());
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a drop on purpose");
    }
}

task_local! {
    #[inherit]
    static BOMB: Option<Arc<Bomb>> = None;
}

// Broke: the drops of what a wrapped closure holds unwound together.
#[test]
fn a_wrapped_closure_that_is_dropped_costs_one_failure() {
    let context = || Context::empty().with(&BOMB, Some(Arc::new(Bomb)));
    let bomb = Bomb;
    let job = context().wrap(move || drop(bomb));
    assert!(panic_of(|| drop(job)).contains("on purpose"));
    let job = context().wrap(|| Bomb);
    assert!(panic_of(|| drop(job())).contains("on purpose"));
}

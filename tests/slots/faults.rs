//! What went wrong once: several drops that panic, sizes, and what a panic may pass.

use std::panic::{RefUnwindSafe, UnwindSafe};

use cleanslate::{
    AccessError, CaptureError, CleanupError, Context, OwnedLocal, OwnedWorkerLocal, RunError,
    TaskLocal, WorkerLocal, task_local,
};

use crate::support::{OnDrop, panic_of};

task_local! { static HOOK: Option<OnDrop> = None; }

fn fails(words: &'static str) -> OnDrop {
    OnDrop::new(move || panic!("{words}, on purpose"))
}

// Broke: the second panic aborted the process.
#[test]
fn a_scopes_value_and_its_result_cost_one_failure() {
    let words = panic_of(|| HOOK.scope(Some(fails("the value")), || fails("the result")));
    assert!(words.contains("the value"), "{words}");
    assert!(!HOOK.is_set());
}

// Broke: as above.
#[test]
fn an_owners_value_and_its_initialiser_cost_one_failure() {
    let init = std::sync::Mutex::new(fails("the initialiser"));
    let owner = OwnedLocal::new(move || {
        let _ = &init;
        None
    });
    owner.set(Some(fails("the value")));
    assert!(panic_of(|| drop(owner)).contains("the value"));

    let init = std::sync::Mutex::new(fails("the initialiser"));
    let owner = OwnedWorkerLocal::new(move || {
        let _ = &init;
        fails("the instance")
    });
    owner.with(|_| ());
    assert!(panic_of(|| drop(owner)).contains("the instance"));
}

#[test]
fn a_task_whose_values_and_result_fail_costs_one_failure() {
    let error = Context::empty()
        .try_run(|| {
            HOOK.set(Some(fails("the value")));
            fails("the result")
        })
        .err()
        .unwrap();
    assert!(error.to_string().contains("the value"), "{error}");
    let words = panic_of(|| {
        Context::empty().run(|| {
            HOOK.set(Some(fails("the first")));
            drop(HOOK.try_set(Some(fails("the second"))));
        })
    });
    assert!(words.contains("the first"), "{words}");
}

#[test]
fn types_can_be_used_after_a_caught_panic() {
    fn is<T: UnwindSafe + RefUnwindSafe>() {}
    is::<TaskLocal<std::cell::Cell<u8>>>();
    is::<OwnedLocal<std::cell::Cell<u8>>>();
    is::<WorkerLocal<std::rc::Rc<std::cell::Cell<u8>>>>();
    is::<OwnedWorkerLocal<std::cell::Cell<u8>>>();
    is::<Context>();
    is::<AccessError>();
    is::<CaptureError>();
    is::<RunError>();
    is::<CleanupError>();
    is::<cleanslate::future::Isolated<std::future::Pending<std::cell::Cell<u8>>>>();
    is::<cleanslate::future::ScopedFuture<u8, std::future::Pending<std::cell::Cell<u8>>>>();
}

// Broke: the compiler's recursion limit, at 125.
#[test]
fn a_block_declares_any_number_of_slots() {
    macro_rules! many {
        ($($name:ident)*) => {
            task_local! { $(static $name: u8 = 1;)* }
            fn all() -> usize {
                [$($name.get()),*].len()
            }
        };
    }
    many! {
        A00 A01 A02 A03 A04 A05 A06 A07 A08 A09 A10 A11 A12 A13 A14 A15 A16 A17 A18 A19
        B00 B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B11 B12 B13 B14 B15 B16 B17 B18 B19
        C00 C01 C02 C03 C04 C05 C06 C07 C08 C09 C10 C11 C12 C13 C14 C15 C16 C17 C18 C19
        D00 D01 D02 D03 D04 D05 D06 D07 D08 D09 D10 D11 D12 D13 D14 D15 D16 D17 D18 D19
        E00 E01 E02 E03 E04 E05 E06 E07 E08 E09 E10 E11 E12 E13 E14 E15 E16 E17 E18 E19
        F00 F01 F02 F03 F04 F05 F06 F07 F08 F09 F10 F11 F12 F13 F14 F15 F16 F17 F18 F19
        G00 G01 G02 G03 G04 G05 G06 G07 G08 G09 G10 G11 G12 G13 G14 G15 G16 G17 G18 G19
    }
    assert_eq!(all(), 140);
}

// The value of a scope belongs to its task only: a nested task, and the next one, do not see it.
#[test]
fn a_scope_in_a_task_that_touched_nothing_is_not_seen_by_tasks_on_top_of_it() {
    task_local! { static NUMBER: u64 = 0; }
    Context::empty().run(|| {
        NUMBER.scope(7, || {
            assert_eq!(Context::empty().run(|| NUMBER.get()), 0);
            assert_eq!(NUMBER.get(), 7);
        });
    });
}

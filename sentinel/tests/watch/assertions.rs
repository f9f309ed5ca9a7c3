//! `sentinel::assert_clean`.

use std::cell::Cell;
use std::panic::catch_unwind;

use cleanslate_sentinel as sentinel;

use crate::TENANT;

#[test]
fn assert_clean_gives_the_value_or_panics_with_table_and_advice() {
    assert_eq!(sentinel::assert_clean(|| 2 + 2), 4);
    let panicked = catch_unwind(|| sentinel::assert_clean(|| TENANT.set(90))).unwrap_err();
    let message = panicked.downcast_ref::<String>().expect("a formatted message");
    assert!(message.starts_with("1 thread-local was left changed:\n"), "{message}");
    for part in ["watch::TENANT", "task_local!", "adopt", "allow", "renew"] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
    let panicked = catch_unwind(|| {
        sentinel::assert_clean(|| {
            TENANT.set(91);
            std::panic::resume_unwind(Box::new("own"));
        })
    });
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"own"));
}

// Broke: the value was dropped while the assertion unwound; its own panic ended the process.
#[test]
fn a_value_that_cannot_be_dropped_costs_an_assertion_no_second_panic() {
    thread_local! { static DROPPED: Cell<bool> = const { Cell::new(false) }; }
    struct Breaks;
    impl Drop for Breaks {
        fn drop(&mut self) {
            DROPPED.set(true);
            panic!("a drop");
        }
    }
    let failed = catch_unwind(|| {
        sentinel::assert_clean(|| {
            TENANT.set(TENANT.get() + 1);
            Breaks
        })
    });
    let payload = failed.err().unwrap();
    assert!(payload.downcast_ref::<String>().unwrap().contains("TENANT"));
    assert!(DROPPED.get());
}

// Broke: the table's columns were wider than formatting allows, which panicked within the panic.
#[test]
fn an_assertion_fails_with_a_table_however_long_the_names_are() {
    let name = "n".repeat(70_000);
    let sentinel = sentinel::Sentinel::new().probe(&name, || TENANT.get());
    let add = || TENANT.set(TENANT.get() + 1);
    let failed = catch_unwind(|| sentinel.assert_clean(add)).unwrap_err();
    assert!(failed.downcast_ref::<String>().unwrap().contains(&name));
}

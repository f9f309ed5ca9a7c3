//! What went wrong once: several drops that panic, sizes, and what a panic may pass.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{self, Waker};

use cleanslate::foreign::adopt;
use cleanslate::future::FutureExt;
use cleanslate::{
    AccessError, CaptureError, CleanupError, Context, OwnedLocal, OwnedWorkerLocal, Pool, RunError,
    TaskLocal, WorkerLocal, isolated, isolated_fn, leaked_values, task_local, worker_local,
};

use crate::support::{
    Census, Fails, FailsAsCopy, FailsToClone, Inert, OnDrop, SHAPES, in_a_process_of_its_own,
    on_a_thread, panic_of, retiring, while_unwinding,
};
use crate::threads::around_the_end;

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

#[test]
fn a_result_that_is_dropped_since_its_scope_failed_leaves_nothing_in_the_task() {
    task_local! { static NUMBER: u32 = 0; }
    let result = || OnDrop::new(|| NUMBER.set(1));
    assert!(panic_of(|| HOOK.scope(Some(fails("the value")), result)).contains("the value"));
    assert!(!NUMBER.is_set());
}

// Broke: the second panic aborted the process.
#[test]
fn an_owners_value_and_its_initialiser_cost_one_failure() {
    let init = Mutex::new(fails("the initialiser"));
    let owner = OwnedLocal::new(move || {
        let _ = &init;
        None
    });
    owner.set(Some(fails("the value")));
    assert!(panic_of(|| drop(owner)).contains("the value"));

    let init = Mutex::new(fails("the initialiser"));
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
fn a_result_that_fails_after_its_tasks_clean_up_is_one_fault_more_wherever_the_task_ran() {
    task_local! { #[inherit] static INHERITED: FailsAsCopy = FailsAsCopy::default(); }
    let task = || {
        HOOK.set(Some(fails("the value")));
        fails("the result")
    };
    let inherits = Context::empty().with(&INHERITED, FailsAsCopy::default());
    for context in [Context::empty(), inherits.clone(), inherits.carry(Inert(()))] {
        let said = context.try_run(task).err().unwrap().to_string();
        assert!(said.contains("the value") && said.contains("the result"), "{said}");
    }
    let said = retiring().try_run(|| fails("the result")).err().unwrap().to_string();
    assert!(said.contains("stuck") && said.contains("the result"), "{said}");
    let said = Pool::new(1).unwrap().submit(task).join().err().unwrap().to_string();
    assert!(said.contains("the value") && said.contains("the result"), "{said}");
    // Here it is what the closure inherits that fails.
    let isolated = Context::empty().run(|| {
        INHERITED.set(FailsAsCopy::default());
        isolated(|| fails("the result"))
    });
    assert!(panic_of(isolated).contains("a copy"));
}

#[test]
fn an_owner_of_instances_that_ends_while_a_panic_unwinds_costs_no_second_one() {
    let census = Census::new();
    let remote = census.clone();
    let owner = OwnedWorkerLocal::new(move || Fails::new(&remote));
    owner.with(|_| ());
    while_unwinding(|| drop(owner));
    assert_eq!((census.made(), census.alive()), (1, 0));
}

#[test]
fn an_instance_on_lease_ends_with_its_owner_before_the_panic_of_another_goes_on() {
    let notes = Arc::<Mutex<Vec<_>>>::default();
    let theirs = Arc::clone(&notes);
    let owner = OwnedWorkerLocal::new(move || {
        let notes = Arc::clone(&theirs);
        OnDrop::new(move || {
            notes.lock().unwrap().push(std::thread::panicking());
            panic!("an instance, on purpose")
        })
    });
    Context::empty().run(|| {
        owner.with(|_| Context::empty().run(|| owner.with(|_| ())));
        assert!(panic_of(|| drop(owner)).contains("an instance"));
        assert_eq!(*notes.lock().unwrap(), [false, false]);
    });
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

// Broke: the value was dropped while the initialiser's panic unwound; its own ended the process.
#[test]
fn a_value_that_was_to_replace_one_that_cannot_be_made_costs_no_second_panic() {
    task_local! { static UNMADE: Fails = panic!("an initialiser, on purpose"); }
    let census = Census::new();
    assert!(panic_of(|| UNMADE.replace(Fails::new(&census))).contains("an initialiser"));
    assert_eq!(census.alive(), 0);
    // The same where it is borrowed: there is one panic only, that of the drop.
    UNMADE.scope(Fails::new(&census), || {
        assert!(
            panic_of(|| UNMADE.with(|_| UNMADE.replace(Fails::new(&census)))).contains("a drop")
        );
        // Its drop panics, so it is never called.
        let _kept = std::mem::ManuallyDrop::new(UNMADE.take());
    });
    assert_eq!(census.alive(), 1, "what was kept from its drop");
}

// Broke: the closure was dropped while the initialiser's panic unwound; its own ended the process.
#[test]
fn a_closure_for_a_value_that_cannot_be_made_costs_no_second_panic() {
    task_local! {
        static UNMADE: u32 = panic!("an initialiser, on purpose");
        #[inherit] static COPIED: Option<FailsToClone> = None;
    }
    worker_local! { static KEPT: u32 = panic!("an initialiser, on purpose"); }
    fn owned() -> OwnedLocal<u32> {
        OwnedLocal::new(|| panic!("an initialiser, on purpose"))
    }
    fn kept() -> OwnedWorkerLocal<u32> {
        OwnedWorkerLocal::new(|| panic!("an initialiser, on purpose"))
    }
    let ways: [fn(Fails); 10] = [
        |fails| UNMADE.with(move |_| fails.held()),
        |fails| UNMADE.with_mut(move |_| fails.held()),
        |fails| UNMADE.try_with(move |_| fails.held()).unwrap(),
        |fails| UNMADE.try_with_mut(move |_| fails.held()).unwrap(),
        |fails| KEPT.with(move |_| fails.held()),
        |fails| KEPT.try_with(move |_| fails.held()).unwrap(),
        |fails| owned().with(move |_| fails.held()),
        |fails| owned().with_mut(move |_| fails.held()),
        |fails| kept().with(move |_| fails.held()),
        |fails| kept().try_with(move |_| fails.held()).unwrap(),
    ];
    let census = Census::new();
    for way in ways {
        assert!(panic_of(|| way(Fails::new(&census))).contains("an initialiser"));
    }
    Context::empty().with(&COPIED, Some(FailsToClone)).run(|| {
        let with: fn(Fails) = |fails| COPIED.with(move |_| fails.held());
        let with_mut: fn(Fails) = |fails| COPIED.with_mut(move |_| fails.held());
        for way in [with, with_mut] {
            assert!(panic_of(|| way(Fails::new(&census))).contains("a clone"));
        }
    });
    assert_eq!((census.made(), census.alive()), (12, 0));
}

#[test]
fn a_closure_for_a_scope_on_a_thread_that_ends_costs_no_panic() {
    let census = Census::new();
    let remote = census.clone();
    let found = around_the_end(
        || HOOK.set(None),
        move || {
            if HOOK.is_set() {
                return 0;
            }
            let (fails, owned) = (Fails::new(&remote), OwnedLocal::new(|| 0));
            let refused = HOOK.try_scope(None, move || fails.held()).unwrap_err();
            assert!(refused.error().is_destroyed());
            let fails = Fails::new(&remote);
            let refused = owned.try_scope(1, move || fails.held()).unwrap_err();
            assert!(refused.error().is_destroyed());
            refused.into_inner()
        },
    );
    assert_eq!((found, census.made(), census.alive()), (vec![0, 1], 2, 0));
}

#[test]
fn a_scoped_future_cannot_be_polled_on_a_thread_that_ends_but_dropped() {
    let census = Census::new();
    let remote = census.clone();
    let found = around_the_end(
        || HOOK.set(None),
        move || {
            if HOOK.is_set() {
                return false;
            }
            let (value, held) = (remote.token(), remote.token());
            let value = OnDrop::new(move || {
                drop(value);
                panic!("the value's drop, on purpose")
            });
            let fails = OnDrop::new(move || {
                drop(held);
                panic!("a drop, on purpose")
            });
            let mut future = Box::pin(HOOK.scope_future(Some(value), async move { drop(fails) }));
            let mut polls = task::Context::from_waker(Waker::noop());
            let words = panic_of(|| future.as_mut().poll(&mut polls));
            assert!(words.contains("HOOK` cannot be used while its thread ends"), "{words}");
            assert_eq!(remote.alive(), 2);
            panic_of(|| drop(future)).contains("a drop, on purpose")
        },
    );
    assert_eq!((found, census.alive()), (vec![false, true], 0));
}

// Broke: what a closure owned was dropped while the panic of the capture unwound.
#[test]
fn a_closure_whose_context_cannot_be_captured_costs_no_second_panic() {
    task_local! { #[inherit] static INHERITED: Option<FailsToClone> = None; }
    let census = Census::new();
    INHERITED.scope(Some(FailsToClone), || {
        let ways: [fn(Fails); 3] = [
            |fails| drop(isolated(move || fails.held())),
            |fails| drop(isolated_fn(move |()| fails.held())),
            |fails| drop(async move { fails.held() }.isolated()),
        ];
        for way in ways {
            assert!(panic_of(|| way(Fails::new(&census))).contains("a clone"));
        }
    });
    assert_eq!((census.made(), census.alive()), (3, 0));
}

// Broke: the error was dropped while its own message unwound.
#[test]
fn an_initialisers_error_whose_drop_panics_costs_no_second_panic() {
    #[derive(Debug)]
    struct Nasty;
    impl fmt::Display for Nasty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("nasty, on purpose")
        }
    }
    impl std::error::Error for Nasty {}
    impl Drop for Nasty {
        fn drop(&mut self) {
            panic!("a drop, on purpose");
        }
    }
    let owner = OwnedWorkerLocal::<u8>::fallible(|| Err::<u8, _>(Nasty));
    assert!(panic_of(|| owner.with(|_| ())).contains("nasty"));
    drop(owner.try_with(|_| ()));
}

#[test]
fn the_error_of_an_initialiser_is_equal_to_its_clones_only() {
    let owner = OwnedWorkerLocal::<u8>::fallible(|| Err::<u8, _>("no, on purpose"));
    let fails = || owner.try_with(|_| ()).unwrap_err();
    let error = fails();
    assert_eq!(error.clone(), error);
    assert_ne!(fails(), error);
    assert!(error.is_init() && !error.is_borrowed());
    let worker_local = OwnedWorkerLocal::new(|| 7_u8);
    let borrowed = worker_local.with(|_| worker_local.try_with(|_| ()).unwrap_err());
    assert!(borrowed.is_borrowed() && !borrowed.is_init());
}

// Broke: an assertion, in debug builds.
#[test]
fn a_value_can_be_set_where_the_copy_of_the_inherited_one_has_failed() {
    struct Copy(u32);
    impl Clone for Copy {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 13, "a clone, on purpose");
            Self(self.0)
        }
    }
    task_local! { #[inherit] static COPIED: Copy = Copy(0); }
    type Way = fn() -> u32;
    let ways: [Way; 4] = [
        || {
            COPIED.set(Copy(9));
            COPIED.with(|copy| copy.0)
        },
        || {
            COPIED.try_set(Copy(9)).unwrap();
            COPIED.take().unwrap().0
        },
        || COPIED.scope(Copy(9), || COPIED.with(|copy| copy.0)),
        || {
            assert!(panic_of(|| COPIED.replace(Copy(1))).contains("a clone"));
            assert!(panic_of(|| COPIED.take()).contains("a clone"));
            assert!(COPIED.is_set(), "it is still inherited");
            9
        },
    ];
    let context = Context::empty().with(&COPIED, Copy(13));
    for way in ways {
        context.run(|| {
            assert!(panic_of(|| COPIED.with(|copy| copy.0)).contains("a clone"));
            assert_eq!(way(), 9);
        });
    }
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
            mod of_workers {
                cleanslate::worker_local! { $(pub(super) static $name: u8 = 1;)* }
            }
            fn all_of_workers() -> usize {
                [$(of_workers::$name.with(|n| *n)),*].len()
            }
            task_local! {
                $(#[doc = stringify!($name)])*
                #[inherit]
                $(#[doc = stringify!($name)])*
                static DOCUMENTED: u8 = 2;
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
    assert_eq!((all(), all_of_workers()), (140, 140));
    assert!(DOCUMENTED.is_inherited(), "under any number of lines");
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

#[test]
fn a_healthy_program_leaks_nothing() {
    thread_local! { static FOREIGN: RefCell<String> = RefCell::default(); }
    task_local! {
        static NUMBER: u64 = 0;
        static TEXT: String = String::new();
        #[inherit]
        static TENANT: String = String::new();
    }
    worker_local! { static WORKER: Vec<u8> = Vec::new(); }
    if !in_a_process_of_its_own("faults::a_healthy_program_leaks_nothing") {
        return;
    }
    let owned = OwnedLocal::new(String::new);
    let touch = || {
        NUMBER.set(NUMBER.get() + 1);
        TEXT.with_mut(|text| text.push('x'));
        TEXT.scope("bound".to_owned(), || owned.set("owned".to_owned()));
        TENANT.set("tenant".to_owned());
        WORKER.with(|bytes| bytes.push(1));
        FOREIGN.set("foreign".to_owned());
    };
    let task = || {
        touch();
        Context::capture().run(touch);
        NUMBER.set(1);
        touch();
    };
    let context = Context::empty().carry(adopt(&FOREIGN));
    on_a_thread(|| {
        task();
        for _ in 0..3 {
            context.run(task);
            let mut future = pin!(async { task() }.isolated_in(&context));
            let mut polls = task::Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut polls).is_ready());
        }
    });
    for workers in SHAPES {
        let pool = Pool::builder().workers(workers).carry(adopt(&FOREIGN)).build().unwrap();
        pool.map(0..100, |_| task());
        pool.detached().map(0..100, |_| task());
        pool.scope(|s| (0..20).for_each(|_| drop(s.submit(task))));
        drop(pool.submit(|| NUMBER.set(1)));
    }
    drop(owned);
    assert_eq!(leaked_values(), 0);
}

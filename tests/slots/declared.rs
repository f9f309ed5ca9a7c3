//! What a declaration may look like, and that nothing of the user's gets in its way.

use cleanslate::{Context, Isolation, OwnedLocal, OwnedWorkerLocal, Pool, TaskLocal, WorkerLocal};
use cleanslate::{task_local, worker_local};

mod shop {
    pub(crate) mod cart {
        cleanslate::task_local! {
            /// Docs, attributes and every visibility.
            #[doc(alias = "user")]
            #[allow(dead_code, reason = "an attribute like others")]
            pub static USER: Option<String> = None;
            pub(crate) static ITEMS: Vec<u32> = const { Vec::new() };
            pub(super) static TOTAL: u64 = compute(2);
            pub(in crate::declared::shop) static LIMIT: u64 = LIMIT_DEFAULT;
            static PRIVATE: &'static str = "no trailing semicolon"
        }

        const LIMIT_DEFAULT: u64 = 100;

        fn compute(n: u64) -> u64 {
            n * 21
        }

        pub(crate) fn private() -> &'static str {
            PRIVATE.get()
        }
    }

    pub(crate) fn totals() -> (u64, u64) {
        (cart::TOTAL.get(), cart::LIMIT.get())
    }
}

#[test]
fn declarations_take_attributes_docs_and_visibilities() {
    assert_eq!(shop::cart::USER.get(), None);
    assert!(shop::cart::ITEMS.with(Vec::is_empty));
    assert_eq!(shop::totals(), (42, 100));
    assert_eq!(shop::cart::private(), "no trailing semicolon");
    assert_eq!(shop::cart::USER.name(), "slots::declared::shop::cart::USER");
}

task_local! {}
task_local! { static ONE: u8 = 1; }
task_local! {
    #[inherit] static CLONED: u8 = 2;
    /// Docs before the policy,
    #[inherit(with = |n| n + 1)]
    /// and after it.
    static DERIVED: u8 = 3;
    #[inherit(with = double,)]
    static BY_NAME: u8 = 4;
    static FRESH: u8 = 5;
    #[cfg(any())]
    static CONFIGURED_AWAY: NoSuchType = no_such_value;
}

fn double(n: &u8) -> u8 {
    n * 2
}

#[test]
fn each_declaration_has_its_own_policy() {
    for slot in [CLONED, DERIVED, BY_NAME, FRESH, ONE] {
        slot.set(10);
    }
    let found = Context::capture()
        .run(|| [CLONED.get(), DERIVED.get(), BY_NAME.get(), FRESH.get(), ONE.get()]);
    assert_eq!(found, [10, 11, 20, 5, 1]);
}

/// Everything that the macro's expansion could mistake for its own.
mod hygiene {
    #![allow(
        non_camel_case_types,
        non_snake_case,
        dead_code,
        unused_macros,
        reason = "to get in the way"
    )]

    struct Option;
    struct Some;
    struct None;
    struct Send;
    struct Sync;
    struct TaskLocal;
    struct Declaration;
    struct SlotCell;
    struct CopyFallback;
    struct CopyWith;
    struct Inherit;
    mod core {}
    mod std {}
    mod cleanslate {}
    #[expect(unused_macros, reason = "must not be taken for the real one")]
    macro_rules! thread_local {
        ($($any:tt)*) => {
            compile_error!("the user's own");
        };
    }
    #[expect(unused_macros, reason = "must not be taken for the real one")]
    macro_rules! concat {
        ($($any:tt)*) => {
            compile_error!("the user's own");
        };
    }
    #[expect(unused_macros, reason = "must not be taken for the real one")]
    macro_rules! stringify {
        ($($any:tt)*) => {
            compile_error!("the user's own");
        };
    }

    fn init() -> u32 {
        11
    }
    fn key() -> u32 {
        init() + 1
    }
    const CELL: u32 = 13;
    const DECLARATION: u32 = 14;
    const COPY: u32 = 15;

    ::cleanslate::task_local! {
        pub(crate) static INIT: u32 = init();
        #[inherit]
        pub(crate) static KEY: u32 = key();
        #[inherit(with = |value| value + COPY)]
        pub(crate) static CELLS: u32 = CELL + DECLARATION;
        pub(crate) static NAME: u32 = { let name = 1; name + 2 };
    }

    ::cleanslate::worker_local! { pub(crate) static WORKER: u32 = init(); }

    pub(crate) type Keys = ::cleanslate::TaskLocal<u32>;
}

#[test]
fn the_users_names_and_the_macros_do_not_meet() {
    let all: [&hygiene::Keys; 4] = [&hygiene::INIT, &hygiene::KEY, &hygiene::CELLS, &hygiene::NAME];
    assert_eq!(all.map(TaskLocal::get), [11, 12, 27, 3]);
    assert_eq!(Context::capture().run(|| all.map(TaskLocal::get)), [11, 12, 42, 3]);
    assert_eq!(hygiene::WORKER.with(|n| *n), 11);
}

#[test]
fn declarations_in_functions_are_slots_of_their_own() {
    fn count() -> u32 {
        task_local! { static N: u32 = 0; }
        N.with_mut(|n| {
            *n += 1;
            *n
        })
    }
    fn other() -> u32 {
        task_local! { static N: u32 = 0; }
        N.replace(100)
    }
    fn generic<T>() -> u32 {
        let _ = size_of::<T>();
        task_local! { static N: u32 = 50; }
        N.with_mut(|n| std::mem::replace(n, 51))
    }
    assert_eq!((count(), count(), other(), count()), (1, 2, 0, 3));
    // As with std's: one slot, whatever the type.
    assert_eq!((generic::<u8>(), generic::<u16>()), (50, 51));
}

#[test]
fn a_key_can_be_passed_on() {
    fn bump(slot: &'static TaskLocal<u8>) -> u8 {
        slot.replace(slot.get() + 1)
    }
    const KEY: &TaskLocal<u8> = &ONE;
    assert_eq!((bump(KEY), bump(&ONE)), (1, 2));
    let moved = ONE;
    std::thread::spawn(move || assert_eq!(moved.get(), 1)).join().unwrap();
}

worker_local! {
    /// Docs and visibilities here as well.
    pub static BUFFER: Vec<u8> = Vec::with_capacity(16);
    static PLAIN: u32 = const { 5 }
}
worker_local! {}

#[test]
fn worker_locals_are_declared_alike() {
    let key: &WorkerLocal<u32> = &PLAIN;
    key.with(|n| *n += 1);
    assert_eq!((PLAIN.with(|n| *n), BUFFER.with(|b| b.capacity() >= 16)), (6, true));
    assert_eq!(PLAIN.name(), "slots::declared::PLAIN");
    assert!(format!("{BUFFER:?}").contains("slots::declared::BUFFER"));
}

#[test]
fn a_thousand_slots_cost_a_task_what_it_touches() {
    macro_rules! tens {
        ($($name:ident)*) => {{ $(task_local! { static $name: u64 = 1; })* [$($name),*] }};
    }
    let slots = [
        tens!(A0 A1 A2 A3 A4 A5 A6 A7 A8 A9),
        tens!(B0 B1 B2 B3 B4 B5 B6 B7 B8 B9),
        tens!(C0 C1 C2 C3 C4 C5 C6 C7 C8 C9),
    ];
    let pool = Pool::new(2).unwrap();
    let found = pool.map_range(0..300_usize, |n| slots[n % 3][n % 10].replace(9));
    assert!(found.iter().all(|found| *found == 1));
    let all = pool.map_range(0..30, |_| slots.iter().flatten().map(|s| s.replace(2)).sum::<u64>());
    assert_eq!(all, [30; 30]);
}

#[test]
fn types_that_programs_rely_on_are_what_they_were() {
    fn is_send_sync<T: Send + Sync>() {}
    is_send_sync::<Context>();
    is_send_sync::<TaskLocal<std::cell::Cell<u8>>>();
    is_send_sync::<WorkerLocal<std::rc::Rc<u8>>>();
    is_send_sync::<OwnedLocal<std::cell::Cell<u8>>>();
    is_send_sync::<OwnedWorkerLocal<std::cell::Cell<u8>>>();
    is_send_sync::<cleanslate::RunError>();
    is_send_sync::<cleanslate::CaptureError>();
    is_send_sync::<cleanslate::CleanupError>();
    is_send_sync::<cleanslate::foreign::CarrierError>();
    assert_eq!(Isolation::default(), Isolation::Reset);
}

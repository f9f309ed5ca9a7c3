//! How deep carriers lie: those of initialisers in initialisers, and many of one context.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{in_a_process_of_its_own, on_a_thread, panic_of};
use cleanslate::foreign::{BoxError, Carrier, Identity, adopt, install};
use cleanslate::{Context, Pool, worker_local};

thread_local! { static LEVEL: Cell<u8> = const { Cell::new(0) }; }

static ATTACHED: AtomicUsize = AtomicUsize::new(0);

/// Carries the level; nobody's is 0.
struct Level;

impl Carrier for Level {
    type Captured = u8;
    type Attached = u8;

    fn name(&self) -> &str {
        panic!("no name, on purpose")
    }

    fn capture(&self) -> Result<u8, BoxError> {
        if LEVEL.get() == 99 { Err("too high".into()) } else { Ok(LEVEL.get()) }
    }

    fn attach(&self, level: &u8) -> Result<u8, BoxError> {
        ATTACHED.fetch_add(1, Ordering::SeqCst);
        Ok(LEVEL.replace(*level))
    }

    fn detach(&self, before: u8) -> Result<(), BoxError> {
        LEVEL.set(before);
        Ok(())
    }

    fn nothing(&self) -> Option<u8> {
        Some(0)
    }
}

// Broke: each initialiser hid once more what those around it had hidden: twice as much each.
#[test]
fn an_initialiser_hides_each_carrier_once_however_deep_it_lies() {
    worker_local! {
        static ONE: u32 = u32::from(LEVEL.get()) + 1;
        static TWO: u32 = ONE.with(|n| *n) + u32::from(LEVEL.replace(3));
        static THREE: u32 = TWO.with(|n| *n) + u32::from(LEVEL.get());
        static FOUR: u32 = THREE.with(|n| *n) + u32::from(LEVEL.get());
        static FIVE: u32 = FOUR.with(|n| *n) + u32::from(LEVEL.get());
        static ROUND: u32 = Context::empty().run(|| ROUND.with(|n| *n));
    }
    on_a_thread(|| {
        LEVEL.set(7);
        let context = Context::empty().carry(Level);
        ATTACHED.store(0, Ordering::SeqCst);
        context.run(|| {
            assert_eq!(FIVE.with(|n| *n), 1);
            assert_eq!(LEVEL.get(), 7);
        });
        assert_eq!(ATTACHED.load(Ordering::SeqCst), 6, "the task, and each of five");
        let said = panic_of(|| context.run(|| ROUND.with(|n| *n)));
        assert!(said.contains("on top of 32 initialisers"), "{said}");
    });
}

#[test]
fn a_carrier_without_a_name_is_called_by_its_type() {
    on_a_thread(|| {
        LEVEL.set(99);
        let error = Context::empty().try_carry(Level).unwrap_err();
        assert!(error.carrier().ends_with("deep::Level"), "{error}");
    });
}

// Broke: thousands of them filled the stack of whoever ran a task.
#[test]
fn more_than_256_carriers_are_refused_by_name() {
    let one = || adopt(&LEVEL).named("level");
    let mut context = Context::empty();
    for _ in 0..256 {
        context = context.try_carry(one()).unwrap();
    }
    assert_eq!(
        on_a_thread(move || {
            let said = context.clone().try_carry(one()).unwrap_err().to_string();
            let expected =
                "carrier `level` failed to capture: a context is given 256 carriers at most";
            assert_eq!(said, expected);
            context.run(|| LEVEL.replace(1))
        }),
        0
    );
    let builder = (0..257).fold(Pool::builder().workers(1), |builder, _| builder.carry(one()));
    let said = builder.build().unwrap_err().to_string();
    assert!(said.contains("`level`") && said.contains("a pool has 256 carriers at most"), "{said}");
}

#[test]
fn more_than_256_carriers_of_the_process_are_refused_by_name() {
    static PLACES: [u8; 257] = [0; 257];

    /// Carries nothing, in a place of its own.
    struct Installed(&'static u8);

    impl Carrier for Installed {
        type Captured = ();
        type Attached = ();

        fn name(&self) -> &str {
            "installed"
        }

        fn capture(&self) -> Result<(), BoxError> {
            Ok(())
        }

        fn attach(&self, (): &()) -> Result<(), BoxError> {
            Ok(())
        }

        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }

        fn identity(&self) -> Identity {
            Identity::of::<Self>().at(self.0)
        }
    }

    let name = "deep::more_than_256_carriers_of_the_process_are_refused_by_name";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let mut places = PLACES.iter();
    for place in places.by_ref().take(256) {
        install(Installed(place)).unwrap();
    }
    let error = install(Installed(places.next().unwrap())).unwrap_err();
    assert_eq!((error.name(), error.is_duplicate()), ("installed", false));
    assert!(error.to_string().contains("a process has 256 carriers at most"), "{error}");
    assert!(Context::capture().try_carry(adopt(&LEVEL)).is_ok(), "a context was given none");
}

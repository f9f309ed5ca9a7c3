//! Carriers of the process; each test in a process of its own, since nothing uninstalls them.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Census, Fails, SHAPES, in_a_process_of_its_own, panic_of};
use cleanslate::foreign::{self, BoxError, Carrier, Identity, Scoped, ScopedCarrier, adopt};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Isolation, Pool, isolated, worker_local};
use futures_lite::future::block_on;

thread_local! { static USER: Cell<&'static str> = const { Cell::new("nobody") }; }

static ATTACHED: AtomicUsize = AtomicUsize::new(0);
static CAPTURED: AtomicUsize = AtomicUsize::new(0);

/// Carries the user. Nobody in particular is `nobody`.
#[derive(Clone)]
struct User;

impl Carrier for User {
    type Captured = &'static str;
    type Attached = &'static str;

    fn name(&self) -> &str {
        "user"
    }

    fn capture(&self) -> Result<&'static str, BoxError> {
        CAPTURED.fetch_add(1, Ordering::SeqCst);
        Ok(USER.get())
    }

    fn attach(&self, user: &&'static str) -> Result<&'static str, BoxError> {
        ATTACHED.fetch_add(1, Ordering::SeqCst);
        Ok(USER.replace(user))
    }

    fn detach(&self, before: &'static str) -> Result<(), BoxError> {
        USER.set(before);
        Ok(())
    }

    fn nothing(&self) -> Option<&'static str> {
        Some("nobody")
    }

    fn is_nothing(&self, user: &&'static str) -> bool {
        *user == "nobody"
    }
}

fn attached() -> usize {
    ATTACHED.swap(0, Ordering::SeqCst)
}

/// What a plain thread makes of a closure.
fn elsewhere<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    std::thread::spawn(f).join().unwrap()
}

#[test]
fn every_capture_takes_along_what_is_installed() {
    if !in_a_process_of_its_own("installed::every_capture_takes_along_what_is_installed") {
        return;
    }
    USER.set("alice");
    assert_eq!(elsewhere(isolated(|| USER.get())), "nobody", "not installed yet");
    foreign::install(User).unwrap();
    let look = || USER.replace("changed");
    assert_eq!(elsewhere(isolated(look)), "alice");
    assert_eq!(elsewhere(Context::capture().wrap(look)), "alice");
    assert_eq!(elsewhere(Context::capture().wrap_fn(look)), "alice");
    let context = Context::try_capture().unwrap();
    assert_eq!(elsewhere(move || context.run(look)), "alice");
    let future = async { USER.replace("changed") }.isolated();
    assert_eq!(elsewhere(|| block_on(future)), "alice");
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        assert_eq!(pool.submit(look).join().unwrap(), "alice");
        assert_eq!(pool.scope(|s| s.submit(look).join().unwrap()), "alice");
        assert_eq!(pool.map(0..500, |_| look()), ["alice"; 500]);
        assert_eq!(pool.map_range(0..500, |_| look()), ["alice"; 500]);
        assert_eq!(pool.imap(0..9, move |_| look()).collect::<Vec<_>>(), ["alice"; 9]);
        assert_eq!(pool.broadcast(look), vec!["alice"; workers]);
        assert_eq!(pool.detached().submit(look).join().unwrap(), "nobody", "detached");
        let empty = pool.in_context(&Context::empty());
        assert_eq!(empty.submit(look).join().unwrap(), "nobody", "the empty context");
    }
    let leaky = Pool::builder().workers(1).isolation(Isolation::Leaky).build().unwrap();
    assert_eq!(leaky.submit(look).join().unwrap(), "nobody");
    assert_eq!(leaky.submit(look).join().unwrap(), "changed", "as in every classic pool");
    assert_eq!(Context::empty().run(|| USER.get()), "nobody");
    assert_eq!(USER.get(), "alice");
}

#[test]
fn what_is_nothing_hides_the_surroundings_all_the_same() {
    if !in_a_process_of_its_own("installed::what_is_nothing_hides_the_surroundings_all_the_same") {
        return;
    }
    foreign::install(User).unwrap();
    let nothing = Context::capture();
    USER.set("alice");
    assert_eq!(nothing.run(|| USER.replace("changed")), "nobody");
    assert_eq!(USER.get(), "alice");
    let pool = Pool::new(1).unwrap();
    let inner = pool.in_context(&nothing);
    let task = pool.submit(move || {
        let below = inner.submit(|| USER.replace("changed")).join().unwrap();
        let mapped = inner.map(0..20, |_| USER.replace("changed"));
        (below, mapped, USER.get())
    });
    assert_eq!(task.join().unwrap(), ("nobody", vec!["nobody"; 20], "alice"));
    // Also where another one has something to carry.
    foreign::install(Scoped(Locale)).unwrap();
    USER.set("nobody");
    LOCALE.set("de");
    let german = Context::capture();
    USER.set("alice");
    assert_eq!(german.run(|| (USER.get(), LOCALE.get())), ("nobody", "de"));
}

thread_local! { static LOCALE: Cell<&'static str> = const { Cell::new("C") }; }

struct Locale;

impl ScopedCarrier for Locale {
    type Captured = &'static str;

    fn name(&self) -> &str {
        "locale"
    }

    fn capture(&self) -> Result<&'static str, BoxError> {
        Ok(LOCALE.get())
    }

    fn around<R>(&self, locale: &&'static str, body: impl FnOnce() -> R) -> Result<R, BoxError> {
        let before = LOCALE.replace(locale);
        let result = body();
        LOCALE.set(before);
        Ok(result)
    }

    /// Does not say when that is what it has captured.
    fn nothing(&self) -> Option<&'static str> {
        Some("C")
    }
}

#[test]
fn a_scoped_carrier_can_be_installed() {
    if !in_a_process_of_its_own("installed::a_scoped_carrier_can_be_installed") {
        return;
    }
    foreign::install(Scoped(Locale)).unwrap();
    assert!(foreign::install(Scoped(Locale)).unwrap_err().is_duplicate());
    LOCALE.set("de");
    // What the task captures carries it, too, although its `around` is running.
    let nested = isolated(|| (LOCALE.get(), elsewhere(isolated(|| LOCALE.get()))));
    assert_eq!(elsewhere(nested), ("de", "de"));
}

/// Another type that carries the same.
struct Other(&'static str);

impl Carrier for Other {
    type Captured = &'static str;
    type Attached = &'static str;

    fn name(&self) -> &str {
        "other"
    }

    fn capture(&self) -> Result<&'static str, BoxError> {
        Ok(self.0)
    }

    fn attach(&self, user: &&'static str) -> Result<&'static str, BoxError> {
        ATTACHED.fetch_add(1, Ordering::SeqCst);
        Ok(USER.replace(user))
    }

    fn detach(&self, before: &'static str) -> Result<(), BoxError> {
        USER.set(before);
        Ok(())
    }
}

#[test]
fn one_type_attaches_once_and_the_nearest_one_counts() {
    if !in_a_process_of_its_own("installed::one_type_attaches_once_and_the_nearest_one_counts") {
        return;
    }
    foreign::install(Other("installed")).unwrap();
    let error = foreign::install(Other("again")).unwrap_err();
    assert!(error.is_duplicate() && error.name() == "other", "{error}");
    let seen = || (USER.get(), attached());
    assert_eq!(isolated(seen)(), ("installed", 1));
    let given = Context::capture().carry(Other("given"));
    assert_eq!(given.run(seen), ("given", 1));
    assert_eq!(
        given.carry(Other("twice")).run(seen),
        ("twice", 2),
        "whoever asks for two gets two"
    );
    let shared = Context::capture().carry(Arc::new(Other("shared")));
    assert_eq!(shared.run(seen), ("shared", 1), "an `Arc` is no other type");

    let pool = Pool::builder().workers(1).carry(Other("the pool's")).build().unwrap();
    assert_eq!(pool.submit(seen).join().unwrap(), ("the pool's", 1));
    assert_eq!(pool.in_context(&Context::capture()).submit(seen).join().unwrap(), ("installed", 1));
    assert_eq!(pool.in_context(&Context::empty()).submit(seen).join().unwrap(), ("nobody", 0));
    assert_eq!(pool.detached().submit(seen).join().unwrap(), ("nobody", 0));

    foreign::install(User).unwrap();
    assert_eq!(isolated(seen)(), ("nobody", 2), "in the order in which they were installed");
    let names = format!("{:?}", Context::capture().carry(Other("given")));
    assert!(names.contains(r#"["user", "other"]"#), "{names}");
}

#[test]
fn adopted_keys_of_one_type_are_different_carriers() {
    if !in_a_process_of_its_own("installed::adopted_keys_of_one_type_are_different_carriers") {
        return;
    }
    thread_local! {
        static A: Cell<u32> = const { Cell::new(0) };
        static B: Cell<u32> = const { Cell::new(0) };
    }
    foreign::install(adopt(&A)).unwrap();
    foreign::install(adopt(&B)).unwrap();
    assert!(foreign::install(adopt(&A)).unwrap_err().is_duplicate());
    A.set(1);
    B.set(2);
    isolated(|| assert_eq!((A.replace(7), B.replace(7)), (0, 0)))();
    assert_eq!((A.get(), B.get()), (1, 2));
    // Beside the pool's own.
    let pool = Pool::builder().workers(1).carry(adopt(&A)).build().unwrap();
    assert_eq!(pool.detached().submit(|| (A.replace(5), B.replace(5))).join().unwrap(), (0, 0));
    assert_eq!(pool.submit(|| (A.get(), B.get())).join().unwrap(), (0, 0));
    assert_eq!(pool.detached().submit(|| (A.get(), B.get())).join().unwrap(), (0, 0));
}

/// Binds nothing.
struct Around;

impl ScopedCarrier for Around {
    type Captured = ();

    fn name(&self) -> &str {
        "around"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn around<R>(&self, (): &(), body: impl FnOnce() -> R) -> Result<R, BoxError> {
        Ok(body())
    }
}

/// How often carriers came along with what a carrier's code has captured.
static CARRIED: AtomicUsize = AtomicUsize::new(0);

/// Captures and submits whenever it is asked for anything.
struct Busy(Pool);

impl Busy {
    fn work(&self) -> Result<(), BoxError> {
        if elsewhere(isolated(|| USER.get())) != "nobody" {
            CARRIED.fetch_add(1, Ordering::SeqCst);
        }
        // Broke: inside of a scoped carrier, what a carrier's code captured carried the carrier.
        Context::empty().carry(Scoped(Around)).run(|| drop(isolated(|| ())));
        Ok(self.0.submit(|| ()).join()?)
    }
}

impl Carrier for Busy {
    type Captured = u8;
    type Attached = ();

    fn name(&self) -> &str {
        "busy"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        self.work().map(|()| 0)
    }

    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        self.work()
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        self.work()
    }

    fn reattach(&self, _: &u8, (): &mut ()) -> bool {
        self.work().is_ok()
    }

    fn nothing(&self) -> Option<u8> {
        self.work().ok().map(|()| 0)
    }
}

#[test]
fn a_carrier_that_submits_does_not_carry_itself() {
    if !in_a_process_of_its_own("installed::a_carrier_that_submits_does_not_carry_itself") {
        return;
    }
    foreign::install(Busy(Pool::new(1).unwrap())).unwrap();
    foreign::install(User).unwrap();
    USER.set("alice");
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.submit(|| USER.get()).join().unwrap(), "alice");
    assert_eq!(pool.map(0..20, |_| USER.get()), ["alice"; 20]);
    // What is kept is made for nobody, also where a context carries one.
    worker_local! { static MADE_FOR: &'static str = USER.get(); }
    let context = Context::capture().carry(Busy(Pool::new(1).unwrap()));
    assert_eq!(elsewhere(context.clone().wrap(|| MADE_FOR.with(|user| *user))), "nobody");
    let made_here = context.run(|| {
        USER.set("alice");
        MADE_FOR.with(|user| *user)
    });
    assert_eq!(made_here, "nobody");
    assert_eq!(CARRIED.load(Ordering::SeqCst), 0);
}

struct Failing(&'static str);

thread_local! { static LOG: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) }; }

impl Carrier for Failing {
    type Captured = &'static str;
    type Attached = ();

    fn name(&self) -> &str {
        "failing"
    }

    fn capture(&self) -> Result<&'static str, BoxError> {
        match USER.get() {
            "mallory" => Err("mallory, on purpose".into()),
            user => Ok(user),
        }
    }

    fn attach(&self, _: &&'static str) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }

    fn nothing(&self) -> Option<&'static str> {
        match self.0 {
            "nothing" => panic!("nothing, on purpose"),
            _ => None,
        }
    }

    fn identity(&self) -> Identity {
        match self.0 {
            "identity" => panic!("an identity, on purpose"),
            _ => Identity::of::<Self>(),
        }
    }
}

#[test]
fn an_installed_carrier_that_fails_fails_the_capture() {
    if !in_a_process_of_its_own("installed::an_installed_carrier_that_fails_fails_the_capture") {
        return;
    }
    crate::support::quiet();
    let error = foreign::install(Failing("nothing")).unwrap_err();
    assert!(!error.is_duplicate() && error.to_string().contains("nothing, on purpose"), "{error}");
    assert_eq!(elsewhere(isolated(|| 1)), 1, "it was not installed");
    foreign::install(Failing("identity")).unwrap();
    assert_eq!(elsewhere(isolated(|| 1)), 1);
    USER.set("mallory");
    let error = Context::try_capture().unwrap_err();
    assert!(error.is_carrier() && error.to_string().contains("mallory"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("mallory"));
    assert!(panic_of(Context::capture).contains("carrier `failing` failed to capture"));
    let pool = Pool::new(1).unwrap();
    assert!(panic_of(|| pool.submit(|| ())).contains("mallory"));
    assert!(panic_of(|| pool.map(0..3, |n| n)).contains("mallory"));
    assert_eq!(pool.detached().submit(|| 3).join().unwrap(), 3);
}

#[test]
fn threads_that_install_at_the_same_time_all_get_their_place() {
    if !in_a_process_of_its_own(
        "installed::threads_that_install_at_the_same_time_all_get_their_place",
    ) {
        return;
    }
    struct Numbered(&'static u8, Arc<Mutex<Vec<u8>>>);
    impl Carrier for Numbered {
        type Captured = ();
        type Attached = ();
        fn name(&self) -> &str {
            "numbered"
        }
        fn capture(&self) -> Result<(), BoxError> {
            Ok(())
        }
        fn attach(&self, (): &()) -> Result<(), BoxError> {
            self.1.lock().unwrap().push(*self.0);
            Ok(())
        }
        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }
        fn identity(&self) -> Identity {
            Identity::of::<Self>().at(self.0)
        }
    }
    static NUMBERS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let log = Arc::new(Mutex::new(Vec::new()));
    let start = std::sync::Barrier::new(4);
    let installed: usize = std::thread::scope(|s| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                s.spawn(|| {
                    start.wait();
                    let mine = NUMBERS.iter().map(|n| foreign::install(Numbered(n, log.clone())));
                    mine.filter(Result::is_ok).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    isolated(|| ())();
    let mut seen = std::mem::take(&mut *log.lock().unwrap());
    seen.sort_unstable();
    assert_eq!((installed, seen), (16, NUMBERS.to_vec()));
}

// Broke: what was captured was dropped while the panic of `is_nothing` unwound.
#[test]
fn a_carrier_that_cannot_say_what_is_nothing_costs_no_second_panic() {
    struct Unsure(Census);
    impl Carrier for Unsure {
        type Captured = Fails;
        type Attached = ();
        fn name(&self) -> &str {
            "unsure"
        }
        fn capture(&self) -> Result<Fails, BoxError> {
            Ok(Fails::new(&self.0))
        }
        fn attach(&self, _: &Fails) -> Result<(), BoxError> {
            Ok(())
        }
        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }
        fn nothing(&self) -> Option<Fails> {
            Some(Fails::new(&self.0))
        }
        fn is_nothing(&self, _: &Fails) -> bool {
            panic!("a question, on purpose")
        }
    }
    let name = "installed::a_carrier_that_cannot_say_what_is_nothing_costs_no_second_panic";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let census = Census::new();
    foreign::install(Unsure(census.clone())).unwrap();
    assert!(panic_of(Context::capture).contains("a question"));
    assert_eq!((census.made(), census.alive()), (2, 1), "what nothing is stays");
}

// It may be shared with whoever wants to ask it something.
#[test]
fn a_carrier_in_an_arc_is_as_the_carrier_itself() {
    if !in_a_process_of_its_own("installed::a_carrier_in_an_arc_is_as_the_carrier_itself") {
        return;
    }
    worker_local! { static MADE_FOR: &'static str = USER.get(); }
    foreign::install(Arc::new(User)).unwrap();
    USER.set("alice");
    assert_eq!(MADE_FOR.with(|user| *user), "nobody", "of a thread that runs no task");
    assert_eq!(Context::empty().run(|| USER.get()), "nobody");
    let context = Context::capture();
    assert!(format!("{context:?}").contains("\"user\""), "{context:?}");
    USER.set("mallory");
    assert_eq!(context.run(|| USER.replace("bob")), "alice");
    assert_eq!(USER.get(), "mallory");
}

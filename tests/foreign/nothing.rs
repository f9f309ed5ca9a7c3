//! Tasks that inherit nothing: what carriers say that nothing is keeps them apart as well.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Bomb, SHAPES, finishes, in_a_process_of_its_own, quiet};
use cleanslate::foreign::{self, BoxError, Carrier, Scoped, ScopedCarrier, adopt};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, isolated_fn_in, isolated_in, task_local, worker_local};
use futures_lite::future::block_on;

thread_local! {
    static USER: Cell<&'static str> = const { Cell::new("whoever") };
    static LEVEL: Cell<u32> = const { Cell::new(0) };
}

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
        Ok(USER.get())
    }

    fn attach(&self, user: &&'static str) -> Result<&'static str, BoxError> {
        Ok(USER.replace(user))
    }

    fn detach(&self, before: &'static str) -> Result<(), BoxError> {
        USER.set(before);
        Ok(())
    }

    fn nothing(&self) -> Option<&'static str> {
        Some("nobody")
    }
}

/// What a task finds that inherits nothing, and that leaves something.
type Found = (&'static str, u32);

const NOTHING: Found = ("nobody", 0);

fn look() -> Found {
    (USER.replace("mallory"), LEVEL.replace(9))
}

/// Every way in which `pool` runs a task.
fn all_of_pool(pool: &Pool) -> Vec<Found> {
    let mut found: Vec<_> = (0..50).map(|_| pool.submit(look).join().unwrap()).collect();
    found.extend(pool.try_submit(look).unwrap().join());
    found.extend(pool.map(0..300, |_| look()));
    found.extend(pool.map_range(0..300, |_| look()));
    found.extend(pool.map_slice(&[0; 300], |_| look()));
    found.extend(pool.map_results(0..50, |_| look()).into_iter().map(Result::unwrap));
    found.extend(pool.map_init(0..50, || (), |(), _| look()));
    found.extend(pool.imap(0..50, |_| look()));
    found.extend(pool.imap_unordered(0..50, |_| look()));
    found.extend(pool.broadcast(look));
    found.extend(pool.scope(|s| s.submit(look).join()));
    found.extend(<[Found; 2]>::from(pool.join(look, look)));
    found
}

/// Every way in which a context runs one.
fn all_of_a_context(context: &Context) -> Vec<Found> {
    let mut found = vec![
        context.run(look),
        context.try_run(look).unwrap(),
        context.clone().wrap(look)(),
        context.clone().wrap_fn(look)(),
        context.clone().wrap_fn_mut(look)(),
        isolated_in(context, look)(),
        isolated_fn_in(context, |()| look())(()),
        block_on(async { look() }.isolated_in(context)),
    ];
    found.extend(all_on_rayon(context));
    found
}

#[cfg(feature = "rayon")]
fn all_on_rayon(context: &Context) -> Vec<Found> {
    use cleanslate::rayon::{ParallelIteratorExt, RayonPool};
    use rayon::prelude::*;
    let rayon = RayonPool::new(2).unwrap().in_context(context);
    let mut found = rayon.map(0..50, |_| look());
    found.extend(<[Found; 2]>::from(rayon.join(look, look)));
    let items = (0..50).into_par_iter().isolated_in(context);
    found.extend(items.map(|_| look()).collect::<Vec<_>>());
    found
}

#[cfg(not(feature = "rayon"))]
fn all_on_rayon(_: &Context) -> Vec<Found> {
    Vec::new()
}

/// Fails if one of these tasks finds something, on a plain thread or on top of another task.
fn finds_nothing(pool: &Pool, all: fn(&Pool) -> Vec<Found>) {
    let looks = move |pool: &Pool, before: Found| {
        USER.set(before.0);
        LEVEL.set(before.1);
        let found = all(pool);
        assert!(found.len() > 2_000 && found.iter().all(|found| *found == NOTHING), "{found:?}");
        assert_eq!((USER.get(), LEVEL.get()), before, "what was here is as it was");
    };
    looks(pool, ("alice", 3));
    let same = pool.clone();
    pool.submit(move || looks(&same, ("bob", 4))).join().unwrap();
}

fn in_pool(pool: &Pool) -> Vec<Found> {
    let mut found = all_of_pool(&pool.detached());
    found.extend(all_of_pool(&pool.in_context(&Context::empty())));
    found
}

// Broke: what is installed was left out of such tasks, so that they found what the task below them
// has, or what others of their kind had left.
#[test]
fn what_is_installed_keeps_tasks_apart_that_inherit_nothing() {
    if !in_a_process_of_its_own("nothing::what_is_installed_keeps_tasks_apart_that_inherit_nothing")
    {
        return;
    }
    foreign::install(User).unwrap();
    foreign::install(adopt(&LEVEL)).unwrap();
    let all = |pool: &Pool| {
        let mut found = in_pool(pool);
        found.extend(all_of_a_context(&Context::empty()));
        found
    };
    for workers in SHAPES {
        finds_nothing(&Pool::new(workers).unwrap(), all);
        // Beside a carrier of its own.
        thread_local! { static OTHER: Cell<u8> = const { Cell::new(0) }; }
        let pool = Pool::builder().workers(workers).carry(adopt(&OTHER)).build().unwrap();
        finds_nothing(&pool, all);
        let given = Context::empty().carry(adopt(&OTHER));
        assert!(all_of_pool(&pool.in_context(&given)).iter().all(|found| *found == NOTHING));
        assert!(all_of_a_context(&given).iter().all(|found| *found == NOTHING));
    }
}

// Broke: the same where a pool carries something that it captures.
#[test]
fn what_a_pool_carries_keeps_tasks_apart_that_inherit_nothing() {
    for workers in SHAPES {
        let builder = Pool::builder().workers(workers).carry(User).carry(adopt(&LEVEL));
        finds_nothing(&builder.build().unwrap(), in_pool);
    }
}

#[test]
fn a_carrier_that_cannot_say_what_nothing_is_is_refused_when_the_pool_is_built() {
    struct Unsure;
    impl Carrier for Unsure {
        type Captured = u8;
        type Attached = ();
        fn name(&self) -> &str {
            "unsure"
        }
        fn capture(&self) -> Result<u8, BoxError> {
            Ok(1)
        }
        fn attach(&self, _: &u8) -> Result<(), BoxError> {
            Ok(())
        }
        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }
        fn nothing(&self) -> Option<u8> {
            panic!("on purpose")
        }
    }
    quiet();
    let error = Pool::builder().workers(1).carry(Unsure).build().unwrap_err();
    assert!(error.is_carrier(), "{error}");
    assert!(error.to_string().contains("`unsure` panicked to say what nothing is"), "{error}");
}

#[test]
fn of_two_that_say_what_nothing_is_the_pools_counts() {
    let name = "nothing::of_two_that_say_what_nothing_is_the_pools_counts";
    if !in_a_process_of_its_own(name) {
        return;
    }
    foreign::install(foreign::adopt_with(&LEVEL, || 5).inherited()).unwrap();
    let level = || LEVEL.replace(9);
    let pool = Pool::builder().workers(1).carry(foreign::adopt_with(&LEVEL, || 7).inherited());
    let pool = pool.build().unwrap();
    LEVEL.set(1);
    assert_eq!(pool.submit(level).join().unwrap(), 1);
    assert_eq!(pool.detached().submit(level).join().unwrap(), 7);
    assert_eq!(pool.in_context(&Context::capture()).submit(level).join().unwrap(), 1);
    assert_eq!(Context::empty().run(level), 5);
}

/// Has others run what inherits nothing, whenever it is attached.
struct Busy(OnceLock<Pool>);

static BUSY: Busy = Busy(OnceLock::new());
static ATTACHED: AtomicUsize = AtomicUsize::new(0);

impl Carrier for &'static Busy {
    type Captured = u8;
    type Attached = ();

    fn name(&self) -> &str {
        "busy"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        Ok(1)
    }

    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        ATTACHED.fetch_add(1, Ordering::SeqCst);
        if let Some(pool) = self.0.get() {
            pool.detached().submit(|| ()).join()?;
            pool.detached().map(0..3, drop);
            pool.in_context(&Context::empty()).submit(|| ()).join()?;
        }
        Context::empty().run(|| ());
        let wrapped = isolated_in(&Context::empty(), || ());
        let future = async {}.isolated_in(&Context::empty());
        let elsewhere = std::thread::spawn(|| {
            wrapped();
            block_on(future);
        });
        elsewhere.join().map_err(|_| "it panicked")?;
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }

    fn nothing(&self) -> Option<u8> {
        Some(0)
    }
}

#[test]
fn what_a_carriers_own_code_submits_for_nobody_does_not_attach_it() {
    let name = "nothing::what_a_carriers_own_code_submits_for_nobody_does_not_attach_it";
    if !in_a_process_of_its_own(name) {
        return;
    }
    finishes("a carrier that submits", || {
        let pool = Pool::builder().workers(1).carry(&BUSY).build().unwrap();
        BUSY.0.set(pool.clone()).unwrap_or_else(|_| unreachable!());
        pool.submit(|| ()).join().unwrap();
        pool.detached().submit(|| ()).join().unwrap();
        assert_eq!(ATTACHED.swap(0, Ordering::SeqCst), 2);
        foreign::install(&BUSY).unwrap();
        let other = Pool::new(1).unwrap();
        other.submit(|| ()).join().unwrap();
        other.detached().submit(|| ()).join().unwrap();
        Context::empty().run(|| ());
        isolated_in(&Context::empty(), || ())();
        pool.detached().submit(|| ()).join().unwrap();
        assert_eq!(ATTACHED.load(Ordering::SeqCst), 5);
    });
}

worker_local! { static USES: Vec<Found> = vec![(USER.get(), LEVEL.get())]; }

/// Which of its own calls use something that is made at its first use, and for nobody.
#[derive(Clone, Copy)]
enum At {
    Capture,
    Attach,
    Reattach,
    Detach,
    Nothing,
}

fn use_what_is_kept() -> Found {
    USES.with(|uses| {
        uses.push(NOTHING);
        uses[0]
    })
}

/// Carries the user, and uses what is kept.
struct Keeps(At);

impl Keeps {
    fn at(&self, at: At) {
        if std::mem::discriminant(&self.0) == std::mem::discriminant(&at) {
            use_what_is_kept();
        }
    }
}

impl Carrier for Keeps {
    type Captured = &'static str;
    type Attached = &'static str;

    fn name(&self) -> &str {
        "keeps"
    }

    fn capture(&self) -> Result<&'static str, BoxError> {
        self.at(At::Capture);
        User.capture()
    }

    fn attach(&self, user: &&'static str) -> Result<&'static str, BoxError> {
        self.at(At::Attach);
        User.attach(user)
    }

    fn detach(&self, before: &'static str) -> Result<(), BoxError> {
        self.at(At::Detach);
        User.detach(before)
    }

    fn reattach(&self, user: &&'static str, _: &mut &'static str) -> bool {
        self.at(At::Reattach);
        USER.set(user);
        true
    }

    fn nothing(&self) -> Option<&'static str> {
        self.at(At::Nothing);
        User.nothing()
    }
}

// Broke: the initialiser of what a carrier uses attached that carrier, which used it in turn, and
// so on: every task failed.
#[test]
fn a_carrier_may_use_what_is_made_for_nobody() {
    for at in [At::Capture, At::Attach, At::Reattach, At::Detach, At::Nothing] {
        for workers in SHAPES {
            let builder = Pool::builder().workers(workers).carry(adopt(&LEVEL)).carry(Keeps(at));
            let pool = builder.build().unwrap();
            USER.set("alice");
            LEVEL.set(3);
            assert_eq!(pool.submit(|| USER.get()).join().unwrap(), "alice");
            assert_eq!(pool.map(0..100, |_| USER.get()), ["alice"; 100]);
            for kept in pool.broadcast(use_what_is_kept) {
                // Where it is its own code that uses it first, its own state is as it is.
                assert!(kept.0 != "alice" || matches!(at, At::Detach), "{kept:?}");
                assert_eq!(kept.1, 0, "that of the other one");
            }
            assert_eq!(pool.stats().renewed, 0);
        }
    }
}

#[test]
fn an_installed_carrier_may_use_what_is_made_for_nobody() {
    if !in_a_process_of_its_own("nothing::an_installed_carrier_may_use_what_is_made_for_nobody") {
        return;
    }
    foreign::install(Keeps(At::Attach)).unwrap();
    USER.set("alice");
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.submit(|| USER.get()).join().unwrap(), "alice");
}

/// Keeps something borrowed around the task.
struct Around;

impl ScopedCarrier for Around {
    type Captured = u8;

    fn name(&self) -> &str {
        "around"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        Ok(1)
    }

    fn around<R>(&self, _: &u8, body: impl FnOnce() -> R) -> Result<R, BoxError> {
        Ok(USES.with(|_| body()))
    }

    fn nothing(&self) -> Option<u8> {
        Some(0)
    }
}

#[test]
fn a_scoped_carrier_may_keep_what_is_made_for_nobody_borrowed() {
    let pool = Pool::builder().workers(1).carry(Scoped(Around)).carry(User).build().unwrap();
    USER.set("alice");
    assert_eq!(pool.submit(|| USER.get()).join().unwrap(), "alice");
    assert_eq!(pool.map(0..100, |_| USER.get()), ["alice"; 100]);
}

// Broke: its drop changed the submitter's slot, and its panic was the submission's.
#[test]
fn a_captured_nothing_is_dropped_in_no_task_and_contained() {
    if !in_a_process_of_its_own("nothing::a_captured_nothing_is_dropped_in_no_task_and_contained") {
        return;
    }
    task_local! { static SEEN: u32 = 0; }
    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
            SEEN.set(SEEN.get() + 1);
            Bomb::explode();
        }
    }
    struct Idle;
    impl Carrier for Idle {
        type Captured = Nothing;
        type Attached = ();

        fn name(&self) -> &str {
            "idle"
        }

        fn capture(&self) -> Result<Nothing, BoxError> {
            Ok(Nothing)
        }

        fn attach(&self, _: &Nothing) -> Result<(), BoxError> {
            Ok(())
        }

        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }

        fn nothing(&self) -> Option<Nothing> {
            Some(Nothing)
        }

        fn is_nothing(&self, _: &Nothing) -> bool {
            true
        }
    }

    quiet();
    foreign::install(Idle).unwrap();
    let pool = Pool::new(1).unwrap();
    let found = pool.submit(|| {
        SEEN.set(7);
        let within = Pool::new(1).unwrap().submit(|| SEEN.get()).join().unwrap();
        (SEEN.get(), within)
    });
    assert_eq!(found.join().unwrap(), (7, 0));
    assert_eq!(DROPPED.load(Ordering::SeqCst), 2);
}

#[test]
fn what_an_installed_carrier_calls_nothing_gives_way_to_a_pools_carrier() {
    let name = "nothing::what_an_installed_carrier_calls_nothing_gives_way_to_a_pools_carrier";
    if !in_a_process_of_its_own(name) {
        return;
    }
    thread_local! {
        static KEPT: Cell<u8> = const { Cell::new(0) };
        static OTHER: Cell<u8> = const { Cell::new(0) };
    }
    foreign::install(adopt(&KEPT)).unwrap();
    // This one has something, so that the capture lists both.
    foreign::install(adopt(&OTHER).inherited()).unwrap();
    let pool = Pool::builder().workers(1).carry(foreign::adopt_with(&KEPT, || 7)).build().unwrap();
    let pool = pool.in_context(&Context::capture());
    assert_eq!(pool.submit(|| KEPT.get()).join().unwrap(), 7);
}

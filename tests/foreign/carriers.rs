//! Foreign thread state: attached in order, detached in reverse, all or nothing.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{SHAPES, on_a_thread, panic_of, quiet};
use cleanslate::foreign::{BoxError, Carrier, CarrierError, adopt_with};
use cleanslate::future::FutureExt;
use cleanslate::{CleanupError, Context, Pool, RunError};
use futures_lite::future::block_on;

/// Where a carrier of the tests is to fail, and how.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fault {
    Never,
    Attach,
    Detach,
    PanicAttach,
    PanicDetach,
    PanicDetachAndName,
}

pub(super) type Log = Arc<Mutex<Vec<String>>>;

/// Writes down what it is asked to do.
struct Logger {
    name: &'static str,
    fault: Fault,
    log: Log,
}

impl Logger {
    fn did(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{what} {}", self.name));
    }
}

impl Carrier for Logger {
    type Captured = u8;
    type Attached = ();

    fn name(&self) -> &str {
        assert!(self.fault != Fault::PanicDetachAndName, "a name that fails on purpose");
        self.name
    }

    fn capture(&self) -> Result<u8, BoxError> {
        Ok(1)
    }

    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        self.did("attach");
        match self.fault {
            Fault::Attach => Err("attach failed on purpose".into()),
            Fault::PanicAttach => panic!("attach panicked on purpose"),
            _ => Ok(()),
        }
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        self.did("detach");
        match self.fault {
            Fault::Detach => Err("detach failed on purpose".into()),
            Fault::PanicDetach | Fault::PanicDetachAndName => panic!("detach panicked on purpose"),
            _ => Ok(()),
        }
    }
}

/// A context with carriers `a`, `b`, `c`, of which `b` has the fault.
pub(super) fn three(fault: Fault) -> (Context, Log) {
    three_beside(Context::empty(), fault)
}

/// The same with what another context has.
pub(super) fn three_beside(context: Context, fault: Fault) -> (Context, Log) {
    quiet();
    let log = Log::default();
    let logger = |name, fault| Logger { name, fault, log: Arc::clone(&log) };
    let context = context
        .carry(logger("a", Fault::Never))
        .carry(logger("b", fault))
        .carry(logger("c", Fault::Never));
    (context, log)
}

pub(super) fn notes(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn carriers_attach_in_order_and_detach_in_reverse() {
    let (context, log) = three(Fault::Never);
    let all = ["attach a", "attach b", "attach c", "run", "detach c", "detach b", "detach a"];
    let run = || log.lock().unwrap().push("run".to_owned());
    context.run(run);
    assert_eq!(notes(&log), all);
    panic_of(|| {
        context.run(|| -> () {
            run();
            panic!("on purpose")
        })
    });
    assert_eq!(notes(&log), all, "also around a panic");
    block_on(async { run() }.isolated_in(&context));
    assert_eq!(notes(&log), all, "around a future");
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let remote = Arc::clone(&log);
        let task = move || remote.lock().unwrap().push("run".to_owned());
        pool.in_context(&context).submit(task).join().unwrap();
        assert_eq!(notes(&log), all);
        pool.in_context(&context).map([()], |()| run());
        assert_eq!(notes(&log), all);
    }
}

#[test]
fn each_item_of_a_map_is_attached_for_itself() {
    let (context, log) = three(Fault::Never);
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let pool = pool.in_context(&context);
        pool.map(0..10, |_| ());
        pool.map_range(0..10, |_| ());
        drop(pool.map_results(0..10, |_| ()));
        assert_eq!(notes(&log).iter().filter(|note| *note == "attach b").count(), 30);
    }
}

#[test]
fn a_carrier_that_cannot_attach_keeps_the_task_from_running() {
    for (fault, says) in
        [(Fault::Attach, "failed to attach"), (Fault::PanicAttach, "panicked to attach")]
    {
        let (context, log) = three(fault);
        let error: RunError = context.try_run(|| unreachable!()).unwrap_err();
        assert!(error.is_carrier() && !error.is_cleanup());
        assert!(error.to_string().starts_with(&format!("carrier `b` {says}")), "{error}");
        assert_eq!(notes(&log), ["attach a", "attach b", "detach a"]);
        assert!(panic_of(|| context.run(|| unreachable!())).contains("carrier `b`"));
        notes(&log);
        let text = panic_of(|| block_on(async { unreachable!() }.isolated_in(&context)));
        assert!(text.contains("carrier `b`"), "{text}");
        notes(&log);

        let pool = Pool::new(1).unwrap();
        let error = pool.in_context(&context).submit(|| unreachable!()).join().unwrap_err();
        assert!(error.is_carrier() && error.to_string().contains("carrier `b`"), "{error}");
        assert_eq!(notes(&log), ["attach a", "attach b", "detach a"]);
        assert!(
            panic_of(|| pool.in_context(&context).map([()], |()| unreachable!()))
                .contains("carrier `b`")
        );
        assert_eq!(pool.submit(|| 1).join().unwrap(), 1, "the worker survives");
        assert_eq!(pool.stats().workers, 1);
    }
}

// Broke: the last of these. A carrier whose `detach` and then `name` panicked skipped the carriers
// before it.
#[test]
fn a_carrier_that_cannot_detach_fails_the_task_and_skips_no_other() {
    for fault in [Fault::Detach, Fault::PanicDetach, Fault::PanicDetachAndName] {
        let (context, log) = three(fault);
        let error = context.try_run(|| ()).unwrap_err();
        assert!(error.is_cleanup() && error.to_string().contains("to detach"), "{error}");
        let clean_up = error.source().unwrap().downcast_ref::<CleanupError>().unwrap();
        let carrier = clean_up.source().unwrap().downcast_ref::<CarrierError>().unwrap();
        assert!(clean_up.is_detach() && carrier.is_detach() && !carrier.is_attach());
        assert_eq!(
            notes(&log),
            ["attach a", "attach b", "attach c", "detach c", "detach b", "detach a"]
        );
        let own = panic_of(|| context.run(|| -> () { panic!("the task's own, on purpose") }));
        assert!(own.contains("the task's own"), "it wins");
    }
}

thread_local! {
    /// Which thread this is, for counting threads.
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn a_worker_whose_carrier_cannot_detach_is_replaced() {
    for workers in SHAPES {
        for fault in [Fault::Detach, Fault::PanicDetach] {
            let (context, _log) = three(fault);
            let pool = Pool::new(workers).unwrap();
            pool.broadcast(|| NUMBER.set(7));
            let error = pool.in_context(&context).submit(|| ()).join().unwrap_err();
            assert!(error.to_string().contains("carrier `b`"), "{error}");
            let seen = pool.broadcast(|| NUMBER.get());
            assert_eq!(seen.iter().filter(|n| **n == 7).count(), workers - 1, "one is new");
            assert_eq!((seen.len(), pool.stats().workers), (workers, workers));
        }
    }
}

// Broke: it went on to its last item on that thread.
#[test]
fn a_map_leaves_a_worker_on_which_an_item_had_a_carrier_that_cannot_detach() {
    for workers in SHAPES {
        let (context, _log) = three(Fault::Detach);
        let pool = Pool::new(workers).unwrap();
        // More than a chunk of 40 µs.
        let seen = pool.map(0..50, |n| {
            let since = Instant::now();
            while since.elapsed() < Duration::from_micros(100) {}
            if n == 0 {
                context.try_run(|| ()).unwrap_err();
                NUMBER.set(7);
            }
            NUMBER.get()
        });
        assert_eq!((seen[0], seen[49]), (7, 0));
    }
}

// Broke: it had its next turn on that thread.
#[test]
fn a_map_leaves_a_worker_on_which_a_visit_had_a_carrier_that_cannot_detach() {
    for workers in SHAPES {
        let (context, _log) = three(Fault::Detach);
        let pool = Pool::new(workers).unwrap();
        let items = (0..50).inspect(|n| {
            std::thread::sleep(Duration::from_millis(1));
            if *n == 5 {
                let pulls = std::thread::current().id();
                // The other helpers wait for their turns.
                pool.broadcast(|| {
                    if std::thread::current().id() != pulls {
                        context.try_run(|| ()).unwrap_err();
                        NUMBER.set(7);
                    }
                });
            }
        });
        let init = || std::thread::sleep(Duration::from_millis(10));
        assert_eq!(pool.map_init(items, init, |(), _| NUMBER.get()), [0; 50]);
    }
}

#[test]
fn a_worker_whose_carrier_cannot_attach_stays() {
    for workers in SHAPES {
        for fault in [Fault::Attach, Fault::PanicAttach] {
            let (context, _log) = three(fault);
            let pool = Pool::new(workers).unwrap();
            pool.broadcast(|| NUMBER.set(7));
            assert!(pool.in_context(&context).submit(|| ()).join().unwrap_err().is_carrier());
            assert_eq!(pool.broadcast(|| NUMBER.get()), vec![7; workers]);
        }
    }
}

// The task has not run, and yet its thread is not what it was.
#[test]
fn a_carrier_that_cannot_detach_beside_one_that_cannot_attach_is_heard_of_too() {
    for workers in SHAPES {
        let (context, log) = three(Fault::Detach);
        let context = context.carry(Logger { name: "d", fault: Fault::Attach, log });
        let error = context.try_run(|| ()).unwrap_err();
        assert!(error.is_carrier(), "{error}");
        let error = error.source().unwrap().downcast_ref::<CarrierError>().unwrap();
        assert!(error.is_attach() && error.is_detach() && !error.is_capture());
        let said = error.to_string();
        assert!(said.contains("`d` failed to attach") && said.contains("`b` failed to detach"));
        let pool = Pool::new(workers).unwrap();
        pool.broadcast(|| NUMBER.set(7));
        assert!(pool.in_context(&context).submit(|| ()).join().unwrap_err().is_carrier());
        let seen = pool.broadcast(|| NUMBER.get());
        assert_eq!(seen.iter().filter(|n| **n == 7).count(), workers - 1, "one is new");
    }
}

struct Capture(Option<&'static str>);

impl Carrier for Capture {
    type Captured = u8;
    type Attached = ();
    fn name(&self) -> &str {
        "captor"
    }
    fn capture(&self) -> Result<u8, BoxError> {
        match self.0 {
            Some(words) => panic!("{words}"),
            None => Err("nothing to capture".into()),
        }
    }
    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        Ok(())
    }
    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn a_capture_that_fails_is_an_error_of_the_submitter() {
    let error = Context::empty().try_carry(Capture(None)).unwrap_err();
    assert!(error.is_capture() && !error.is_panic() && error.carrier() == "captor");
    let error = {
        quiet();
        Context::empty().try_carry(Capture(Some("capture on purpose"))).unwrap_err()
    };
    assert!(error.is_capture() && error.is_panic());
    assert!(panic_of(|| Context::empty().carry(Capture(None))).contains("captor"));
    let pool = Pool::builder().workers(1).carry(Capture(None)).build().unwrap();
    assert!(panic_of(|| pool.submit(|| ())).contains("captor"));
    assert_eq!(pool.detached().submit(|| 3).join().unwrap(), 3);
}

/// Takes the user of the submitting thread along.
struct User;

thread_local! {
    static USER: RefCell<String> = RefCell::new("worker".to_owned());
}

impl Carrier for User {
    type Captured = String;
    type Attached = String;
    fn name(&self) -> &str {
        "user"
    }
    fn capture(&self) -> Result<String, BoxError> {
        Ok(USER.with_borrow(String::clone))
    }
    fn attach(&self, captured: &String) -> Result<String, BoxError> {
        Ok(USER.replace(captured.clone()))
    }
    fn detach(&self, before: String) -> Result<(), BoxError> {
        USER.set(before);
        Ok(())
    }
}

#[test]
fn a_pools_carrier_captures_on_the_submitter_and_restores_the_worker() {
    for workers in SHAPES {
        let pool = Pool::builder().workers(workers).carry(User).build().unwrap();
        USER.set("alice".to_owned());
        let look = || USER.replace("changed".to_owned());
        assert_eq!(pool.submit(look).join().unwrap(), "alice");
        assert_eq!(pool.map(0..50, |_| look()), vec!["alice"; 50]);
        assert_eq!(pool.map_range(0..50, |_| look()), vec!["alice"; 50]);
        assert_eq!(pool.scope(|s| s.submit(look).join().unwrap()), "alice");
        assert_eq!(pool.broadcast(look), vec!["alice"; workers]);
        assert_eq!(pool.imap(0..9, move |_| look()).collect::<Vec<_>>(), vec!["alice"; 9]);
        let bob = on_a_thread(|| {
            USER.set("bob".to_owned());
            pool.submit(look).join().unwrap()
        });
        assert_eq!(bob, "bob");
        assert_eq!(USER.take(), "alice", "the submitter's own is untouched");
        let below = pool.detached().broadcast(|| USER.with_borrow(String::clone));
        assert_eq!(below, vec!["worker"; workers]);
    }
}

// Broke: carriers that capture nothing went before all others.
#[test]
fn a_pools_carriers_attach_in_the_order_in_which_they_were_added() {
    let pool = Pool::builder()
        .workers(1)
        .carry(User)
        .carry(adopt_with(&SEES_USER, || USER.with_borrow(String::clone)))
        .build()
        .unwrap();
    USER.set("alice".to_owned());
    assert_eq!(pool.submit(|| SEES_USER.take()).join().unwrap(), "alice");
    assert_eq!(pool.detached().submit(|| SEES_USER.take()).join().unwrap(), "worker");
}

#[test]
fn what_a_context_was_given_has_the_last_word_over_what_the_pool_carries() {
    let pool = Pool::builder().workers(1).carry(adopt_with(&USER, || "fresh".to_owned()));
    let pool = pool.build().unwrap();
    USER.set("bob".to_owned());
    let bobs = pool.in_context(&Context::empty().carry(User));
    let look = || USER.with_borrow(String::clone);
    assert_eq!(pool.submit(look).join().unwrap(), "fresh");
    assert_eq!(bobs.submit(look).join().unwrap(), "bob");
    assert_eq!(bobs.map(0..9, |_| look()), ["bob"; 9]);
}

thread_local! { static SEES_USER: RefCell<String> = const { RefCell::new(String::new()) }; }

/// Only keeps tasks apart, and counts how often it is attached.
struct Apart(Arc<Mutex<Vec<&'static str>>>, &'static str);

impl Carrier for Apart {
    type Captured = ();
    type Attached = ();
    fn name(&self) -> &str {
        self.1
    }
    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }
    fn attach(&self, (): &()) -> Result<(), BoxError> {
        self.0.lock().unwrap().push(self.1);
        Ok(())
    }
    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

// Broke: the pool's was attached as well, around the context's.
#[test]
fn of_a_pools_and_a_contexts_carrier_with_one_identity_the_contexts_counts() {
    let attached = Arc::default();
    let apart = |name| Apart(Arc::clone(&attached), name);
    let seen = || std::mem::take(&mut *attached.lock().unwrap());
    let pool = Pool::builder().workers(1).carry(apart("pool")).build().unwrap();
    pool.submit(|| ()).join().unwrap();
    assert_eq!(seen(), ["pool"]);
    let context = Context::empty().carry(apart("context"));
    pool.in_context(&context).submit(|| ()).join().unwrap();
    assert_eq!(seen(), ["context"]);
    pool.in_context(&Context::empty()).submit(|| ()).join().unwrap();
    assert_eq!(seen(), ["pool"], "of a context without one");
}

#[test]
fn a_task_run_inline_restores_its_waiter() {
    let pool = Arc::new(Pool::builder().workers(1).carry(User).build().unwrap());
    USER.set("outer".to_owned());
    let inner = Arc::clone(&pool);
    let task = pool.submit(move || {
        USER.set("waiter".to_owned());
        let nested = inner.submit(|| USER.replace("nested".to_owned()));
        USER.set("waiter, later".to_owned());
        (nested.join().unwrap(), USER.with_borrow(String::clone))
    });
    assert_eq!(task.join().unwrap(), ("waiter".to_owned(), "waiter, later".to_owned()));
}

// Broke: the first panic unwound through the list, and the second one aborted the process.
#[test]
fn captures_that_all_panic_in_their_drop_are_all_dropped() {
    struct Fragile(Log);
    struct Capture(Log);
    impl Drop for Capture {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("dropped".to_owned());
            panic!("a capture's drop, on purpose");
        }
    }
    impl Carrier for Fragile {
        type Captured = Capture;
        type Attached = ();
        fn name(&self) -> &str {
            "fragile"
        }
        fn capture(&self) -> Result<Capture, BoxError> {
            Ok(Capture(Arc::clone(&self.0)))
        }
        fn attach(&self, _: &Capture) -> Result<(), BoxError> {
            Ok(())
        }
        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }
    }
    quiet();
    let log = Log::default();
    let fragile = || Fragile(Arc::clone(&log));
    let three = || Context::empty().carry(fragile()).carry(fragile()).carry(fragile());
    let context = three();
    assert!(panic_of(|| drop(context)).contains("on purpose"));
    assert_eq!(notes(&log), ["dropped"; 3]);
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let (go, gone) = std::sync::mpsc::channel();
        let task = pool.in_context(&three()).submit(move || gone.recv());
        // The context above went with its statement, so that the task's is the last.
        go.send(()).unwrap();
        let _either_way = task.join();
        pool.shutdown().unwrap();
        assert_eq!(notes(&log), ["dropped"; 3]);
    }
}

#[test]
fn a_context_with_carriers_can_be_given_to_threads_and_used_often() {
    USER.set("alice".to_owned());
    let context = Context::capture().carry(User);
    let seen = on_a_thread(|| {
        (0..3).map(|_| context.run(|| USER.replace("x".to_owned()))).collect::<Vec<_>>()
    });
    assert_eq!(seen, ["alice"; 3]);
    assert!(format!("{context:?}").contains("user"));
}

//! Contexts and wrapped closures, on executors that know nothing of them.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task;

use crate::support::{
    Census, Counted, OnDrop, Refuses, on_a_thread, panic_of, printed_in_a_process_of_its_own, quiet,
};
use cleanslate::foreign::{BoxError, Carrier};
use cleanslate::future::FutureExt;
use cleanslate::{
    Context, Pool, RunError, is_isolated, isolated, isolated_fn, isolated_in, task_local,
};
use futures_lite::future::block_on;

task_local! {
    #[inherit]
    static TENANT: u32 = 0;
    #[inherit(with = |depth| depth + 1)]
    static DEPTH: u32 = 0;
    static SLOT: Option<u32> = None;
    static HELD: Option<Counted> = None;
    static HOOK: Option<OnDrop> = None;
    static JOB: Option<Box<dyn FnOnce() + Send>> = None;
    #[inherit]
    static SHARED: Option<Arc<Counted>> = None;
}

/// What a job finds, and leaves dirty.
fn look() -> (u32, u32, Option<u32>) {
    (TENANT.replace(99), DEPTH.replace(99), SLOT.replace(Some(99)))
}

type Job = Box<dyn FnOnce() + Send>;

/// Submits 200 isolated jobs to an executor whose threads are dirty, and checks what each finds.
fn check_executor(name: &str, mut execute: impl FnMut(Job)) {
    let (tell, told) = channel();
    for _ in 0..8 {
        let tell = tell.clone();
        // Not isolated: leaves the threads dirty.
        execute(Box::new(move || {
            look();
            tell.send((0, 0, None)).unwrap();
        }));
    }
    assert_eq!(told.iter().take(8).count(), 8);
    for n in 0..200 {
        let tell = tell.clone();
        TENANT.set(n);
        DEPTH.set(n);
        let job = isolated(look);
        // Wrapped where it is submitted: later changes do not matter.
        TENANT.set(1000);
        execute(Box::new(move || tell.send(job()).unwrap()));
        assert_eq!(told.recv().unwrap(), (n, n + 1, None), "{name}");
    }
    let context = TENANT.scope(7, Context::capture);
    for wrapped in [true, false] {
        let (tell, context) = (tell.clone(), context.clone());
        execute(if wrapped {
            let job = isolated(context.wrap(isolated_in(&Context::empty(), look)));
            Box::new(move || tell.send(job()).unwrap())
        } else {
            Box::new(move || tell.send(context.run(look)).unwrap())
        });
        let found = told.recv().unwrap();
        assert_eq!(found, if wrapped { (0, 0, None) } else { (7, found.1, None) }, "{name}");
    }
}

#[test]
fn isolated_closures_are_tasks_on_a_bare_thread() {
    check_executor("std::thread", |job| std::thread::spawn(job).join().unwrap());
}

#[test]
fn isolated_closures_are_tasks_on_the_threadpool_crate() {
    let pool = threadpool::ThreadPool::new(2);
    check_executor("threadpool", |job| pool.execute(job));
    pool.join();
}

#[test]
fn isolated_closures_are_tasks_on_tokios_blocking_pool() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    check_executor("spawn_blocking", |job| drop(runtime.spawn_blocking(job)));
}

#[test]
fn isolated_closures_are_tasks_on_rayon() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    check_executor("rayon", |job| pool.spawn(job));
}

#[test]
fn isolated_closures_are_tasks_on_our_own_pools() {
    let pool = Pool::new(2).unwrap();
    check_executor("Pool", |job| drop(pool.submit(job)));
}

#[test]
fn caller_runs_leaves_the_submitters_slots_as_they_were() {
    on_a_thread(|| {
        TENANT.set(1);
        SLOT.set(Some(2));
        let census = Census::new();
        HELD.set(Some(census.one("held")));
        for _ in 0..1000 {
            let found = HELD.with_mut(|_| isolated(look)());
            assert_eq!((found.0, found.2), (1, None));
            panic_of(|| {
                isolated(|| {
                    look();
                    panic!("on purpose")
                })()
            });
        }
        assert_eq!((TENANT.get(), SLOT.get(), census.alive()), (1, Some(2), 1));
        SLOT.with(|slot| {
            let before = std::ptr::from_ref(slot);
            isolated(look)();
            assert!(std::ptr::eq(before, slot));
        });
    });
}

#[test]
fn wrapping_twice_is_harmless() {
    TENANT.set(3);
    let twice = isolated(isolated(look));
    let (tenant, _, slot) = on_a_thread(twice);
    assert_eq!((tenant, slot), (3, None));
    let census = Census::new();
    let (one, captured) = (census.clone(), census.one("captured"));
    isolated(isolated(isolated(move || {
        HELD.set(Some(one.one("value")));
        drop(captured);
    })))();
    assert_eq!(
        (census.made(), census.notes()),
        (2, vec!["captured".to_owned(), "value".to_owned()])
    );
}

#[test]
fn a_wrapped_function_makes_a_task_of_each_call() {
    TENANT.set(5);
    let f = Arc::new(Context::capture().wrap_fn(look));
    for _ in 0..3 {
        assert_eq!(f().0, 5);
        let remote = Arc::clone(&f);
        assert_eq!(on_a_thread(move || remote()).2, None);
    }
}

#[test]
fn a_closure_that_is_dropped_unrun_frees_what_it_holds() {
    let census = Census::new();
    let captured = census.one("captured");
    SHARED.set(Some(Arc::new(census.one("inherited"))));
    let job = isolated(move || drop(captured));
    SHARED.set(None);
    assert_eq!(census.alive(), 2);
    drop(job);
    assert_eq!(census.alive(), 0);
}

#[test]
fn running_hands_on_results_panics_and_failures() {
    quiet();
    let context = Context::empty();
    assert_eq!(context.run(|| 6 * 7), 42);
    assert_eq!(context.try_run(|| "result").unwrap(), "result");
    assert_eq!(panic_of(|| context.run(|| panic!("its own, on purpose"))), "its own, on purpose");
    assert_eq!(
        panic_of(|| context.try_run(|| panic!("its own, on purpose"))),
        "its own, on purpose"
    );
    let fails = || HOOK.set(Some(OnDrop::new(|| panic!("a drop on purpose"))));
    let error = context.try_run(fails).unwrap_err();
    assert!(error.is_cleanup() && error.to_string().contains("a drop on purpose"));
    let payload = std::panic::catch_unwind(|| Context::empty().run(fails)).unwrap_err();
    assert!(payload.downcast_ref::<RunError>().unwrap().is_cleanup());
    assert_eq!(context.run(|| SLOT.get()), None);
}

#[test]
fn contexts_can_be_cloned_compared_by_eye_and_sent() {
    TENANT.set(1);
    let context = Context::capture();
    let text = format!("{context:?}");
    assert!(text.contains("context::contexts::TENANT"), "{text}");
    assert!(!format!("{:?}", Context::empty()).contains("context::contexts::TENANT"));
    let shared = Arc::new(context.clone());
    let seen: Vec<u32> = (0..4)
        .map(|_| Arc::clone(&shared))
        .map(|context| std::thread::spawn(move || context.run(|| TENANT.replace(2))))
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(seen, [1; 4]);
    assert_eq!(Context::default().run(|| TENANT.get()), 0);
}

#[test]
fn a_context_runs_inside_itself_to_depth_64() {
    TENANT.set(9);
    let context = Context::capture();
    fn nest(context: &Context, depth: u32) {
        if depth < 64 {
            context.run(|| {
                assert_eq!(TENANT.replace(depth), 9);
                TENANT.with_mut(|tenant| {
                    nest(context, depth + 1);
                    assert_eq!(*tenant, depth);
                });
            });
        }
    }
    nest(&context, 0);
    assert_eq!(TENANT.get(), 9);
}

#[test]
fn a_task_may_capture_while_its_values_end() {
    let found = Arc::new(Mutex::new(None));
    let late = Arc::clone(&found);
    TENANT.set(1);
    Context::capture().run(move || {
        HOOK.set(Some(OnDrop::new(move || {
            *late.lock().unwrap() = Some(Context::capture());
        })));
        TENANT.set(2);
    });
    let context = found.lock().unwrap().take().unwrap();
    // Its own value, set after the hook, has ended before; what it inherited has not.
    assert_eq!(context.run(|| TENANT.get()), 1);
    assert_eq!(TENANT.get(), 1);
}

// Broke: the last copy of an inherited value was dropped in the task that dropped, or called, what
// had kept the context, where it found and changed that one's slots.
#[test]
fn what_a_context_held_is_dropped_in_no_task_of_others() {
    /// Looks at a slot when it is dropped, and changes it.
    #[derive(Clone)]
    struct Looks(Arc<Mutex<Vec<u32>>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(AROUND.replace(9));
        }
    }
    struct Captures(Looks);
    impl Carrier for Captures {
        type Captured = Looks;
        type Attached = ();
        fn name(&self) -> &str {
            "captures"
        }
        fn capture(&self) -> Result<Looks, BoxError> {
            Ok(self.0.clone())
        }
        fn attach(&self, _: &Looks) -> Result<(), BoxError> {
            Ok(())
        }
        fn detach(&self, (): ()) -> Result<(), BoxError> {
            Ok(())
        }
    }
    task_local! {
        static AROUND: u32 = 0;
        #[inherit] static HELD: Option<Looks> = None;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inherits = || Context::empty().with(&HELD, Some(Looks(Arc::clone(&seen))));
    let carrier = Arc::new(Captures(Looks(Arc::clone(&seen))));
    let carries = || Context::empty().carry(Arc::clone(&carrier));
    let ways: [fn(Context); 5] = [
        |context| context.wrap(|| ())(),
        |context| drop(context.wrap_fn(|| ())),
        |context| {
            let mut future = pin!(Some(async {}.isolated_in(&context)));
            drop(context);
            let poll = future.as_mut().as_pin_mut().unwrap();
            assert!(poll.poll(&mut task::Context::from_waker(task::Waker::noop())).is_ready());
            future.set(None);
        },
        |context| drop(async {}.isolated_in(&context)),
        drop,
    ];
    for way in ways {
        for context in [inherits(), carries()] {
            Context::empty().run(|| {
                AROUND.set(7);
                way(context);
                assert_eq!(AROUND.get(), 7);
            });
            assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [0]);
        }
    }
}

// Broke: a blocking task that was aborted before it began left what its closure's drop had put into
// a slot on the executor's thread; so did a closure that makes a task of each call, in the end.
#[test]
fn a_closure_that_is_never_called_is_dropped_in_a_frame_of_its_own() {
    let leaves = || {
        OnDrop::new(|| {
            assert_eq!(SLOT.replace(Some(1)), None);
            assert!(is_isolated());
        })
    };
    on_a_thread(move || {
        let held = leaves();
        drop(isolated(move || drop(held)));
        let held = leaves();
        drop(Context::empty().wrap(move || drop(held)));
        for calls in [0, 2] {
            let held = leaves();
            let each = Context::empty().wrap_fn(move || _ = &held);
            (0..calls).for_each(|_| each());
            drop(each);
            let held = leaves();
            let mut each = Context::empty().wrap_fn_mut(move || _ = &held);
            (0..calls).for_each(|_| each());
            drop(each);
            let held = leaves();
            let each = isolated_fn(move |_| _ = &held);
            (0..calls).for_each(&each);
            drop(each);
        }
        assert_eq!(SLOT.get(), None);
    });
    // It is too large for the stack.
    let held = leaves();
    let job: Box<dyn FnOnce() + Send> = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || {
            let large = [0_u8; 3 << 20];
            Box::new(isolated(move || drop((held, large)))) as Box<_>
        })
        .unwrap()
        .join()
        .unwrap();
    on_a_thread(move || drop(job));
    let held = Census::default();
    let token = held.token();
    let broken = OnDrop::new(|| panic!("on purpose"));
    let job = isolated(move || drop((token, broken)));
    assert_eq!(panic_of(|| drop(job)), "on purpose");
    assert_eq!(held.alive(), 0);
}

// Broke: each drop had a frame of its own, and so there were no rounds to be counted.
#[test]
fn a_slot_that_is_filled_with_closures_by_their_drops_is_leaked_in_the_end() {
    struct Again;

    impl Drop for Again {
        fn drop(&mut self) {
            fill(Self);
        }
    }

    fn fill(again: Again) {
        JOB.set(Some(Box::new(isolated(move || drop(again)))));
    }

    let error = Context::empty().try_run(|| fill(Again)).unwrap_err();
    assert!(error.to_string().contains("JOB"), "{error}");
}

// Broke: the hook was given a payload that is no string, and nothing printed named the carrier; and
// of a future and of a wrapped closure nothing said where it came from.
#[test]
fn the_panic_hook_hears_which_carrier_has_failed() {
    let name = "contexts::the_panic_hook_hears_which_carrier_has_failed";
    let Some(printed) = printed_in_a_process_of_its_own(name) else {
        let context = Context::empty().carry(Refuses(|| true));
        let run = std::panic::AssertUnwindSafe(|| context.run(|| ()));
        let payload = std::panic::catch_unwind(run).unwrap_err();
        assert!(payload.downcast::<RunError>().unwrap().is_carrier());
        let future = std::panic::AssertUnwindSafe(|| block_on(async {}.isolated_in(&context)));
        assert!(std::panic::catch_unwind(future).unwrap_err().is::<RunError>());
        let wrapped = std::panic::AssertUnwindSafe(isolated_in(&context, || ()));
        assert!(std::panic::catch_unwind(wrapped).unwrap_err().is::<RunError>());
        return;
    };
    let lines: Vec<_> = printed.lines().filter(|line| line.contains("refuses")).collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(lines.iter().all(|line| line.contains("on purpose")), "{printed}");
    for (line, at) in lines.iter().zip(["run at", "isolated at", "isolated at"]) {
        assert!(line.contains(at) && line.contains("contexts.rs"), "{line}");
    }
}

//! What the user threw and the crate drops, payloads and errors, is dropped in no task.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicIsize, Ordering};

use crate::support::{OnDrop, SHAPES, exits_in_a_process_of_its_own, on_a_thread, quiet};
use cleanslate::foreign::{BoxError, Carrier};
use cleanslate::{Context, Pool, isolated, task_local};

task_local! {
    static OUTER: u32 = 0;
    static VALUE: Option<Throws> = None;
    static LEFT: Option<Counted> = None;
}

static ALIVE: AtomicIsize = AtomicIsize::new(0);

/// Counts those that are alive.
struct Counted;

impl Counted {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Leaves something in slots when it is dropped.
#[derive(Debug)]
struct Touches;

impl Drop for Touches {
    fn drop(&mut self) {
        OUTER.set(99);
        LEFT.set(Some(Counted::new()));
    }
}

impl std::fmt::Display for Touches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it touches")
    }
}

impl std::error::Error for Touches {}

/// A value whose drop throws that.
struct Throws;

impl Drop for Throws {
    fn drop(&mut self) {
        panic_any(Touches);
    }
}

/// A task that panics, and whose value panics as well: of the two payloads the crate drops one.
fn throw_twice() {
    VALUE.set(Some(Throws));
    panic!("on purpose");
}

/// Calls what throws; its own panic is what comes of it.
#[track_caller]
fn caught(call: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
}

/// Fails to attach, or to detach, with an error that touches slots.
struct Fails {
    detach: bool,
}

impl Carrier for Fails {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "fails"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        if self.detach { Ok(()) } else { Err(Touches.into()) }
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Err(Touches.into())
    }
}

// Broke: it was dropped in the task below, which found its slots changed.
#[test]
fn what_a_task_threw_is_no_part_of_the_one_below() {
    quiet();
    for workers in SHAPES {
        let pool = Pool::new(workers).unwrap();
        let ways: [(&str, &dyn Fn()); 8] = [
            ("run", &|| caught(|| Context::empty().run(throw_twice))),
            ("isolated", &|| caught(|| isolated(throw_twice)())),
            ("submit", &|| drop(pool.submit(throw_twice).join().unwrap_err())),
            ("map", &|| caught(|| drop(pool.map(0..3, |_| throw_twice())))),
            ("broadcast", &|| caught(|| drop(pool.broadcast(throw_twice)))),
            ("scope", &|| {
                pool.scope(|s| drop(s.submit(throw_twice).join().unwrap_err()));
            }),
            ("attach", &|| {
                let context = Context::empty().carry(Fails { detach: false });
                assert!(context.try_run(|| ()).is_err());
            }),
            ("detach", &|| {
                let context = Context::empty().carry(Fails { detach: true });
                assert!(context.try_run(|| ()).is_err());
            }),
        ];
        for (way, throw) in ways {
            let outer = || {
                OUTER.set(1);
                throw();
                assert_eq!((OUTER.get(), LEFT.is_set()), (1, false), "{way}, {workers} workers");
            };
            // On this thread, and in a task on it.
            outer();
            Context::empty().run(outer);
            throw();
            let alive = ALIVE.load(Ordering::SeqCst);
            assert_eq!(alive, 0, "{way}: what it has left ends before the task's end is seen");
        }
        pool.map_slice(&[1, 2, 3, 4], |_| {
            OUTER.set(1);
            caught(|| Context::empty().run(throw_twice));
            drop(pool.submit(throw_twice).join().unwrap_err());
            assert_eq!((OUTER.get(), LEFT.is_set()), (1, false));
        });
    }
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
}

/// Runs a task in its drop, which throws in turn.
struct RunsATask;

impl Drop for RunsATask {
    fn drop(&mut self) {
        isolated(|| {
            OUTER.set(1);
            caught(|| Context::empty().run(throw_twice));
            assert_eq!((OUTER.get(), LEFT.is_set()), (1, false));
            TASKS_IN_DROPS.fetch_add(1, Ordering::SeqCst);
        })();
    }
}

static TASKS_IN_DROPS: AtomicIsize = AtomicIsize::new(0);

// Broke: it was dropped in the innermost task that a payload's drop was running.
#[test]
fn what_is_thrown_while_a_payload_is_dropped_is_no_part_of_the_task_below_either() {
    quiet();
    let pool = Pool::new(1).unwrap();
    drop(pool.submit(|| panic_any(RunsATask)).join().unwrap_err());
    assert_eq!(TASKS_IN_DROPS.load(Ordering::SeqCst), 1);
}

task_local! { static LAST: Option<OnDrop> = None; }

// Broke: outside of any task it was dropped among the thread's own values.
#[test]
fn what_is_thrown_while_a_payload_is_dropped_is_no_part_of_the_thread_either() {
    let throw = || {
        LAST.set(Some(OnDrop::new(|| panic_any(OnDrop::new(throw_twice)))));
        panic!("on purpose");
    };
    let outer = || {
        OUTER.set(1);
        caught(|| Context::empty().run(throw));
        assert_eq!((OUTER.get(), LEFT.is_set()), (1, false));
    };
    on_a_thread(outer);
    on_a_thread(|| Context::empty().run(outer));
}

// Broke: the thread's own values dropped it as if they were that payload.
#[test]
fn what_is_thrown_after_an_exit_from_within_a_payload_is_no_part_of_the_thread() {
    let name =
        "thrown::what_is_thrown_after_an_exit_from_within_a_payload_is_no_part_of_the_thread";
    exits_in_a_process_of_its_own(name, &["value", "task", "nested task"], |case| {
        quiet();
        let outer = || {
            OUTER.set(1);
            caught(|| Context::empty().run(throw_twice));
            if (OUTER.get(), LEFT.is_set()) != (1, false) {
                std::process::abort();
            }
        };
        LAST.set(Some(match case {
            "value" => OnDrop::new(outer),
            "task" => OnDrop::new(move || Context::empty().run(outer)),
            _ => OnDrop::new(move || Context::empty().run(|| Context::empty().run(outer))),
        }));
        let exit = || panic_any(OnDrop::new(|| std::process::exit(0)));
        let throw = move || {
            LAST.set(Some(OnDrop::new(exit)));
            panic!("on purpose");
        };
        match case {
            "nested task" => Context::empty().run(|| Context::empty().run(throw)),
            _ => Context::empty().run(throw),
        }
    });
}

/// Throws itself again and again, through a value that it leaves in a slot.
struct Endless;

task_local! {
    static AGAIN: Option<ThrowsEndless> = None;
    static AND_AGAIN: Option<ThrowsEndless> = None;
}

struct ThrowsEndless;

impl Drop for ThrowsEndless {
    fn drop(&mut self) {
        panic_any(Endless);
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        AGAIN.set(Some(ThrowsEndless));
        AND_AGAIN.set(Some(ThrowsEndless));
    }
}

#[test]
fn what_throws_itself_again_and_again_ends() {
    quiet();
    let pool = Pool::new(1).unwrap();
    let endless = || {
        AGAIN.set(Some(ThrowsEndless));
        panic!("on purpose");
    };
    caught(|| Context::empty().run(endless));
    drop(pool.submit(endless).join().unwrap_err());
    assert!(!pool.submit(|| AGAIN.is_set()).join().unwrap());
}

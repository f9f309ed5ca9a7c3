//! What ends where tasks lie too deep, and how deep its drops lie in turn.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::{
    Census, OnDrop, deeper, finishes, in_a_process_of_its_own, message, panic_of, pause,
};
use cleanslate::{JoinHandle, Pool};

// Broke: what was too deep was dropped, its drop opened the next scope, and so on to the stack's
// end.
#[test]
fn scopes_and_joins_in_the_drops_of_what_is_too_deep_end_before_the_stack_does() {
    // So that nobody else leaks, and nobody misses the panics that are not printed.
    let name =
        "too_deep::scopes_and_joins_in_the_drops_of_what_is_too_deep_end_before_the_stack_does";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let words = message(info.payload());
        if !words.contains("a scoped task") && !words.contains("too many tasks lie") {
            print(info);
        }
    }));
    #[derive(Clone, Copy, Debug)]
    enum Wait {
        Join,
        Scope,
        Cancelled,
        ShutDown,
        FirstOfPair,
        SecondOfPair,
    }
    use Wait::*;
    struct Link(Pool, Wait, usize);
    impl Drop for Link {
        fn drop(&mut self) {
            let Self(pool, way, left @ 1..) = self else { return };
            let next = Link(pool.clone(), *way, *left - 1);
            match way {
                Join => drop(pool.submit(move || drop(next)).join()),
                Scope => pool.scope(|s| drop(s.submit(move || drop(next)))),
                Cancelled => pool.scope(|s| {
                    s.submit(move || drop(next)).cancel();
                }),
                ShutDown => {
                    let other = Pool::new(1).unwrap();
                    other.scope(|s| {
                        s.submit(move || drop(next));
                        other.shutdown_background_now();
                    });
                }
                FirstOfPair => _ = pool.join(move || drop(next), || ()),
                SecondOfPair => _ = pool.join(|| (), move || drop(next)),
            }
        }
    }
    for way in [Join, Scope, Cancelled, ShutDown, FirstOfPair, SecondOfPair] {
        finishes(&format!("{way:?}"), move || {
            let pool = Pool::new(1).unwrap();
            let links = Link(pool.clone(), way, 5_000);
            let before = cleanslate::leaked_values();
            let ended = pool.submit(move || drop(links)).join();
            // A scope panics unless its task was cancelled by its handle.
            assert_eq!(ended.is_ok(), matches!(way, Join | Cancelled), "{ended:?}");
            // It cannot leave its task, and so the last one is leaked; unless a worker ends it, of
            // a pool of its own.
            let leaks = !matches!(way, Join | ShutDown);
            let leaked = cleanslate::leaked_values() - before;
            assert!(matches!(way, ShutDown) || (leaked == 1) == leaks, "{way:?}: {leaked}");
            assert_eq!(pool.join(|| 1, || 2), (1, 2));
        });
    }
}

// That takes no room on the stack of the one that waits.
#[test]
fn what_another_thread_has_begun_is_waited_for_where_tasks_lie_too_deep() {
    /// What the first task that lies too deep drops.
    struct Deep {
        pool: Pool,
        _dropped: OnDrop,
    }
    impl Deep {
        fn go_down(self) {
            let pool = self.pool.clone();
            let _ended = pool.submit(|| self.go_down()).join();
        }
    }
    finishes("has begun", || {
        let pool = Pool::builder().workers(1).stack_size(8 << 20).build().unwrap();
        let other = Pool::new(1).unwrap();
        let ((begins, begun), (go, gate)) = (mpsc::channel(), mpsc::channel::<()>());
        let runs = other.submit(move || {
            begins.send(()).unwrap();
            gate.recv().unwrap();
            // Meanwhile the other thread begins to wait.
            pause();
            7
        });
        begun.recv().unwrap();
        let (tell, told) = mpsc::channel();
        let waits = OnDrop::new(move || {
            go.send(()).unwrap();
            tell.send(runs.join()).unwrap();
        });
        let deep = Deep { pool: pool.clone(), _dropped: waits };
        pool.submit(|| deep.go_down()).join().unwrap();
        assert_eq!(told.recv().unwrap().unwrap(), 7);
    });
}

// Broke: where not even its end had room, the scope ended it later, and panicked although the
// handle had said so.
#[test]
fn a_scope_does_not_panic_for_a_task_that_is_too_deep_if_its_handle_says_so() {
    const STACK: usize = 8 << 10;
    let name = "too_deep::a_scope_does_not_panic_for_a_task_that_is_too_deep_if_its_handle_says_so";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let before = cleanslate::leaked_values();
    let pool = Pool::builder().workers(1).stack_size(STACK << 10).build().unwrap();
    for (used, expected) in
        [(STACK / 8, Ok(1)), (STACK / 8 * 6 + 512, Err(())), (STACK / 16 * 15, Err(()))]
    {
        let inner = pool.clone();
        let scope = move || {
            let ran = AtomicBool::new(false);
            let joined = inner.scope(|s| {
                let (owned, ran) = (Box::new(1), &ran);
                let task = move || {
                    ran.store(true, Ordering::SeqCst);
                    *owned
                };
                let handle = Cell::new(Some(s.submit(task)));
                deeper(used, &|| handle.take().unwrap().join())
            });
            (joined, ran.into_inner())
        };
        let (joined, ran) = pool.submit(scope).join().unwrap();
        assert_eq!(ran, joined.is_ok(), "{used} KiB of {STACK}");
        let joined = joined.map_err(|error| assert!(error.is_too_deep(), "{error}"));
        assert_eq!(joined, expected, "{used} KiB of {STACK}");
        assert_eq!(cleanslate::leaked_values(), before, "it is dropped where there is room");
    }
    // Nor does it name that task if it panics for another one.
    let inner = pool.clone();
    let scope = move || {
        inner.scope(|s| {
            drop(s.submit(|| panic!("another task, on purpose")));
            let handle = Cell::new(Some(s.submit(|| ())));
            let joined = deeper(STACK / 8 * 6 + 512, &|| handle.take().unwrap().join());
            assert!(joined.unwrap_err().is_too_deep());
        });
    };
    let said = pool.submit(|| panic_of(scope)).join().unwrap();
    assert!(said.starts_with("a scoped task panicked"), "{said}");
}

#[test]
fn what_runs_after_its_handle_has_given_up_is_dropped() {
    const STACK: usize = 8 << 10;
    let census = Census::new();
    let pool = Pool::builder().workers(1).stack_size(STACK << 10).build().unwrap();
    let (inner, made) = (pool.clone(), census.clone());
    let joins = move || {
        let handle = Cell::new(Some(inner.submit(move || made.token())));
        deeper(STACK / 16 * 15, &|| handle.take().unwrap().join())
    };
    assert!(pool.submit(joins).join().unwrap().unwrap_err().is_too_deep());
    pool.shutdown().unwrap();
    assert_eq!((census.made(), census.alive()), (1, 0));
}

// Nobody else would run its items: their only worker waits.
#[test]
fn an_imap_whose_items_nobody_has_room_for_says_so() {
    const STACK: usize = 8 << 10;
    finishes("the imap", || {
        let pool = Pool::builder().workers(1).stack_size(STACK << 10).build().unwrap();
        let inner = pool.clone();
        let deep = move || {
            // It is full, so that the deep call pulls nothing.
            let mut results = inner.imap_unordered(0..2, |n| n).buffer(1);
            assert!(results.next_timeout(Duration::ZERO).is_pending());
            let results = Cell::new(Some(results));
            deeper(STACK / 16 * 15, &|| panic_of(|| results.take().unwrap().next()))
        };
        let said = pool.submit(deep).join().unwrap();
        assert!(said.contains("too many tasks lie"), "{said}");
        assert_eq!(pool.map(0..3, |n| n), [0, 1, 2]);
    });
}

// Nor the task that they wait for.
#[test]
fn whoever_has_no_room_for_what_it_polls_or_waits_for_with_others_is_told_so() {
    const STACK: usize = 8 << 10;
    finishes("the waits", || {
        let pool = Pool::builder().workers(1).stack_size(STACK << 10).build().unwrap();
        let inner = pool.clone();
        let deep = move || {
            let handle = Cell::new(Some(inner.submit(|| ())));
            let poll = || {
                let mut handle = handle.take().unwrap();
                let poll = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
                matches!(poll, Poll::Ready(Err(error)) if error.is_too_deep())
            };
            let handles = [inner.submit(|| ())];
            let waits = || panic_of(|| JoinHandle::wait_any(&handles));
            (deeper(STACK / 16 * 15, &poll), deeper(STACK / 16 * 15, &waits))
        };
        let (is_told, said) = pool.submit(deep).join().unwrap();
        assert!(is_told);
        assert!(said.contains("too many tasks lie"), "{said}");
    });
}

// Broke: visits lay on top of one another without end, up to the end of the stack.
#[test]
fn a_visit_that_would_lie_too_deep_fails_its_broadcast() {
    const ALL: usize = 300;
    finishes("the broadcasts", || {
        let (pool, other) = (Pool::new(1).unwrap(), Pool::new(1).unwrap());
        let ((begin, begun), (go, gate)) = (mpsc::channel(), mpsc::channel::<()>());
        let held_up = [other.submit(move || {
            begin.send(()).unwrap();
            let _gone = gate.recv();
        })];
        // Who waits for it cannot run it.
        begun.recv().unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|s| {
            for _ in 0..ALL {
                let (pool, held_up, tell) = (&pool, &held_up, tell.clone());
                s.spawn(move || {
                    let waits = || JoinHandle::wait_any(held_up);
                    let visited = catch_unwind(AssertUnwindSafe(|| pool.broadcast(waits)));
                    tell.send(visited.map_err(|payload| message(&*payload))).unwrap();
                });
            }
            // Each waits on top of those before, as many as may.
            for _ in 256..ALL {
                let words = told.recv().unwrap().unwrap_err();
                assert!(words.contains("too many tasks lie"), "{words}");
            }
            drop(go);
            for _ in 0..256 {
                assert_eq!(told.recv().unwrap(), Ok(vec![0]));
            }
        });
        assert_eq!(pool.broadcast(|| 1), [1]);
    });
}

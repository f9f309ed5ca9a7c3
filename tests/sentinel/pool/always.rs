//! The action that replaces a worker after each task.

use super::*;

#[test]
fn every_outermost_task_has_a_thread_of_its_own() {
    for workers in SHAPES {
        let pool = pool(workers, Sentinel::new().renew_always());
        let threads: HashSet<ThreadId> = (0..50)
            .map(|_| pool.submit(|| thread::current().id()))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .chain(pool.map_range(0..50, |_| thread::current().id()))
            .chain(pool.map(0..50, |_| thread::current().id()))
            .chain(pool.broadcast(|| thread::current().id()))
            .collect();
        assert_eq!(threads.len(), 150 + workers);
        assert_eq!(pool.stats().leaks, 0);
    }
}

#[test]
fn heap_behind_an_unchanged_pointer_is_seen_by_no_other_task() {
    let leave = || HEAP.with(|heap| heap.replace(heap.get() + 1));
    for workers in SHAPES {
        let pool = pool(workers, Sentinel::new().renew_always());
        assert_eq!(pool.map_range(0..50, |_| leave()), [0; 50]);
        for _ in 0..50 {
            assert_eq!(pool.submit(leave).join().unwrap(), 0);
        }
    }
    // Detection cannot see it: the blind spot that this action is for.
    let pool = pool(1, Sentinel::new().renew(u32::MAX, HOUR).allow_first_touch("*::HEAP"));
    assert_eq!(pool.submit(leave).join().unwrap(), 0);
    assert_eq!(pool.submit(leave).join().unwrap(), 1);
    assert_eq!((pool.stats().leaks, pool.stats().renewed), (0, 0));
}

#[test]
fn a_first_touch_that_nobody_allowed_costs_each_fresh_thread_a_renewal() {
    let pool = pool(1, Sentinel::new().renew(5, HOUR));
    for _ in 0..10 {
        pool.submit(|| HEAP.with(|heap| heap.get())).join().unwrap();
    }
    // The sixth worker keeps what it touched, and nothing changes there any more.
    assert_eq!((pool.stats().leaks, pool.stats().renewed), (6, 5));
}

#[test]
fn tasks_that_wait_run_below_one_another_on_one_thread() {
    each_shape_of(
        |workers| Arc::new(pool(workers, Sentinel::new().renew_always())),
        |pool| {
            let theirs = Arc::clone(pool);
            let same = pool.submit(move || {
                let outer = thread::current().id();
                let (go, gate) = mpsc::channel::<()>();
                let other = Arc::clone(&theirs);
                let inner = theirs.submit(move || {
                    gate.recv().unwrap();
                    other.map(0..10, |n| n).len()
                });
                go.send(()).unwrap();
                assert_eq!(inner.join().unwrap(), 10);
                outer == thread::current().id()
            });
            assert!(same.join().unwrap());
        },
    );
}

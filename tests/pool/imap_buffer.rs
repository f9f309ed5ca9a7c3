//! How far `imap` and `imap_unordered` with a large buffer pull, and what a task that consumes them
//! runs itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::support::{each_shape, finishes, occupy};
use cleanslate::Pool;

#[test]
fn an_endless_buffer_of_an_endless_input_yields_nevertheless() {
    each_shape(|pool| {
        let squares = pool.imap(0_u64.., |n| n * n).buffer(usize::MAX);
        assert_eq!(squares.take(3).collect::<Vec<_>>(), [0, 1, 4]);
        assert_eq!(pool.imap_unordered(0.., |_| 7).buffer(usize::MAX).take(3).sum::<u32>(), 21);
    });
}

// Broke: while the first result was not there, the buffer was filled further, and nobody else was
// there to make that result.
#[test]
fn an_endless_input_and_buffer_yield_also_to_a_task_on_the_only_worker() {
    finishes("task", || {
        let pool = Pool::new(1).unwrap();
        let inner = pool.clone();
        let task = pool.submit(move || {
            let mut results = inner.imap(0_u64.., |n| n).buffer(usize::MAX);
            assert!(results.next_timeout(Duration::ZERO).is_pending());
            assert_eq!(results.nth(2), Some(2));
            let mut results = inner.imap_unordered(0_u64.., |n| n).buffer(usize::MAX);
            assert!(results.next_timeout(Duration::ZERO).is_pending());
            assert!(results.nth(2).is_some());
        });
        task.join().unwrap();
    });
}

// Broke: what was pulled for a result that was yielded was run before what had been pulled earlier,
// so one of the first items came last, or never.
#[test]
fn whoever_runs_the_items_itself_does_so_in_their_order() {
    let first_hundred = |pool: &Pool| {
        let results = pool.imap_unordered(0.., |n| n).buffer(7).take(100);
        assert!(results.eq(0..100));
    };
    each_shape(move |pool| {
        let mut gates = Vec::new();
        for _ in 1..pool.workers() {
            let (begun, has_begun) = mpsc::channel();
            let (go, gate) = mpsc::channel::<()>();
            drop(pool.submit(move || (begun.send(()), gate.recv().is_err())));
            has_begun.recv().unwrap();
            gates.push(go);
        }
        let inner = pool.clone();
        pool.submit(move || first_hundred(&inner)).join().unwrap();
    });
    finishes("a caller that helps", move || {
        let pool = Pool::builder().workers(1).caller_helps(true).build().unwrap();
        let busy = occupy(&pool);
        first_hundred(&pool);
        drop(busy);
    });
}

#[test]
fn whoever_runs_the_items_itself_runs_none_while_a_result_is_there() {
    finishes("task", || {
        let pool = Pool::new(1).unwrap();
        let inner = pool.clone();
        let task = pool.submit(move || {
            let runs = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&runs);
            let f = move |_| count.fetch_add(1, Ordering::SeqCst);
            let first = inner.imap_unordered(0..3, f).buffer(3).next();
            (first, runs.load(Ordering::SeqCst))
        });
        assert_eq!(task.join().unwrap(), (Some(0), 1));
    });
}

#[test]
fn a_large_buffer_is_filled_no_further_once_the_first_result_is_there() {
    finishes("filling", || {
        let pool = Pool::new(1).unwrap();
        let (begin, begun) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let second = Mutex::new((begin, gate));
        let items = (0..2_000).inspect(move |n| match n {
            // The only worker has begun the second item, so the first one is over.
            1_023 => begun.recv().unwrap(),
            n => assert!(*n < 1_024, "pulled though a result is there"),
        });
        let mut results = pool.imap(items, move |n| {
            if n == 1 {
                let (begin, gate) = &*second.lock().unwrap();
                begin.send(()).unwrap();
                assert!(gate.recv().is_err());
            }
            n
        });
        results = results.buffer(2_000);
        assert_eq!(results.next(), Some(0));
        drop(go);
    });
}

#[test]
fn a_large_buffer_is_filled_while_no_result_is_there() {
    const BUFFER: usize = 3_000;
    each_shape(|pool| {
        let busy = occupy(pool);
        let pulled = Arc::new(AtomicUsize::new(0));
        let input = || {
            let count = Arc::clone(&pulled);
            (0..2 * BUFFER).inspect(move |_| assert!(count.fetch_add(1, Ordering::SeqCst) < BUFFER))
        };
        let mut ordered = pool.imap(input(), |n| n).buffer(BUFFER);
        assert!(ordered.next_timeout(Duration::ZERO).is_pending());
        assert_eq!(pulled.swap(0, Ordering::SeqCst), BUFFER);
        let mut unordered = pool.imap_unordered(input(), |n| n).buffer(BUFFER);
        assert!(unordered.next_timeout(Duration::ZERO).is_pending());
        assert_eq!(pulled.swap(0, Ordering::SeqCst), BUFFER);
        drop(busy);
    });
}

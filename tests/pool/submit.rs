//! `submit`, `try_submit` and their handles: run once, dropped once, cancelled, waited for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::support::{Census, each_shape, finishes, occupy, quiet};
use cleanslate::{JoinHandle, Pool, TaskError};

#[test]
fn every_task_of_a_burst_runs_once_and_drops_everything_once() {
    each_shape(|pool| {
        let (captured, results) = (Census::default(), Census::default());
        let runs = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..20_000)
            .map(|n| {
                let (token, results, runs) = (captured.token(), results.clone(), Arc::clone(&runs));
                pool.submit(move || {
                    let _token = token;
                    runs.fetch_add(1, Ordering::SeqCst);
                    (n, results.token())
                })
            })
            .collect();
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(handle.join().unwrap().0, n);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 20_000);
        assert_eq!((captured.alive(), results.alive(), results.made()), (0, 0, 20_000));
        assert_eq!(pool.stats().completed, 20_000);
    });
}

#[test]
fn captures_are_gone_before_join_returns() {
    each_shape(|pool| {
        let census = Census::default();
        for _ in 0..200 {
            let token = census.token();
            let panics = census.made() % 2 == 0;
            let handle = pool.submit(move || {
                let _token = &token;
                assert!(!panics, "on purpose");
            });
            assert_eq!(handle.join().is_err(), panics);
            assert_eq!(census.alive(), 0);
        }
    });
}

#[test]
fn a_panic_reaches_the_handle_and_costs_nothing_else() {
    each_shape(|pool| {
        for n in 0..50 {
            let error = pool.submit(move || std::panic::panic_any(n)).join().unwrap_err();
            assert!(error.is_panic() && !error.is_cancelled());
            assert_eq!(*error.into_panic().downcast::<i32>().unwrap(), n);
        }
        assert_eq!(pool.broadcast(|| 1).len(), pool.workers());
        assert_eq!(pool.stats().panicked, 50);
        assert_eq!(pool.stats().unobserved, 0);
    });
}

#[test]
fn an_error_names_its_task_and_hands_out_no_panic_if_there_was_none() {
    let pool = Pool::new(1).unwrap();
    let line = line!() + 1;
    let error = pool.submit(|| panic!("lost")).join().unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("tests/pool/submit.rs:{line}")), "{text}");
    assert!(text.ends_with("panicked: lost"), "{text}");
    assert_eq!(error.submitted_at().line(), line);

    let _busy = occupy(&pool);
    let handle = pool.named("thumbnail").submit(|| ());
    assert!(handle.cancel());
    let error = handle.join().unwrap_err();
    assert_eq!(error.to_string(), format!("task `thumbnail` (#{}) was cancelled", error.task_id()));
    assert!(error.try_into_panic().unwrap_err().is_cancelled());
}

#[test]
fn a_cancelled_task_never_runs_and_frees_its_captures_at_once() {
    each_shape(|pool| {
        let census = Census::default();
        let busy = occupy(pool);
        let handles: Vec<_> = (0..500)
            .map(|_| {
                let token = census.token();
                pool.submit(move || drop(token))
            })
            .collect();
        assert_eq!(pool.stats().queued, 500);
        for (n, handle) in handles.iter().enumerate() {
            assert!(handle.cancel());
            assert!(!handle.cancel(), "a second time is too late");
            assert!(handle.is_finished());
            assert_eq!(census.alive(), 499 - n);
        }
        assert_eq!((pool.stats().queued, pool.stats().cancelled), (0, 500));
        drop(busy);
        for handle in handles {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_panicking_drop_of_a_cancelled_task_is_contained_and_reported() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("tick");
        }
    }
    finishes("cancel", || {
        let (tell, told) = mpsc::channel();
        let pool = Pool::builder()
            .workers(1)
            .panic_hook(move |error| tell.send(error.to_string()).unwrap())
            .build()
            .unwrap();
        let busy = occupy(&pool);
        let bomb = Bomb;
        let handle = pool.named("bomb").submit(move || drop(bomb));
        assert!(handle.cancel());
        assert!(told.recv().unwrap().ends_with("panicked: tick"));
        drop(busy);
        assert!(handle.join().unwrap_err().is_cancelled());
        assert_eq!(pool.stats().unobserved, 1);
    });
}

#[test]
fn running_tasks_are_not_cancelled() {
    each_shape(|pool| {
        let (go, gate) = mpsc::channel();
        let (tell, started) = mpsc::channel();
        let handle = pool.submit(move || {
            tell.send(()).unwrap();
            gate.recv().unwrap()
        });
        started.recv().unwrap();
        assert!(!handle.cancel());
        go.send(7).unwrap();
        assert_eq!(handle.join().unwrap(), 7);
    });
}

#[test]
fn join_timeout_gives_up_in_time_and_never_runs_the_task_itself() {
    finishes("join_timeout", || {
        let pool = Arc::new(Pool::new(1).unwrap());
        let inner = Arc::clone(&pool);
        let outcome = pool.submit(move || {
            // The only worker is here, so nobody else can run this.
            let mut handle = inner.submit(|| std::thread::current().id());
            let first = handle.join_timeout(Duration::from_millis(10)).is_none();
            (first, handle.join().unwrap() == std::thread::current().id())
        });
        assert_eq!(outcome.join().unwrap(), (true, true));
        let mut handle = pool.submit(|| 5);
        let result = handle.join_timeout(Duration::MAX).unwrap();
        assert_eq!(result.unwrap(), 5);
        assert!(handle.is_finished());
        assert!(crate::support::panic_of(|| handle.join()).contains("taken before"));
    });
}

#[test]
fn a_detached_task_runs_and_its_result_is_dropped_on_the_pool() {
    each_shape(|pool| {
        let results = Census::default();
        for _ in 0..1_000 {
            let results = results.clone();
            drop(pool.submit(move || results.token()));
        }
        pool.shutdown().unwrap();
        assert_eq!((results.made(), results.alive()), (1_000, 0));
    });
}

#[test]
fn failures_nobody_asks_for_reach_the_panic_hook() {
    for workers in crate::support::SHAPES {
        finishes("hook", move || {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let log = Arc::clone(&heard);
            let pool = Pool::builder()
                .workers(workers)
                .panic_hook(move |error: TaskError| {
                    let text = error.message().unwrap_or_default().to_owned();
                    log.lock().unwrap().push(text);
                    panic!("the hook itself");
                })
                .build()
                .unwrap();
            // Dropped before it ends, and after.
            drop(pool.submit(|| panic!("early")));
            let late = pool.submit(|| panic!("late"));
            while !late.is_finished() {
                std::thread::yield_now();
            }
            drop(late);
            // A result whose drop panics.
            struct Bomb;
            impl Drop for Bomb {
                fn drop(&mut self) {
                    panic!("result");
                }
            }
            drop(pool.submit(|| Bomb));
            pool.shutdown().unwrap();
            let mut heard = heard.lock().unwrap().clone();
            heard.sort();
            assert_eq!(heard, ["early", "late", "result"]);
            assert_eq!(pool.stats().unobserved, 3);
        });
    }
}

#[test]
fn a_full_queue_turns_plain_threads_away_and_lets_tasks_pass() {
    finishes("capacity", || {
        let pool = Arc::new(Pool::builder().workers(1).queue_capacity(2).build().unwrap());
        let (go, gate) = mpsc::channel::<()>();
        let (tell, started) = mpsc::channel();
        let inner = Arc::clone(&pool);
        let busy = pool.submit(move || {
            tell.send(()).unwrap();
            gate.recv().unwrap();
            // Far over the limit, from inside a task.
            let handles: Vec<_> = (0..10).map(|n| inner.submit(move || n)).collect();
            let full = inner.try_submit(|| 0).map(|handle| handle.join().unwrap());
            assert_eq!(full.unwrap(), 0);
            handles.into_iter().map(|handle| handle.join().unwrap()).sum::<i32>()
        });
        started.recv().unwrap();
        let first = pool.submit(|| 1);
        let second = pool.submit(|| 2);
        let refused = pool.try_submit(|| 3).unwrap_err();
        assert!(refused.is_full() && !refused.is_shut_down());
        assert_eq!(refused.into_inner()(), 3);
        // Cancelling frees a place.
        assert!(first.cancel());
        let third = pool.try_submit(|| 4).unwrap();
        // A plain thread blocks until there is room.
        let blocked = Arc::clone(&pool);
        let thread = std::thread::spawn(move || blocked.submit(|| 5).join().unwrap());
        go.send(()).unwrap();
        assert_eq!(busy.join().unwrap(), 45);
        assert_eq!(thread.join().unwrap(), 5);
        assert_eq!(second.join().unwrap() + third.join().unwrap(), 6);
    });
}

#[test]
fn a_thread_blocked_by_a_full_queue_is_released_by_a_shutdown() {
    finishes("capacity", || {
        let pool = Arc::new(Pool::builder().workers(1).queue_capacity(1).build().unwrap());
        let busy = occupy(&pool);
        let waiting = pool.submit(|| 1);
        let (tell, told) = mpsc::channel();
        let blocked = Arc::clone(&pool);
        let thread = std::thread::spawn(move || {
            tell.send(()).unwrap();
            blocked.submit(|| 2).join()
        });
        told.recv().unwrap();
        let closing = Arc::clone(&pool);
        let closer = std::thread::spawn(move || closing.shutdown().unwrap());
        // Whether the thread came before the closing or not, it comes back; without room it is
        // refused.
        let refused = thread.join().unwrap();
        assert!(refused.unwrap_err().is_cancelled());
        drop(busy);
        closer.join().unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

// It is what `main` prints of an error that it returns.
#[test]
fn the_debug_form_of_an_error_is_its_text() {
    let none = Pool::new(0).unwrap_err();
    assert_eq!(format!("{none:?}"), "BuildError(a pool needs at least one worker)");
    let pool = Pool::new(1).unwrap();
    let theirs = pool.clone();
    let inside = pool.submit(move || theirs.shutdown().unwrap_err()).join().unwrap();
    assert_eq!(format!("{inside:?}"), format!("ShutdownError({inside})"));
    pool.shutdown().unwrap();
    let closed = pool.try_submit(|| ()).unwrap_err();
    assert_eq!(format!("{closed:?}"), format!("SubmitError({closed})"));
    let refused = pool.try_reserve().unwrap_err();
    assert_eq!(format!("{refused:?}"), format!("ReserveError({refused})"));
}

// Two tiny executors: one thread that parks, and a run queue of many futures.

struct Unparker(std::thread::Thread, AtomicUsize);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> (F::Output, usize) {
    let unparker = Arc::new(Unparker(std::thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&unparker));
    let mut future = pin!(future);
    let mut polls = 0;
    loop {
        polls += 1;
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (output, polls);
        }
        std::thread::park();
    }
}

#[test]
fn a_handle_is_a_future_that_wakes_its_executor() {
    each_shape(|pool| {
        let (go, gate) = mpsc::channel();
        let handle = pool.submit(move || gate.recv().unwrap());
        let thread = std::thread::spawn(move || block_on(handle));
        go.send("awake").unwrap();
        let (result, polls) = thread.join().unwrap();
        assert_eq!(result.unwrap(), "awake");
        assert!(polls >= 1);
        let (result, _) = block_on(pool.submit(|| panic!("in future")));
        assert_eq!(result.unwrap_err().message(), Some("in future"));
    });
}

struct QueueWaker(mpsc::Sender<usize>, usize);

impl Wake for QueueWaker {
    fn wake(self: Arc<Self>) {
        // The executor may be gone.
        let _gone = self.0.send(self.1);
    }
}

#[test]
fn many_handles_share_a_run_queue() {
    each_shape(|pool| {
        let (sender, queue) = mpsc::channel();
        let mut futures: Vec<Option<Pin<Box<JoinHandle<usize>>>>> =
            (0..1_000).map(|n| Some(Box::pin(pool.submit(move || n)))).collect();
        for n in 0..futures.len() {
            sender.send(n).unwrap();
        }
        let (mut left, mut sum) = (futures.len(), 0);
        while left != 0 {
            let n = queue.recv().unwrap();
            let Some(future) = &mut futures[n] else { continue };
            let waker = Waker::from(Arc::new(QueueWaker(sender.clone(), n)));
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                sum += result.unwrap();
                futures[n] = None;
                left -= 1;
            }
        }
        assert_eq!(sum, 499_500);
    });
}

#[test]
fn the_last_waker_is_woken_and_the_earlier_ones_are_dropped() {
    finishes("wakers", || {
        let pool = Pool::new(1).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let mut handle = pool.submit(move || gate.recv().unwrap());
        let (first, second) = (
            Arc::new(Unparker(std::thread::current(), AtomicUsize::new(0))),
            Arc::new(Unparker(std::thread::current(), AtomicUsize::new(0))),
        );
        for unparker in [&first, &second] {
            let waker = Waker::from(Arc::clone(unparker));
            let poll = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending());
        }
        assert_eq!(Arc::strong_count(&first), 1);
        go.send(()).unwrap();
        pool.shutdown().unwrap();
        assert_eq!((first.1.load(Ordering::SeqCst), second.1.load(Ordering::SeqCst)), (0, 1));
        assert_eq!(Arc::strong_count(&second), 1);
        assert!(block_on(handle).0.is_ok());
    });
}

mod waker_that_waits {
    #![expect(unsafe_code, reason = "a waker whose clones take their time is made by hand")]

    use std::ptr;
    use std::sync::OnceLock;
    use std::task::{RawWaker, RawWakerVTable, Waker};

    use cleanslate::{Pool, sync::Event};

    pub(super) static POOL: OnceLock<Pool> = OnceLock::new();
    pub(super) static CLONED: Event = Event::new();
    static TABLE: RawWakerVTable = RawWakerVTable::new(|_| clone(), |_| (), |_| (), |_| ());

    fn clone() -> RawWaker {
        CLONED.set();
        POOL.get().unwrap().wait_idle();
        RawWaker::new(ptr::null(), &TABLE)
    }

    pub(super) fn new() -> Waker {
        // SAFETY: there is no data, and the functions ask nothing of their callers.
        unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &TABLE)) }
    }
}

#[test]
fn a_poll_sees_that_the_task_ends_while_it_clones_the_waker() {
    finishes("the poll", || {
        let pool = waker_that_waits::POOL.get_or_init(|| Pool::new(1).unwrap());
        let mut handle = pool.submit(|| waker_that_waits::CLONED.wait());
        let waker = waker_that_waits::new();
        let poll = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
        assert!(matches!(poll, Poll::Ready(Ok(()))));
    });
}

#[test]
fn a_detached_future_gives_its_waker_back_at_once() {
    finishes("wakers", || {
        let pool = Pool::new(1).unwrap();
        let busy = occupy(&pool);
        let mut handle = pool.submit(|| ());
        let unparker = Arc::new(Unparker(std::thread::current(), AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&unparker));
        assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert_eq!(Arc::strong_count(&unparker), 2);
        drop(handle);
        assert_eq!(Arc::strong_count(&unparker), 1);
        drop(busy);
    });
}

#[test]
fn block_on_inside_a_task_runs_the_awaited_task_there() {
    each_shape(|pool| {
        let n = pool.scope(|s| {
            s.submit(|| {
                let (result, polls) = block_on(pool.submit(|| 11));
                assert!(polls >= 1);
                result.unwrap()
            })
            .join()
            .unwrap()
        });
        assert_eq!(n, 11);
    });
}

#[test]
fn an_error_gives_the_number_that_its_task_has_in_the_pool() {
    quiet();
    each_shape(|pool| {
        for number in 0..3 {
            let error = pool.submit(|| panic!("on purpose")).join().unwrap_err();
            assert_eq!(error.task_id(), number);
            assert!(error.to_string().starts_with(&format!("task #{number} ")), "{error}");
        }
        pool.shutdown().unwrap();
        let refused = pool.submit(|| ()).join().unwrap_err();
        assert_eq!(refused.task_id(), 3, "none that another one has");
    });
}

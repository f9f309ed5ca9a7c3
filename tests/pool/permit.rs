//! Places in a bounded queue: taken before there is a task, in order of arrival, and never lost.

use std::future::{Future, poll_fn};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use crate::support::{Census, Fails, OnDrop, finishes, occupy, panic_of};
use cleanslate::{Permit, Pool, Reserve, ReserveError, task_local};
use futures_lite::future::{block_on, poll_once, yield_now};

#[test]
fn permits_and_waits_can_be_sent_and_survive_a_panic() {
    fn all<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    all::<Permit>();
    all::<Reserve<'static>>();
    all::<ReserveError>();
}

fn bounded(workers: usize, capacity: usize) -> Pool {
    Pool::builder().workers(workers).queue_capacity(capacity).build().unwrap()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn waker() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

fn woken(count: &Count) -> usize {
    count.0.load(Ordering::SeqCst)
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_permit_submits_one_task_and_holds_its_place_until_that_is_claimed() {
    finishes("permits", || {
        let pool = bounded(1, 2);
        let busy = occupy(&pool);
        let first = block_on(pool.reserve()).unwrap();
        let second = pool.try_reserve().unwrap();
        assert!(pool.try_reserve().unwrap_err().is_full());
        assert!(pool.try_submit(|| ()).unwrap_err().is_full());
        let first = first.submit(|| 1);
        assert!(pool.try_reserve().unwrap_err().is_full(), "the task has the permit's place");
        drop(second);
        let again = pool.try_reserve().unwrap();
        drop(busy);
        assert_eq!((first.join().unwrap(), again.submit(|| 2).join().unwrap()), (1, 2));
        let both = (pool.try_reserve().unwrap(), pool.try_reserve().unwrap());
        assert!(pool.try_reserve().unwrap_err().is_full(), "claimed tasks have given theirs back");
        drop(both);
    });
}

#[test]
fn a_pool_without_a_bound_has_room_at_once() {
    let pool = Pool::new(1).unwrap();
    let permit = block_on(poll_once(pool.reserve())).unwrap().unwrap();
    assert_eq!(permit.submit(|| 1).join().unwrap(), 1);
    assert_eq!(pool.try_reserve().unwrap().submit(|| 2).join().unwrap(), 2);
}

#[test]
fn places_go_to_the_line_in_order_of_arrival() {
    finishes("one line", || {
        let pool = bounded(1, 1);
        let busy = occupy(&pool);
        let place = pool.try_reserve().unwrap();
        let mut line: Vec<_> = (0..3).map(|_| (pool.reserve(), waker())).collect();
        for (reserve, (_, waker)) in &mut line {
            assert!(poll(reserve, waker).is_pending());
        }
        // A thread that blocks, which has come last or is still to come.
        let theirs = pool.clone();
        let thread = std::thread::spawn(move || theirs.submit(|| "the thread's"));
        drop(place);
        for (index, (reserve, (count, waker))) in line.iter_mut().enumerate() {
            assert_eq!(woken(count), 1, "number {index}");
            assert!(pool.try_reserve().unwrap_err().is_full(), "nobody overtakes");
            let Poll::Ready(Ok(permit)) = poll(reserve, waker) else { panic!("it has a place") };
            assert!(!thread.is_finished());
            drop(permit);
        }
        let handle = thread.join().unwrap();
        drop(busy);
        assert_eq!(handle.join().unwrap(), "the thread's");
    });
}

#[test]
fn a_wait_that_is_given_up_loses_nothing() {
    finishes("cancelled waits", || {
        let pool = bounded(1, 1);
        let place = pool.try_reserve().unwrap();
        let (first_count, first_waker) = waker();
        let (second_count, second_waker) = waker();
        let (mut first, mut second) = (pool.reserve(), pool.reserve());
        let mut gone = Box::pin(pool.reserve());
        assert!(poll(&mut gone, &first_waker).is_pending());
        assert!(poll(&mut first, &first_waker).is_pending());
        assert!(poll(&mut second, &second_waker).is_pending());
        drop(gone);
        drop(place);
        assert_eq!((woken(&first_count), woken(&second_count)), (1, 0));
        // It was handed the place, and goes away without having looked.
        drop(first);
        assert_eq!(woken(&second_count), 1);
        let Poll::Ready(Ok(permit)) = poll(&mut second, &second_waker) else { panic!("its turn") };
        drop((permit, second));
        drop(pool.reserve());
        assert_eq!(pool.try_reserve().unwrap().submit(|| 1).join().unwrap(), 1);
    });
}

// Broke: each that left the line looked at all the others, under the lock that every submission
// takes.
#[test]
fn of_a_long_line_many_may_leave() {
    finishes("a long line", || {
        let pool = bounded(1, 1);
        let place = pool.try_reserve().unwrap();
        let (count, waker) = waker();
        let mut line: Vec<_> = (0..200_000).map(|_| pool.reserve()).collect();
        for reserve in &mut line {
            assert!(poll(reserve, &waker).is_pending());
        }
        // The youngest first; the oldest is left.
        while line.len() != 1 {
            drop(line.pop());
        }
        drop(place);
        assert_eq!(woken(&count), 1);
        assert!(matches!(poll(&mut line[0], &waker), Poll::Ready(Ok(_))));
    });
}

#[test]
fn whoever_runs_a_task_has_room_at_once() {
    finishes("tasks pass", || {
        let (pool, other) = (bounded(1, 1), bounded(1, 1));
        let busy = occupy(&other);
        let full = (pool.try_reserve().unwrap(), other.try_reserve().unwrap());
        let (mine, theirs) = (pool.clone(), other.clone());
        let (done, is_done) = mpsc::channel();
        let plain = Pool::new(1).unwrap();
        let task = plain.submit(move || {
            let permits: Vec<_> = (0..5).map(|_| block_on(mine.reserve()).unwrap()).collect();
            let more = mine.try_reserve().unwrap();
            let handles: Vec<_> = permits.into_iter().map(|it| it.submit(|| 1)).collect();
            drop(more);
            let sum: i32 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
            done.send(block_on(theirs.reserve()).is_ok()).unwrap();
            sum
        });
        assert!(is_done.recv().unwrap());
        drop(busy);
        assert_eq!(task.join().unwrap(), 5);
        assert!(pool.try_reserve().unwrap_err().is_full(), "every place is accounted for");
        drop(full);
        assert!(pool.try_reserve().is_ok());
    });
}

/// Returns a pool whose one place is taken, that place, and one that waits for it.
fn in_the_line() -> (&'static Pool, Permit, Reserve<'static>) {
    let pool: &'static Pool = Box::leak(Box::new(bounded(1, 1)));
    let place = pool.try_reserve().unwrap();
    let mut waiting = pool.reserve();
    assert!(poll(&mut waiting, &waker().1).is_pending());
    (pool, place, waiting)
}

// A future that stands in the line and is polled next inside a task leaves the line: the task may
// be what the line waits for.
#[test]
fn a_wait_that_moves_into_a_task_ends_there() {
    finishes("moved waits", || {
        let (pool, place, waiting) = in_the_line();
        let other = Pool::new(1).unwrap();
        let task = other.submit(move || block_on(waiting).unwrap().submit(|| 7).join().unwrap());
        assert_eq!(task.join().unwrap(), 7);
        drop(place);
        assert!(pool.try_reserve().is_ok());
        pool.shutdown().unwrap();
    });
}

#[test]
fn a_wait_that_ended_in_a_task_takes_no_place_any_more() {
    finishes("ended waits", || {
        let (pool, place, mut waiting) = in_the_line();
        let other = Pool::new(1).unwrap();
        let task = other.submit(move || (block_on(&mut waiting).unwrap(), waiting));
        let (permit, ended) = task.join().unwrap();
        drop((permit, place));
        assert!(pool.try_reserve().is_ok());
        drop(ended);
        pool.shutdown().unwrap();
    });
}

#[test]
fn a_shutdown_ends_every_wait_and_what_a_permit_submits_then_is_cancelled() {
    finishes("shutdown", || {
        let pool = bounded(1, 1);
        let permit = pool.try_reserve().unwrap();
        let (count, waker) = waker();
        let mut waiting = pool.reserve();
        assert!(poll(&mut waiting, &waker).is_pending());
        pool.shutdown().unwrap();
        assert_eq!(woken(&count), 1);
        let Poll::Ready(Err(error)) = poll(&mut waiting, &waker) else { panic!("it is over") };
        assert!(error.is_shut_down() && !error.is_full());
        assert!(permit.submit(|| 1).join().unwrap_err().is_cancelled());
        assert!(pool.try_reserve().unwrap_err().is_shut_down());
        assert!(block_on(pool.reserve()).unwrap_err().is_shut_down());
        let unbounded = Pool::new(1).unwrap();
        unbounded.shutdown().unwrap();
        assert!(unbounded.try_reserve().unwrap_err().is_shut_down());
        assert!(block_on(unbounded.reserve()).unwrap_err().is_shut_down());
        assert!(panic_of(|| poll(&mut waiting, &waker)).contains("after it had ended"));
    });
}

task_local! {
    #[inherit]
    static USER: &'static str = "nobody";
}

#[test]
fn a_permits_task_is_the_handles_and_inherits_where_it_is_submitted() {
    let pool = bounded(1, 2);
    USER.set("alice");
    let permit = block_on(pool.named("lookup").reserve()).unwrap();
    let apart = block_on(pool.detached().reserve()).unwrap();
    USER.set("bob");
    let line = line!() + 1;
    let error = permit.submit(|| panic!("{}", USER.get())).join().unwrap_err();
    assert_eq!((error.task_name(), error.submitted_at().line()), (Some("lookup"), line));
    assert!(error.to_string().contains("bob"), "{error}");
    assert_eq!(apart.submit(|| USER.get()).join().unwrap(), "nobody");
    // A submission that panics gives the place back.
    let permit = pool.try_reserve().unwrap();
    let other = pool.try_reserve().unwrap();
    let text = panic_of(|| USER.with_mut(|_| drop(permit.submit(|| ()))));
    assert!(text.contains("cannot capture"), "{text}");
    let again = pool.try_reserve().unwrap();
    drop((again, other));
}

// Futures that wait, are handed places, submit and give up at any time, on several threads: every
// place comes back, and the queue was never longer than its bound.
// Broke: the closure's drop waited for the place that its own permit held.
#[test]
fn a_permit_whose_capture_fails_gives_its_place_back_before_the_closure_goes() {
    finishes("the drop of a closure", || {
        let pool = bounded(1, 1);
        let (permit, again) = (pool.try_reserve().unwrap(), pool.detached());
        let (tell, told) = mpsc::channel();
        let waits = OnDrop::new(move || tell.send(again.submit(|| 5).join().unwrap()).unwrap());
        panic_of(|| USER.with_mut(|_| drop(permit.submit(move || drop(waits)))));
        assert_eq!(told.try_recv().unwrap(), 5);
    });
}

#[test]
fn no_place_is_lost_however_waits_end() {
    finishes("many waits", || {
        const LIMIT: usize = 3;
        let pool = bounded(2, LIMIT);
        let reserved = Arc::new(AtomicUsize::new(0));
        let ran = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4_usize)
            .map(|seed| {
                let (pool, reserved, ran) = (pool.clone(), reserved.clone(), ran.clone());
                std::thread::spawn(move || {
                    let mut submitted = 0;
                    for round in 0..2_000_usize {
                        let mut waiting = pin!(pool.reserve());
                        let patience = (round * 7 + seed) % 5;
                        let permit = block_on(async {
                            for _ in 0..patience {
                                if let Some(taken) = poll_once(waiting.as_mut()).await {
                                    return Some(taken.unwrap());
                                }
                                yield_now().await;
                            }
                            match patience {
                                4 => Some(poll_fn(|cx| waiting.as_mut().poll(cx)).await.unwrap()),
                                _ => None,
                            }
                        });
                        let Some(permit) = permit else { continue };
                        assert!(reserved.fetch_add(1, Ordering::SeqCst) < LIMIT);
                        reserved.fetch_sub(1, Ordering::SeqCst);
                        if round % 3 != 0 {
                            submitted += 1;
                            let ran = Arc::clone(&ran);
                            drop(permit.submit(move || ran.fetch_add(1, Ordering::SeqCst)));
                        }
                    }
                    submitted
                })
            })
            .collect();
        let submitted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let all: Vec<_> = (0..LIMIT).map(|_| block_on(pool.reserve()).unwrap()).collect();
        assert!(pool.try_reserve().unwrap_err().is_full());
        drop(all);
        pool.shutdown().unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), submitted);
    });
}

// Broke: the waker that a wait had left in the line was dropped uncontained, which ended the
// process where the wait was given up because of a panic.
#[test]
fn a_waker_whose_drop_panics_costs_a_wait_nothing() {
    struct Nasty(Fails);
    impl Wake for Nasty {
        fn wake(self: Arc<Self>) {
            self.0.held();
        }
    }
    let census = Census::new();
    let pool = bounded(1, 1);
    let permit = pool.try_reserve().unwrap();
    let words = panic_of(|| {
        let mut waiting = pool.reserve();
        for _ in 0..2 {
            let waker = Waker::from(Arc::new(Nasty(Fails::new(&census))));
            assert!(poll(&mut waiting, &waker).is_pending());
            // The line has the only one left.
            drop(waker);
        }
        panic!("while it waits, on purpose");
    });
    assert!(words.contains("while it waits"), "{words}");
    assert_eq!((census.made(), census.alive()), (2, 0));
    drop(permit);
    assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
}

mod waker_that_fails {
    #![expect(unsafe_code, reason = "a waker whose clones panic in their drop is made by hand")]

    use std::ptr;
    use std::task::{RawWaker, RawWakerVTable, Waker};

    static TABLE: RawWakerVTable = RawWakerVTable::new(|_| clone(), |_| (), |_| (), fail);

    fn clone() -> RawWaker {
        RawWaker::new(ptr::null(), &TABLE)
    }

    fn fail(_: *const ()) {
        panic!("a drop, on purpose");
    }

    pub(super) fn new() -> Waker {
        // SAFETY: there is no data, and the functions ask nothing of their callers.
        unsafe { Waker::from_raw(clone()) }
    }
}

// Broke: the clone that was not needed panicked when the place was taken already, and nobody had
// it any more.
#[test]
fn a_waker_whose_drop_panics_costs_no_place() {
    crate::support::quiet();
    let pool = bounded(1, 1);
    let waker = std::mem::ManuallyDrop::new(waker_that_fails::new());
    let Poll::Ready(Ok(permit)) = poll(&mut pool.reserve(), &waker) else { panic!("room") };
    let mut waits = pool.reserve();
    assert!(poll(&mut waits, &waker).is_pending());
    assert!(poll(&mut waits, &waker).is_pending());
    drop(permit);
    let Poll::Ready(Ok(permit)) = poll(&mut waits, &waker) else { panic!("its turn") };
    drop(permit);
    assert_eq!(pool.try_reserve().unwrap().submit(|| 1).join().unwrap(), 1);
}

// Broke: it was called in the task on whose stack a place became free, and saw and changed its
// slots.
#[test]
fn a_waker_that_is_told_of_room_is_called_in_no_task() {
    task_local! { static SLOT: u32 = 0; }
    struct Sets(mpsc::Sender<u32>);
    impl Wake for Sets {
        fn wake(self: Arc<Self>) {
            self.0.send(SLOT.replace(2)).unwrap();
        }
    }
    finishes("the wake", || {
        let pool = bounded(1, 1);
        let (tell, full) = mpsc::channel();
        let (go, waits) = mpsc::channel::<()>();
        let theirs = pool.clone();
        let outer = pool.submit(move || {
            SLOT.set(1);
            let inner = theirs.submit(|| ());
            tell.send(()).unwrap();
            waits.recv().unwrap();
            // It runs here, on top, and its place becomes free.
            inner.join().unwrap();
            SLOT.get()
        });
        full.recv().unwrap();
        let (tell, told) = mpsc::channel();
        let waker = Waker::from(Arc::new(Sets(tell)));
        let mut reserve = pool.reserve();
        assert!(poll(&mut reserve, &waker).is_pending());
        go.send(()).unwrap();
        assert_eq!((outer.join().unwrap(), told.recv().unwrap()), (1, 0));
        assert!(poll(&mut reserve, &waker).is_ready());
    });
}

/// Has no items; `asked` is called where the map asks how many.
struct Asked<F>(F);

impl<F: Fn()> Iterator for Asked<F> {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0)();
        (0, None)
    }
}

// Broke: with a bounded queue it was refused.
#[test]
fn what_a_map_submits_on_a_plain_thread_while_its_pool_closes_is_let_in() {
    finishes("a map of a pool that closes", || {
        let pools = [Pool::new(1).unwrap(), bounded(1, 1), bounded(1, 1), bounded(1, 1)];
        for (how, pool) in pools.into_iter().enumerate() {
            let closing = pool.clone();
            let ran = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&ran);
            let begun = AtomicUsize::new(0);
            let asked = Asked(move || {
                if begun.fetch_add(1, Ordering::SeqCst) != 0 {
                    return;
                }
                let mut waits = closing.reserve();
                let place = (how == 3).then(|| closing.try_reserve().unwrap());
                if how == 3 {
                    assert!(poll(&mut waits, &waker().1).is_pending());
                }
                closing.shutdown_background();
                drop(place);
                let count = Arc::clone(&count);
                let task = move || count.fetch_add(1, Ordering::SeqCst);
                match how {
                    0 | 1 => drop(closing.submit(task)),
                    2 => drop(closing.try_reserve().unwrap().submit(task)),
                    _ => drop(block_on(waits).unwrap().submit(task)),
                }
            });
            assert!(pool.map(asked, |()| ()).is_empty());
            pool.wait_idle();
            assert_eq!((ran.load(Ordering::SeqCst), pool.stats().cancelled), (1, 0), "{how}");
        }
    });
}

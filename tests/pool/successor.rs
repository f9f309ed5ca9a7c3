//! The worker that takes the place of one that is to be replaced.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock, mpsc};

use crate::support::{OnDrop, finishes, in_a_process_of_its_own, quiet, retiring};
use cleanslate::{Context, Pool, WeakPool, worker_local};

/// How much memory the process may address.
mod addresses {
    #![expect(unsafe_code, reason = "std knows nothing of limits")]

    use std::ffi::c_int;

    #[repr(C)]
    struct Limit {
        soft: u64,
        hard: u64,
    }

    /// `RLIMIT_AS`
    const ADDRESSES: c_int = 9;

    mod c {
        use super::{Limit, c_int};

        // libc's, with libc's signatures on 64-bit Linux.
        unsafe extern "C" {
            pub(super) fn getrlimit(resource: c_int, limit: *mut Limit) -> c_int;
            pub(super) fn setrlimit(resource: c_int, limit: *const Limit) -> c_int;
        }
    }

    /// Allows so many bytes more than there are in use, or any number.
    pub(super) fn allow(more: Option<u64>) {
        let mut limit = Limit { soft: 0, hard: 0 };
        // SAFETY: it points to a limit.
        assert_eq!(unsafe { c::getrlimit(ADDRESSES, &raw mut limit) }, 0);
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        // A page has 4 KiB at least.
        limit.soft = more.map_or(limit.hard, |more| pages * 4096 + more);
        // SAFETY: as above.
        assert_eq!(unsafe { c::setrlimit(ADDRESSES, &raw const limit) }, 0);
    }
}

#[test]
fn a_successor_that_the_system_refuses_is_tried_again_until_it_starts() {
    let name = "successor::a_successor_that_the_system_refuses_is_tried_again_until_it_starts";
    if !in_a_process_of_its_own(name) {
        return;
    }
    thread_local! { static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    quiet();
    for workers in [1, 2] {
        finishes("refused", move || {
            const STACK: usize = 1 << 30;
            let (tell, told) = mpsc::channel();
            let place = Arc::new(OnceLock::<WeakPool>::new());
            let theirs = Arc::clone(&place);
            let pool = Pool::builder()
                .workers(workers)
                .stack_size(STACK)
                .panic_hook(move |error| {
                    // There may be nobody else who could run it.
                    let pool = theirs.get().unwrap().upgrade().unwrap();
                    assert_eq!(pool.submit(|| 5).join().unwrap(), 5);
                    tell.send(error.to_string()).unwrap();
                })
                .build()
                .unwrap();
            place.set(pool.downgrade()).unwrap();
            addresses::allow(Some(STACK as u64 / 2));
            let (says, said_at_end) = mpsc::channel();
            let again = pool.clone();
            let at_exit = OnDrop::new(move || says.send(again.worker_index()).unwrap());
            let leaves = pool.in_context(&retiring()).submit(move || AT_EXIT.set(Some(at_exit)));
            assert!(leaves.join().is_err());
            // Twice, so that one attempt is repeated at least.
            for _ in 0..2 {
                let said = told.recv().unwrap();
                let expected = said.contains("renewal of worker") && said.contains("no thread");
                assert!(expected, "{said}");
            }
            assert_eq!(pool.stats().renewed, 0);
            addresses::allow(None);
            assert_eq!(pool.broadcast(|| 5), vec![5; workers]);
            assert_eq!(pool.stats().renewed, 1);
            assert_eq!(said_at_end.recv().unwrap(), None, "it serves no more");
            pool.shutdown().unwrap();
        });
    }
}

#[test]
fn what_a_replaced_worker_leaves_on_its_thread_concerns_its_successor_no_more() {
    thread_local! { static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    finishes("both workers", || {
        let pool = Pool::new(1).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let at_exit = OnDrop::new(move || {
            gate.recv().unwrap();
            // Leaves foreign state on the thread, which ends.
            tell.send(retiring().try_run(|| ()).is_err()).unwrap();
        });
        let first = pool.in_context(&retiring());
        assert!(first.submit(move || AT_EXIT.set(Some(at_exit))).join().is_err());
        let successor = pool.submit(|| std::thread::current().id()).join().unwrap();
        go.send(()).unwrap();
        assert!(told.recv().unwrap());
        for _ in 0..10 {
            assert_eq!(pool.submit(|| std::thread::current().id()).join().unwrap(), successor);
        }
        assert_eq!(pool.stats().renewed, 1);
    });
}

// Broke: it waited for room, which the workers that waited for its own pool's end would have made.
#[test]
fn a_worker_at_its_end_passes_where_another_pools_queue_is_full() {
    thread_local! { static AT_EXIT: RefCell<Option<OnDrop>> = const { RefCell::new(None) }; }
    worker_local! { static KEPT: Option<OnDrop> = None; }
    quiet();
    for (is_replaced, is_kept) in [(false, false), (false, true), (true, false), (true, true)] {
        finishes("the end of a pool inside a task of another one", move || {
            let outer = Pool::builder().workers(1).queue_capacity(1).build().unwrap();
            let again = outer.clone();
            let (tell, told) = mpsc::channel();
            let task = move || {
                drop(again.submit(|| ()));
                assert!(again.try_reserve().is_ok(), "a task passes");
                let at_end = OnDrop::new(move || {
                    let passed = futures_lite::future::block_on(again.reserve()).unwrap();
                    tell.send([again.submit(|| 1), passed.submit(|| 2)]).unwrap();
                });
                let leaves = move || {
                    if is_kept {
                        KEPT.with(|kept| *kept = Some(at_end));
                    } else {
                        AT_EXIT.set(Some(at_end));
                    }
                };
                let inner = Pool::new(1).unwrap();
                let context = if is_replaced { retiring() } else { Context::empty() };
                let left = inner.in_context(&context).submit(leaves);
                while !left.is_finished() {
                    // Not joined, or this thread would run it.
                    std::thread::yield_now();
                }
                assert_eq!(left.join().is_err(), is_replaced);
                inner.shutdown().unwrap();
            };
            outer.submit(task).join().unwrap();
            let came = told.recv().unwrap().map(|handle| handle.join().unwrap());
            assert_eq!(came, [1, 2]);
        });
    }
}

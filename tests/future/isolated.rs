//! Futures with slots of their own, on several executors.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as PollContext, Poll, Waker};
use std::thread;

use crate::support::{Census, Counted, OnDrop, on_a_thread, panic_of, quiet};
use cleanslate::future::FutureExt;
use cleanslate::{Context, OwnedLocal, Pool, task_local};
use futures_lite::future::{block_on, or, yield_now};

task_local! {
    static USER: u64 = 0;
    static TEXT: String = String::new();
    static HELD: Option<Counted> = None;
    static LATER: Option<Counted> = None;
    static HOOK: Option<OnDrop> = None;
    #[inherit]
    static TENANT: u64 = 0;
    #[inherit(with = |depth| depth + 1)]
    static DEPTH: u64 = 0;
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut PollContext::from_waker(Waker::noop()))
}

/// Uses its slots across many polls, and says whether they were always its own.
async fn request(id: u64) -> bool {
    let mut fine = USER.replace(id) == 0 && TEXT.replace(id.to_string()).is_empty();
    for n in 0..20 {
        yield_now().await;
        fine &= USER.get() == id + n && TEXT.get() == id.to_string();
        USER.with_mut(|user| *user += 1);
    }
    fine && TENANT.get() == id
}

#[test]
fn slots_stay_with_their_future_on_tokios_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let tasks: Vec<_> =
        (1..=500).map(|id| TENANT.scope(id, || runtime.spawn(request(id).isolated()))).collect();
    for task in tasks {
        assert!(runtime.block_on(task).unwrap());
    }
    assert!(!USER.is_set());
}

#[test]
fn slots_stay_with_their_future_on_another_executor() {
    let executor = async_executor::Executor::new();
    thread::scope(|s| {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        for _ in 0..3 {
            let (executor, mut stopped) = (&executor, stopped.clone());
            s.spawn(move || {
                block_on(executor.run(async { stopped.wait_for(|stop| *stop).await.map(|_| ()) }))
                    .unwrap();
                assert!(!USER.is_set() && !TEXT.is_set(), "nothing stays behind");
            });
        }
        let tasks: Vec<_> = (1..=500)
            .map(|id| TENANT.scope(id, || executor.spawn(request(id).isolated())))
            .collect();
        block_on(async {
            for task in tasks {
                assert!(task.await);
            }
        });
        stop.send(true).unwrap();
    });
}

#[test]
fn it_inherits_where_it_is_wrapped_not_where_it_is_polled() {
    TENANT.set(1);
    let future = async { (TENANT.get(), DEPTH.get()) }.isolated();
    TENANT.set(2);
    assert_eq!(on_a_thread(|| block_on(future)), (1, 0));
    DEPTH.set(5);
    let nested = async { async { DEPTH.get() }.isolated().await }.isolated();
    assert_eq!(block_on(nested), 7);
    let given = async { TENANT.get() }.isolated_in(&Context::empty());
    assert_eq!(block_on(given), 0);
}

#[test]
fn each_poll_may_be_on_another_thread() {
    let owned = Arc::new(OwnedLocal::new(|| 0));
    let local = Arc::clone(&owned);
    let census = Census::new();
    let maker = census.clone();
    let mut future = Box::pin(
        async move {
            HELD.set(Some(maker.one("held")));
            for n in 1..=20 {
                local.set(n);
                TEXT.set(n.to_string());
                yield_now().await;
                assert_eq!((local.get(), TEXT.get()), (n, n.to_string()));
                assert!(HELD.with(Option::is_some));
            }
        }
        .isolated(),
    );
    loop {
        let (back, poll) = on_a_thread(move || {
            let poll = poll(future.as_mut());
            assert!(!TEXT.is_set() && !HELD.is_set());
            (future, poll)
        });
        future = back;
        assert_eq!(census.alive(), usize::from(poll.is_pending()));
        if poll.is_ready() {
            break;
        }
    }
    assert_eq!((census.made(), owned.is_set()), (1, false));
}

#[test]
fn changes_stay_with_the_future_and_what_is_around_stays_as_it_was() {
    on_a_thread(|| {
        TEXT.set("outer".to_owned());
        let mut future = Box::pin(
            async {
                TEXT.set("inner".to_owned());
                yield_now().await;
                TEXT.with_mut(|text| text.push('!'));
                yield_now().await;
                TEXT.get()
            }
            .isolated(),
        );
        TEXT.with_mut(|outer| {
            // While it is borrowed out here.
            assert!(poll(future.as_mut()).is_pending());
            assert!(Context::empty().run(|| poll(future.as_mut())).is_pending());
            assert_eq!(outer, "outer");
        });
        assert_eq!(poll(future.as_mut()), Poll::Ready("inner!".to_owned()));
        assert_eq!(TEXT.get(), "outer");
    });
}

#[test]
fn a_value_keeps_its_place_in_the_order_of_drops_across_polls() {
    let census = Census::new();
    let maker = census.clone();
    block_on(
        async move {
            HELD.set(Some(maker.one("first")));
            yield_now().await;
            LATER.set(Some(maker.one("second")));
            yield_now().await;
            HELD.with(|_| ());
        }
        .isolated(),
    );
    assert_eq!(census.notes(), ["second", "first"]);
}

#[test]
fn a_cancelled_future_is_dropped_inside_its_own_frame() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let census = Census::new();
    let mut future = Box::pin({
        let (seen, maker) = (Arc::clone(&seen), census.clone());
        async move {
            USER.set(7);
            HELD.set(Some(maker.one("slot")));
            let _guard = OnDrop::new(move || {
                seen.lock().unwrap().push((USER.get(), thread::current().id()));
                maker.note("future");
                // It may still create values.
                LATER.set(Some(maker.one("late")));
            });
            std::future::pending::<()>().await;
        }
        .isolated()
    });
    assert!(poll(future.as_mut()).is_pending());
    USER.set(1);
    let dropper = on_a_thread(move || {
        USER.set(2);
        drop(future);
        assert_eq!(USER.get(), 2);
        thread::current().id()
    });
    assert_eq!(
        *seen.lock().unwrap(),
        [(7, dropper)],
        "on the thread that drops it, with its slots"
    );
    assert_eq!(
        (census.notes(), census.alive()),
        (vec!["future".into(), "late".into(), "slot".into()], 0)
    );
    assert_eq!(USER.get(), 1);
}

#[test]
fn a_future_that_was_never_polled_is_dropped_in_a_frame_of_its_own_too() {
    USER.set(1);
    TENANT.set(4);
    let seen = Arc::new(Mutex::new(None));
    let late = Arc::clone(&seen);
    let guard = OnDrop::new(move || *late.lock().unwrap() = Some((USER.replace(9), TENANT.get())));
    drop(async move { drop(guard) }.isolated());
    assert_eq!(*seen.lock().unwrap(), Some((0, 4)));
    assert_eq!(USER.get(), 1);
}

#[test]
fn select_ends_the_loser_with_its_slots() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let census = Census::new();
    let loser = || {
        let maker = census.clone();
        async move {
            HELD.set(Some(maker.one("loser")));
            std::future::pending::<&str>().await
        }
        .isolated()
    };
    let winner = || {
        async {
            yield_now().await;
            yield_now().await;
            assert!(!HELD.is_set());
            "winner"
        }
        .isolated()
    };
    runtime.block_on(async {
        for _ in 0..100 {
            let won = tokio::select! { won = loser() => won, won = winner() => won };
            assert_eq!((won, census.alive()), ("winner", 0));
        }
    });
    assert_eq!(block_on(or(loser(), winner())), "winner");
    // A poll that has not ended a future leaves its slots to the next select.
    runtime.block_on(async {
        let mut kept = Box::pin(
            async {
                USER.set(3);
                yield_now().await;
                yield_now().await;
                USER.get()
            }
            .isolated(),
        );
        for _ in 0..2 {
            tokio::select! { biased; _ = &mut kept => unreachable!(), () = async {} => {} }
        }
        assert_eq!(kept.await, 3);
    });
    assert_eq!(census.alive(), 0);
    assert_eq!(census.made(), census.dropped());
}

#[test]
fn a_panicking_poll_ends_the_task_and_restores_what_is_around() {
    quiet();
    let census = Census::new();
    let panicking = Arc::new(AtomicUsize::new(0));
    let mut future = Box::pin({
        let (maker, panicking) = (census.clone(), Arc::clone(&panicking));
        async move {
            HELD.set(Some(maker.one("slot")));
            let _own = maker.one("future");
            HOOK.set(Some(OnDrop::new(move || {
                panicking.fetch_add(usize::from(thread::panicking()), Ordering::SeqCst);
            })));
            yield_now().await;
            panic!("a poll on purpose");
        }
        .isolated()
    });
    USER.set(1);
    assert!(poll(future.as_mut()).is_pending());
    assert_eq!(panic_of(|| poll(future.as_mut())), "a poll on purpose");
    assert_eq!((census.notes(), census.alive()), (vec!["future".into(), "slot".into()], 0));
    assert_eq!(panicking.load(Ordering::SeqCst), 1, "a transaction relies on it");
    assert_eq!((USER.get(), HELD.is_set()), (1, false));
    assert!(panic_of(|| poll(future.as_mut())).contains("polled after it had ended"));
    drop(future);
    let mut done = Box::pin(async { 1 }.isolated());
    assert_eq!(poll(done.as_mut()), Poll::Ready(1));
    assert!(panic_of(|| poll(done.as_mut())).contains("polled after it had ended"));
}

#[test]
fn a_clean_up_that_fails_drops_the_output_and_panics() {
    quiet();
    let census = Census::new();
    let maker = census.clone();
    let fails = async move {
        HOOK.set(Some(OnDrop::new(|| panic!("a drop on purpose"))));
        maker.one("output")
    };
    let words = panic_of(|| block_on(fails.isolated()));
    assert!(
        words.contains("future::isolated::HOOK") && words.contains("a drop on purpose"),
        "{words}"
    );
    assert_eq!((census.made(), census.alive()), (1, 0));
    // Whichever poll has touched it, and whatever else the task has.
    for in_last in [false, true] {
        let fails = || HOOK.set(Some(OnDrop::new(|| panic!("a drop on purpose"))));
        let task = async {
            if in_last {
                USER.set(1)
            } else {
                fails()
            }
            yield_now().await;
            if in_last { fails() } else { USER.set(1) }
        };
        let words = panic_of(|| block_on(task.isolated()));
        assert!(words.contains("a drop on purpose"), "in the last poll: {in_last}: {words}");
    }
    // The same when it is dropped, and no abort when the thread is panicking already.
    let pending = || {
        let mut future = Box::pin(
            async {
                HOOK.set(Some(OnDrop::new(|| panic!("a drop on purpose"))));
                let _guard = OnDrop::new(|| panic!("so does the future's own, on purpose"));
                std::future::pending::<()>().await;
            }
            .isolated(),
        );
        assert!(poll(future.as_mut()).is_pending());
        future
    };
    assert!(panic_of(|| drop(pending())).contains("on purpose"));
    assert_eq!(
        panic_of(|| {
            let _future = pending();
            panic!("the first one, on purpose");
        }),
        "the first one, on purpose"
    );
    assert!(!HOOK.is_set());
}

#[test]
fn nested_futures_have_slots_of_their_own() {
    fn level(depth: u64) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async move {
            let fresh = USER.replace(depth + 1) == 0;
            yield_now().await;
            let inside = depth == 20 || level(depth + 1).isolated().await;
            yield_now().await;
            fresh && inside && USER.get() == depth + 1
        })
    }
    assert!(block_on(level(0).isolated()));
    assert!(!USER.is_set());
}

#[test]
fn handles_of_a_pool_awaited_inside_keep_the_futures_slots() {
    let pool = Arc::new(Pool::new(2).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = (1..=100_u64)
        .map(|id| {
            let pool = Arc::clone(&pool);
            let future = async move {
                USER.set(id);
                TENANT.set(id);
                for _ in 0..5 {
                    let found = pool.submit(|| (USER.replace(9), TENANT.replace(9))).await.unwrap();
                    assert_eq!((found, USER.get(), TENANT.get()), ((0, id), id, id));
                }
            };
            runtime.spawn(future.isolated())
        })
        .collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    // Also where the pool's own task polls, and so runs the awaited one inline.
    let inner = Arc::clone(&pool);
    let found = pool.submit(move || {
        USER.set(5);
        let future = async { inner.submit(|| USER.replace(9)).await.unwrap() };
        (block_on(future.isolated()), USER.get())
    });
    assert_eq!(found.join().unwrap(), (0, 5));
}

#[test]
fn an_owner_that_is_gone_takes_its_parked_value_along_at_the_next_poll() {
    let census = Census::new();
    let owned = Arc::new(OwnedLocal::new(|| None));
    let (local, maker) = (Arc::clone(&owned), census.clone());
    let mut future = Box::pin(
        async move {
            USER.set(1);
            local.set(Some(maker.one("owned")));
            TEXT.set("kept".to_owned());
            drop(local);
            yield_now().await;
            (USER.get(), TEXT.get(), maker.alive())
        }
        .isolated(),
    );
    assert!(poll(future.as_mut()).is_pending());
    assert_eq!(census.alive(), 1);
    drop(owned);
    assert_eq!(poll(future.as_mut()), Poll::Ready((1, "kept".to_owned(), 0)));
}

#[test]
fn the_context_ends_with_the_future() {
    let census = Census::new();
    task_local! {
        #[inherit]
        static SHARED: Option<Arc<Counted>> = None;
    }
    SHARED.set(Some(Arc::new(census.one("inherited"))));
    let mut future = Box::pin(
        async {
            SHARED.with(|_| ());
            yield_now().await
        }
        .isolated(),
    );
    SHARED.set(None);
    assert!(poll(future.as_mut()).is_pending());
    assert_eq!(census.alive(), 1);
    drop(future);
    assert_eq!(census.alive(), 0);
}

#[test]
fn only_a_future_that_can_be_moved_is_unpin() {
    fn is_unpin<T: Unpin>(_: &T) {}
    fn is_send<T: Send>(_: &T) {}
    is_unpin(&std::future::ready(1).isolated());
    is_send(&request(1).isolated());
    let debugged = format!("{:?}", request(1).isolated());
    assert!(debugged.contains("Isolated"), "{debugged}");
    let mut polled = Box::pin(
        async {
            USER.set(1);
            poll_fn(|_| Poll::<()>::Pending).await
        }
        .isolated(),
    );
    assert!(poll(polled.as_mut()).is_pending());
    assert!(format!("{polled:?}").contains("future::isolated::USER"));
}

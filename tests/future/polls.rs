//! What an isolated future keeps between its polls, and how that ends.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{self, Poll, Waker};

use cleanslate::future::FutureExt;
use cleanslate::{Context, OwnedLocal, task_local};

/// Says when it is dropped.
struct Noted(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

task_local! {
    static A: Option<Noted> = None;
    static B: Option<Noted> = None;
    static C: Option<Noted> = None;
    static NUMBER: u64 = 0;
    static TEXT: String = String::new();
    #[inherit]
    static TENANT: String = "nobody".to_owned();
}

type Log = Arc<Mutex<Vec<&'static str>>>;

fn log() -> Log {
    Arc::new(Mutex::new(Vec::new()))
}

fn noted(name: &'static str, log: &Log) -> Option<Noted> {
    Some(Noted(name, Arc::clone(log)))
}

/// Leaves the poll once.
async fn pause() {
    let mut polled = false;
    poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut task::Context::from_waker(Waker::noop()))
}

/// Polls each time on a thread of its own.
fn drive_on_new_threads<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    loop {
        let polled = std::thread::scope(|scope| scope.spawn(|| poll(&mut future)).join().unwrap());
        if let Poll::Ready(output) = polled {
            return output;
        }
    }
}

#[test]
fn values_follow_their_future_from_thread_to_thread() {
    let owned = Arc::new(OwnedLocal::new(|| 0));
    let mine = Arc::clone(&owned);
    let seen = drive_on_new_threads(
        async move {
            for round in 0..6 {
                assert_eq!((NUMBER.get(), mine.get()), (round, round));
                TEXT.with_mut(|text| text.push('x'));
                NUMBER.set(round + 1);
                mine.set(round + 1);
                pause().await;
            }
            TEXT.get()
        }
        .isolated(),
    );
    assert_eq!(seen, "xxxxxx");
    assert_eq!((NUMBER.get(), owned.get(), TEXT.get()), (0, 0, String::new()));
}

#[test]
fn values_of_all_polls_end_in_reverse_order_of_first_touch() {
    let log = log();
    let mine = Arc::clone(&log);
    let mut future = Box::pin(
        async move {
            A.set(noted("a", &mine));
            pause().await;
            B.set(noted("b", &mine));
            pause().await;
            C.set(noted("c", &mine));
        }
        .isolated(),
    );
    while poll(&mut future).is_pending() {
        assert!(log.lock().unwrap().is_empty());
    }
    assert_eq!(*log.lock().unwrap(), ["c", "b", "a"]);
}

#[test]
fn values_end_when_a_later_poll_panics() {
    let log = log();
    let mine = Arc::clone(&log);
    A.set(noted("outer", &log));
    let mut future = Box::pin(
        async move {
            A.set(noted("a", &mine));
            pause().await;
            B.set(noted("b", &mine));
            panic!("on purpose");
        }
        .isolated(),
    );
    assert!(poll(&mut future).is_pending());
    let payload = catch_unwind(AssertUnwindSafe(|| poll(&mut future))).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!(*log.lock().unwrap(), ["b", "a"]);
    drop(future);
    assert_eq!(*log.lock().unwrap(), ["b", "a"]);
    drop(A.take());
    assert_eq!(*log.lock().unwrap(), ["b", "a", "outer"]);
}

#[test]
fn a_dropped_future_drops_its_values() {
    let log = log();
    let mine = Arc::clone(&log);
    let mut future = Box::pin(
        async move {
            A.set(noted("a", &mine));
            B.set(noted("b", &mine));
            pause().await;
        }
        .isolated(),
    );
    assert!(poll(&mut future).is_pending());
    std::thread::spawn(move || drop(future)).join().unwrap();
    assert_eq!(*log.lock().unwrap(), ["b", "a"]);
}

#[test]
fn tasks_on_top_of_a_poll_leave_its_values_alone() {
    let mut future = Box::pin(
        async {
            NUMBER.set(1);
            TEXT.set("kept".to_owned());
            for _ in 0..4 {
                pause().await;
                let inside = Context::empty().run(|| {
                    let before = NUMBER.replace(9);
                    TEXT.set("inner".to_owned());
                    let mut nested = Box::pin(async { NUMBER.replace(7) }.isolated());
                    assert_eq!(poll(&mut nested), Poll::Ready(0));
                    (before, NUMBER.get())
                });
                assert_eq!(inside, (0, 9));
                assert_eq!((NUMBER.get(), TEXT.get()), (1, "kept".to_owned()));
            }
        }
        .isolated(),
    );
    Context::empty().run(|| while poll(&mut future).is_pending() {});
}

#[test]
fn a_later_poll_hands_down_what_an_earlier_one_set() {
    let mut future = Box::pin(
        async {
            TENANT.set("acme".to_owned());
            pause().await;
            assert_eq!(Context::capture().run(|| TENANT.get()), "acme");
            pause().await;
            TENANT.set("other".to_owned());
            assert_eq!(Context::capture().run(|| TENANT.get()), "other");
        }
        .isolated(),
    );
    while poll(&mut future).is_pending() {
        assert_eq!(Context::capture().run(|| TENANT.get()), "nobody");
    }
}

#[test]
fn an_owner_may_go_while_a_future_holds_its_value() {
    for during_poll in [false, true] {
        let log = log();
        let owner = Arc::new(Mutex::new(Some(OwnedLocal::new(|| None))));
        let (theirs, mine) = (Arc::clone(&owner), Arc::clone(&log));
        let mut future = Box::pin(
            async move {
                TEXT.set("before".to_owned());
                theirs.lock().unwrap().as_ref().unwrap().set(noted("owned", &mine));
                A.set(noted("a", &mine));
                pause().await;
                if during_poll {
                    drop(theirs.lock().unwrap().take());
                }
                pause().await;
                TEXT.get()
            }
            .isolated(),
        );
        assert!(poll(&mut future).is_pending());
        if !during_poll {
            drop(owner.lock().unwrap().take());
        }
        assert!(poll(&mut future).is_pending());
        assert_eq!(*log.lock().unwrap(), ["owned"]);
        assert_eq!(poll(&mut future), Poll::Ready("before".to_owned()));
        assert_eq!(*log.lock().unwrap(), ["owned", "a"]);
    }
}

// A poll that has touched something takes its values back one by one.
#[test]
fn owners_may_go_on_another_thread_at_any_moment_of_a_poll() {
    const OWNERS: usize = 16;
    for round in 0..100 {
        let (log, gone) = (log(), Arc::new(AtomicBool::new(false)));
        let owners: Vec<_> = (0..OWNERS).map(|_| Arc::new(OwnedLocal::new(|| None))).collect();
        let (theirs, mine, all_gone) = (owners.clone(), Arc::clone(&log), Arc::clone(&gone));
        let mut future = Box::pin(
            async move {
                NUMBER.set(round);
                theirs.iter().for_each(|owner| owner.set(noted("owned", &mine)));
                drop(theirs);
                pause().await;
                while !all_gone.load(Ordering::Acquire) {
                    if round % 2 == 0 {
                        TENANT.with_mut(|tenant| tenant.push('!'));
                    }
                    pause().await;
                }
                NUMBER.get()
            }
            .isolated(),
        );
        if round % 4 < 2 {
            // From now on its values lie in cells that share another thread's lock.
            std::thread::scope(|scope| {
                scope.spawn(|| assert!(poll(&mut future).is_pending()));
            });
        }
        assert!(poll(&mut future).is_pending());
        let begin = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begin.wait();
                owners.into_iter().for_each(drop);
                gone.store(true, Ordering::Release);
            });
            begin.wait();
            while poll(&mut future).is_pending() {}
        });
        assert_eq!(log.lock().unwrap().len(), OWNERS, "each value is dropped once");
    }
}

#[test]
fn what_is_left_keeps_its_place_whichever_owners_go() {
    const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];
    type Owners = Vec<Option<OwnedLocal<Option<Noted>>>>;
    for gone in 0..1 << NAMES.len() {
        let is_gone = |index: usize| gone >> index & 1 == 1;
        let log = log();
        let owners: Owners = NAMES.map(|_| Some(OwnedLocal::new(|| None))).into();
        let owners = Arc::new(Mutex::new(owners));
        let (theirs, mine) = (Arc::clone(&owners), Arc::clone(&log));
        let look = move || {
            let name = |value: &Option<Noted>| value.as_ref().map_or("none", |noted| noted.0);
            theirs
                .lock()
                .unwrap()
                .iter()
                .flatten()
                .map(|owner| owner.with(name))
                .collect::<Vec<_>>()
        };
        let theirs = Arc::clone(&owners);
        let mut future = Box::pin(
            async move {
                for (owner, name) in theirs.lock().unwrap().iter().flatten().zip(NAMES) {
                    owner.set(noted(name, &mine));
                }
                pause().await;
                let found = look();
                pause().await;
                (found, look())
            }
            .isolated(),
        );
        assert!(poll(&mut future).is_pending());
        for index in (0..NAMES.len()).filter(|&index| is_gone(index)) {
            drop(owners.lock().unwrap()[index].take());
        }
        assert!(poll(&mut future).is_pending());
        let went: Vec<_> = (0..NAMES.len()).filter(|&i| is_gone(i)).map(|i| NAMES[i]).collect();
        let left: Vec<_> = (0..NAMES.len()).filter(|&i| !is_gone(i)).map(|i| NAMES[i]).collect();
        let dropped = std::mem::take(&mut *log.lock().unwrap());
        assert!(dropped.iter().eq(went.iter().rev()), "{dropped:?}: the youngest first");
        assert_eq!(poll(&mut future), Poll::Ready((left.clone(), left.clone())));
        assert!(log.lock().unwrap().iter().eq(left.iter().rev()), "the youngest first");
    }
}

#[test]
fn futures_that_take_turns_never_see_each_other() {
    let mut futures: Vec<_> = (0..8)
        .map(|index| {
            Box::pin(
                async move {
                    for round in 0..5 {
                        assert_eq!(NUMBER.get(), round * index);
                        NUMBER.set((round + 1) * index);
                        TEXT.with_mut(|text| text.push('y'));
                        pause().await;
                    }
                    TEXT.with(String::len)
                }
                .isolated(),
            )
        })
        .collect();
    for _ in 0..5 {
        assert!(futures.iter_mut().all(|future| poll(future).is_pending()));
    }
    assert!(futures.iter_mut().all(|future| poll(future) == Poll::Ready(5)));
}

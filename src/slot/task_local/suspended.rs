//! What can happen when stackful coroutines are suspended in the middle of what is otherwise a
//! call. In these tests a guard stands for such a call, which ends when they drop it.

#![expect(unsafe_code, reason = "borrows and binds values beyond a call")]
#![expect(clippy::mem_forget, reason = "a frame that is suspended for ever")]

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::mem::forget;
use std::pin::Pin;
use std::process::Command;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context as PollContext, Poll, Waker};

use futures_lite::future::yield_now;

use super::{Place, TaskLocal};
use crate::frame::Frame;
use crate::frame::thread;
use crate::frame::value::{Boxed, Header, Shared};
use crate::future::FutureExt;
use crate::panic::catch;
use crate::{Context, is_isolated, leaked_values, task_local, worker_local};

task_local! {
    static NUMBER: u32 = 0;
    static ANOTHER: u32 = 0;
    static TEXT: String = String::new();
    static OTHER_TEXT: String = String::new();
}

thread_local! {
    static SUSPENDED: RefCell<Vec<Shared<'static, String>>> = const { RefCell::new(Vec::new()) };
}

fn task<R>(f: impl FnOnce() -> R) -> R {
    Context::empty().run(f)
}

fn place<T: Send>(slot: &'static TaskLocal<T>) -> Place<'static, T, &'static TaskLocal<T>> {
    slot.place().expect("the thread does not end")
}

/// Borrows the current task's value, as `with` does.
fn borrowed<T: Send>(slot: &'static TaskLocal<T>) -> Shared<'static, T> {
    let shown = place(slot).cell.raw.shown(thread::current().epoch.get());
    // SAFETY: of this type; and a box that is in use is not freed (V4).
    let boxed = unsafe { Boxed::<T>::from_header(shown.expect("it is touched")) };
    boxed.borrow().expect("nobody else has it")
}

/// Binds a value, as `scope` does until [`unbind`].
fn bind<T: Send>(slot: &'static TaskLocal<T>, value: T) -> NonNull<Header> {
    let header = place(slot).cell.raw.vacant::<T>();
    // SAFETY: made for this type, and alive, since it is nobody else's.
    unsafe { Boxed::from_header(header) }.fill(value);
    place(slot).show(header);
    header
}

/// Returns whether the value was there. It is leaked in any case.
fn unbind<T: Send>(slot: &'static TaskLocal<T>, header: NonNull<Header>) -> bool {
    place(slot).take_away(header)
}

/// Says so when it is dropped.
struct Says;

impl Drop for Says {
    fn drop(&mut self) {
        eprintln!("what a suspended task holds was dropped");
    }
}

/// Leaves a frame open that has touched slots, like a coroutine that is suspended in a task.
fn suspend_in_a_task() {
    task_local! { static SAYS: Option<Says> = None; }
    forget(Frame::enter(None));
    TEXT.set("the suspended task's".to_owned());
    SAYS.set(Some(Says));
}

/// Polls a future twice, which then has the slot's value and calls `f`.
fn poll_twice(f: fn()) {
    let body = async move {
        TEXT.set("the future's".to_owned());
        yield_now().await;
        f();
        pending::<()>().await
    };
    let mut future = Box::pin(body.isolated());
    poll(future.as_mut());
    poll(future.as_mut());
}

/// What ends below something that is suspended on top of it, and what that is.
const OUT_OF_ORDER: [(&str, fn()); 4] = [
    ("a task", || {
        let below = Frame::enter(None);
        suspend_in_a_task();
        drop(below);
    }),
    // Broke: it took the other task's value for its own, panicked, and was never closed.
    ("a poll", || poll_twice(suspend_in_a_task)),
    // Broke: the same.
    ("a poll that ends a lease, whose drop suspends", || {
        struct Suspends;
        impl Drop for Suspends {
            fn drop(&mut self) {
                suspend_in_a_task();
            }
        }
        struct Polls;
        impl Drop for Polls {
            fn drop(&mut self) {
                poll_twice(|| LEASED.with(|_| ()));
                std::process::exit(0);
            }
        }
        worker_local! {
            static LEASED: Suspends = Suspends;
            static OTHER: u32 = 0;
        }
        thread_local! { static AT_THE_END: Polls = const { Polls }; }
        // Where no instances are kept any more, but the slots have not ended.
        let ends = std::thread::spawn(|| {
            TEXT.set(String::new());
            AT_THE_END.with(|_| ());
            OTHER.with(|_| ());
        });
        ends.join().unwrap();
    }),
    // Broke: it counted down for what was on top, so that the task could end below that.
    ("a value that is made of what a task inherits", || {
        task_local! {
            #[inherit(with = |n| { suspend_in_a_task(); *n })]
            static DERIVED: u32 = 0;
        }
        DERIVED.set(1);
        Context::capture().run(|| {
            DERIVED.get();
            std::process::exit(0);
        });
    }),
];

#[test]
fn what_ends_below_a_suspended_task_ends_the_process() {
    const MARK: &str = "CLEANSLATE_TEST_SUSPENDED";
    if let Some(case) = std::env::var_os(MARK) {
        let case = OUT_OF_ORDER.iter().find(|(what, _)| case == *what).expect("it is one of them");
        case.1();
        std::process::exit(0);
    }
    let name = format!(
        "{}::what_ends_below_a_suspended_task_ends_the_process",
        module_path!().split_once("::").expect("it is in the crate").1
    );
    for (what, _) in OUT_OF_ORDER {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args([&name, "--exact", "--nocapture"]).env(MARK, what).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let is_said = said.contains("a task ended while a coroutine");
        let is_whole = !said.contains("was dropped");
        assert!(!output.status.success() && is_said && is_whole, "{what}: {said}");
    }
}

#[test]
fn a_value_that_is_borrowed_when_its_task_ends_is_left_alone() {
    let (number, another, text) = task(|| {
        NUMBER.set(1);
        ANOTHER.set(1);
        TEXT.set("one".to_owned());
        (borrowed(&NUMBER), borrowed(&ANOTHER), borrowed(&TEXT))
    });
    // Those that need no drop count only where their boxes would be used again.
    let leaked = leaked_values();
    for _ in 0..2 {
        task(|| {
            // Set without reading it before, in a task that has no value with a drop yet.
            ANOTHER.set(2);
            assert_eq!((NUMBER.get(), TEXT.get()), (0, String::new()));
            NUMBER.set(2);
            TEXT.set("two".to_owned());
        });
    }
    assert!(leaked_values() > leaked);
    assert_eq!((number.get(), another.get(), text.get().as_str()), (&1, &1, "one"));
    drop((number, another, text));
    assert_eq!(task(|| (NUMBER.get(), ANOTHER.get(), TEXT.get())), (0, 0, String::new()));
}

#[test]
fn a_value_that_is_lent_or_made_when_its_task_ends_is_left_alone() {
    /// Of the task that has just set this slot.
    fn boxed<T: Send>(slot: &'static TaskLocal<T>) -> &'static Boxed<T> {
        let shown = place(slot).cell.raw.shown(thread::current().epoch.get());
        // SAFETY: of this type; and a box that is in use is not freed (V4).
        unsafe { Boxed::from_header(shown.expect("it is touched")) }
    }
    let (mut lent, made) = task(|| {
        TEXT.set("lent".to_owned());
        OTHER_TEXT.set(String::new());
        OTHER_TEXT.take();
        // As `with_mut` does, and the first access.
        let lent = boxed(&TEXT).borrow_mut().expect("nobody else has it");
        let made = boxed(&OTHER_TEXT);
        made.header.begin_init(false);
        (lent, made)
    });
    task(|| {
        for slot in [&TEXT, &OTHER_TEXT] {
            assert_eq!(slot.get(), "");
            slot.set("another's".to_owned());
        }
        assert_eq!(*lent.get(), "lent");
        lent.get().push_str(", and given back");
        made.fill("late".to_owned());
        assert_eq!([TEXT.get(), OTHER_TEXT.get()], ["another's", "another's"]);
    });
    drop(lent);
}

#[test]
fn a_scope_that_is_open_when_its_task_ends_is_left_alone() {
    let leaked = leaked_values();
    let scoped = task(|| {
        TEXT.set("the task's".to_owned());
        bind(&TEXT, "the scope's".to_owned())
    });
    assert!(leaked_values() > leaked);
    assert_eq!(task(|| TEXT.get()), "");
    task(|| {
        TEXT.set("another's".to_owned());
        assert!(!unbind(&TEXT, scoped));
        assert_eq!(TEXT.get(), "another's");
    });
}

// So the scope's end still finds it when a coroutine goes on after that.
#[test]
fn a_value_of_a_scope_that_is_open_when_its_task_ends_is_never_dropped() {
    struct Kept;
    impl Drop for Kept {
        fn drop(&mut self) {
            unreachable!("it was leaked");
        }
    }
    task_local! { static KEPT: Option<Kept> = None; }
    let frame = Frame::enter(None);
    KEPT.set(None);
    KEPT.scope(Some(Kept), || drop(frame));
    assert!(!KEPT.is_set());
    assert!(task(|| KEPT.with(Option::is_none)));
}

#[test]
fn a_future_whose_scope_is_open_when_the_task_ends_gives_nothing_back() {
    let frame = Frame::enter(None);
    TEXT.set("the task's".to_owned());
    let mut future = Box::pin(TEXT.scope_future("the scope's".to_owned(), async { drop(frame) }));
    let mut polls = PollContext::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut polls).is_ready());
    assert_eq!(future.as_mut().take_value(), None);
    drop(future);
    assert_eq!(task(|| TEXT.get()), "");
}

// Broke: the next task used the scope's box for its own value, which went with the scope.
#[test]
fn a_plain_value_of_a_scope_that_outlives_its_task_is_left_alone() {
    for is_borrowed in [false, true] {
        NUMBER.set(1);
        let (scoped, borrow) = task(|| {
            let scoped = bind(&NUMBER, 5);
            (scoped, is_borrowed.then(|| borrowed(&NUMBER)))
        });
        for touch in [|| NUMBER.set(7), || NUMBER.with_mut(|number| *number += 7)] {
            task(|| {
                touch();
                assert_eq!(NUMBER.get(), 7);
            });
        }
        drop(borrow);
        task(|| {
            NUMBER.set(7);
            assert!(unbind(&NUMBER, scoped));
            assert_eq!(NUMBER.get(), 7);
        });
        assert_eq!(NUMBER.get(), 1, "the thread's own");
    }
}

// Broke: what it had captured of such a value was what its later tasks inherited.
#[test]
fn what_stays_behind_when_a_poll_returns_is_not_inherited() {
    task_local! {
        #[inherit]
        static ONE: String = String::new();
        #[inherit]
        static OTHER: String = String::new();
    }
    let leaves: [fn(); 2] = [
        || SUSPENDED.with_borrow_mut(|suspended| suspended.push(borrowed(&ONE))),
        || _ = bind(&ONE, "the scope's".to_owned()),
    ];
    for (leave, later) in leaves.into_iter().flat_map(|leave| [(leave, true), (leave, false)]) {
        let mut future = Box::pin(
            async move {
                ONE.set("the future's".to_owned());
                OTHER.set("so that it keeps its capture".to_owned());
                if later {
                    yield_now().await;
                }
                leave();
                drop(Context::capture());
                yield_now().await;
                assert_eq!(Context::capture().run(|| ONE.get()), ONE.get());
                pending::<()>().await
            }
            .isolated(),
        );
        for _ in 0..3 {
            poll(future.as_mut());
        }
    }
    drop(SUSPENDED.take());
}

#[test]
fn scopes_may_end_in_any_order() {
    task(|| {
        TEXT.set("first".to_owned());
        let (second, third) = (bind(&TEXT, "second".to_owned()), bind(&TEXT, "third".to_owned()));
        assert!(unbind(&TEXT, second));
        assert_eq!(TEXT.get(), "third");
        assert!(unbind(&TEXT, third));
        assert_eq!(TEXT.get(), "first");
    });
    assert_eq!(task(|| TEXT.get()), "");
}

/// Polls what is not over after that.
fn poll(future: Pin<&mut impl Future>) {
    let mut polls = PollContext::from_waker(Waker::noop());
    assert!(future.poll(&mut polls).is_pending());
}

/// Borrows the text for a coroutine that is suspended on this thread.
fn suspend_in_text() {
    SUSPENDED.with_borrow_mut(|suspended| suspended.push(borrowed(&TEXT)));
}

// Broke: another thread got the value while the coroutine on the first one still used it.
#[test]
fn a_value_that_is_borrowed_when_a_poll_returns_is_left_to_its_borrower() {
    // One value or several that the future had before, or one that the poll has made.
    for before in [&[&TEXT] as &[&TaskLocal<String>], &[&OTHER_TEXT, &TEXT], &[]] {
        let mut future = Box::pin(
            async move {
                before.iter().for_each(|slot| slot.set("before".to_owned()));
                yield_now().await;
                TEXT.set("one".to_owned());
                suspend_in_text();
                yield_now().await;
                assert_eq!(TEXT.get(), "");
                if before.len() > 1 {
                    assert_eq!(OTHER_TEXT.get(), "before");
                }
                TEXT.set("two".to_owned());
                pending::<()>().await
            }
            .isolated(),
        );
        poll(future.as_mut());
        let leaked = leaked_values();
        poll(future.as_mut());
        assert!(leaked_values() > leaked);
        std::thread::spawn(move || poll(future.as_mut())).join().unwrap();
    }
    let suspended = SUSPENDED.take();
    assert_eq!(suspended.iter().map(|text| text.get().as_str()).collect::<Vec<_>>(), ["one"; 3]);
    drop(suspended);
    assert_eq!(task(|| TEXT.get()), "");
}

// Broke: so did one that is bound to a future.
#[test]
fn a_bound_value_that_is_borrowed_when_a_poll_returns_is_left_to_its_borrower() {
    let body = async {
        suspend_in_text();
        pending::<()>().await
    };
    let mut future = Box::pin(TEXT.scope_future("one".to_owned(), body));
    task(|| poll(future.as_mut()));
    assert_eq!(future.as_mut().take_value(), None);
    let failed = catch(|| poll(future.as_mut())).unwrap_err();
    assert!(failed.words().contains("TEXT` has lost the value"), "{}", failed.words());
    drop(future);
    assert_eq!(SUSPENDED.take()[0].get(), "one");
}

// Broke: the poll did not close its frame.
#[test]
fn a_scope_that_is_open_when_a_poll_returns_is_left_alone() {
    let scoped = Rc::new(Cell::new(None));
    for has_another in [false, true] {
        let told = Rc::clone(&scoped);
        let mut future = Box::pin(
            async move {
                TEXT.set("the future's".to_owned());
                if has_another {
                    OTHER_TEXT.set("its other's".to_owned());
                }
                yield_now().await;
                told.set(Some(bind(&TEXT, "the scope's".to_owned())));
                yield_now().await;
                assert_eq!(TEXT.get(), "the future's");
                pending::<()>().await
            }
            .isolated(),
        );
        poll(future.as_mut());
        let leaked = leaked_values();
        poll(future.as_mut());
        assert!(leaked_values() > leaked && !is_isolated());
        assert!(!unbind(&TEXT, scoped.take().expect("it is bound")));
        poll(future.as_mut());
    }
    assert_eq!(task(|| TEXT.get()), "");
}

// Broke: the future had its first value twice, and the second one was nobody's.
#[test]
fn a_future_keeps_a_value_that_it_makes_on_top_of_a_scope_whose_task_is_over() {
    let mut future = Box::pin(
        async {
            TEXT.set("first".to_owned());
            yield_now().await;
            task(|| _ = bind(&TEXT, "the scope's".to_owned()));
            TEXT.set("second".to_owned());
            for _ in 0..2 {
                yield_now().await;
                assert_eq!(TEXT.get(), "second");
            }
            TEXT.take()
        }
        .isolated(),
    );
    for _ in 0..3 {
        poll(future.as_mut());
    }
    let mut polls = PollContext::from_waker(Waker::noop());
    let done = future.as_mut().poll(&mut polls);
    assert_eq!(done, Poll::Ready(Some("second".to_owned())));
    assert_eq!(task(|| TEXT.get()), "");
}

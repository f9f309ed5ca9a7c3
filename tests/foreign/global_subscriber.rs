//! The tracing carrier where the program has a global subscriber. Each test in a process of its
//! own, since nothing takes one away.

use std::sync::Mutex;

use crate::support::{in_a_process_of_its_own, panic_of};
use cleanslate::foreign::TracingCarrier;
use cleanslate::{Context, Pool};
use tracing::dispatcher::{self, Dispatch};
use tracing::{Span, info_span, subscriber};
use tracing_subscriber::registry::Registry;

fn install() {
    subscriber::set_global_default(Registry::default()).unwrap();
}

fn pool() -> (Pool, TracingCarrier) {
    let carrier = TracingCarrier::new();
    (Pool::builder().workers(1).carry(carrier.clone()).build().unwrap(), carrier)
}

/// The name of the current span, and whether the subscriber is the global one.
fn current() -> (Option<&'static str>, bool) {
    let name = Span::current().metadata().map(|span| span.name());
    (name, dispatcher::get_default(|default| default.is::<Registry>()))
}

const NOTHING: (Option<&str>, bool) = (None, true);

#[expect(clippy::mem_forget, reason = "what is tested")]
fn forget_span() {
    let span = info_span!("left");
    span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
    std::mem::forget(span);
}

#[expect(clippy::mem_forget, reason = "what is tested")]
fn forget_silence() {
    std::mem::forget(dispatcher::set_default(&Dispatch::none()));
}

#[test]
fn no_item_of_a_map_finds_what_another_one_forgot() {
    let name = "global_subscriber::no_item_of_a_map_finds_what_another_one_forgot";
    if !in_a_process_of_its_own(name) {
        return;
    }
    install();
    let (pool, carrier) = pool();
    // So many that most of them are in chunks with others.
    let found = Mutex::new(Vec::new());
    let map = |forget: fn(u32)| {
        pool.map(0..1_000, |n| {
            found.lock().unwrap().push(current());
            forget(n);
        });
    };
    map(|n| {
        if n % 100 == 57 {
            forget_span()
        }
    });
    assert_eq!(carrier.forgotten(), 10);
    let failed = panic_of(|| {
        map(|n| {
            if n == 957 {
                forget_silence()
            }
        })
    });
    assert!(failed.contains("a default dispatcher that the task has set"), "{failed}");
    assert!(found.into_inner().unwrap().into_iter().all(|found| found == NOTHING));
}

#[test]
fn a_task_that_was_submitted_under_the_global_subscriber_runs_under_it() {
    let name =
        "global_subscriber::a_task_that_was_submitted_under_the_global_subscriber_runs_under_it";
    if !in_a_process_of_its_own(name) {
        return;
    }
    install();
    let context = Context::empty().carry(TracingCarrier::new());
    let silence = dispatcher::set_default(&Dispatch::none());
    assert_eq!(current(), (None, false));
    assert_eq!(context.run(current), NOTHING);
    drop(silence);
}

#[test]
fn a_task_may_install_it_and_forget_a_span_there() {
    let name = "global_subscriber::a_task_may_install_it_and_forget_a_span_there";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let (pool, carrier) = pool();
    let task = || {
        install();
        forget_span();
    };
    pool.submit(task).join().unwrap();
    assert_eq!((carrier.forgotten(), pool.submit(current).join().unwrap()), (1, NOTHING));
    // The spans are exited where they were entered, whatever has become the default.
    let task = || {
        forget_span();
        forget_silence();
    };
    let error = pool.submit(task).join().unwrap_err().to_string();
    assert!(error.contains("a default dispatcher that the task has set"), "{error}");
    assert_eq!((carrier.forgotten(), pool.submit(current).join().unwrap()), (2, NOTHING));
}

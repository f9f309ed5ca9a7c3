//! The tracing carrier, with a real subscriber that notes the parents of every event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{finishes, in_a_process_of_its_own, message, quiet};
use cleanslate::foreign::TracingCarrier;
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool};
use tracing::dispatcher::{self, Dispatch};
use tracing::span::Id;
use tracing::subscriber::{self, DefaultGuard};
use tracing::{Event, Span, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// What each event said, and the names of its spans from the root.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Seen {
    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let scope = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans: Vec<_> = scope.map(|span| span.name()).collect();
        self.0.lock().unwrap().push(format!("{} < {}", message.0, spans.join(">")));
    }
}

impl Seen {
    fn install(&self) -> DefaultGuard {
        subscriber::set_default(Registry::default().with(self.clone()))
    }

    fn take(&self) -> Vec<String> {
        let mut lines = std::mem::take(&mut *self.0.lock().unwrap());
        lines.sort();
        lines
    }
}

fn pool(workers: usize) -> (Pool, TracingCarrier) {
    let carrier = TracingCarrier::new();
    (Pool::builder().workers(workers).carry(carrier.clone()).build().unwrap(), carrier)
}

/// Enters a span and never exits it.
fn forget(span: Span) {
    span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
    #[expect(clippy::mem_forget, reason = "a closed span is no longer current")]
    std::mem::forget(span);
}

#[test]
fn events_of_tasks_have_the_submitters_span_as_their_parent() {
    for workers in [1, 2, 4] {
        let seen = Seen::default();
        let (pool, _) = pool(workers);
        let _default = seen.install();
        let alice = info_span!("alice");
        let bob = info_span!("bob");
        let handles: Vec<_> = [&alice, &bob]
            .iter()
            .cycle()
            .take(200)
            .map(|span| span.in_scope(|| pool.submit(|| info!("task"))))
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        pool.submit(|| info!("nobody")).join().unwrap();
        let mut expected = vec!["task < alice"; 100];
        expected.extend(["task < bob"; 100]);
        expected.insert(0, "nobody < ");
        assert_eq!(seen.take(), expected);
    }
}

#[test]
fn nested_tasks_and_their_own_spans_stay_in_their_request() {
    for workers in [1, 2, 4] {
        let seen = Seen::default();
        let (pool, _) = pool(workers);
        let _default = seen.install();
        info_span!("request").in_scope(|| {
            pool.map(0..20, |_| {
                info_span!("step").in_scope(|| {
                    pool.map(0..3, |_| info!("inner"));
                    pool.submit(|| info!("joined")).join().unwrap();
                    // Finds no span; on top of this task its subscriber, since the process has
                    // none that would take its place.
                    pool.detached().submit(|| info!("apart")).join().unwrap();
                    info!("outer");
                });
            });
        });
        let lines = seen.take();
        let count = |line: &str| lines.iter().filter(|seen| *seen == line).count();
        assert_eq!(count("inner < request>step"), 60);
        assert_eq!(count("joined < request>step"), 20);
        assert_eq!(count("outer < request>step"), 20);
        assert_eq!(lines.len() - count("apart < "), 100, "{lines:?}");
    }
}

#[test]
fn a_span_that_a_task_forgot_does_not_survive_it() {
    let seen = Seen::default();
    let (pool, carrier) = pool(1);
    let _default = seen.install();
    let request = info_span!("request");
    request.in_scope(|| {
        pool.submit(|| {
            for name in ["first", "second"] {
                let span = if name == "first" { info_span!("first") } else { info_span!("second") };
                forget(span);
            }
            info!("forgetful");
        })
        .join()
        .unwrap();
    });
    pool.submit(|| info!("next")).join().unwrap();
    request.in_scope(|| pool.submit(|| info!("of the request")).join().unwrap());
    assert_eq!(carrier.forgotten(), 2);
    assert_eq!(
        seen.take(),
        [
            "a task ended inside spans that it entered; they were exited for it < request",
            "forgetful < request>first>second",
            "next < ",
            "of the request < request",
        ]
    );
    assert_eq!(pool.stats().renewed, 0);
}

#[test]
fn the_dispatcher_is_the_submitters_and_the_workers_own_comes_back() {
    let (mine, theirs) = (Seen::default(), Seen::default());
    let (pool, _) = pool(1);
    {
        let _default = mine.install();
        pool.submit(|| info!("mine")).join().unwrap();
    }
    {
        let _default = theirs.install();
        pool.submit(|| info!("theirs")).join().unwrap();
    }
    pool.submit(|| info!("nobody's")).join().unwrap();
    assert_eq!((mine.take(), theirs.take()), (vec!["mine < ".into()], vec!["theirs < ".into()]));
}

#[test]
fn what_surrounds_a_task_that_runs_inline_is_entered_again() {
    let seen = Seen::default();
    let _default = seen.install();
    let inherited = info_span!("inherited");
    let context = inherited.in_scope(|| Context::empty().carry(TracingCarrier::new()));
    info_span!("a").in_scope(|| {
        info_span!("b").in_scope(|| {
            context.run(|| info!("inside"));
            info!("after");
        });
    });
    info!("outside");
    assert_eq!(seen.take(), ["after < a>b", "inside < inherited", "outside < "]);
}

#[test]
fn a_panicking_task_leaves_no_span_behind() {
    let seen = Seen::default();
    let (pool, _) = pool(1);
    let _default = seen.install();
    let span = info_span!("doomed");
    let error = span.in_scope(|| {
        pool.submit(|| {
            let _inner = info_span!("inner").entered();
            panic!("on purpose")
        })
        .join()
        .unwrap_err()
    });
    assert!(error.is_panic());
    pool.submit(|| info!("next")).join().unwrap();
    assert_eq!(seen.take(), ["next < "]);
}

#[test]
fn an_isolated_future_is_in_its_span_at_every_poll() {
    let seen = Seen::default();
    let _default = seen.install();
    let request = info_span!("request");
    let context = request.in_scope(|| Context::empty().carry(TracingCarrier::new()));
    let future = async {
        info!("first");
        futures_lite::future::yield_now().await;
        info!("second");
    };
    info_span!("executor").in_scope(|| {
        futures_lite::future::block_on(future.isolated_in(&context));
        assert_eq!(Span::current().metadata().unwrap().name(), "executor");
    });
    assert_eq!(seen.take(), ["first < request", "second < request"]);
}

/// A layer that panics at one call.
struct Broken(&'static str);

impl Broken {
    fn at(&self, call: &str) {
        assert!(call != self.0, "{call} panicked on purpose");
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Broken {
    fn on_event(&self, _: &Event<'_>, _: LayerContext<'_, S>) {
        self.at("event");
    }
    fn on_enter(&self, _: &Id, _: LayerContext<'_, S>) {
        self.at("enter");
    }
    fn on_exit(&self, _: &Id, _: LayerContext<'_, S>) {
        self.at("exit");
    }
    fn on_close(&self, _: Id, _: LayerContext<'_, S>) {
        self.at("close");
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        self.at("drop");
    }
}

#[test]
fn a_subscriber_that_panics_costs_tasks_and_no_worker() {
    quiet();
    for at in ["enter", "exit", "close", "event", "drop"] {
        let (pool, carrier) = pool(1);
        let broken = Dispatch::new(Registry::default().with(Broken(at)));
        let span = dispatcher::with_default(&broken, || info_span!("request"));
        let context = dispatcher::with_default(&broken, || {
            // Without `enter`, which panics in some rounds.
            let _current = span.id();
            Context::capture().carry(carrier.clone())
        });
        for _ in 0..3 {
            let task = pool.in_context(&context).submit(|| {
                forget(info_span!("left"));
                info!("event");
            });
            drop(task.join());
        }
        drop(pool.in_context(&context).map_results(0..9, |_| info!("event")));
        drop(catch_unwind(AssertUnwindSafe(|| drop((span, context)))));
        drop(catch_unwind(AssertUnwindSafe(|| drop(broken))));
        assert_eq!(pool.detached().map(0..9, |n| n).len(), 9, "{at}");
        assert_eq!(pool.stats().workers, 1, "{at}");
    }
}

// Broke: a subscriber that panicked while one of them was entered or exited left the others out.
#[test]
fn a_surrounding_span_is_current_again_after_a_failure() {
    struct Once(AtomicBool);
    impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Once {
        fn on_exit(&self, _: &Id, _: LayerContext<'_, S>) {
            assert!(!self.0.swap(false, Ordering::SeqCst), "exit panicked on purpose");
        }
    }
    quiet();
    let seen = Seen::default();
    let armed = Arc::new(Once(AtomicBool::new(false)));
    struct Shared(Arc<Once>);
    impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Shared {
        fn on_exit(&self, id: &Id, context: LayerContext<'_, S>) {
            Layer::<S>::on_exit(&*self.0, id, context);
        }
    }
    let layers = Registry::default().with(seen.clone()).with(Shared(Arc::clone(&armed)));
    let _default = subscriber::set_default(layers);
    let context = Context::empty().carry(TracingCarrier::new());
    info_span!("outer").in_scope(|| {
        info_span!("inner").in_scope(|| {
            armed.0.store(true, Ordering::SeqCst);
            assert!(context.try_run(|| ()).unwrap_err().is_carrier());
            info!("refused");
            let left = || {
                forget(info_span!("left"));
                armed.0.store(true, Ordering::SeqCst);
            };
            assert!(context.try_run(left).unwrap_err().is_cleanup());
            info!("not detached");
        });
    });
    let lines = seen.take();
    assert!(lines.contains(&"refused < outer>inner".to_owned()), "{lines:?}");
    assert!(lines.contains(&"not detached < outer>inner".to_owned()), "{lines:?}");
}

/// Enters each span again that is exited.
struct NeverExits;

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for NeverExits {
    fn on_exit(&self, id: &Id, _: LayerContext<'_, S>) {
        dispatcher::get_default(|dispatch| dispatch.enter(id));
    }
}

#[test]
fn a_subscriber_from_which_spans_cannot_be_exited_fails_tasks() {
    finishes("exiting", || {
        let _default = subscriber::set_default(Registry::default().with(NeverExits));
        let (pool, carrier) = pool(1);
        let worker = || std::thread::current().id();
        let before = pool.detached().broadcast(worker);
        let enters = || forget(info_span!("entered"));
        let error = pool.submit(enters).join().unwrap_err();
        assert!(error.is_cleanup() && error.to_string().contains("after 65536 exits"), "{error}");
        assert_ne!(pool.detached().broadcast(worker), before, "it was replaced");
        assert_eq!(carrier.forgotten(), 0, "none that was exited for it");
        forget(info_span!("surrounding"));
        let error = Context::capture().carry(TracingCarrier::new()).try_run(|| ()).unwrap_err();
        assert!(error.is_carrier() && error.to_string().contains("after 65536 exits"), "{error}");
    });
}

/// A subscriber whose spans and which itself cannot be dropped.
struct NeverEnds;

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for NeverEnds {
    fn on_close(&self, _: Id, _: LayerContext<'_, S>) {
        panic!("a close, on purpose");
    }
}

impl Drop for NeverEnds {
    fn drop(&mut self) {
        panic!("a subscriber's drop, on purpose");
    }
}

#[test]
fn a_span_and_a_subscriber_that_both_fail_in_their_drop_cost_one_panic() {
    quiet();
    let context = subscriber::with_default(Registry::default().with(NeverEnds), || {
        info_span!("request").in_scope(|| Context::empty().carry(TracingCarrier::new()))
    });
    let payload = catch_unwind(AssertUnwindSafe(|| drop(context))).unwrap_err();
    assert_eq!(message(&*payload), "a close, on purpose");
}

// A submitter without a subscriber hands none down, and no span of whoever runs its task either.
#[test]
fn what_was_submitted_without_a_subscriber_is_in_no_span_of_the_thread_that_runs_it() {
    let context = Context::empty().carry(TracingCarrier::new());
    let seen = Seen::default();
    let _default = seen.install();
    info_span!("surrounding").in_scope(|| {
        context.run(|| info!("inside"));
        info!("after");
    });
    assert_eq!(seen.take(), ["after < surrounding", "inside < "]);
}

#[test]
fn a_default_dispatcher_that_a_task_forgot_fails_it() {
    let pool = Pool::builder().workers(1).carry(TracingCarrier::new()).build().unwrap();
    let theirs = Seen::default();
    let forgotten = theirs.clone();
    #[expect(clippy::mem_forget, reason = "what is tested")]
    let task = pool.submit(move || std::mem::forget(forgotten.install()));
    let error = task.join().unwrap_err().to_string();
    assert!(error.contains("`tracing`") && error.contains("a default dispatcher"), "{error}");
    pool.submit(|| info!("next")).join().unwrap();
    assert!(theirs.take().is_empty());
    assert_eq!(pool.stats().workers, 1);
}

#[test]
fn a_span_that_a_task_forgot_is_exited_though_it_also_forgot_a_dispatcher() {
    let [mine, theirs] = [(); 2].map(|()| Seen::default());
    let (pool, carrier) = pool(1);
    let _default = mine.install();
    let forgotten = theirs.clone();
    #[expect(clippy::mem_forget, reason = "what is tested")]
    let task = move || {
        forget(info_span!("left"));
        std::mem::forget(forgotten.install());
    };
    pool.submit(task).join().unwrap();
    pool.submit(|| info!("next")).join().unwrap();
    assert_eq!((carrier.forgotten(), theirs.take()), (1, vec![]));
    let told = "a task ended inside spans that it entered; they were exited for it < ";
    assert_eq!(mine.take(), [told, "next < "]);
}

// Broke: it prints as the global one does, and was taken for it: so a task could silence the tasks
// after it, and one that was submitted from silence was heard.
#[test]
fn a_dispatcher_that_does_nothing_is_a_scoped_one_where_there_is_a_global_one() {
    let name =
        "tracing::a_dispatcher_that_does_nothing_is_a_scoped_one_where_there_is_a_global_one";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let seen = Seen::default();
    subscriber::set_global_default(Registry::default().with(seen.clone())).unwrap();
    let (pool, _) = pool(1);
    dispatcher::with_default(&Dispatch::none(), || {
        pool.submit(|| info!("in silence")).join().unwrap();
        pool.map(0..9, |_| info!("in silence"));
    });
    #[expect(clippy::mem_forget, reason = "a guard that stays is what this is about")]
    let silence = || std::mem::forget(dispatcher::set_default(&Dispatch::none()));
    let error = pool.submit(silence).join().unwrap_err().to_string();
    assert!(error.contains("a default dispatcher that the task has set is still there"), "{error}");
    pool.submit(|| info!("after")).join().unwrap();
    assert_eq!(seen.take(), ["after < "]);
}

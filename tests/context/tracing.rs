//! The tracing carrier, with a real subscriber that notes the parents of every event.

use std::sync::{Arc, Mutex};

use cleanslate::foreign::TracingCarrier;
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool};
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
                    // Carries nothing, so it finds what its thread has: on top of this task its spans,
                    // on another worker not even a subscriber.
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
        let apart = lines.iter().filter(|seen| seen.starts_with("apart")).count();
        assert_eq!(lines.len() - apart, 100, "{lines:?}");
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
                #[expect(clippy::mem_forget, reason = "this is what is tested")]
                std::mem::forget(span.entered());
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

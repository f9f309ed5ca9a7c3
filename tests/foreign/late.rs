//! A global subscriber: installed when work was submitted already, and under a map.

use std::sync::{Arc, Mutex, mpsc};

use crate::support::{SHAPES, in_a_process_of_its_own, panic_of};
use cleanslate::foreign::{self, TracingCarrier};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, isolated};
use tracing::{Event, Span, Subscriber, info, info_span, subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Notes the target of each event and the span that it is in.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Seen {
    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        let span = context.event_span(event).map_or("", |span| span.name());
        self.0.lock().unwrap().push(format!("{} < {span}", event.metadata().target()));
    }
}

// Broke: they had captured a dispatcher that does nothing, which hid the global one for ever.
#[test]
fn a_task_submitted_before_the_global_subscriber_is_heard_by_it() {
    if !in_a_process_of_its_own(
        "late::a_task_submitted_before_the_global_subscriber_is_heard_by_it",
    ) {
        return;
    }
    let pool = Pool::builder().workers(1).carry(TracingCarrier::new()).build().unwrap();
    let context = Context::empty().carry(TracingCarrier::new());
    let (begun, begins) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let early = pool.submit(move || {
        begun.send(()).unwrap();
        wait.recv().unwrap();
        info!(target: "begun before", "");
        forget(info_span!("of its own"));
        info!(target: "begun before", "");
    });
    let queued = pool.submit(|| info!(target: "queued", ""));
    let future = async { info!(target: "future", "") }.isolated_in(&context);

    begins.recv().unwrap();
    let seen = Seen::default();
    subscriber::set_global_default(Registry::default().with(seen.clone())).unwrap();
    go.send(()).unwrap();
    early.join().unwrap();
    queued.join().unwrap();
    let surrounding = info_span!("surrounding");
    surrounding.in_scope(|| {
        futures_lite::future::block_on(future);
        context.run(|| info!(target: "context", ""));
        info!(target: "around", "");
    });
    assert_eq!(
        *seen.0.lock().unwrap(),
        [
            "begun before < ",
            "begun before < of its own",
            "cleanslate < ",
            "queued < ",
            "future < ",
            "context < ",
            "around < surrounding",
        ]
    );

    // A scoped one goes before it, as ever.
    let scoped = Seen::default();
    let _default = subscriber::set_default(Registry::default().with(scoped.clone()));
    pool.submit(|| info!(target: "scoped", "")).join().unwrap();
    assert_eq!(*scoped.0.lock().unwrap(), ["scoped < "]);
    assert_eq!(seen.0.lock().unwrap().len(), 7);
}

#[test]
fn a_task_of_the_global_subscriber_is_not_heard_by_one_around_the_thread_that_runs_it() {
    let name =
        "late::a_task_of_the_global_subscriber_is_not_heard_by_one_around_the_thread_that_runs_it";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let (global, around) = (Seen::default(), Seen::default());
    subscriber::set_global_default(Registry::default().with(global.clone())).unwrap();
    let context = info_span!("request").in_scope(|| Context::empty().carry(TracingCarrier::new()));
    subscriber::with_default(Registry::default().with(around.clone()), || {
        context.run(|| info!(target: "inside", ""));
        info!(target: "after", "");
    });
    assert_eq!(*global.0.lock().unwrap(), ["inside < request"]);
    assert_eq!(*around.0.lock().unwrap(), ["after < "]);
}

#[test]
fn an_installed_carrier_takes_spans_and_subscribers_along_or_nothing() {
    let name = "late::an_installed_carrier_takes_spans_and_subscribers_along_or_nothing";
    if !in_a_process_of_its_own(name) {
        return;
    }
    foreign::install(TracingCarrier::new()).unwrap();
    let (global, scoped) = (Seen::default(), Seen::default());
    subscriber::set_global_default(Registry::default().with(global.clone())).unwrap();
    let request = info_span!("request");
    let of_request = request.in_scope(|| isolated(|| info!(target: "of the request", "")));
    let of_scoped = subscriber::with_default(Registry::default().with(scoped.clone()), || {
        isolated(|| info!(target: "of the scoped one", ""))
    });
    let of_nobody = isolated(|| info!(target: "of nobody", ""));
    info_span!("around").in_scope(|| {
        of_request();
        of_scoped();
        of_nobody();
    });
    assert_eq!(*global.0.lock().unwrap(), ["of the request < request", "of nobody < "]);
    assert_eq!(*scoped.0.lock().unwrap(), ["of the scoped one < "]);
}

// With a dispatcher that is the process's, items of a map are told apart without attaching each.
#[test]
fn no_item_of_a_map_is_in_a_span_that_another_one_forgot() {
    if !in_a_process_of_its_own("late::no_item_of_a_map_is_in_a_span_that_another_one_forgot") {
        return;
    }
    let seen = Seen::default();
    subscriber::set_global_default(Registry::default().with(seen.clone())).unwrap();
    let request = info_span!("request");
    for workers in SHAPES {
        let carrier = TracingCarrier::new();
        let pool = Pool::builder().workers(workers).carry(carrier.clone()).build().unwrap();
        let map = || {
            pool.map(0..1_000, |n| {
                let found = Span::current().metadata().map(|data| data.name());
                match n % 25 {
                    3 => forget(info_span!("forgotten")),
                    4 => forget(Span::current()),
                    5 => Span::current().with_subscriber(|(id, at)| at.exit(id)).unwrap_or(()),
                    6 => drop(info_span!("its own").entered()),
                    _ => {}
                }
                found
            })
        };
        assert_eq!(map(), [None; 1_000]);
        assert_eq!(request.in_scope(map), [Some("request"); 1_000]);
        assert_eq!(carrier.forgotten(), 80);
        assert_eq!(pool.detached().broadcast(|| Span::current().is_none()), vec![true; workers]);
    }
    let reported = seen.0.lock().unwrap();
    assert_eq!(reported.len(), 80 * SHAPES.len(), "each forgotten span is told of");
}

/// Enters a span and never exits it.
fn forget(span: Span) {
    span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
    #[expect(clippy::mem_forget, reason = "a closed span is no longer current")]
    std::mem::forget(span);
}

#[test]
fn a_default_dispatcher_that_an_item_forgot_fails_the_map_and_is_seen_by_no_other() {
    let name =
        "late::a_default_dispatcher_that_an_item_forgot_fails_the_map_and_is_seen_by_no_other";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let (global, left) = (Seen::default(), Seen::default());
    subscriber::set_global_default(Registry::default().with(global.clone())).unwrap();
    for workers in SHAPES {
        let pool = Pool::builder().workers(workers).carry(TracingCarrier::new()).build().unwrap();
        let failed = panic_of(|| {
            pool.map(0..1_000, |n| {
                info!("an item");
                if n == 50 {
                    let subscriber = Registry::default().with(left.clone());
                    #[expect(clippy::mem_forget, reason = "what is tested")]
                    std::mem::forget(subscriber::set_default(subscriber));
                }
            })
        });
        assert!(failed.contains("a default dispatcher"), "{failed}");
        pool.map(0..1_000, |_| info!("an item"));
        assert!(left.0.lock().unwrap().is_empty());
        assert_eq!(pool.stats().workers, workers);
    }
}

#[test]
fn a_span_of_the_global_subscriber_is_exited_though_the_task_also_forgot_a_dispatcher() {
    let name =
        "late::a_span_of_the_global_subscriber_is_exited_though_the_task_also_forgot_a_dispatcher";
    if !in_a_process_of_its_own(name) {
        return;
    }
    let (global, left) = (Seen::default(), Seen::default());
    subscriber::set_global_default(Registry::default().with(global.clone())).unwrap();
    let carrier = TracingCarrier::new();
    let context = Context::empty().carry(carrier.clone());
    let failed = context.try_run(|| {
        forget(info_span!("forgotten"));
        let subscriber = Registry::default().with(left.clone());
        #[expect(clippy::mem_forget, reason = "what is tested")]
        std::mem::forget(subscriber::set_default(subscriber));
    });
    assert!(failed.unwrap_err().to_string().contains("a default dispatcher"));
    assert_eq!((carrier.forgotten(), left.0.lock().unwrap().len()), (1, 0));
    assert_eq!(*global.0.lock().unwrap(), ["cleanslate < "]);
}

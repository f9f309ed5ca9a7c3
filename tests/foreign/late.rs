//! A global subscriber that is installed when work was submitted already.

use std::sync::{Arc, Mutex, mpsc};

use crate::support::in_a_process_of_its_own;
use cleanslate::foreign::TracingCarrier;
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool};
use tracing::{Event, Subscriber, info, info_span, subscriber};
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
        let span = info_span!("of its own");
        span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
        info!(target: "begun before", "");
        #[expect(clippy::mem_forget, reason = "it must not reach the next task")]
        std::mem::forget(span);
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

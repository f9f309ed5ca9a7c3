//! The tracing carrier with a subscriber whose calls fail one by one.

use std::sync::{Arc, Mutex};

use crate::support::quiet;
use cleanslate::Context;
use cleanslate::foreign::TracingCarrier;
use tracing::field::{Field, Visit};
use tracing::span::Id;
use tracing::subscriber::{self, DefaultGuard};
use tracing::{Event, Span, Subscriber, dispatcher, info_span};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Lists the spans that are entered. What fails to exit one, or one named `stuck`, enters it again.
#[derive(Clone, Default)]
struct Listing(Arc<Lists>);

#[derive(Default)]
struct Lists {
    entered: Mutex<Vec<&'static str>>,
    /// The calls that fail, once each: `enter a`.
    failing: Mutex<Vec<&'static str>>,
    /// How many spans were told of, each time.
    told: Mutex<Vec<u64>>,
}

impl Listing {
    fn install(&self) -> DefaultGuard {
        subscriber::set_default(Registry::default().with(self.clone()))
    }

    fn entered(&self) -> Vec<&'static str> {
        self.0.entered.lock().unwrap().clone()
    }

    fn is_failing(&self, call: &str) -> bool {
        let mut failing = self.0.failing.lock().unwrap();
        let before = failing.len();
        failing.retain(|fails| *fails != call);
        failing.len() < before
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Listing {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        assert!(!self.is_failing("event"), "event, on purpose");
        event.record(&mut self.clone());
    }

    fn on_enter(&self, id: &Id, context: LayerContext<'_, S>) {
        let name = context.span(id).unwrap().name();
        self.0.entered.lock().unwrap().push(name);
        assert!(!self.is_failing(&format!("enter {name}")), "enter {name}, on purpose");
    }

    fn on_exit(&self, id: &Id, context: LayerContext<'_, S>) {
        let name = context.span(id).unwrap().name();
        let mut entered = self.0.entered.lock().unwrap();
        let last = entered.iter().rposition(|it| *it == name).unwrap();
        entered.remove(last);
        drop(entered);
        let fails = self.is_failing(&format!("exit {name}"));
        if fails || name == "stuck" {
            dispatcher::get_default(|dispatch| dispatch.enter(id));
        }
        assert!(!fails, "exit {name}, on purpose");
    }
}

impl Visit for Listing {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_u64(&mut self, field: &Field, value: u64) {
        assert_eq!(field.name(), "spans");
        self.0.told.lock().unwrap().push(value);
    }
}

/// Enters a span and never exits it.
fn forget(span: Span) {
    span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
    #[expect(clippy::mem_forget, reason = "a closed span is no longer current")]
    std::mem::forget(span);
}

/// What goes wrong with a task that leaves the span `left`, while such calls fail.
fn failure(listing: &Listing, calls: &[&'static str]) -> String {
    quiet();
    listing.0.failing.lock().unwrap().extend(calls);
    let context = Context::empty().carry(TracingCarrier::new());
    context.try_run(|| forget(info_span!("left"))).unwrap_err().to_string()
}

#[test]
fn a_surrounding_span_that_could_not_be_exited_is_entered_once_afterwards() {
    let listing = Listing::default();
    let _default = listing.install();
    let _outer = info_span!("outer").entered();
    let _inner = info_span!("inner").entered();
    let around = ["outer", "inner"];
    for fails in ["exit inner", "exit outer"] {
        let failure = failure(&listing, &[fails]);
        assert!(failure.contains(fails), "{failure}");
        assert_eq!(listing.entered(), around, "{fails}");
    }
}

#[test]
fn spans_inside_of_one_that_cannot_be_exited_are_entered_again() {
    let listing = Listing::default();
    let _default = listing.install();
    let _stuck = info_span!("stuck").entered();
    let _inner = info_span!("inner").entered();
    let failure = failure(&listing, &[]);
    assert!(failure.contains("after 65536 exits"), "{failure}");
    assert_eq!(listing.entered().last(), Some(&"inner"));
}

#[test]
fn of_several_calls_that_fail_the_first_is_told() {
    let listing = Listing::default();
    let _default = listing.install();
    let _outer = info_span!("outer").entered();
    let _inner = info_span!("inner").entered();
    for (first, second) in [("exit outer", "enter inner"), ("exit left", "enter outer")] {
        let failure = failure(&listing, &[first, second]);
        assert!(failure.contains(first), "{failure}");
        assert!(listing.0.failing.lock().unwrap().is_empty());
    }
}

#[test]
fn a_warning_that_fails_fails_the_task_and_leaves_the_surrounding_span() {
    let listing = Listing::default();
    let _default = listing.install();
    let _outer = info_span!("outer").entered();
    let failure = failure(&listing, &["event"]);
    assert!(failure.contains("event, on purpose"), "{failure}");
    assert_eq!(listing.entered(), ["outer"]);
}

// Broke: beyond 4,096 the subscriber was said not to exit them.
#[test]
fn a_task_may_run_inside_of_many_spans_and_leave_many() {
    let listing = Listing::default();
    let _default = listing.install();
    let carrier = TracingCarrier::new();
    let context = Context::empty().carry(carrier.clone());
    let around: Vec<_> = (0..5_000).map(|_| info_span!("around").entered()).collect();
    context.run(|| {
        assert!(Span::current().is_none());
        (0..5_000).for_each(|_| forget(info_span!("left")));
    });
    assert_eq!(listing.entered(), ["around"; 5_000]);
    assert_eq!(carrier.forgotten(), 5_000);
    assert_eq!(*listing.0.told.lock().unwrap(), [5_000]);
    around.into_iter().rev().for_each(drop);
}

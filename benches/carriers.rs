//! What do carriers cost the items of a map?
//!
//! Those of `tracing`, with a subscriber, and of OpenTelemetry, both of a pool. They tidy up
//! between two items and are attached once for many. They run beside the same carriers attached for
//! each item, and beside a map in a pool that carries nothing: medians of turns.

mod turns;
mod work;

use std::hint::black_box;

use cleanslate::foreign::{BoxError, Carrier, OpenTelemetryCarrier, TracingCarrier};
use cleanslate::{Context, Pool};
use opentelemetry::Context as Current;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::info_span;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use self::turns::{Way, patience, turns};
use self::work::work;

/// A carrier that is attached for each item.
struct OneByOne<C>(C);

impl<C: Carrier> Carrier for OneByOne<C> {
    type Captured = C::Captured;
    type Attached = C::Attached;
    fn name(&self) -> &str {
        self.0.name()
    }
    fn capture(&self) -> Result<C::Captured, BoxError> {
        self.0.capture()
    }
    fn attach(&self, captured: &C::Captured) -> Result<C::Attached, BoxError> {
        self.0.attach(captured)
    }
    fn detach(&self, attached: C::Attached) -> Result<(), BoxError> {
        self.0.detach(attached)
    }
}

/// Nothing is measured without optimisation.
const ITEMS: u64 = if cfg!(debug_assertions) { 1_000 } else { 100_000 };

fn compare(what: &str, workers: usize) {
    let bare = Pool::new(workers).expect("a pool");
    let carrying = Pool::builder()
        .workers(workers)
        .carry(TracingCarrier::new())
        .carry(OpenTelemetryCarrier::new());
    let carrying = carrying.build().expect("a pool");
    let one_by_one = Context::empty()
        .carry(OneByOne(TracingCarrier::new()))
        .carry(OneByOne(OpenTelemetryCarrier::new()));
    let one_by_one = bare.in_context(&one_by_one);
    for (cost, nanos) in [("1 ns", 1), ("100 ns", 100), ("10 µs", 10_000)] {
        let items = if nanos > 1_000 { ITEMS / 100 } else { ITEMS };
        let map = |pool: &Pool| drop(black_box(pool.map_range(0..items, |_| work(nanos))));
        let beside_bare = |pool: &Pool| {
            let ways: [Way<'_>; 2] =
                [("", Box::new(|| map(pool))), ("nothing", Box::new(|| map(&bare)))];
            let (nanos, ratios) = turns(&ways, items as usize, patience());
            (nanos, ratios[ratios.len() / 2])
        };
        let (shared, shared_ratio) = beside_bare(&carrying);
        let (each, each_ratio) = beside_bare(&one_by_one);
        println!(
            "{what:>12}, items of {cost:>6}: nothing carried {:8.1} ns an item, \
             carriers {shared_ratio:.2} ({:+.1} ns), attached for each item {each_ratio:.2} \
             ({:+.1} ns)",
            shared[1],
            shared[0] - shared[1],
            each[0] - each[1],
        );
    }
}

fn main() {
    registry().init();
    for workers in [1, 2] {
        println!("{workers} workers");
        compare("no span", workers);
        let span = SpanContext::new(
            TraceId::from(1),
            SpanId::from(1),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        let _current = Current::new().with_remote_span_context(span).attach();
        info_span!("request").in_scope(|| compare("in a span", workers));
    }
}

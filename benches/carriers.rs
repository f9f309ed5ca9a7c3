//! What do carriers cost the items of a map?
//!
//! Those of `tracing`, with a subscriber, and of OpenTelemetry, both installed. They tidy up
//! between two items and are attached once for many. Beside that, the same carriers without this,
//! which are attached for each item, and a map that carries nothing. In turns, so that what else
//! the machine does weighs on all.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cleanslate::foreign::{self, BoxError, Carrier, OpenTelemetryCarrier, TracingCarrier};
use cleanslate::{Context, Pool};
use opentelemetry::Context as Current;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::info_span;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

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

/// A dependent chain of that many multiplications, about a nanosecond each.
#[inline(never)]
fn chain(seed: u64, rounds: u64) -> u64 {
    (0..rounds).fold(seed, |x, _| black_box(x).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Unoptimised nothing is measured.
const ITEMS: u64 = if cfg!(debug_assertions) { 1_000 } else { 100_000 };

fn compare(what: &str, pool: &Pool, patience: Duration) {
    let one_by_one = Context::empty()
        .carry(OneByOne(TracingCarrier::new()))
        .carry(OneByOne(OpenTelemetryCarrier::new()));
    let pools = [pool.detached(), pool.clone(), pool.in_context(&one_by_one)];
    for (cost, rounds) in [("1 ns", 1), ("100 ns", 100), ("10 us", 10_000)] {
        let items = if rounds > 1_000 { ITEMS / 100 } else { ITEMS };
        let mut samples = [const { Vec::new() }; 3];
        let start = Instant::now();
        while samples[0].len() < 3 || start.elapsed() < patience {
            for (pool, samples) in pools.iter().zip(&mut samples) {
                let start = Instant::now();
                black_box(pool.map_range(0..items, |n| chain(n, rounds)));
                samples.push(start.elapsed().as_secs_f64());
            }
        }
        // The best ones: whatever disturbs a run makes it longer.
        let [nothing, shared, each] = samples
            .map(|samples| samples.into_iter().fold(f64::MAX, f64::min) * 1e9 / items as f64);
        println!(
            "{what:>12}, items of {cost:>6}: nothing carried {nothing:8.1} ns an item, \
             carriers {:.2} ({:+.1} ns), attached for each item {:.2} ({:+.1} ns)",
            shared / nothing,
            shared - nothing,
            each / nothing,
            each - nothing,
        );
    }
}

fn main() {
    let short = std::env::args().any(|argument| argument == "--test");
    let patience = if short { Duration::ZERO } else { Duration::from_secs(3) };
    registry().init();
    foreign::install(TracingCarrier::new()).expect("it is the first");
    foreign::install(OpenTelemetryCarrier::new()).expect("it is the first");
    for workers in [1, 2] {
        println!("{workers} workers");
        let pool = Pool::new(workers).expect("a pool");
        compare("no span", &pool, patience);
        let span = SpanContext::new(
            TraceId::from(1),
            SpanId::from(1),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        let _current = Current::new().with_remote_span_context(span).attach();
        info_span!("request").in_scope(|| compare("in a span", &pool, patience));
    }
}

//! Spans of the real SDK, from every kind of task: who is whose parent, and with which baggage.

use std::collections::HashMap;

use cleanslate::foreign::{OpenTelemetryCarrier, TracingCarrier};
use cleanslate::future::FutureExt;
use cleanslate::rayon::ParallelIteratorExt;
use cleanslate::{Context, Pool, isolated_in};
use futures_lite::future::yield_now;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanId, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context as Current, KeyValue};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracer, SdkTracerProvider, SpanData};
use rayon::prelude::*;

const REQUESTS: usize = 20;

struct Telemetry {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Telemetry {
    fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let tracer = provider.tracer("interop");
        Self { exporter, provider, tracer }
    }

    /// The spans that have ended since the last time of asking.
    fn spans(&self) -> Vec<SpanData> {
        self.provider.force_flush().unwrap();
        let spans = self.exporter.get_finished_spans().unwrap();
        self.exporter.reset();
        spans
    }
}

/// Starts a span that says whose request it belongs to.
fn span(tracer: &SdkTracer, name: &'static str) -> Current {
    let tenant = Current::current().baggage().get("tenant").map(ToString::to_string);
    let tenant = KeyValue::new("tenant", tenant.unwrap_or_else(|| "nobody".to_owned()));
    let span = tracer.span_builder(name).with_attributes([tenant]).start(tracer);
    Current::current_with_span(span)
}

/// Does what a task does: a span within a span.
fn task(tracer: &SdkTracer) {
    let _outer = span(tracer, "task").attach();
    let _inner = span(tracer, "step").attach();
}

/// Runs `serve` within the span and the baggage of each request.
fn each_request(tracer: &SdkTracer, mut serve: impl FnMut(usize)) {
    for number in 0..REQUESTS {
        let _baggage =
            Current::current_with_baggage([KeyValue::new("tenant", number.to_string())]).attach();
        let _request = span(tracer, "request").attach();
        serve(number);
    }
}

/// Checks that each request has `tasks` tasks of its own, each with a step, all in its trace.
#[track_caller]
fn check(spans: &[SpanData], tasks: usize) {
    let by_id: HashMap<SpanId, &SpanData> =
        spans.iter().map(|span| (span.span_context.span_id(), span)).collect();
    let tenant = |span: &SpanData| span.attributes[0].value.to_string();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    assert_eq!(named("request").len(), REQUESTS);
    for (name, parent) in [("task", "request"), ("step", "task")] {
        let mut per_tenant: HashMap<String, usize> = HashMap::new();
        for span in named(name) {
            let above = by_id.get(&span.parent_span_id).expect("it has a parent");
            assert_eq!(above.name, parent);
            assert_eq!(above.span_context.trace_id(), span.span_context.trace_id());
            assert_eq!(tenant(above), tenant(span));
            *per_tenant.entry(tenant(span)).or_default() += 1;
        }
        assert_eq!(per_tenant.len(), REQUESTS, "{name}");
        assert!(per_tenant.values().all(|count| *count == tasks), "{name}: {per_tenant:?}");
    }
}

#[test]
fn spans_of_a_pools_tasks_have_the_right_parent_and_baggage() {
    let telemetry = Telemetry::new();
    let tracer = &telemetry.tracer;
    for workers in [1, 2, 5] {
        let pool =
            Pool::builder().workers(workers).carry(OpenTelemetryCarrier::new()).build().unwrap();
        let mut handles = Vec::new();
        each_request(tracer, |_| {
            for _ in 0..3 {
                let tracer = tracer.clone();
                handles.push(pool.submit(move || task(&tracer)));
            }
        });
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        check(&telemetry.spans(), 3);
        each_request(tracer, |_| {
            pool.map(0..40, |_| task(tracer));
            pool.map_range(0..40, |_| task(tracer));
            pool.scope(|s| {
                for _ in 0..5 {
                    s.submit(|| task(tracer));
                }
            });
            // A task that waits runs others on top of itself.
            pool.map(0..5, |_| drop(pool.map(0..3, |_| task(tracer))));
        });
        check(&telemetry.spans(), 40 + 40 + 5 + 15);
    }
}

#[test]
fn spans_on_rayon_have_the_right_parent_and_baggage() {
    let telemetry = Telemetry::new();
    let tracer = &telemetry.tracer;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    each_request(tracer, |_| {
        let context = Context::capture().carry(OpenTelemetryCarrier::new());
        threads.install(|| {
            (0..50).into_par_iter().isolated_in(&context).for_each(|_| {
                rayon::join(|| (), || ());
                task(tracer);
            });
        });
        let tracer = tracer.clone();
        threads
            .install(|| rayon::scope(|s| s.spawn(|_| isolated_in(&context, || task(&tracer))())));
    });
    check(&telemetry.spans(), 51);
}

#[test]
fn spans_of_futures_and_of_blocking_threads_have_the_right_parent_and_baggage() {
    let telemetry = Telemetry::new();
    let tracer = &telemetry.tracer;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut running = Vec::new();
    each_request(tracer, |_| {
        let context = Context::capture().carry(OpenTelemetryCarrier::new());
        let of_future = tracer.clone();
        let future = async move {
            task(&of_future);
            yield_now().await;
            task(&of_future);
        };
        running.push(runtime.spawn(future.isolated_in(&context)));
        let of_thread = tracer.clone();
        running.push(runtime.spawn_blocking(context.wrap(move || task(&of_thread))));
    });
    for task in running {
        runtime.block_on(task).unwrap();
    }
    check(&telemetry.spans(), 3);
}

// With `tracing-opentelemetry`, entering a span of `tracing` attaches a context, and exiting it
// detaches that: also the spans that surround a task which runs on top of another one.
#[test]
fn both_carriers_together_keep_the_order_of_what_is_attached() {
    use tracing_subscriber::layer::SubscriberExt;

    let telemetry = Telemetry::new();
    let layer = tracing_opentelemetry::layer().with_tracer(telemetry.tracer.clone());
    let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    for (workers, order) in [(1, true), (2, true), (5, true), (1, false), (2, false), (5, false)] {
        let builder = Pool::builder().workers(workers);
        let builder = match order {
            true => builder.carry(TracingCarrier::new()).carry(OpenTelemetryCarrier::new()),
            false => builder.carry(OpenTelemetryCarrier::new()).carry(TracingCarrier::new()),
        };
        let pool = builder.build().unwrap();
        let work = || {
            let _task = tracing::info_span!("task").entered();
            let _step = tracing::info_span!("step").entered();
        };
        for _ in 0..REQUESTS {
            let _request = tracing::info_span!("request").entered();
            pool.submit(work).join().unwrap();
            pool.map(0..20, |_| {
                let _outer = tracing::info_span!("outer").entered();
                pool.map(0..3, |_| work());
                // On top of this task, with one carrier only.
                Context::capture().carry(TracingCarrier::new()).run(work);
            });
        }
        let spans = telemetry.spans();
        let by_id: HashMap<SpanId, &SpanData> =
            spans.iter().map(|span| (span.span_context.span_id(), span)).collect();
        let parent = |span: &SpanData| by_id.get(&span.parent_span_id).map(|above| &*above.name);
        for span in &spans {
            let above = parent(span);
            match &*span.name {
                "request" => assert_eq!(above, None),
                "outer" => assert_eq!(above, Some("request")),
                "task" => assert!(matches!(above, Some("request" | "outer"))),
                _ => assert_eq!(above, Some("task")),
            }
        }
        let tasks = spans.iter().filter(|span| span.name == "task").count();
        assert_eq!(tasks, REQUESTS * (1 + 20 * 4));
    }
}

//! OpenTelemetry: the spans that have ended, kept here instead of being sent to a collector.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use opentelemetry::Context;
use opentelemetry::trace::{SpanId, TraceContextExt, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};

/// How many are kept.
const KEPT: usize = 100_000;

static ENDED: Mutex<VecDeque<SpanData>> = Mutex::new(VecDeque::new());

fn ended() -> MutexGuard<'static, VecDeque<SpanData>> {
    ENDED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Exporter;

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut ended = ended();
        ended.extend(batch);
        let too_many = ended.len().saturating_sub(KEPT);
        ended.drain(..too_many);
        Ok(())
    }
}

/// Makes what starts spans.
pub(crate) fn tracer() -> SdkTracer {
    SdkTracerProvider::builder().with_simple_exporter(Exporter).build().tracer("web_service")
}

/// The trace that this code belongs to.
pub(crate) fn trace() -> String {
    Context::map_current(|current| current.span().span_context().trace_id().to_string())
}

/// Counts the spans of workers since the last call, and those among them that are not below the
/// span of their own request.
pub(crate) fn count() -> (usize, usize) {
    let spans = std::mem::take(&mut *ended());
    let number = |span: &SpanData| {
        let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == "request");
        found.map(|attribute| attribute.value.to_string())
    };
    let requests: HashMap<SpanId, _> = spans
        .iter()
        .filter(|span| span.name == "request")
        .map(|span| (span.span_context.span_id(), number(span)))
        .collect();
    let of_workers = spans.iter().filter(|span| span.name == "work");
    let lost = of_workers
        .clone()
        .filter(|span| requests.get(&span.parent_span_id) != Some(&number(span)))
        .count();
    (of_workers.count(), lost)
}

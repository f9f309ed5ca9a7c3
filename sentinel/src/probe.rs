//! State that no thread-local's bytes show, asked for by a function.

use crate::contain::contain;
use crate::leak::Leak;

/// A function whose answer must be the same before a task and after it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    name: Box<str>,
    read: fn() -> u64,
}

impl Probe {
    pub(super) fn new(name: &str, read: fn() -> u64) -> Probe {
        Probe { name: name.into(), read }
    }

    /// Returns the probes of the crate's features.
    pub(super) fn built_in() -> Vec<Probe> {
        vec![
            #[cfg(feature = "tracing")]
            Probe::new("tracing's current span", || {
                let id_of = |span: &tracing_core::span::Current| {
                    span.id().map_or(0, tracing_core::span::Id::into_u64)
                };
                tracing_core::dispatcher::get_default(|default| id_of(&default.current_span()))
            }),
            // An attached context shows in the bytes, except for the first touch, which a rule
            // allows. So this makes the first touch before the task.
            #[cfg(feature = "opentelemetry")]
            Probe::new("opentelemetry's current context", || {
                opentelemetry::Context::map_current(|_| 0)
            }),
        ]
    }
}

/// Asks all probes, before a task. If one panics, there is nothing to compare.
pub(super) fn ask(probes: &[Probe], answers: &mut Vec<Option<u64>>) {
    answers.clear();
    answers.extend(probes.iter().map(|probe| contain(probe.read)));
}

/// Asks all probes again, after the task, and adds a leak for each that answers differently.
pub(super) fn ask_again(probes: &[Probe], answers: &[Option<u64>], leaks: &mut Vec<Leak>) {
    for (probe, &before) in probes.iter().zip(answers) {
        if let (Some(before), Some(after)) = (before, contain(probe.read)) {
            if before != after {
                leaks.push(Leak::of_probe(&probe.name, before, after));
            }
        }
    }
}

//! What a task leaves current on its worker is found, also if it is the worker's first task.

#![expect(clippy::mem_forget, reason = "tasks that forget guards are what is tested")]

use super::*;

/// What each of some tasks on one worker left, in order.
fn left_by(tasks: &[fn()]) -> Vec<Vec<String>> {
    let log = Log::default();
    let pool = pool(1, log.of(Sentinel::new()));
    let left = |task: &fn()| {
        pool.submit(*task).join().unwrap();
        log.take().into_iter().flat_map(|told| told.paths).collect()
    };
    tasks.iter().map(left).collect()
}

fn forget_dispatcher() {
    std::mem::forget(tracing::subscriber::set_default(tracing_subscriber::registry()));
}

#[test]
fn a_default_dispatcher_that_a_task_forgets_is_found_each_time() {
    let left = left_by(&[forget_dispatcher, forget_dispatcher]);
    assert_eq!(left, [["tracing_core::dispatcher::CURRENT_STATE"]; 2]);
}

#[test]
fn a_runtime_that_a_task_forgets_to_leave_is_found() {
    let left = left_by(&[|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::mem::forget(runtime.enter());
    }]);
    assert_eq!(left, [["tokio::runtime::context::CONTEXT"]]);
}

#[cfg(feature = "tracing")]
#[test]
fn a_span_that_a_task_forgets_to_leave_is_found_each_time() {
    // For the whole process: a scoped dispatcher would be gone with the task.
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
    let forget: fn() = || std::mem::forget(tracing::info_span!("request").entered());
    let keep: fn() = || tracing::info_span!("request").in_scope(|| tracing::info!("inside"));
    let left = left_by(&[forget, keep, forget, forget]);
    let span = vec!["tracing's current span"];
    assert_eq!(left, [span.clone(), vec![], span.clone(), span]);
}

#[cfg(feature = "opentelemetry")]
#[test]
fn a_context_that_a_task_forgets_to_detach_is_found_each_time() {
    let forget: fn() = || {
        std::mem::forget(opentelemetry::Context::new().with_value(1_u64).attach());
    };
    let left = left_by(&[forget, forget]);
    assert_eq!(left, [["opentelemetry::context::CURRENT_CONTEXT"]; 2]);
}

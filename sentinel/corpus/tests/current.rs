//! What a task leaves current on its thread is found, also if it is the thread's first touch.

use std::mem::forget;

use cleanslate_sentinel::Report;
use sentinel_corpus::{on_fresh_thread, watch_rounds};

/// What the first rounds of a body on a fresh thread left.
fn rounds(body: impl Fn(u64) + Sync) -> Vec<Report> {
    on_fresh_thread(|| watch_rounds(3, &body))
}

#[track_caller]
fn assert_found(report: &Report, path: &str) {
    let paths: Vec<_> = report.leaks().iter().map(|leak| leak.path().unwrap_or("?")).collect();
    assert_eq!(paths, [path], "{report}");
}

#[test]
fn a_default_dispatcher_that_stays_is_found_each_time() {
    let reports = rounds(|_| {
        forget(tracing::subscriber::set_default(tracing_subscriber::registry()));
    });
    for report in &reports {
        assert_found(report, "tracing_core::dispatcher::CURRENT_STATE");
    }
}

#[test]
fn default_dispatchers_that_come_and_go_are_no_leak() {
    let reports = rounds(|round| {
        // Of different types and at different places, so that what is left of one differs from
        // what is left of the other.
        let registry = tracing_subscriber::registry();
        let fmt = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
        let outer = tracing::subscriber::set_default(fmt);
        let inner = tracing::subscriber::set_default(registry);
        tracing::info!(round, "inside");
        drop(inner);
        if round == 2 {
            let _kept: &'static _ = Box::leak(Box::new(round));
            tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), || {});
        }
        drop(outer);
    });
    for report in &reports {
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn a_recorder_that_stays_is_found() {
    let reports = rounds(|round| {
        // The first one only looks whether there is a recorder.
        metrics::counter!("tasks").increment(1);
        if round > 1 {
            forget(metrics::set_default_local_recorder(&metrics::NoopRecorder));
        }
    });
    assert!(reports[0].is_clean(), "{}", reports[0]);
    assert_found(&reports[1], "metrics::recorder::LOCAL_RECORDER");
}

#[test]
fn a_runtime_that_stays_entered_is_found() {
    let runtimes = [
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap(),
        tokio::runtime::Builder::new_current_thread().build().unwrap(),
    ];
    for runtime in &runtimes {
        let reports = rounds(|_| forget(runtime.handle().enter()));
        assert_found(&reports[0], "tokio::runtime::context::CONTEXT");
        // A blind spot, as documented: one of the same kind was entered already.
        assert!(reports[1].is_clean(), "{}", reports[1]);
    }
    let [multi, current] = &runtimes;
    let reports = rounds(|round| {
        forget(if round == 1 { multi } else { current }.handle().enter());
    });
    assert_found(&reports[1], "tokio::runtime::context::CONTEXT");
}

#[test]
fn runtimes_that_are_left_again_and_what_tasks_use_up_are_no_leak() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let reports = rounds(|_| {
        drop(runtime.handle().enter());
        // Uses some of the task's budget, and random numbers.
        runtime.block_on(async {
            let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
            for _ in 0..8 {
                sender.send(1).await.unwrap();
            }
            tokio::select! {
                number = receiver.recv() => assert_eq!(number, Some(1)),
                () = std::future::pending() => unreachable!(),
            }
        });
    });
    for report in &reports {
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn a_local_set_that_stays_entered_is_found_each_time() {
    let reports = rounds(|_| {
        let local = tokio::task::LocalSet::new();
        forget(local.enter());
    });
    for report in &reports {
        let [leak] = report.leaks() else { panic!("{report}") };
        assert_eq!(leak.path(), Some("tokio::task::local::CURRENT"));
    }
}

#[test]
fn a_context_that_stays_attached_is_found_where_contexts_were_touched_before() {
    let reports = rounds(|round| forget(opentelemetry::Context::new().with_value(round).attach()));
    // A blind spot, as documented: the first touch is allowed.
    assert!(reports[0].is_clean(), "{}", reports[0]);
    assert_found(&reports[1], "opentelemetry::context::CURRENT_CONTEXT");
    let reports = rounds(|round| match round {
        1 => assert!(opentelemetry::Context::current().get::<u64>().is_none()),
        _ => forget(opentelemetry::Context::new().with_value(round).attach()),
    });
    assert_found(&reports[1], "opentelemetry::context::CURRENT_CONTEXT");
}

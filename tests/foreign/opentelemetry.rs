//! The carrier for OpenTelemetry's current context. With the SDK it is tested in `interop`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::SystemTime;

use crate::support::{SHAPES, in_a_process_of_its_own, on_a_thread, panic_of, quiet};
use cleanslate::foreign::{self, OpenTelemetryCarrier};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, isolated};
use futures_lite::future::{block_on, yield_now};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{
    Span, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context as Current, ContextGuard, KeyValue};

/// Makes a context with a span of its own and the tenant as its baggage.
fn request(tenant: &'static str) -> Current {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let span = SpanContext::new(
        TraceId::from(u128::from(number)),
        SpanId::from(number),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    Current::new().with_remote_span_context(span).with_baggage([KeyValue::new("tenant", tenant)])
}

/// The span and the tenant that are current.
fn seen() -> (SpanId, Option<String>) {
    Current::map_current(|current| {
        let tenant = current.baggage().get("tenant").map(ToString::to_string);
        (current.span().span_context().span_id(), tenant)
    })
}

fn nothing() -> (SpanId, Option<String>) {
    (SpanId::INVALID, None)
}

#[expect(clippy::mem_forget, reason = "what is tested")]
fn forget(guard: ContextGuard) {
    std::mem::forget(guard);
}

#[test]
fn the_current_context_reaches_every_kind_of_task_and_stays_with_none() {
    for workers in SHAPES {
        let pool =
            Pool::builder().workers(workers).carry(OpenTelemetryCarrier::new()).build().unwrap();
        let acme = request("acme").attach();
        let mine = seen();
        let look = || {
            let found = seen();
            let _other = request("other").attach();
            assert_eq!(seen().1.as_deref(), Some("other"));
            found
        };
        assert_eq!(pool.submit(look).join().unwrap(), mine);
        assert!(pool.map(0..500, |_| look()).iter().all(|found| *found == mine));
        assert!(pool.map_range(0..500, |_| look()).iter().all(|found| *found == mine));
        assert!(pool.broadcast(look).iter().all(|found| *found == mine));
        let nested = pool.clone();
        let inline = pool.submit(move || {
            let inner = {
                let _inner = request("inner").attach();
                nested.submit(look)
            };
            (inner.join().unwrap().1, seen())
        });
        assert_eq!(inline.join().unwrap(), (Some("inner".to_owned()), mine));
        drop(acme);
        assert_eq!(pool.submit(look).join().unwrap(), nothing());
        assert!(pool.map(0..500, |_| look()).iter().all(|found| *found == nothing()));
        assert!(pool.detached().broadcast(seen).iter().all(|found| *found == nothing()));
    }
}

#[test]
fn a_future_finds_its_context_at_every_poll() {
    let acme = request("acme");
    let context = {
        let _acme = acme.clone().attach();
        Context::empty().carry(OpenTelemetryCarrier::new())
    };
    let polled = async {
        let first = seen();
        yield_now().await;
        (first, seen())
    };
    let _other = request("other").attach();
    let (first, second) = block_on(polled.isolated_in(&context));
    assert_eq!(first, second);
    assert_eq!(first.0, acme.span().span_context().span_id());
    assert_eq!(seen().1.as_deref(), Some("other"));
}

#[test]
fn a_context_that_a_task_forgot_fails_it_and_reaches_no_other() {
    quiet();
    for workers in SHAPES {
        let pool =
            Pool::builder().workers(workers).carry(OpenTelemetryCarrier::new()).build().unwrap();
        for current in [None, Some(request("acme"))] {
            let current = current.map(Current::attach);
            let mine = seen();
            // Another one, and one that is like its parent but for a value of the program's own.
            let leaks: [fn() -> Current; 2] =
                [|| request("forgotten"), || Current::current_with_value(7_u8)];
            for leak in leaks {
                let task = pool.submit(move || forget(leak().attach()));
                let error = task.join().unwrap_err();
                assert!(error.to_string().contains("carrier `opentelemetry`"), "{error}");
                assert!(error.to_string().contains("still current"), "{error}");
                let results = pool.map_results(0..60, |n| {
                    let found = seen();
                    let of_mine = Current::map_current(|it| it.get::<u8>().is_none());
                    if n % 20 == 7 {
                        forget(leak().attach());
                    }
                    (found, of_mine)
                });
                assert_eq!(results.iter().filter(|result| result.is_err()).count(), 3);
                assert!(results.into_iter().flatten().all(|found| found == (mine.clone(), true)));
            }
            drop(current);
        }
        assert!(pool.broadcast(seen).iter().all(|found| *found == nothing()));
        assert_eq!(pool.stats().workers, workers);
    }
}

// With a span around it, what is current afterwards is compared with what was before.
#[test]
fn a_forgotten_context_is_told_from_the_one_around_the_thread() {
    let around = request("acme");
    let other = request("other").span().span_context().clone();
    let others: [(&str, Current); 3] = [
        ("another span, with the same baggage", around.with_remote_span_context(other)),
        ("the same span, with other baggage", around.with_baggage([KeyValue::new("tenant", "b")])),
        ("the same, but silenced", around.with_telemetry_suppressed()),
    ];
    let context = Context::empty().carry(OpenTelemetryCarrier::new());
    let forgets = |other: &Current| {
        let _around = around.clone().attach();
        context.try_run(|| forget(other.clone().attach()))
    };
    for (what, other) in others {
        let error = on_a_thread(|| forgets(&other).unwrap_err().to_string());
        assert!(error.contains("still current"), "{what}: {error}");
    }
    on_a_thread(|| forgets(&around)).expect("the one around it, attached once more, hides nothing");
    // Of contexts without a span, none is taken for another.
    let plain = |number: u8| Current::new().with_value(number).attach();
    let error = on_a_thread(|| {
        let _around = plain(1);
        context.try_run(|| forget(plain(2))).unwrap_err().to_string()
    });
    assert!(error.contains("still current"), "{error}");
}

#[test]
fn a_context_of_the_task_below_is_put_down_to_that_one() {
    let carried = || Context::empty().carry(OpenTelemetryCarrier::new());
    let (below, above) = on_a_thread(|| {
        let _request = request("acme").attach();
        let mut above = None;
        let below = carried().try_run(|| {
            let of_below = Current::current();
            above = Some(carried().try_run(|| forget(of_below.attach())).is_ok());
        });
        (below.is_ok(), above)
    });
    assert_eq!((below, above), (false, Some(true)));
}

// Broke: it passed for the one around the task, and the outer task failed in its place.
#[test]
fn a_forgotten_context_with_the_span_of_the_one_around_fails_the_task_that_forgot_it() {
    quiet();
    let pool = Pool::builder().workers(1).carry(OpenTelemetryCarrier::new()).build().unwrap();
    let _request = request("acme").attach();
    let (tell, told) = mpsc::channel();
    let outer = pool.submit({
        let pool = pool.clone();
        move || {
            let forgets = || forget(Current::current_with_value(7_u8).attach());
            let results = pool.map_results(0..3, |n| {
                if n == 1 {
                    forgets()
                }
            });
            let one = pool.submit(forgets).join();
            for results in [results, vec![one]] {
                let texts = results.into_iter().map(|result| result.map_err(|e| e.to_string()));
                tell.send(texts.collect::<Vec<_>>()).unwrap();
            }
            // In the middle of a chunk, where the context is attached again for each item.
            let forgets = |n| {
                if n == 957 {
                    forgets()
                }
            };
            tell.send(vec![Err(panic_of(|| drop(pool.map(0..1_000, forgets))))]).unwrap();
        }
    });
    drop(outer.join());
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told.len(), 3, "{told:?}");
    for results in told {
        let failed = results.iter().filter_map(|result| result.as_ref().err());
        let failed: Vec<_> = failed.collect();
        assert!(failed.len() == 1 && failed[0].contains("still current"), "{results:?}");
    }
}

#[test]
fn what_inherits_nothing_is_in_no_context_of_the_thread_that_runs_it() {
    let pool = Pool::builder().workers(1).carry(OpenTelemetryCarrier::new()).build().unwrap();
    let inner = pool.clone();
    let _acme = request("acme").attach();
    let task = pool.submit(move || inner.detached().submit(seen).join().unwrap());
    assert_eq!(task.join().unwrap(), nothing());
}

// Items are told apart without attaching each; a value of the program's own is noticed as well.
#[test]
fn no_item_of_a_map_finds_a_context_that_another_one_forgot() {
    quiet();
    for workers in SHAPES {
        let pool =
            Pool::builder().workers(workers).carry(OpenTelemetryCarrier::new()).build().unwrap();
        for current in [None, Some(request("acme"))] {
            let current = current.map(Current::attach);
            let mine = seen();
            let wrong = AtomicU64::new(0);
            let check = || {
                let has_value = Current::map_current(|it| it.get::<u8>().is_some());
                wrong.fetch_add(u64::from(has_value || seen() != mine), Ordering::SeqCst);
            };
            let failed = panic_of(|| {
                pool.map(0..1_000, |n| {
                    check();
                    let _its_own = request("its own").attach();
                    if n == 50 {
                        forget(Current::current_with_value(7_u8).attach());
                    }
                })
            });
            assert!(failed.contains("still current"), "{failed}");
            pool.map(0..1_000, |_| check());
            assert_eq!(wrong.into_inner(), 0);
            drop(current);
        }
        assert_eq!(pool.stats().workers, workers);
    }
}

#[test]
fn a_guard_that_is_dropped_out_of_order_is_no_failure() {
    let pool = Pool::builder().workers(1).carry(OpenTelemetryCarrier::new()).build().unwrap();
    let _acme = request("acme").attach();
    let task = pool.submit(|| {
        let first = request("first").attach();
        let second = request("second").attach();
        drop(first);
        let during = seen().1;
        drop(second);
        (during, seen().1)
    });
    assert_eq!(task.join().unwrap(), (Some("second".to_owned()), Some("acme".to_owned())));
}

#[test]
fn a_thread_with_too_many_contexts_runs_no_task_in_the_wrong_one() {
    let context = {
        let _acme = request("acme").attach();
        Context::empty().carry(OpenTelemetryCarrier::new())
    };
    let other = request("other");
    let mut guards = Vec::new();
    let mut refused = 0;
    for _ in 0..70_000 {
        match context.try_run(|| seen().1) {
            Ok(found) => assert_eq!(found.as_deref(), Some("acme")),
            Err(error) => {
                assert!(error.is_carrier() && error.to_string().contains("too many"), "{error}");
                refused += 1;
                if refused > 10 {
                    break;
                }
            }
        }
        guards.push(other.clone().attach());
    }
    assert!(refused > 10);
    guards.into_iter().rev().for_each(drop);
    assert_eq!(context.run(|| seen().1).as_deref(), Some("acme"));
}

#[test]
fn an_installed_carrier_takes_the_context_along_to_other_executors() {
    if !in_a_process_of_its_own(
        "opentelemetry::an_installed_carrier_takes_the_context_along_to_other_executors",
    ) {
        return;
    }
    foreign::install(OpenTelemetryCarrier::new()).unwrap();
    let acme = request("acme").attach();
    let mine = seen();
    assert_eq!(std::thread::spawn(isolated(seen)).join().unwrap(), mine);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let blocking = runtime.spawn_blocking(isolated(seen));
    assert_eq!(runtime.block_on(blocking).unwrap(), mine);
    let spawned = runtime.spawn(
        async {
            tokio::task::yield_now().await;
            seen()
        }
        .isolated(),
    );
    assert_eq!(runtime.block_on(spawned).unwrap(), mine);
    let late = isolated(seen);
    drop(acme);
    assert_eq!(late(), mine);
    assert_eq!(std::thread::spawn(isolated(seen)).join().unwrap(), nothing());
}

// Broke: to ask for a context that is gone panics, which in a destructor ended the process.
#[test]
fn a_thread_whose_contexts_are_gone_has_none_to_take_along() {
    type Seen = (SpanId, Option<String>);

    /// Submits a task where the thread's other thread-locals have ended.
    struct Late(RefCell<Option<(Pool, mpsc::Sender<Seen>)>>);

    impl Drop for Late {
        fn drop(&mut self) {
            if let Some((pool, tell)) = self.0.take() {
                assert_eq!(pool.map([1], |n| n), [1]);
                assert_eq!(pool.imap([1], |n| n).next(), Some(1));
                assert_eq!(isolated(|| 1)() + Context::capture().run(|| 1), 2);
                drop(pool.submit(move || tell.send(seen()).unwrap()));
            }
        }
    }

    thread_local! { static LATE: Late = const { Late(RefCell::new(None)) }; }

    if !in_a_process_of_its_own(
        "opentelemetry::a_thread_whose_contexts_are_gone_has_none_to_take_along",
    ) {
        return;
    }
    quiet();
    foreign::install(OpenTelemetryCarrier::new()).unwrap();
    let (tell, told) = mpsc::channel();
    let pool = Pool::new(1).unwrap();
    std::thread::spawn(move || {
        LATE.with(|late| *late.0.borrow_mut() = Some((pool, tell)));
        drop(request("acme").attach());
    })
    .join()
    .unwrap();
    assert_eq!(told.recv().unwrap(), nothing());
}

#[test]
fn a_task_of_a_thread_that_ends_has_its_context_while_there_are_any() {
    type Found = Option<(SpanId, Option<String>)>;

    struct Late(RefCell<Option<(Context, mpsc::Sender<Found>)>>);

    impl Drop for Late {
        fn drop(&mut self) {
            if let Some((context, tell)) = self.0.take() {
                tell.send(context.try_run(seen).ok()).unwrap();
            }
        }
    }

    thread_local! { static LATE: Late = const { Late(RefCell::new(None)) }; }

    let (tell, told) = mpsc::channel();
    let _acme = request("acme").attach();
    let context = Context::empty().carry(OpenTelemetryCarrier::new());
    on_a_thread(|| {
        // The contexts, which are used first, end last, and what the carrier keeps ends first.
        drop(request("other").attach());
        LATE.with(|late| *late.0.borrow_mut() = Some((context.clone(), tell)));
        context.run(|| ());
    });
    assert_eq!(told.recv().unwrap(), Some(seen()));
}

/// A span that fails when it is dropped.
#[derive(Debug)]
struct FailsToEnd(SpanContext);

impl Span for FailsToEnd {
    fn add_event_with_timestamp<T>(&mut self, _: T, _: SystemTime, _: Vec<KeyValue>)
    where
        T: Into<Cow<'static, str>>,
    {
    }
    fn span_context(&self) -> &SpanContext {
        &self.0
    }
    fn is_recording(&self) -> bool {
        true
    }
    fn set_attribute(&mut self, _: KeyValue) {}
    fn set_status(&mut self, _: Status) {}
    fn update_name<T>(&mut self, _: T)
    where
        T: Into<Cow<'static, str>>,
    {
    }
    fn add_link(&mut self, _: SpanContext, _: Vec<KeyValue>) {}
    fn end_with_timestamp(&mut self, _: SystemTime) {}
}

impl Drop for FailsToEnd {
    fn drop(&mut self) {
        panic!("an end, on purpose");
    }
}

#[test]
fn a_surrounding_span_that_ends_with_a_task_and_fails_fails_the_task() {
    quiet();
    let context = Context::empty().carry(OpenTelemetryCarrier::new());
    let span = FailsToEnd(request("acme").span().span_context().clone());
    let around = Current::new().with_span(span).attach();
    let error = context.try_run(|| drop(around)).unwrap_err();
    assert!(error.to_string().contains("an end, on purpose"), "{error}");
    assert_eq!(seen(), nothing());
}

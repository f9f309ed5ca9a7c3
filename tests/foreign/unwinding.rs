//! Tasks that a `Drop` runs while its thread unwinds: what fails in one fails it all the same.

use std::cell::RefCell;

use cleanslate::foreign::{Carrier, adopt};
use cleanslate::{Context, Pool};

use crate::support::{Census, Fails, panic_of, quiet, while_unwinding};

thread_local! { static KEY: RefCell<Option<Fails>> = const { RefCell::new(None) }; }

// Broke: a drop that panicked in a carrier's `detach` was no failure there.
#[test]
fn the_drop_of_what_a_task_has_left_in_an_adopted_key_fails_it() {
    quiet();
    let census = Census::new();
    let leaves = || KEY.set(Some(Fails::new(&census)));
    let context = Context::empty().carry(adopt(&KEY));
    let try_run = || context.try_run(leaves).unwrap_err().to_string();
    let isolated = || panic_of(cleanslate::isolated_in(&context, leaves));
    for way in [&try_run as &dyn Fn() -> String, &isolated] {
        for said in [way(), while_unwinding(way)] {
            assert!(said.contains("detach") && said.contains("a drop, on purpose"), "{said}");
        }
    }
    let pool = Pool::builder().workers(1).carry(adopt(&KEY)).build().unwrap();
    let inner = pool.clone();
    let leaves = move |_| KEY.set(Some(Fails::new(&census)));
    let task = pool.submit(move || while_unwinding(|| inner.map_results(0..3, leaves)));
    assert!(task.join().unwrap().iter().all(Result::is_err));
}

// As a guard of the user's own may call it in its drop.
#[test]
fn a_detach_by_hand_panics_where_it_may_and_returns_an_error_while_its_thread_unwinds() {
    quiet();
    let (census, carrier) = (Census::new(), adopt(&KEY));
    let detach = || {
        let before = carrier.attach(&()).unwrap();
        KEY.set(Some(Fails::new(&census)));
        carrier.detach(before)
    };
    assert!(panic_of(|| drop(detach())).contains("a drop, on purpose"));
    let error = while_unwinding(detach).unwrap_err();
    assert!(error.to_string().contains("a drop, on purpose"), "{error}");
}

#[cfg(feature = "tracing")]
#[test]
fn a_surrounding_span_that_cannot_be_entered_again_fails_a_task() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use ::tracing::{Id, Subscriber, info_span, subscriber};
    use cleanslate::foreign::TracingCarrier;
    use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
    use tracing_subscriber::{Layer, Registry};

    static IS_ARMED: AtomicBool = AtomicBool::new(false);

    struct Fragile;
    impl<S: Subscriber> Layer<S> for Fragile {
        fn on_enter(&self, _: &Id, _: LayerContext<'_, S>) {
            assert!(!IS_ARMED.swap(false, Ordering::SeqCst), "an enter, on purpose");
        }
    }

    quiet();
    let _default = subscriber::set_default(Registry::default().with(Fragile));
    let context = Context::empty().carry(TracingCarrier::new());
    info_span!("surrounding").in_scope(|| {
        let try_run = || context.try_run(|| IS_ARMED.store(true, Ordering::SeqCst)).unwrap_err();
        for error in [try_run(), while_unwinding(try_run)] {
            assert!(error.is_cleanup() && error.to_string().contains("an enter"), "{error}");
        }
    });
}

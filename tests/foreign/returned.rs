//! What a call returns is not lost where something that ends with the call panics in its drop:
//! a copy in a context, or what a carrier captured. (Rust forgets a value that is in place to be
//! returned if a local's drop panics after that.)

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use cleanslate::foreign::{BoxError, Carrier, install};
use cleanslate::{Context, Pool, TaskError, task_local};

use crate::support::{Census, Counted, FailsAsCopy, in_a_process_of_its_own, panic_of, quiet};

task_local! {
    #[inherit]
    static TENANT: Option<Value> = None;
    #[inherit]
    static USER: Option<Value> = None;
}

/// Is counted. Copies of it do not fail.
struct Value {
    fails: bool,
    counted: Counted,
}

impl Value {
    fn new(census: &Census) -> Self {
        Self { fails: false, counted: census.token() }
    }

    fn that_fails(census: &Census) -> Self {
        Self { fails: true, counted: census.token() }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        Self { fails: false, counted: self.counted.clone() }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert!(!self.fails || std::thread::panicking(), "a drop, on purpose");
    }
}

/// Captures a value whose drop fails, or not; or fails to capture, and to be dropped.
enum Captures {
    Value(Census),
    ValueThatFails(Census),
    Nothing { _carrier: Value },
}

impl Carrier for Captures {
    type Captured = Value;
    type Attached = ();

    fn name(&self) -> &str {
        "captures"
    }

    fn capture(&self) -> Result<Value, BoxError> {
        match self {
            Self::Value(census) => Ok(Value::new(census)),
            Self::ValueThatFails(census) => Ok(Value::that_fails(census)),
            Self::Nothing { .. } => Err("nothing to capture, on purpose".into()),
        }
    }

    fn attach(&self, _: &Value) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Returns whether the call panicked. Nothing may be left of it.
fn panics<R>(census: &Census, call: impl FnOnce() -> R) -> bool {
    quiet();
    let called = catch_unwind(AssertUnwindSafe(call)).map(drop);
    assert_eq!(census.alive(), 0, "something is left");
    called.is_err()
}

#[test]
fn a_context_whose_copy_is_replaced() {
    let census = Census::new();
    assert!(panics(&census, || {
        let context = Context::empty().with(&USER, Some(Value::new(&census)));
        let context = context.with(&TENANT, Some(Value::that_fails(&census)));
        context.with(&TENANT, Some(Value::new(&census)))
    }));
}

// The pool is shut down, so the permit is the last to have the context.
#[test]
fn the_handle_of_a_task_that_was_submitted_with_a_permit() {
    let census = Census::new();
    assert!(panics(&census, || {
        let of_hook = Value::new(&census);
        let hook = move |_| _ = &of_hook;
        let pool = Pool::builder().workers(1).panic_hook(hook).build().unwrap();
        let context = Context::empty().with(&TENANT, Some(Value::that_fails(&census)));
        let permit = pool.in_context(&context).try_reserve().unwrap();
        drop(context);
        pool.shutdown().unwrap();
        permit.submit(|| ())
    }));
}

#[test]
fn an_error_of_a_carrier_that_ends_with_it() {
    let census = Census::new();
    let fails = || Captures::Nothing { _carrier: Value::that_fails(&census) };
    assert!(!panics(&census, || Context::empty().try_carry(fails()).map(drop).unwrap_err()));
    let context = || Context::empty().carry(Captures::ValueThatFails(census.clone()));
    assert!(!panics(&census, || context().try_carry(fails()).map(drop).unwrap_err()));
}

#[test]
fn what_is_submitted_to_a_pool_with_a_nearer_carrier() {
    if !in_a_process_of_its_own("returned::what_is_submitted_to_a_pool_with_a_nearer_carrier") {
        return;
    }
    let census = Census::new();
    install(Captures::ValueThatFails(census.clone())).unwrap();
    let of_pool = Captures::Value(census.clone());
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let told = Arc::clone(&told);
        move |error: TaskError| told.lock().unwrap().push(error.to_string())
    };
    let pool = Pool::builder().workers(1).carry(of_pool).panic_hook(hook).build().unwrap();
    let task = || Value::new(&census);
    assert!(!panics(&census, || pool.map([(), ()], |()| task())));
    assert!(!panics(&census, || pool.scope(|s| s.submit(task).join().unwrap())));
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.len(), 2, "once for each capture: {told:?}");
    assert!(told.iter().all(|error| error.contains("capture") && error.contains("on purpose")));
    assert!(panics(&census, || Context::capture().carry(Captures::Value(census.clone()))));
    #[cfg(feature = "tower")]
    of_a_service(&census);
}

// The capture of the first ends where the second one cannot capture.
#[test]
fn an_error_of_a_carrier_after_another_one_has_captured() {
    if !in_a_process_of_its_own("returned::an_error_of_a_carrier_after_another_one_has_captured") {
        return;
    }
    let census = Census::new();
    let of_error = Census::new();
    let pool = Pool::builder()
        .workers(1)
        .carry(Captures::ValueThatFails(census.clone()))
        .carry(Fails(of_error.clone()))
        .build()
        .unwrap();
    assert!(panic_of(|| pool.submit(|| ())).contains("the error"));
    assert_eq!((census.alive(), of_error.alive()), (0, 0));
    install(Captures::ValueThatFails(census.clone())).unwrap();
    let pool = Pool::builder().workers(1).carry(Fails(of_error.clone())).build().unwrap();
    assert!(panic_of(|| pool.submit(|| ())).contains("the error"));
    assert_eq!((census.alive(), of_error.alive()), (0, 0));
    install(Fails(of_error.clone())).unwrap();
    assert!(Context::try_capture().unwrap_err().to_string().contains("the error"));
    assert_eq!((census.alive(), of_error.alive()), (0, 0));
}

#[test]
fn an_error_of_a_pool_that_is_not_built() {
    let census = Census::new();
    let builder = || {
        let kept = Captures::Nothing { _carrier: Value::that_fails(&census) };
        Pool::builder().workers(1).carry(kept)
    };
    assert!(!panics(&census, || builder().workers(0).build().unwrap_err()));
    let second = || FailsToSayWhatNothingIs(Value::that_fails(&census));
    assert!(!panics(&census, || builder().carry(second()).build().unwrap_err()));
}

#[test]
fn an_error_of_a_carrier_that_is_not_installed() {
    if !in_a_process_of_its_own("returned::an_error_of_a_carrier_that_is_not_installed") {
        return;
    }
    let census = Census::new();
    install(Captures::Value(census.clone())).unwrap();
    let again = || Captures::Nothing { _carrier: Value::that_fails(&census) };
    assert!(!panics(&census, || assert!(install(again()).unwrap_err().is_duplicate())));
    let other = || FailsToSayWhatNothingIs(Value::that_fails(&census));
    assert!(!panics(&census, || install(other()).unwrap_err()));
}

/// Fails to capture, with an error that is counted.
struct Fails(Census);

impl Carrier for Fails {
    type Captured = u8;
    type Attached = ();

    fn name(&self) -> &str {
        "fails"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        Err(Box::new(CountedError(self.0.token())))
    }

    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(Debug)]
struct CountedError(#[expect(dead_code, reason = "it is counted")] Counted);

impl fmt::Display for CountedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the error, on purpose")
    }
}

impl Error for CountedError {}

struct FailsToSayWhatNothingIs(#[expect(dead_code, reason = "it is dropped")] Value);

impl Carrier for FailsToSayWhatNothingIs {
    type Captured = u8;
    type Attached = ();

    fn name(&self) -> &str {
        "says nothing"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        Ok(0)
    }

    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        Ok(())
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }

    fn nothing(&self) -> Option<u8> {
        panic!("nothing, on purpose")
    }
}

/// What `poll_ready` returns, whose context ends with the call.
#[cfg(feature = "tower")]
fn of_a_service(census: &Census) {
    use std::task::{Context as Polling, Poll, Waker};

    use http::{Request, Response};
    use tower_layer::Layer;
    use tower_service::Service;

    #[derive(Clone)]
    struct NeverReady(Census);

    impl Service<Request<String>> for NeverReady {
        type Response = Response<String>;
        type Error = Value;
        type Future = std::future::Ready<Result<Response<String>, Value>>;

        fn poll_ready(&mut self, _: &mut Polling<'_>) -> Poll<Result<(), Value>> {
            Poll::Ready(Err(Value::new(&self.0)))
        }

        fn call(&mut self, _: Request<String>) -> Self::Future {
            unreachable!("it is never ready")
        }
    }

    let layer = cleanslate::tower::IsolateLayer::new(|_: &Request<String>| ());
    let mut service = layer.layer(NeverReady(census.clone()));
    let mut polling = Polling::from_waker(Waker::noop());
    assert!(panics(census, || service.poll_ready(&mut polling)));
}

// Its drop would unwind where the error is to be returned.
#[test]
fn a_copy_that_fails_in_its_drop_does_not_hide_which_carrier_cannot_capture() {
    /// Changes a slot, so that the capture is not kept for the next time.
    struct Copied(FailsAsCopy);
    impl Clone for Copied {
        fn clone(&self) -> Self {
            TENANT.set(None);
            Self(self.0.clone())
        }
    }
    task_local! {
        #[inherit]
        static COPIED: Copied = Copied(FailsAsCopy::default());
    }
    let name = "returned::a_copy_that_fails_in_its_drop_does_not_hide_which_carrier_cannot_capture";
    if !in_a_process_of_its_own(name) {
        return;
    }
    quiet();
    install(Captures::Nothing { _carrier: Value::new(&Census::new()) }).unwrap();
    COPIED.with(|_| ());
    let refused = Context::try_capture().unwrap_err();
    assert!(refused.is_carrier() && refused.to_string().contains("nothing to capture"));
}

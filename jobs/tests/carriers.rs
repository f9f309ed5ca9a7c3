//! A worker in a process with a carrier that fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use apalis::prelude::{BoxDynError, Task, task_fn};
use cleanslate::RunError;
use cleanslate::foreign::{self, BoxError, Carrier};
use cleanslate_jobs::{JobLayer, Wire};
use tower_layer::Layer;
use tower_service::Service;

static FAILS: AtomicBool = AtomicBool::new(false);

/// Cannot be attached while [`FAILS`].
struct Fails;

impl Carrier for Fails {
    type Captured = ();
    type Attached = ();

    fn name(&self) -> &str {
        "on purpose"
    }

    fn capture(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn attach(&self, (): &()) -> Result<(), BoxError> {
        if FAILS.load(Ordering::SeqCst) { Err("no".into()) } else { Ok(()) }
    }

    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }

    fn nothing(&self) -> Option<()> {
        Some(())
    }
}

// Broke: it panicked, in the worker itself and not in a job.
#[test]
fn a_carrier_that_fails_while_a_service_is_asked_is_an_error() {
    foreign::install(Fails).unwrap();
    let mut service = JobLayer::new(Wire::new()).layer(task_fn::<_, u32, ()>(async |_: u32| ()));
    let mut is_ready = || -> Poll<Result<(), BoxDynError>> {
        Service::<Task<u32>>::poll_ready(&mut service, &mut Context::from_waker(Waker::noop()))
    };
    FAILS.store(true, Ordering::SeqCst);
    let Poll::Ready(Err(error)) = is_ready() else { panic!("it is no error") };
    let error = error.downcast::<RunError>().unwrap();
    assert!(error.is_carrier() && error.to_string().contains("`on purpose`"), "{error}");
    FAILS.store(false, Ordering::SeqCst);
    assert!(matches!(is_ready(), Poll::Ready(Ok(()))));
}

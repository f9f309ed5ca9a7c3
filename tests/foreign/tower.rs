//! Requests whose carriers fail.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cleanslate::foreign::{self, BoxError, Carrier, adopt};
use cleanslate::tower::IsolateLayer;
use cleanslate::{is_isolated, task_local};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower_layer::Layer;
use tower_service::Service;

use crate::support::{in_a_process_of_its_own, panic_of, printed_in_a_process_of_its_own, quiet};

thread_local! {
    /// How many more times it can be detached before it fails, once.
    static DETACHES: Cell<i32> = const { Cell::new(0) };
}

struct FailsToDetach;

impl Carrier for FailsToDetach {
    type Captured = u8;
    type Attached = ();
    fn name(&self) -> &str {
        "fails to detach"
    }
    fn capture(&self) -> Result<u8, BoxError> {
        Ok(0)
    }
    fn attach(&self, _: &u8) -> Result<(), BoxError> {
        Ok(())
    }
    fn detach(&self, (): ()) -> Result<(), BoxError> {
        DETACHES.set(DETACHES.get() - 1);
        if DETACHES.get() == -1 { Err("on purpose".into()) } else { Ok(()) }
    }
}

/// Has so many frames left, each of which says how many come after it.
struct Frames(u8);

impl Body for Frames {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(&b"012"[self.0.into()..]))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((0..self.0).map(|left| 3 - u64::from(left)).sum())
    }
}

#[derive(Clone)]
struct Servant;

impl Service<Request<bool>> for Servant {
    type Response = Response<Frames>;
    type Error = &'static str;
    type Future = Ready<Result<Response<Frames>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<bool>) -> Self::Future {
        ready(if request.into_body() { Ok(Response::new(Frames(3))) } else { Err("refused") })
    }
}

/// Polls until there is something, once more after each panic, before which it calls `between`;
/// returns how many there were.
fn persist<T, P>(
    polled: &mut P,
    mut poll: impl FnMut(Pin<&mut P>) -> Poll<T>,
    between: impl Fn(&P),
) -> (T, usize)
where
    P: Unpin,
{
    let mut panics = 0;
    loop {
        if panics != 0 {
            between(polled);
        }
        match catch_unwind(AssertUnwindSafe(|| poll(Pin::new(polled)))) {
            Err(_) => panics += 1,
            Ok(Poll::Ready(value)) => return (value, panics),
            Ok(Poll::Pending) => {}
        }
        assert!(panics < 3, "it goes on and on");
    }
}

// Broke: what the poll had put out was replaced by what came next, and nobody missed it.
#[test]
fn a_response_is_whole_though_a_carrier_fails_to_detach_in_one_of_its_polls() {
    if !in_a_process_of_its_own(
        "tower::a_response_is_whole_though_a_carrier_fails_to_detach_in_one_of_its_polls",
    ) {
        return;
    }
    quiet();
    foreign::install(FailsToDetach).unwrap();
    let mut service = IsolateLayer::new(|_: &Request<bool>| ()).layer(Servant);
    let mut cx = Context::from_waker(Waker::noop());
    // Five polls: of the head, of each frame, and of the end.
    for failing in 0..5 {
        DETACHES.set(failing);
        let mut response = service.call(Request::new(true));
        let (response, mut panics) = persist(&mut response, |r| r.poll(&mut cx), |_| ());
        let mut body = response.unwrap().into_body();
        for left in [&b"2"[..], b"12", b"012"] {
            let (frame, more) = persist(
                &mut body,
                |body| body.poll_frame(&mut cx),
                |body| {
                    assert!(!body.is_end_stream(), "there is a frame");
                    assert_eq!(body.size_hint().exact(), None);
                },
            );
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), left, "poll {failing}");
            panics += more;
        }
        for _ in 0..2 {
            let (end, more) = persist(
                &mut body,
                |body| body.poll_frame(&mut cx),
                |body| assert!(body.is_end_stream() && body.size_hint().exact() == Some(0)),
            );
            assert!(end.is_none(), "poll {failing}");
            panics += more;
        }
        assert_eq!(panics, 1, "poll {failing}");
    }
    DETACHES.set(0);
    let mut response = service.call(Request::new(false));
    let (refused, panics) = persist(&mut response, |r| r.poll(&mut cx), |_| ());
    assert_eq!((refused.err(), panics), (Some("refused"), 1));
    let again = panic_of(|| Pin::new(&mut response).poll(&mut cx).is_ready());
    assert_eq!(again, "a response was polled after it had ended");
}

// Broke: it was polled again and again, as if there were more to come.
#[test]
fn a_body_that_has_panicked_is_at_its_end() {
    struct Breaks;

    impl Body for Breaks {
        type Data = &'static [u8];
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            panic!("a frame, on purpose")
        }
    }

    quiet();
    let handler = |_: Request<()>| ready(Ok::<_, Infallible>(Response::new(Breaks)));
    let mut response = IsolateLayer::default().layer(Answers(handler)).call(Request::new(()));
    let mut cx = Context::from_waker(Waker::noop());
    let (response, _) = persist(&mut response, |r| r.poll(&mut cx), |_| ());
    let mut body = response.unwrap().into_body();
    let (frame, panics) = persist(
        &mut body,
        |body| body.poll_frame(&mut cx),
        |body| assert!(body.is_end_stream() && body.size_hint().exact() == Some(0)),
    );
    assert!(frame.is_none() && panics == 1, "{panics} panics");
}

#[derive(Clone)]
struct Answers<F>(F);

impl<F, B> Service<Request<()>> for Answers<F>
where
    F: Fn(Request<()>) -> Ready<Result<Response<B>, Infallible>>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Ready<Result<Response<B>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        (self.0)(request)
    }
}

// The one that makes the task is the crate's own.
#[test]
fn what_is_said_of_a_request_whose_carrier_fails_names_no_line() {
    let name = "tower::what_is_said_of_a_request_whose_carrier_fails_names_no_line";
    let Some(printed) = printed_in_a_process_of_its_own(name) else {
        foreign::install(FailsToDetach).unwrap();
        let mut response = IsolateLayer::default().layer(Servant).call(Request::new(true));
        let mut cx = Context::from_waker(Waker::noop());
        let (response, panics) = persist(&mut response, |r| r.poll(&mut cx), |_| ());
        assert_eq!((response.is_ok(), panics), (true, 1));
        return;
    };
    assert!(printed.contains("on purpose") && !printed.contains("isolated at"), "{printed}");
}

thread_local! {
    static KEY: Cell<u8> = const { Cell::new(7) };
    /// Is handed down.
    static LEVEL: Cell<u8> = const { Cell::new(0) };
    /// What was cloned or dropped outside of frames, where an assertion might go unheard.
    static BARE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

task_local! {
    static LEFT: &'static str = "fresh";
    #[inherit]
    static AROUND: u8 = 0;
}

fn note(what: &'static str) {
    match is_isolated() {
        true => LEFT.set(what),
        false => BARE.with_borrow_mut(|bare| bare.push(what)),
    }
}

/// Leaves its name in a slot when it is cloned, and when it is dropped.
struct Leaves(&'static str);

impl Clone for Leaves {
    fn clone(&self) -> Self {
        note(self.0);
        Self(self.0)
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        note(self.0);
    }
}

/// What is found of the key, the level, and what surrounds the connection.
fn found() -> (u8, u8, u8) {
    (KEY.replace(9), LEVEL.replace(9), AROUND.replace(9))
}

/// Looks at the key, and fails to be cloned if it is to.
struct Looks {
    left: Leaves,
    is_broken: bool,
}

impl Clone for Looks {
    fn clone(&self) -> Self {
        let left = self.left.clone();
        assert!(!self.is_broken, "on purpose");
        Self { left, is_broken: false }
    }
}

impl Service<Request<Leaves>> for Looks {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        assert_eq!(found(), (0, 3, 0), "poll_ready");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Leaves>) -> Self::Future {
        assert_eq!(found(), (0, 3, 0), "the call");
        ready(Ok(Response::new(Frames(0))))
    }
}

struct FailsToCapture;

impl Carrier for FailsToCapture {
    type Captured = ();
    type Attached = ();
    fn name(&self) -> &str {
        "fails to capture"
    }
    fn capture(&self) -> Result<(), BoxError> {
        if DETACHES.get() == 1 { Err("on purpose".into()) } else { Ok(()) }
    }
    fn attach(&self, (): &()) -> Result<(), BoxError> {
        Ok(())
    }
    fn detach(&self, (): ()) -> Result<(), BoxError> {
        Ok(())
    }
}

// Broke: the service was asked whether it is ready with nothing attached; what was given to a call
// that panicked was dropped in nobody's task; and so were the services, and cloned.
#[test]
fn whatever_a_layer_calls_and_drops_is_isolated() {
    if !in_a_process_of_its_own("tower::whatever_a_layer_calls_and_drops_is_isolated") {
        return;
    }
    quiet();
    foreign::install(adopt(&KEY)).unwrap();
    foreign::install(FailsToCapture).unwrap();
    foreign::install(adopt(&LEVEL).inherited()).unwrap();
    LEVEL.set(3);
    AROUND.set(7);
    let leaves = Leaves("filling");
    let layer = IsolateLayer::new(move |_: &Request<Leaves>| {
        let _ = &leaves;
        assert_eq!((KEY.get(), LEVEL.get(), AROUND.get()), (0, 3, 0), "the filling");
    });
    let mut service = layer.layer(Looks { left: Leaves("service"), is_broken: false });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut response = service.call(Request::new(Leaves("request")));
    assert!(Pin::new(&mut response).poll(&mut cx).is_ready());
    drop(response);
    let mut broken = layer.layer(Looks { left: Leaves("broken"), is_broken: true });
    let call = AssertUnwindSafe(|| drop(broken.call(Request::new(Leaves("request")))));
    assert!(catch_unwind(call).is_err(), "the clone panics");
    let looks = Looks { left: Leaves("filling"), is_broken: true };
    let layer = IsolateLayer::new(move |_: &Request<Leaves>| {
        let _ = &looks;
    });
    let wrap = || drop(layer.layer(Looks { left: Leaves("service"), is_broken: false }));
    assert!(catch_unwind(AssertUnwindSafe(wrap)).is_err(), "the filling's clone panics");
    DETACHES.set(1);
    let call = AssertUnwindSafe(|| drop(service.call(Request::new(Leaves("request")))));
    assert!(catch_unwind(call).is_err(), "a carrier cannot capture");
    drop((service.clone(), service, broken));
    assert_eq!((found(), LEFT.get()), ((7, 3, 7), "fresh"));
    BARE.with_borrow(|bare| assert!(bare.is_empty(), "{bare:?}"));
}

/// A service that holds something.
#[derive(Clone)]
struct Holds(#[expect(dead_code, reason = "is counted")] Arc<()>);

impl Service<Request<()>> for Holds {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(Frames(2))))
    }
}

#[test]
fn a_body_keeps_neither_the_service_nor_what_filled_the_slots() {
    let [of_service, of_filling] = [(); 2].map(|()| Arc::new(()));
    let held = Arc::clone(&of_filling);
    let layer = IsolateLayer::new(move |_: &Request<()>| {
        let _ = &held;
    });
    let mut service = layer.layer(Holds(Arc::clone(&of_service)));
    let mut response = service.call(Request::new(()));
    drop((layer, service));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = Pin::new(&mut response).poll(&mut cx) else {
        panic!("it is ready at once");
    };
    assert_eq!((Arc::strong_count(&of_service), Arc::strong_count(&of_filling)), (1, 1));
    assert!(!response.into_body().is_end_stream());
}

//! Services, futures and bodies whose drops panic, in a layer that makes tasks of requests.

#![expect(clippy::mem_forget, reason = "values whose drop panics")]

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use cleanslate::tower::IsolateLayer;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tower_layer::Layer;
use tower_service::Service;

/// Where a service of [`Fragile`] bodies panics. Whatever it has made panics when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Nowhere,
    Call,
    Serve,
    FirstHint,
    Frame,
    LaterHint,
}

/// Is a service, its future and its body at once.
#[derive(Clone)]
struct Fragile {
    panics: Where,
    frames: usize,
}

/// Panics when it is dropped.
#[derive(Clone, Debug)]
struct Breaks;

impl Drop for Breaks {
    fn drop(&mut self) {
        panic!("a drop");
    }
}

/// What of it is not dropped as a service.
struct Made(Fragile, #[expect(dead_code, reason = "for its drop")] Option<Breaks>);

impl Service<Request<Breaks>> for Fragile {
    type Response = Response<Made>;
    type Error = Infallible;
    type Future = Made;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Breaks>) -> Made {
        std::mem::forget(request);
        assert_ne!(self.panics, Where::Call);
        let breaks = (self.panics == Where::Serve).then(|| Breaks);
        Made(self.clone(), breaks)
    }
}

impl Future for Made {
    type Output = Result<Response<Self>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        assert_ne!(self.0.panics, Where::Serve);
        let mut response = Response::new(Self(self.0.clone(), Some(Breaks)));
        response.extensions_mut().insert(Breaks);
        Poll::Ready(Ok(response))
    }
}

impl HttpBody for Made {
    type Data = Bytes;
    type Error = Breaks;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Breaks>>> {
        assert_ne!(self.0.panics, Where::Frame);
        self.0.frames += 1;
        Poll::Ready((self.0.frames < 3).then(|| Err(Breaks)))
    }

    fn size_hint(&self) -> SizeHint {
        let is_first = self.0.frames == 0;
        assert!(!(is_first && self.0.panics == Where::FirstHint));
        assert!(is_first || self.0.panics != Where::LaterHint);
        SizeHint::default()
    }
}

// Broke: what the service had made was dropped while a panic of its future, or of its body,
// unwound; a drop that panicked as well ended the process.
#[test]
fn what_a_service_made_costs_no_second_panic() {
    fn survives<R>(f: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(f)).ok()
    }
    let mut cx = Context::from_waker(Waker::noop());
    for (panics, frames) in [
        (Where::Nowhere, 2),
        (Where::Call, 0),
        (Where::Serve, 0),
        (Where::FirstHint, 0),
        (Where::Frame, 0),
        (Where::LaterHint, 0),
    ] {
        let mut service =
            IsolateLayer::new(|_: &Request<Breaks>| ()).layer(Fragile { panics, frames: 0 });
        // Some come to their end, with the panic of a drop, and some do not come so far.
        let mut response = Box::pin(service.call(Request::new(Breaks)));
        let mut body = None;
        survives(|| match response.as_mut().poll(&mut cx) {
            Poll::Ready(Ok(response)) => {
                let (parts, begun) = response.into_parts();
                std::mem::forget(parts);
                body = Some(Box::pin(begun));
            }
            other => panic!("{:?}", other.is_pending()),
        });
        survives(|| drop(response));
        let mut seen = 0;
        while let Some(Poll::Ready(Some(frame))) =
            body.as_mut().and_then(|body| survives(|| body.as_mut().poll_frame(&mut cx)))
        {
            std::mem::forget(frame);
            seen += 1;
        }
        assert_eq!(seen, frames, "{panics:?}");
        survives(|| drop(body));
    }
}

/// A service that panics where it is called, and when it is dropped.
#[derive(Clone)]
struct BreaksWhenCalled {
    _breaks: Breaks,
}

impl Service<Request<()>> for BreaksWhenCalled {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        panic!("the call");
    }
}

#[test]
fn what_serves_a_request_and_fills_its_slots_costs_no_second_panic() {
    for fails in ["the closure", "the call"] {
        let breaks = Breaks;
        let fill = move |_: &Request<()>| {
            let _owns = &breaks;
            assert_eq!(fails, "the call", "the closure");
        };
        let layer = IsolateLayer::new(fill);
        let mut service = layer.layer(BreaksWhenCalled { _breaks: Breaks });
        let mut response = Box::pin(service.call(Request::new(())));
        let poll = || response.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let panic = catch_unwind(AssertUnwindSafe(poll)).unwrap_err();
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap();
        // It was dropped before the service was called.
        let expected = if fails == "the call" { "a drop" } else { fails };
        assert!(said.contains(expected), "{fails}: {said}");
        std::mem::forget((layer, service));
    }
}

/// A service whose future panics in its drop, having made a response that holds this.
#[derive(Clone)]
struct EndsInPanic(Arc<()>);

/// Is counted, and panics when it is dropped.
#[derive(Clone)]
struct Held {
    _counted: Arc<()>,
    _breaks: Breaks,
}

struct PanicsInDrop(Option<Arc<()>>);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("the future's drop, on purpose");
    }
}

impl Future for PanicsInDrop {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = Response::new(Body::empty());
        response
            .extensions_mut()
            .insert(Held { _counted: self.0.take().unwrap(), _breaks: Breaks });
        Poll::Ready(Ok(response))
    }
}

impl Service<Request<Body>> for EndsInPanic {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = PanicsInDrop;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> PanicsInDrop {
        PanicsInDrop(Some(Arc::clone(&self.0)))
    }
}

// Broke: the response was forgotten.
#[test]
fn the_response_is_dropped_where_the_futures_drop_panics_and_costs_no_second_panic() {
    let held = Arc::new(());
    let layer = IsolateLayer::new(|_: &Request<Body>| ());
    let mut service = layer.layer(EndsInPanic(Arc::clone(&held)));
    let future = service.call(Request::new(Body::empty()));
    drop(service);
    let polled = catch_unwind(AssertUnwindSafe(|| {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }));
    assert!(polled.is_err());
    assert_eq!(Arc::strong_count(&held), 1);
}

cleanslate::task_local! {
    static MARK: &'static str = "fresh";
    static FAILS: Fails = Fails;
}

struct Fails;

impl Drop for Fails {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

/// Touches a slot when it is cloned, and when it is dropped.
#[derive(Debug)]
struct Marks;

impl Clone for Marks {
    fn clone(&self) -> Self {
        MARK.set("cloned");
        Self
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        MARK.set("dropped");
    }
}

/// Fails, and so does the clean-up of its task.
#[derive(Clone)]
struct FailsTwice;

impl Service<Request<()>> for FailsTwice {
    type Response = Response<Body>;
    type Error = Marks;
    type Future = std::future::Ready<Result<Response<Body>, Marks>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Marks>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        FAILS.with(|_| ());
        std::future::ready(Err(Marks))
    }
}

// Broke: the connection's slots were changed by both.
#[test]
fn an_error_that_is_not_handed_out_and_the_layers_closure_are_no_part_of_the_connection() {
    let marks = Marks;
    let fill = move |_: &Request<()>| {
        let _ = &marks;
    };
    let mut service = IsolateLayer::new(fill).layer(FailsTwice);
    MARK.set("outer");
    let mut response = Box::pin(service.call(Request::new(())));
    assert_eq!(MARK.get(), "outer", "after the call");
    let mut context = Context::from_waker(Waker::noop());
    let poll = || response.as_mut().poll(&mut context).is_ready();
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    drop(response);
    assert_eq!(MARK.get(), "outer", "after the response");
}

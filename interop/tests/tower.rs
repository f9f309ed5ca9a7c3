//! Requests of a real client to a server on axum, each a task.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use axum::{Router, serve};
use cleanslate::foreign::{self, OpenTelemetryCarrier};
use cleanslate::task_local;
use cleanslate::tower::IsolateLayer;
use futures_lite::future::yield_now;
use futures_lite::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::context::FutureExt;
use opentelemetry::{Context as Current, KeyValue};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tower_layer::Layer;
use tower_service::Service;

use crate::alone::in_a_process_of_its_own;

task_local! {
    static USER: String = "nobody".to_owned();
    static LEFT: u32 = 0;
    static KEPT: Option<OnDrop> = None;
    #[inherit]
    static AROUND: u32 = 0;
}

/// Calls a function when it is dropped.
struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

fn on_drop(f: impl FnOnce() + Send + 'static) -> Option<OnDrop> {
    Some(OnDrop(Some(Box::new(f))))
}

/// What a handler finds. Leaves something for the next request.
fn look() -> String {
    format!("{} {}", USER.replace("somebody".to_owned()), LEFT.replace(7))
}

fn fill(request: &Request) {
    if let Some(user) = request.headers().get("user") {
        USER.set(user.to_str().unwrap().to_owned());
    }
}

struct Server {
    runtime: Runtime,
    address: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Server {
    fn new(router: Router) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async { serve(listener, router).await.unwrap() });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { runtime, address, client }
    }

    async fn get(&self, path: &str, user: &str) -> Response<Incoming> {
        let uri = format!("http://{}{path}", self.address);
        let request = Request::builder().uri(uri).header("user", user).body(Empty::new()).unwrap();
        self.client.request(request).await.unwrap()
    }

    async fn text(&self, path: &str, user: &str) -> String {
        let response = self.get(path, user).await;
        assert_eq!(response.status(), StatusCode::OK);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

/// Says in each frame what it finds.
fn frames() -> impl Stream<Item = Result<String, Infallible>> + Send {
    stream::iter(0..4).then(|n| async move {
        yield_now().await;
        let left = LEFT.get();
        LEFT.set(left + 1);
        Ok(format!("{n}:{}:{left} ", USER.get()))
    })
}

fn router() -> Router {
    Router::new()
        .route("/look", get(|| async { look() }))
        .route(
            "/later",
            get(|| async {
                let first = look();
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                format!("{first}, then {}", look())
            }),
        )
        .route(
            "/stream",
            get(|| async {
                LEFT.set(10);
                Body::from_stream(frames())
            }),
        )
        .layer(IsolateLayer::new(fill))
}

#[test]
fn no_request_finds_what_another_one_left() {
    let server = Server::new(router());
    server.runtime.block_on(async {
        // On one connection, which the client keeps alive, and on many.
        for n in 0..50 {
            let user = format!("user-{n}");
            assert_eq!(server.text("/look", &user).await, format!("{user} 0"));
        }
        let tasks = (0..200).map(|n| {
            let server = &server;
            async move {
                let user = format!("user-{n}");
                let found = server.text("/later", &user).await;
                assert_eq!(found, format!("{user} 0, then somebody 7"));
            }
        });
        join_all(tasks).await;
    });
}

async fn join_all(futures: impl IntoIterator<Item: Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[test]
fn a_streamed_body_is_part_of_its_requests_task() {
    let server = Server::new(router());
    server.runtime.block_on(async {
        let tasks = (0..64).map(|n| {
            let server = &server;
            async move {
                let user = format!("user-{n}");
                let text = server.text("/stream", &user).await;
                let expected: String = (0..4).map(|n| format!("{n}:{user}:{} ", n + 10)).collect();
                assert_eq!(text, expected);
            }
        });
        join_all(tasks).await;
    });
}

#[test]
fn the_length_of_a_body_is_still_known() {
    let server = Server::new(router());
    server.runtime.block_on(async {
        let response = server.get("/look", "alice").await;
        assert_eq!(response.headers()["content-length"], "7");
        let response = server.get("/stream", "alice").await;
        assert!(response.headers().get("content-length").is_none());
    });
}

// Its future, or its body, is dropped in the middle: its slots end there and then, inside the task.
#[test]
fn a_client_that_hangs_up_ends_the_task_of_its_request() {
    let (began, mut begun) = mpsc::unbounded_channel();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let keep = move || {
        let ended = ended.clone();
        KEPT.set(on_drop(move || ended.send(USER.get()).unwrap()));
        began.send(()).unwrap();
    };
    let keep_too = keep.clone();
    let router = Router::new()
        .route(
            "/wait",
            get(|| async move {
                keep();
                std::future::pending::<String>().await
            }),
        )
        .route(
            "/stream",
            get(|| async move {
                keep_too();
                let first = stream::once(Ok::<_, Infallible>("first"));
                Body::from_stream(first.chain(stream::pending()))
            }),
        )
        .layer(IsolateLayer::new(fill));
    let server = Server::new(router);
    server.runtime.block_on(async {
        for path in ["/wait", "/stream"] {
            let (hang_up, hangs_up) = oneshot::channel::<()>();
            let request = async {
                let mut body = server.get(path, "alice").await.into_body();
                let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(first, "first");
                std::future::pending::<()>().await;
            };
            let both = futures_lite::future::or(request, async { hangs_up.await.unwrap() });
            let client = async {
                both.await;
            };
            let watch = async {
                begun.recv().await.unwrap();
                hang_up.send(()).unwrap();
                // The slots are dropped newest first: the user is still there.
                assert_eq!(ends.recv().await.unwrap(), "alice");
            };
            futures_lite::future::zip(client, watch).await;
        }
    });
}

#[test]
fn a_request_whose_handler_panics_leaves_nothing_behind() {
    let panics = || async {
        look();
        if USER.with(|user| user == "somebody") {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    };
    let router = Router::new()
        .route("/panic", get(panics))
        .route("/look", get(|| async { look() }))
        .layer(IsolateLayer::new(fill));
    let server = Server::new(router);
    server.runtime.block_on(async {
        for _ in 0..20 {
            let uri = format!("http://{}/panic", server.address);
            let request = Request::builder().uri(uri).body(Empty::new()).unwrap();
            assert!(server.client.request(request).await.is_err());
            assert_eq!(server.text("/look", "alice").await, "alice 0");
        }
    });
}

/// A service that must be readied before each call, and whose clones are not ready.
struct Strict {
    is_ready: bool,
    called: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<u32>>>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { is_ready: false, called: Arc::clone(&self.called), log: Arc::clone(&self.log) }
    }
}

impl Service<Request> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.log.lock().unwrap().push(LEFT.replace(1));
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        assert!(self.is_ready, "called without having been readied");
        self.is_ready = false;
        self.called.fetch_add(1, Ordering::SeqCst);
        ready(Ok(Response::new(Body::from(look()))))
    }
}

#[test]
fn the_clone_that_was_readied_is_called_inside_the_task() {
    let called = Arc::new(AtomicUsize::new(0));
    let log = Arc::new(Mutex::new(Vec::new()));
    let strict = Strict { is_ready: false, called: Arc::clone(&called), log: Arc::clone(&log) };
    let mut service = IsolateLayer::new(fill).layer(strict);
    futures_lite::future::block_on(async {
        for n in 0..5 {
            std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
            let request = Request::builder().header("user", "alice").body(Body::empty()).unwrap();
            let response = service.call(request);
            assert_eq!(called.load(Ordering::SeqCst), n, "not before it is polled");
            let body = response.await.unwrap().into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "alice 0");
        }
    });
    assert_eq!(*log.lock().unwrap(), [0; 5], "what `poll_ready` left is gone");
    assert!(!LEFT.is_set() && !USER.is_set());
}

/// Fails, once with a response and once while it is streamed.
#[derive(Clone)]
struct Failing;

impl Service<Request> for Failing {
    type Response = Response<Body>;
    type Error = String;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, String>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        Box::pin(async {
            if USER.with(|user| user == "mallory") {
                return Err("refused".to_owned());
            }
            let frames = stream::iter([Ok("first"), Err("broken")]);
            Ok(Response::new(Body::from_stream(frames)))
        })
    }
}

#[test]
fn errors_of_the_service_and_of_the_body_get_through() {
    let mut service = IsolateLayer::new(fill).layer(Failing);
    let mut ask = |user| {
        let request = Request::builder().header("user", user).body(Body::empty()).unwrap();
        service.call(request)
    };
    futures_lite::future::block_on(async {
        let mut refused = Box::pin(ask("mallory"));
        assert_eq!(refused.as_mut().await.unwrap_err(), "refused");
        assert!(format!("{refused:?}").contains("is_over: true"));
        let mut body = ask("alice").await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "first");
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "broken");
    });
}

// Polled by hand: what is known of a body is what the service's body said last.
#[test]
fn what_is_known_of_a_body_keeps_up_with_it() {
    let make = |_: Request| {
        let frames = ["one", "three"].map(|text| Ok(Frame::data(Bytes::from(text))));
        ready(Ok(Response::new(Measured { left: VecDeque::from(frames) })))
    };
    let mut service = IsolateLayer::new(fill).layer(Called(make));
    futures_lite::future::block_on(async {
        let response = service.call(Request::new(Body::empty())).await.unwrap();
        let mut body = response.into_body();
        for (left, is_end) in [(8, false), (5, false)] {
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(left), is_end));
            body.frame().await.unwrap().unwrap();
        }
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
        assert!(body.frame().await.is_none());
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    });
}

/// A function as a service.
#[derive(Clone)]
struct Called<F>(F);

impl<F, R> Service<Request> for Called<F>
where
    F: FnMut(Request) -> R,
    R: Future<Output = Result<Response<Measured>, Infallible>>,
{
    type Response = Response<Measured>;
    type Error = Infallible;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> R {
        (self.0)(request)
    }
}

/// A body that knows how much of it is left.
struct Measured {
    left: VecDeque<Result<Frame<Bytes>, Infallible>>,
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.left.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let frames = self.left.iter().flatten();
        SizeHint::with_exact(frames.flat_map(Frame::data_ref).map(|data| data.len() as u64).sum())
    }
}

/// Answers some requests itself, with an empty body, as layers for CORS and time-outs do.
struct Refuses<S>(S);

impl<S, B> Service<Request> for Refuses<S>
where
    S: Service<Request, Response = Response<B>, Future: Send + 'static>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.headers().contains_key("user") {
            return Box::pin(self.0.call(request));
        }
        Box::pin(async { Ok(Response::new(B::default())) })
    }
}

// Broke: such a layer could not be put outside of it.
#[test]
fn a_layer_outside_of_it_may_answer_with_an_empty_body() {
    let make = |_: Request| {
        let frames = [Ok(Frame::data(Bytes::from("one")))];
        ready(Ok(Response::new(Measured { left: VecDeque::from(frames) })))
    };
    let mut service = Refuses(IsolateLayer::new(fill).layer(Called(make)));
    futures_lite::future::block_on(async {
        for (header, expected) in [("user", "one"), ("other", "")] {
            let request = Request::builder().header(header, "alice").body(Body::empty()).unwrap();
            let body = service.call(request).await.unwrap().into_body();
            assert_eq!(body.size_hint().exact(), Some(expected.len() as u64));
            assert_eq!(body.is_end_stream(), expected.is_empty());
            assert_eq!(body.collect().await.unwrap().to_bytes(), expected);
        }
    });
}

#[test]
fn a_request_inherits_nothing_of_what_surrounds_its_connection() {
    let look = |_: Request| {
        let found = AROUND.get().to_string();
        let data = Ok(Frame::data(Bytes::from(found)));
        ready(Ok(Response::new(Measured { left: VecDeque::from([data]) })))
    };
    let mut service = IsolateLayer::new(fill).layer(Called(look));
    AROUND.set(7);
    futures_lite::future::block_on(async {
        let response = service.call(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "0");
    });
    assert_eq!(AROUND.get(), 7);
}

// A layer outside of it has opened a context, which is current at the call and not at the polls.
#[test]
fn installed_carriers_come_along() {
    if !in_a_process_of_its_own("tower::installed_carriers_come_along") {
        return;
    }
    foreign::install(OpenTelemetryCarrier::new()).unwrap();
    let tenant = || Current::current().baggage().get("tenant").map(ToString::to_string);
    let handler = move |_: Request| async move {
        let first = tenant().unwrap_or_default();
        yield_now().await;
        let frames = [first, tenant().unwrap_or_default()];
        let frames = frames.map(|text| Ok(Frame::data(Bytes::from(text))));
        Ok(Response::new(Measured { left: VecDeque::from(frames) }))
    };
    let mut service = IsolateLayer::new(fill).layer(Called(handler));
    futures_lite::future::block_on(async {
        let [acme, other] = ["acme", "other"]
            .map(|tenant| Current::current_with_baggage([KeyValue::new("tenant", tenant)]));
        let response = {
            let _outside = acme.attach();
            service.call(Request::new(Body::empty()))
        };
        let body = response.with_context(other).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "acmeacme");
    });
    assert_eq!(tenant(), None);
}

//! The service: which way a request takes, and what is done for it.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve};
use cleanslate::tower::IsolateLayer;
use cleanslate::{Isolation, Pool};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tower_service::Service as _;
use tracing::{Instrument, info, info_span};

use super::cli::Failure;
use super::history::{Entry, History};
use super::task::{self, Asked};
use super::{page, spans};

/// How many tasks may wait for a worker; further requests wait for room.
const QUEUE: usize = 64;

/// How long clients may take to finish what they have begun when the service is to stop.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the service goes on when it is to stop: what has arrived may still lie in the system's
/// queues, and is read from there meanwhile.
const FAREWELL: Duration = Duration::from_millis(100);

/// What all requests share.
pub(crate) struct Shared {
    pool: Pool,
    /// The classic kind, for requests with `?leaky`.
    leaky: Pool,
    history: History,
    requests: AtomicU64,
}

pub(crate) struct Service {
    shared: Arc<Shared>,
}

/// Makes the runtime. Where the system refuses one of its threads, tokio panics, and waits for ever
/// for those that have started. So a pool of as many, which says what is wrong, comes first.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let pool = Pool::builder().build()?;
    pool.shutdown()?;
    Ok(Builder::new_multi_thread().worker_threads(pool.workers()).enable_all().build()?)
}

impl Service {
    pub(crate) fn new(workers: usize) -> Result<Self, Failure> {
        let pool = || Pool::builder().workers(workers).queue_capacity(QUEUE);
        let shared = Shared {
            pool: pool().name("clean").build()?,
            leaky: pool().name("leaky").isolation(Isolation::Leaky).build()?,
            history: History::default(),
            requests: AtomicU64::new(1),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Serves until `stop` ends; returns when what has arrived by then is answered. Clients that
    /// are in the middle of a request have a while to finish it.
    pub(crate) async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (end, ended) = oneshot::channel::<()>();
        let serving = serve(listener, router(&self.shared))
            .with_graceful_shutdown(async { drop(ended.await) })
            .into_future();
        let serving = tokio::spawn(serving);
        stop.await;
        sleep(FAREWELL).await;
        drop(end);
        // After this time the runtime hangs up on whoever is left.
        if let Ok(served) = timeout(PATIENCE, serving).await {
            served??;
        }
        Ok(self)
    }

    /// Waits for what the pools still compute for clients that have hung up. This is done outside
    /// the runtime, whose threads must not block.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.shared.pool.shutdown()?;
        Ok(self.shared.leaky.shutdown()?)
    }
}

/// Two services: one in which each request is a task, and one without that.
fn router(shared: &Arc<Shared>) -> Router {
    let routes = || {
        Router::new()
            .route("/", get(show))
            .route("/work", get(work))
            .layer(from_fn_with_state(Arc::clone(shared), observe))
            .with_state(Arc::clone(shared))
    };
    let clean = routes().layer(IsolateLayer::new(task::fill));
    let leaky = routes().layer(from_fn(fill_without_isolation));
    let shared = Arc::clone(shared);
    Router::new().fallback(move |mut request: Request| {
        // Relaxed: the numbers only have to differ.
        let asked = Asked::new(shared.requests.fetch_add(1, Ordering::Relaxed), &request);
        let mut way = if asked.is_leaky { leaky.clone() } else { clean.clone() };
        request.extensions_mut().insert(asked);
        way.call(request)
    })
}

/// What goes wrong without the layer: the slots are those of the thread, which serves others while
/// this request waits, and the request may continue on another thread.
async fn fill_without_isolation(request: Request, next: Next) -> Response {
    task::fill(&request);
    next.run(request).await
}

/// Opens the span of a request, and reports at its end whose it was, in the log and in the answer.
async fn observe(
    State(shared): State<Arc<Shared>>,
    Extension(asked): Extension<Asked>,
    request: Request,
    next: Next,
) -> Response {
    let span = info_span!("request", request = asked.id);
    async {
        let path = request.uri().path().to_owned();
        let mut response = next.run(request).await;
        let headers = response.headers_mut();
        headers.insert("x-request-id", task::request().into());
        if let Ok(user) = task::user().parse() {
            headers.insert("x-user", user);
        }
        if let Ok(trace) = spans::trace().parse() {
            headers.insert("x-trace", trace);
        }
        if let Some(done) = response.extensions_mut().remove::<Done>() {
            shared.history.add(Entry::new(&asked, done.user, done.worker));
        }
        info!("answered {path} for request {} of {}", asked.id, asked.name());
        response
    }
    .instrument(span)
    .await
}

/// A worker's result: who it worked for, by its own account.
#[derive(Clone)]
struct Done {
    request: u64,
    user: Arc<str>,
    worker: String,
    trace: String,
}

/// Computes something on the pool.
async fn work(State(shared): State<Arc<Shared>>, Extension(asked): Extension<Asked>) -> Response {
    // A request that waits for a database, say.
    tokio::task::yield_now().await;
    let pool = if asked.is_leaky { &shared.leaky } else { &shared.pool };
    let Ok(permit) = pool.reserve().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    // Dropped with this future if the client hangs up.
    match permit.submit(move || compute(&asked)).cancel_on_drop().await {
        Ok(done) => {
            let Done { request, user, worker, trace } = &done;
            let text = format!("request {request} for {user} on {worker}, trace {trace}\n");
            (Extension(done), text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Runs on a worker. Inherits the request's slots and is in its span, unless the pool is leaky.
fn compute(asked: &Asked) -> Done {
    asked.look(&asked.found.on_worker);
    if asked.is_leaky {
        asked.fill();
    }
    let _span = info_span!("work", request = task::request()).entered();
    black_box(
        (0..20_000_u64).fold(task::request(), |hash, n| (hash ^ n).wrapping_mul(0x9e37_79b9)),
    );
    info!("worked for request {} of {}", asked.id, asked.name());
    let worker = std::thread::current().name().unwrap_or("a thread").to_owned();
    Done { request: task::request(), user: task::user(), worker, trace: spans::trace() }
}

async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(asked): Extension<Asked>,
) -> Html<String> {
    Html(page::page(&shared.history.entries(asked.is_leaky), asked.is_leaky))
}

//! Requests as tasks, in services of `tower` that speak HTTP: axum, hyper, tonic.
//!
//! [`IsolateLayer`] makes one task of each request, from the call of the service to the last frame
//! of the response's body.
//!
//! ```
//! use cleanslate::tower::IsolateLayer;
//! use http::{Request, Response};
//! # use std::{convert::Infallible, future::ready, future::Ready, task::{Context, Poll}};
//! use tower_layer::Layer;
//! use tower_service::Service;
//!
//! # #[derive(Clone)]
//! struct Greeter;
//!
//! impl Service<Request<String>> for Greeter {
//!     type Response = Response<String>; // …
//! #     type Error = Infallible;
//! #     type Future = Ready<Result<Response<String>, Infallible>>;
//! #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
//! #         Poll::Ready(Ok(()))
//! #     }
//!     fn call(&mut self, _: Request<String>) -> Self::Future {
//!         ready(Ok(Response::new("hello".to_owned())))
//!     }
//! }
//!
//! let layer = IsolateLayer::new(|_: &Request<String>| ());
//! let mut service = layer.layer(Greeter);
//! let response = futures_lite::future::block_on(service.call(Request::new(String::new())));
//! assert!(response.unwrap().status().is_success());
//! ```

mod body;
mod serve;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use http::Response;
use http_body::Body;
use parking_lot::Mutex;
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::IsolatedBody;
use self::serve::{Out, Serving, serve};
use crate::context::{Context, Wrapping};
use crate::frame::Framed;
use crate::future::{FutureExt, Isolated};
use crate::panic::{Contained, Guarded};

/// Makes one task of each request.
///
/// The request's handler, the services between this layer and the handler, and the body of the
/// response while it is streamed all find the same slots. These end with the body, or when the
/// client hangs up, on whatever thread that happens. Nothing is left for the next request on the
/// connection or the thread.
///
/// The slots start fresh. What surrounds the connection's task is not inherited, since that is a
/// thread on which anybody may have left something; nor is what a task around this layer holds,
/// since other requests may share it (so a layer inside another one starts anew). A closure fills
/// the slots from the request, inside the task and before the service is called. What has to wait
/// first, such as authentication against a database, belongs in a layer inside of this one, which
/// is then the [default](IsolateLayer::default); [the guide](mod@crate::guide::async) shows both,
/// and the order of layers. [Installed](crate::foreign::install) carriers come along, so a layer
/// outside of this one may open a span.
///
/// A layer that calls its service elsewhere, as tower's `Buffer` does on a task that it has
/// spawned, takes that call out of the task: put this layer inside of such a layer.
///
/// What the handler spawns is not part of the task:
/// `cleanslate::tokio::spawn` and a [`Pool`](crate::Pool) hand down what is
/// `#[inherit]`.
///
/// # Examples
///
/// ```
/// use cleanslate::{task_local, tower::IsolateLayer};
/// use http::{Request, Response};
/// # use std::{convert::Infallible, future::ready, future::Ready, task::{Context, Poll}};
/// use tower_layer::Layer;
/// use tower_service::Service;
///
/// task_local! { static USER: String = "nobody".to_owned(); }
///
/// #[derive(Clone)]
/// struct Greeter;
///
/// impl Service<Request<String>> for Greeter {
///     // …
/// #     type Response = Response<String>;
/// #     type Error = Infallible;
/// #     type Future = Ready<Result<Response<String>, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
/// #         Poll::Ready(Ok(()))
/// #     }
///     fn call(&mut self, _: Request<String>) -> Self::Future {
///         ready(Ok(Response::new(USER.with(|user| format!("hello, {user}")))))
///     }
/// }
///
/// let layer = IsolateLayer::new(|request: &Request<String>| {
///     USER.set(request.headers()["user"].to_str().unwrap().to_owned());
/// });
/// let mut service = layer.layer(Greeter);
/// # futures_lite::future::block_on(async {
/// let request = Request::builder().header("user", "alice").body(String::new()).unwrap();
/// let response = service.call(request).await.unwrap();
/// # use http_body::Body;
/// # let mut body = std::pin::pin!(response.into_body());
/// # let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
/// # assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "hello, alice");
/// # assert!(!USER.is_set());
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct IsolateLayer<F> {
    fill: F,
}

impl<F> IsolateLayer<F> {
    /// Makes a layer that fills the slots of each request with `fill`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::{task_local, tower::IsolateLayer};
    /// use http::Request;
    ///
    /// task_local! { static PATH: String = String::new(); }
    ///
    /// let fill = |request: &Request<()>| PATH.set(request.uri().path().to_owned());
    /// let layer = IsolateLayer::new(fill);
    /// let _for_a_server = layer;
    /// ```
    #[must_use]
    pub const fn new(fill: F) -> Self {
        Self { fill }
    }
}

/// A layer that fills no slots: for services whose inner layers do.
///
/// ```
/// use cleanslate::tower::IsolateLayer;
/// use http::Request;
///
/// let layer: IsolateLayer<fn(&Request<()>)> = IsolateLayer::default();
/// ```
impl<Request> Default for IsolateLayer<fn(&Request)> {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl<S, F: Clone> Layer<S> for IsolateLayer<F> {
    type Service = Isolate<S, F>;

    /// Wraps a service.
    ///
    /// # Panics
    ///
    /// Panics if the clone of the closure that fills the slots does, or if an installed carrier
    /// cannot be attached or detached.
    fn layer(&self, inner: S) -> Isolate<S, F> {
        Isolate { inner: Framed::new(inner), fill: cloned(&self.fill) }
    }
}

/// The service that [`IsolateLayer`] makes.
///
/// It clones what it wraps in tasks of their own, and drops it in one: servers clone a service for
/// each request, and that must not leave anything on the thread, either.
///
/// # Examples
///
/// ```
/// use cleanslate::tower::{Isolate, IsolateLayer};
/// use http::{Request, Response};
/// # use std::{convert::Infallible, future::ready, future::Ready, task::{Context, Poll}};
/// use tower_layer::Layer;
/// use tower_service::Service;
///
/// # #[derive(Clone)]
/// struct Greeter;
///
/// impl Service<Request<String>> for Greeter {
///     type Response = Response<String>; // …
/// #     type Error = Infallible;
/// #     type Future = Ready<Result<Response<String>, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
/// #         Poll::Ready(Ok(()))
/// #     }
///     fn call(&mut self, _: Request<String>) -> Self::Future {
///         ready(Ok(Response::new("hello".to_owned())))
///     }
/// }
///
/// let layer = IsolateLayer::new(|_: &Request<String>| ());
/// let mut service: Isolate<Greeter, _> = layer.layer(Greeter);
/// let response = futures_lite::future::block_on(service.call(Request::new(String::new())));
/// assert!(response.unwrap().status().is_success());
/// ```
pub struct Isolate<S, F> {
    inner: Framed<S>,
    fill: Framed<F>,
}

impl<S: Clone, F: Clone> Clone for Isolate<S, F> {
    /// # Panics
    ///
    /// Panics if one of the clones does, or if an installed carrier cannot be attached or detached.
    fn clone(&self) -> Self {
        Self { inner: cloned(&self.inner), fill: cloned(&self.fill) }
    }
}

/// Makes a clone in a task of its own, which carries nobody's state.
fn cloned<T: Clone>(original: &T) -> Framed<T> {
    Framed::new(Wrapping::unplaced(Context::empty()).call_once(|| original.clone()))
}

impl<S: fmt::Debug, F: fmt::Debug> fmt::Debug for Isolate<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, fill } = self;
        f.debug_struct("Isolate").field("inner", &**inner).field("fill", &**fill).finish()
    }
}

impl<S, F, Request, B> Service<Request> for Isolate<S, F>
where
    S: Service<Request, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    F: Fn(&Request) + Clone + Send + 'static,
    Request: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send,
{
    type Response = Response<IsolatedBody<B, S::Error>>;
    type Error = S::Error;
    type Future = ResponseFuture<B, S::Error>;

    /// Polls the service, in a task of its own.
    ///
    /// # Panics
    ///
    /// Panics if an installed carrier cannot capture, be attached or be detached, or if the drop of
    /// what it captured panics.
    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Wrapping::unplaced(Context::capture_carriers()).call_once(|| self.inner.poll_ready(cx))
    }

    /// Makes the task of the request. The inner service is called in it, when it is first polled.
    ///
    /// # Panics
    ///
    /// Panics if an installed carrier cannot capture, be attached or be detached, and if the clone
    /// of the inner service, or of the closure that fills the slots, panics. The future panics as
    /// [`isolated`](FutureExt::isolated) ones do.
    fn call(&mut self, request: Request) -> ResponseFuture<B, S::Error> {
        // If one of these panics, there is no task to drop the others in.
        let request = Framed::new(request);
        let context = Context::capture_carriers();
        let Self { inner: next, fill } = self.clone();
        let fill = Guarded::new(fill.into_inner());
        // The one that was readied is called, and the clone takes its place.
        let ready = Guarded::new(std::mem::replace(&mut self.inner, next).into_inner());
        let request = Guarded::new(request.into_inner());
        let out = Arc::new(Mutex::new(Out::default()));
        let serve = serve(ready, request, fill, Arc::clone(&out));
        let task: Serving = Box::pin(serve);
        let task = task.isolated_in(&context).unplaced();
        ResponseFuture { task: Some(task), out }
    }
}

/// The future of a response, in the task of its request.
///
/// # Examples
///
/// ```
/// use cleanslate::tower::{IsolateLayer, ResponseFuture};
/// use http::{Request, Response};
/// # use std::{convert::Infallible, future::ready, future::Ready, task::{Context, Poll}};
/// use tower_layer::Layer;
/// use tower_service::Service;
///
/// # #[derive(Clone)]
/// struct Greeter;
///
/// impl Service<Request<String>> for Greeter {
///     type Response = Response<String>; // …
/// #     type Error = Infallible;
/// #     type Future = Ready<Result<Response<String>, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
/// #         Poll::Ready(Ok(()))
/// #     }
///     fn call(&mut self, _: Request<String>) -> Self::Future {
///         ready(Ok(Response::new("hello".to_owned())))
///     }
/// }
///
/// let layer = IsolateLayer::new(|_: &Request<String>| ());
/// let mut service = layer.layer(Greeter);
/// let response: ResponseFuture<_, _> = service.call(Request::new(String::new()));
/// assert!(futures_lite::future::block_on(response).unwrap().status().is_success());
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B: Body, E> {
    /// `None` once it is over.
    task: Option<Isolated<Serving>>,
    out: Arc<Mutex<Out<B, E>>>,
}

impl<B: Body, E> Future for ResponseFuture<B, E> {
    type Output = Result<Response<IsolatedBody<B, E>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(task) = &mut this.task else { panic!("a response was polled after it had ended") };
        // There is one from before if a poll has panicked because a carrier failed to detach.
        let mut head = this.out.lock().head.take();
        if head.is_none() {
            let poll = Pin::new(task).poll(cx);
            head = this.out.lock().head.take();
            assert!(poll.is_pending() || head.is_some(), "a task ends with a response");
        }
        match head.map(Contained::into_inner) {
            None => Poll::Pending,
            Some(Err(error)) => {
                // It is over, so nothing is left that could panic.
                this.task = None;
                Poll::Ready(Err(error))
            }
            Some(Ok(parts)) => {
                let task = Mutex::new(this.task.take());
                let body = IsolatedBody { task, out: Arc::clone(&this.out) };
                Poll::Ready(Ok(Response::from_parts(parts, body)))
            }
        }
    }
}

impl<B: Body, E> fmt::Debug for ResponseFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("is_over", &self.task.is_none()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::{Pending, pending};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::panic::catch;

    static DROPS: AtomicUsize = AtomicUsize::new(0);

    struct Fails;

    impl Drop for Fails {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
            panic!("a drop, on purpose");
        }
    }

    struct Servant {
        _fails: Fails,
    }

    impl Clone for Servant {
        fn clone(&self) -> Self {
            Self { _fails: Fails }
        }
    }

    impl Service<Fails> for Servant {
        type Response = Response<String>;
        type Error = ();
        type Future = Pending<Result<Response<String>, ()>>;

        fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Fails) -> Self::Future {
            drop(catch(|| drop(request)));
            pending()
        }
    }

    // Broke: what keeps bodies of any type, such as the `BoxBody` in much code with hyper, requires
    // it.
    #[test]
    fn a_body_is_as_free_to_move_and_to_share_as_its_data() {
        fn is_free<T: Send + Sync>() {}
        is_free::<IsolatedBody<String, std::convert::Infallible>>();
    }

    // Broke: request, service and closure were dropped one after the other, the second one while
    // the panic of the first unwound.
    #[test]
    fn a_request_that_is_given_up_drops_everything_and_panics_once() {
        // Request and service, and, once it has the request, the service alone.
        for (polls, left) in [(0, 2), (1, 1)] {
            let layer = IsolateLayer::new(|_: &Fails| ());
            let mut service = layer.layer(Servant { _fails: Fails });
            let mut response = service.call(Fails);
            #[expect(clippy::mem_forget, reason = "its drop panics, too")]
            std::mem::forget(service);
            let mut cx = task::Context::from_waker(task::Waker::noop());
            for _ in 0..polls {
                assert!(Pin::new(&mut response).poll(&mut cx).is_pending());
            }
            DROPS.store(0, Ordering::SeqCst);
            assert!(catch(|| drop(response)).is_err());
            assert_eq!(DROPS.load(Ordering::SeqCst), left, "polled {polls} times");
        }
    }
}

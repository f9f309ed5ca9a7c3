//! [`IsolatedBody`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::serve::{Out, Serving};
use crate::future::Isolated;

/// The body of a response, in the task of its request, which ends with it. A body that has panicked
/// is at its end.
///
/// The default is an empty body in no task, for layers outside of the isolating one that answer by
/// themselves (to a preflight request, or when the time is up).
///
/// # Examples
///
/// ```
/// use cleanslate::tower::{IsolateLayer, IsolatedBody};
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
/// use http_body::Body;
///
/// let layer = IsolateLayer::new(|_: &Request<String>| ());
/// let mut service = layer.layer(Greeter);
/// let response = futures_lite::future::block_on(service.call(Request::new(String::new())));
/// let body: IsolatedBody<_, _> = response.unwrap().into_body();
/// assert!(!body.is_end_stream());
/// ```
pub struct IsolatedBody<B: Body, E> {
    /// `None` once it has returned. Behind a lock that is never contended, so that the body is
    /// `Sync` wherever its data is `Send`: what keeps bodies of any type requires that.
    pub(super) task: Mutex<Option<Isolated<Serving>>>,
    pub(super) out: Arc<Mutex<Out<B, E>>>,
}

impl<B: Body, E> IsolatedBody<B, E> {
    /// Returns whether the task is over, perhaps by a panic.
    fn is_over(&self) -> bool {
        self.task.lock().as_ref().is_none_or(Isolated::is_over)
    }
}

impl<B: Body, E> Body for IsolatedBody<B, E> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let task = this.task.get_mut().as_mut().filter(|task| !task.is_over());
        let Some(task) = task else { return Poll::Ready(None) };
        // As with the head.
        let mut frame = this.out.lock().frame.take();
        if frame.is_none() {
            if Pin::new(task).poll(cx).is_ready() {
                *this.task.get_mut() = None;
                return Poll::Ready(None);
            }
            frame = this.out.lock().frame.take();
        }
        frame.map_or(Poll::Pending, |frame| Poll::Ready(Some(frame.into_inner())))
    }

    fn is_end_stream(&self) -> bool {
        if self.is_over() {
            return true;
        }
        let out = self.out.lock();
        out.frame.is_none() && out.is_at_end
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_over() {
            return SizeHint::with_exact(0);
        }
        let out = self.out.lock();
        // What the body says is about what comes after a frame that was kept.
        if out.frame.is_some() { SizeHint::default() } else { out.size }
    }
}

impl<B: Body, E> Default for IsolatedBody<B, E> {
    fn default() -> Self {
        Self { task: Mutex::new(None), out: Arc::default() }
    }
}

impl<B: Body, E> fmt::Debug for IsolatedBody<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedBody").field("is_over", &self.is_over()).finish()
    }
}

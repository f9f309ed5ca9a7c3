//! The task of a request: calls the service, then pulls the frames of the body.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use http::Response;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tower_service::Service;

use crate::future::within;
use crate::panic::{Contained, Guarded};

pub(super) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

type FrameOf<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

/// What the task of a request has to hand out next, and what is known about the body.
pub(super) struct Out<B: Body, E> {
    pub(super) head: Option<Contained<Result<Parts, E>>>,
    pub(super) frame: Option<Contained<FrameOf<B>>>,
    pub(super) size: SizeHint,
    pub(super) is_at_end: bool,
}

impl<B: Body, E> Default for Out<B, E> {
    fn default() -> Self {
        Self { head: None, frame: None, size: SizeHint::default(), is_at_end: false }
    }
}

/// The whole task. It puts what it has into `out` and goes on when it is polled next, which is when
/// more is wanted. What it is given, and what it gets, is dropped one by one, whenever it ends.
pub(super) async fn serve<S, Request, B>(
    mut service: Guarded<S>,
    request: Guarded<Request>,
    fill: Guarded<impl Fn(&Request)>,
    out: Arc<Mutex<Out<B, S::Error>>>,
) where
    S: Service<Request, Response = Response<B>>,
    B: Body,
{
    fill(&request);
    drop(fill);
    let response = {
        let mut future = pin!(Some(service.call(request.into_inner())));
        let polled = poll_fn(|cx| within(future.as_mut(), |future| future.poll(cx)));
        let response = Guarded::new(polled.await);
        // Not at the block's end, where its panic would lose the response.
        future.set(None);
        response
    };
    drop(service);
    let (parts, body) = match response.into_inner() {
        Ok(response) => response.into_parts(),
        Err(error) => {
            out.lock().head = Some(Contained::new(Err(error)));
            return;
        }
    };
    let parts = Guarded::new(parts);
    let mut body = pin!(Some(body));
    let first = within(body.as_mut(), |body| about(&*body));
    {
        let mut out = out.lock();
        (out.size, out.is_at_end) = first;
        out.head = Some(Contained::new(Ok(parts.into_inner())));
    }
    loop {
        hand_out().await;
        let next = poll_fn(|cx| {
            within(body.as_mut(), |mut body| {
                let Some(frame) = ready!(body.as_mut().poll_frame(cx)) else {
                    return Poll::Ready(None);
                };
                let frame = Guarded::new(frame);
                Poll::Ready(Some((about(&*body), frame)))
            })
        });
        let Some((now, frame)) = next.await else { return };
        let frame = Contained::new(frame.into_inner());
        let mut out = out.lock();
        (out.size, out.is_at_end) = now;
        // It replaces nothing: there was none before the poll.
        out.frame = Some(frame);
    }
}

/// Returns what a body says about what is still to come, and whether that is nothing.
fn about(body: &impl Body) -> (SizeHint, bool) {
    (body.size_hint(), body.is_end_stream())
}

/// Ends a poll. Nobody needs to be woken: whoever polls finds what was put out.
async fn hand_out() {
    let mut is_new = true;
    poll_fn(|_| match std::mem::take(&mut is_new) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

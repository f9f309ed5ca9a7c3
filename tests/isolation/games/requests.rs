//! Requests whose tasks last until their body has been streamed, or are given up on the way.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use cleanslate::tower::{IsolateLayer, IsolatedBody, ResponseFuture};
use futures_lite::future::yield_now;
use http::{Request, Response};
use http_body::{Body, Frame};
use tower_layer::Layer;
use tower_service::Service;

use super::end::End;
use super::{Inherited, NUMBER, Place, Start, Task};

/// Somebody's request: its seed, and how far it is.
pub(super) struct InFlight(u64, Stage);

enum Stage {
    Response(ResponseFuture<Frames, Infallible>),
    Body(IsolatedBody<Frames, Infallible>),
}

#[derive(Clone)]
struct Servant;

type Ask = (Mutex<Option<Start>>, u64);

impl Service<Request<Ask>> for Servant {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Frames>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Ask>) -> Self::Future {
        Box::pin(async move {
            let (start, seed) = request.into_body();
            let start = start.into_inner().unwrap().expect("it is asked once");
            let filled = NUMBER.take() == Some(seed);
            start.game.check(filled, "a request finds what its layer has filled in");
            let mut frames = Frames {
                task: Some(Task { may_break: false, ..start.begin(seed) }),
                start,
                left: seed / 8 % 4,
            };
            frames.moves();
            yield_now().await;
            frames.moves();
            Ok(Response::new(frames))
        })
    }
}

/// A body that is a part of its request's task.
struct Frames {
    task: Option<Task>,
    start: Start,
    left: u64,
}

impl Frames {
    fn moves(&mut self) {
        let Some(task) = &mut self.task else { return };
        task.inherited.ambient = self.start.inherited.ambient;
        task.look("a request keeps its values from poll to poll");
        task.moves(2);
        task.join_all();
    }
}

impl Body for Frames {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        self.moves();
        if self.left == 0 {
            self.task.take().map(Task::end);
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.left {
            1 => Poll::Pending,
            _ => Poll::Ready(Some(Ok(Frame::data(b"data")))),
        }
    }
}

impl Task {
    /// Makes a request, or goes on with one.
    pub(super) fn cause_request(&mut self) {
        if self.place != Place::Anywhere {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if self.random.below(3) == 0 {
            let seed = self.random.any();
            let inherited =
                Inherited { ambient: self.handed_down().ambient, ..Inherited::default() };
            let start = self.start(Some(inherited));
            let layer = IsolateLayer::new(|ask: &Request<Ask>| NUMBER.set(ask.body().1));
            let asked = layer.layer(Servant).call(Request::new((Mutex::new(Some(start)), seed)));
            self.game.requests.lock().unwrap().push(InFlight(seed, Stage::Response(asked)));
            return;
        }
        let request = {
            let mut requests = self.game.requests.lock().unwrap();
            self.random.index(requests.len()).map(|n| requests.swap_remove(n))
        };
        let Some(InFlight(seed, mut stage)) = request else { return };
        if self.random.below(6) == 0 {
            drop(stage);
            return self.game.keeps_nothing(seed);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| match &mut stage {
            Stage::Response(future) => {
                if let Poll::Ready(Ok(response)) = Pin::new(future).poll(&mut cx) {
                    stage = Stage::Body(response.into_body());
                }
                false
            }
            Stage::Body(body) => {
                matches!(Pin::new(body).poll_frame(&mut cx), Poll::Ready(None))
            }
        }));
        match polled {
            Ok(false) => self.game.requests.lock().unwrap().push(InFlight(seed, stage)),
            Ok(true) => self.game.ended(seed, End::Returned(seed)),
            Err(payload) => {
                drop(stage);
                self.game.ended(seed, End::thrown(payload));
            }
        }
    }
}

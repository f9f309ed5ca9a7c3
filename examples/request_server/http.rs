//! The network side: hyper, on the thread that serves. A client occupies nothing of the pool before
//! its request is there, and no worker waits for one.

use super::cli::start;
use cleanslate::sync::Event;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// How many bytes and headers a request may have before its body, which nobody reads.
const LONGEST_HEAD: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// How long the server waits if the system cannot give it a connection.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a stopping server lets in those who have connected by then, and has what they have sent
/// read.
const FAREWELL: Duration = Duration::from_millis(100);

/// Listens for clients.
pub(crate) struct Server {
    listener: std::net::TcpListener,
    pub(crate) address: SocketAddr,
    /// How long a client may take to send the head of a request, and to read what it is still
    /// answered when the server stops.
    pub(crate) patience: Duration,
    /// How many clients are served at a time; others wait. A client that asks and never reads keeps
    /// its place until it hangs up: hyper has no limit for that, but a proxy in front of it has.
    pub(crate) room: usize,
}

impl Server {
    pub(crate) fn open(address: (&str, u16)) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, patience: Duration::from_secs(10), room: 512 })
    }

    /// Answers requests until `stop` is set. Those that have arrived by then are answered before it
    /// returns.
    pub(crate) fn serve<F>(
        &self,
        stop: &Event,
        answer: impl Fn(Parts) -> F + Clone + Send + Sync + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = Response<String>> + Send + 'static,
    {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (tell, stopped) = oneshot::channel();
        thread::scope(|s| {
            start(s, || {
                stop.wait();
                // An error means that the server has failed.
                let _failed = tell.send(());
            })?;
            let served = runtime.block_on(self.run(stopped, answer));
            // If it has failed.
            stop.set();
            served
        })
    }

    async fn run<F>(
        &self,
        mut stopped: oneshot::Receiver<()>,
        answer: impl Fn(Parts) -> F + Clone + Send + Sync + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = Response<String>> + Send + 'static,
    {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let (connections, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(self.room)));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.patience);
        http.max_headers(MOST_HEADERS).max_buf_size(LONGEST_HEAD).half_close(true);
        let begin = |stream: TcpStream, place: Option<OwnedSemaphorePermit>| {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answered = answer(request.into_parts().0);
                async { Ok::<_, Infallible>(answered.await) }
            });
            let served = connections.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                // An error means that the client has gone, or has not kept to the rules.
                drop(served.await);
                drop(place);
            });
        };
        loop {
            let next =
                async { (Arc::clone(&room).acquire_owned().await.ok(), listener.accept().await) };
            tokio::select! {
                (place, accepted) = next => match accepted {
                    Ok((stream, _)) => begin(stream, place),
                    // The client has gone, or the process has no more files for now.
                    Err(_) => sleep(PAUSE).await,
                },
                _stopped = &mut stopped => break,
            }
        }
        let late = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => begin(stream, None),
                    Err(_) => sleep(PAUSE).await,
                }
            }
        };
        let _let_in = timeout(FAREWELL, late).await;
        drop(listener);
        // After this time the runtime hangs up on whoever is left.
        let _in_time = timeout(self.patience, connections.shutdown()).await;
        Ok(())
    }
}

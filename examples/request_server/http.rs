//! As much of HTTP/1.1 as the example needs. Each connection has a thread, which reads its requests
//! and writes the answers: no worker waits for a client, and a client only for itself.

use cleanslate::sync::Event;
use httparse::{Error, Status};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many bytes and headers a request may have before its body.
const LONGEST_HEAD: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// For how long what a client still sends is read when all is said, so that it sees the answer.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often whoever waits for a client looks whether the server is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// The first lines of a request. Nobody reads the body: a request that has one is the last of its
/// connection.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, Vec<u8>)>,
    is_last: bool,
}

impl Request {
    /// The value of a header, if it is in ASCII and not empty.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = str::from_utf8(self.values(name).next()?).ok()?;
        (value.is_ascii() && !value.is_empty()).then_some(value)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| &**value)
    }

    /// Reads the first request of `bytes`, if all of it is there, and says where its head ends.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, u16> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let end = match parsed.parse(bytes) {
            Ok(Status::Complete(end)) if end <= LONGEST_HEAD => end,
            Ok(Status::Partial) if bytes.len() <= LONGEST_HEAD => return Ok(None),
            Ok(_) | Err(Error::TooManyHeaders) => return Err(431),
            Err(_) => return Err(400),
        };
        let headers = parsed.headers.iter();
        let mut request = Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers: headers.map(|h| (h.name.to_owned(), h.value.to_owned())).collect(),
            is_last: parsed.version == Some(0),
        };
        let is_number = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !request.values("Content-Length").all(is_number) {
            return Err(400);
        }
        let closes = |value: &[u8]| value.to_ascii_lowercase().windows(5).any(|w| w == b"close");
        request.is_last |= request.values("Connection").any(closes) || request.has_body();
        Ok(Some((request, end)))
    }

    fn has_body(&self) -> bool {
        let mut lengths = self.values("Content-Length");
        lengths.any(|length| length != b"0") || self.values("Transfer-Encoding").next().is_some()
    }
}

/// What is sent back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The answer to what is no request, or cannot be answered.
    pub(crate) fn refusal(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: format!("{}\n", reason(status)) }
    }

    fn bytes(&self, is_head: bool, is_last: bool) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let length = self.body.len();
        text += &format!("Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n");
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += if is_last { "Connection: close\r\n\r\n" } else { "\r\n" };
        if !is_head {
            text += &self.body;
        }
        text.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Listens for clients.
pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    /// How long a client may take for one request, or to take an answer.
    pub(crate) patience: Duration,
    /// How many clients are served at a time.
    pub(crate) room: usize,
}

impl Server {
    pub(crate) fn open(address: (&str, u16)) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, patience: Duration::from_secs(10), room: 512 })
    }

    /// Answers requests until `stop` is set. Those that have arrived by then are answered before it
    /// returns.
    pub(crate) fn serve(&self, stop: &Event, answer: impl Fn(Request) -> Answer + Sync) {
        let connections = AtomicUsize::new(0);
        thread::scope(|s| {
            s.spawn(|| {
                stop.wait();
                // Whoever has connected by now is let in, and after that nobody; the listener is
                // waiting for somebody. Either can only fail where it has failed, too.
                drop(self.listener.set_nonblocking(true));
                drop(TcpStream::connect(self.address));
            });
            loop {
                let stream = match self.listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(_) if stop.is_set() => break,
                    // One client has gone, or the process has no more files for now.
                    Err(_) => {
                        let _stopping = stop.wait_timeout(GLANCE);
                        continue;
                    }
                };
                let mut connection =
                    Connection { stream, arrived: Vec::new(), patience: self.patience, stop };
                let Some(place) = Place::take(&connections, self.room) else {
                    drop(connection.send(&Answer::refusal(503), false, true));
                    continue;
                };
                let answer = &answer;
                // Errors: the client has gone, or there is no thread for it, and it is hung up on.
                drop(thread::Builder::new().spawn_scoped(s, move || {
                    let _place = place;
                    drop(connection.serve(answer));
                }));
            }
        });
    }
}

/// One of the connections that there may be at a time.
struct Place<'c>(&'c AtomicUsize);

impl<'c> Place<'c> {
    fn take(connections: &'c AtomicUsize, room: usize) -> Option<Self> {
        // Relaxed: the count is all that is shared.
        let others = connections.fetch_add(1, Ordering::Relaxed);
        Some(Self(connections)).filter(|_place| others < room)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connection<'s> {
    stream: TcpStream,
    /// What has been read and not been answered.
    arrived: Vec<u8>,
    patience: Duration,
    stop: &'s Event,
}

impl Connection<'_> {
    fn serve(&mut self, answer: &impl Fn(Request) -> Answer) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(GLANCE))?;
        self.stream.set_write_timeout(Some(self.patience))?;
        loop {
            let request = match self.request()? {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(status) => {
                    self.send(&Answer::refusal(status), false, true)?;
                    return self.part();
                }
            };
            let (is_head, has_body) = (request.method == "HEAD", request.has_body());
            let is_last = request.is_last;
            let answer = answer(request);
            // A client that never pauses must not keep the server from stopping.
            let is_last = is_last || self.stop.is_set() && !self.has_another();
            self.send(&answer, is_head, is_last)?;
            if is_last {
                return if has_body || !self.arrived.is_empty() { self.part() } else { Ok(()) };
            }
        }
    }

    /// Whether a whole request has been read already.
    fn has_another(&self) -> bool {
        matches!(Request::parse(&self.arrived), Ok(Some(_)))
    }

    /// The next request, or the status to refuse it with, or nothing if none comes.
    fn request(&mut self) -> io::Result<Result<Option<Request>, u16>> {
        let mut deadline = Instant::now() + self.patience;
        loop {
            match Request::parse(&self.arrived) {
                Ok(None) => {}
                Ok(Some((request, end))) => {
                    self.arrived.drain(..end);
                    return Ok(Ok(Some(request)));
                }
                Err(status) => return Ok(Err(status)),
            }
            let mut bytes = [0; 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(Ok(None)),
                Ok(read) => {
                    if self.arrived.is_empty() {
                        // Until then the client had nothing to ask.
                        deadline = Instant::now() + self.patience;
                    }
                    self.arrived.extend(&bytes[..read]);
                }
                Err(error) if is_timeout(&error) => {
                    if self.stop.is_set() {
                        return Ok(Ok(None));
                    }
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(if self.arrived.is_empty() { Ok(None) } else { Err(408) });
            }
        }
    }

    fn send(&mut self, answer: &Answer, is_head: bool, is_last: bool) -> io::Result<()> {
        self.stream.write_all(&answer.bytes(is_head, is_last))
    }

    /// Ends a connection over which more may come. Closed at once, it would be reset, and the
    /// answer lost on its way.
    fn part(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Which of the two it is depends on the platform. A signal is no reason to give up, either.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

//! The example `request_server`, and clients that do not keep to the rules: they harm themselves.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cleanslate::Isolation;
use cleanslate::sync::Event;

use crate::request_server::example::{self, http::Server};

/// No read of a client takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server while it serves.
struct Service<'s> {
    address: SocketAddr,
    stop: &'s Event,
}

impl Drop for Service<'_> {
    /// Stops the server even if a test fails.
    fn drop(&mut self) {
        self.stop.set();
    }
}

/// Serves with one worker, which nobody can share, while `test` runs. Returns the access log.
fn serving(test: impl FnOnce(&Service)) -> Vec<String> {
    serving_with(|_server| (), test)
}

/// Does the same with a server that has other limits.
fn serving_with(limit: impl FnOnce(&mut Server), test: impl FnOnce(&Service)) -> Vec<String> {
    let (mut server, _url) = example::open(0).unwrap();
    server.patience = PATIENCE;
    limit(&mut server);
    let address = server.address;
    let pool = example::pool(1, Isolation::Reset).unwrap();
    let (log, lines) = mpsc::channel();
    let stop = Event::new();
    thread::scope(|s| {
        s.spawn(|| example::serve(&server, &pool, &stop, &log).unwrap());
        test(&Service { address, stop: &stop });
    });
    drop(log);
    lines.iter().collect()
}

/// What somebody else asks.
const ASKS: &[u8] = b"GET / HTTP/1.1\r\nX-User: ann\r\nConnection: close\r\n\r\n";

impl Service<'_> {
    fn send(&self, bytes: &[u8]) -> TcpStream {
        send(self.address, bytes)
    }

    /// All that is answered to `bytes`, until the server closes the connection.
    fn answers(&self, bytes: &[u8]) -> String {
        answers(self.send(bytes))
    }

    /// Somebody else asks, and is answered.
    #[track_caller]
    fn answers_others(&self) {
        assert_answered(&self.answers(ASKS));
    }
}

/// A connection over which `bytes` were sent.
fn send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(to).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    // The server may have had enough.
    let _sent = client.write_all(bytes);
    client
}

/// All that is answered, until the server closes the connection.
fn answers(mut client: TcpStream) -> String {
    let mut answers = Vec::new();
    // Whatever the client sent that nobody reads may cut the connection off.
    let _closed = client.read_to_end(&mut answers);
    String::from_utf8(answers).unwrap()
}

#[track_caller]
fn assert_answered(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\r\n\r\ngreeting for ann "), "{answer}");
}

/// The first bytes that are answered.
fn first(mut client: &TcpStream) -> String {
    let mut start = [0; 13];
    client.read_exact(&mut start).unwrap();
    String::from_utf8(start.to_vec()).unwrap()
}

/// Requests whose end never comes, and what they are answered before it.
const UNFINISHED: [(&str, Option<&str>); 7] = [
    ("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nabc", Some("405 ")),
    ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\nabc", Some("431 ")),
    ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\nabc", Some("400 ")),
    ("GET / HTTP/1.1\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n", Some("200 ")),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", Some("405 ")),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nab", Some("405 ")),
    ("GET / HTTP/1.1\r\nX-User: an", None),
];

// Broke: the process ended, since it wanted as much memory as the client had promised bytes.
#[test]
fn a_request_that_promises_more_than_it_sends_costs_nobody_else() {
    serving(|service| {
        for (request, answer) in UNFINISHED {
            let client = service.send(request.as_bytes());
            if let Some(status) = answer {
                assert_eq!(first(&client), format!("HTTP/1.1 {status}"), "{request:?}");
            }
            drop(client);
            service.answers_others();
        }
    });
}

// Broke: the worker waited for the rest.
#[test]
fn nor_does_one_whose_client_keeps_everybody_waiting() {
    serving(|service| {
        let waiting: Vec<_> =
            UNFINISHED.iter().map(|(request, _)| service.send(request.as_bytes())).collect();
        service.answers_others();
        drop(waiting);
    });
}

#[test]
fn a_client_that_reads_no_answers_keeps_nobody_waiting() {
    serving(|service| {
        let client = service.send(b"");
        client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let many = "GET / HTTP/1.1\r\n\r\n".repeat(1000);
        while (&client).write_all(many.as_bytes()).is_ok() {}
        service.answers_others();
    });
}

#[test]
fn a_client_that_takes_too_long_is_hung_up_on() {
    // All have sent what they send before one is served, so that nobody else takes too long; and
    // whoever comes last has a place only when the others are gone.
    let clients = RefCell::new(Vec::new());
    let limit = |server: &mut Server| {
        (server.patience, server.room) = (Duration::from_millis(200), 1);
        let requests = [&b"GET / HTTP/1.1\r\nX-User: an"[..], b"", ASKS];
        clients.replace(requests.map(|request| send(server.address, request)).into());
    };
    serving_with(limit, |_service| {
        let answers: Vec<_> = clients.take().into_iter().map(answers).collect();
        assert_eq!(answers[..2], ["", ""]);
        assert_answered(&answers[2]);
    });
}

#[test]
fn a_client_that_never_pauses_does_not_keep_the_server_from_stopping() {
    serving(|service| {
        let client = &service.send(b"");
        thread::scope(|s| {
            s.spawn(move || {
                let (many, mut client) = ("GET / HTTP/1.1\r\n\r\n".repeat(1000), client);
                while client.write_all(many.as_bytes()).is_ok() {}
            });
            let mut answers = client;
            answers.read_exact(&mut [0; 20_000]).unwrap();
            service.stop.set();
            while answers.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
        });
    });
}

#[test]
fn more_clients_than_there_is_room_for_wait() {
    let limit = |server: &mut Server| server.room = 2;
    serving_with(limit, |service| {
        let clients = [service.send(b""), service.send(b"")];
        let waiting = service.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        waiting.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!((&waiting).read(&mut [0]).is_err(), "there is no room");
        drop(clients);
        waiting.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(first(&waiting), "HTTP/1.1 200 ");
    });
}

// Broke: they were closed before anything was read of what they had sent.
#[test]
fn who_has_asked_by_the_stop_is_answered() {
    for room in [1, 512] {
        let limit = |server: &mut Server| server.room = room;
        serving_with(limit, |service| {
            let _idle = service.send(b"");
            let clients: Vec<_> =
                (0..20).map(|_| service.send(b"GET / HTTP/1.1\r\n\r\n")).collect();
            service.stop.set();
            for client in &clients {
                assert_eq!(first(client), "HTTP/1.1 200 ", "room for {room}");
            }
        });
    }
}

#[test]
fn a_client_that_has_said_all_is_answered() {
    serving(|service| {
        let mut client = service.send(b"GET / HTTP/1.1\r\n\r\n");
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

#[test]
fn a_length_that_is_none_is_refused() {
    serving(|service| {
        for length in ["-1", "three", "+3", "3, 3", ""] {
            let request = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\nabc");
            let answers = service.answers(request.as_bytes());
            assert!(answers.starts_with("HTTP/1.1 400 "), "{length:?}: {answers}");
        }
        service.answers_others();
    });
}

#[test]
fn a_head_without_end_is_refused() {
    serving(|service| {
        let long = "x".repeat(100_000);
        let many = "X: y\r\n".repeat(1_000);
        for request in [
            format!("GET /{long} HTTP/1.1\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nX-User: {long}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{many}\r\n"),
        ] {
            let client = service.send(request.as_bytes());
            assert_eq!(first(&client), "HTTP/1.1 431 ");
        }
        service.answers_others();
    });
}

#[test]
fn what_is_no_request_is_refused() {
    let log = serving(|service| {
        for request in ["\0\0\0\0", "hello\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\r\n:\r\n\r\n"]
        {
            let answers = service.answers(request.as_bytes());
            assert!(answers.starts_with("HTTP/1.1 400 "), "{request:?}: {answers}");
        }
        service.answers_others();
    });
    assert_eq!(log.len(), 1, "{log:?}");
}

#[test]
fn the_body_of_a_request_is_not_taken_for_another_one() {
    let body = "GET / HTTP/1.1\r\nX-User: mallory\r\n\r\n";
    let log = serving(|service| {
        for header in ["Content-Length: 36", "Transfer-Encoding: chunked"] {
            let request = format!("POST / HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n{body}");
            let answers = service.answers(request.as_bytes());
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{header}: {answers}");
        }
    });
    assert_eq!(log, ["#1 - POST \"/\" 405", "#2 - POST \"/\" 405"]);
}

#[test]
fn requests_in_one_go_are_answered_in_order() {
    let asked = ["ann", "bob", "cid"].map(|user| format!("GET / HTTP/1.1\r\nX-User: {user}\r\n"));
    let log = serving(|service| {
        let answers =
            service.answers((asked.join("\r\n") + "Connection: close\r\n\r\n").as_bytes());
        let greetings: Vec<_> = answers.lines().filter(|line| line.starts_with("greet")).collect();
        let expected = ["ann (request 1)", "bob (request 2)", "cid (request 3)"];
        assert_eq!(greetings, expected.map(|whom| format!("greeting for {whom}")), "{answers}");
    });
    assert_eq!(log.len(), 3);
}

// Broke: the connection was closed without an answer, and there was a greeting for nobody at all.
#[test]
fn a_name_that_is_none_is_anonymous() {
    let log = serving(|service| {
        for name in ["é", "", "  ", "\u{2028}"] {
            let request = format!("GET / HTTP/1.1\r\nX-User: {name}\r\nConnection: close\r\n\r\n");
            let answer = service.answers(request.as_bytes());
            assert!(answer.contains("\r\n\r\ngreeting for anonymous "), "{name:?}: {answer}");
        }
    });
    assert!(log.len() == 4 && log.iter().all(|line| line.contains(" - GET ")), "{log:?}");
}

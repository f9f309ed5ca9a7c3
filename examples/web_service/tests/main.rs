//! The example as a program of its own, over TCP.

#[path = "../../tests/browser.rs"]
mod browser;
mod page;
#[path = "../../tests/patience.rs"]
mod patience;
#[path = "../../tests/program.rs"]
#[expect(dead_code, reason = "its code is not called within the test")]
mod program;
mod service;
mod stop;
#[path = "../../tests/threads.rs"]
mod threads;

#[cfg(target_os = "linux")]
use std::process::Command;

use program::{Ran, spawn};
use service::Service;

fn run(args: &[&str]) -> Option<Ran> {
    spawn("web_service", args)
}

#[test]
fn of_20_000_requests_64_at_a_time_none_is_mixed_up_unless_it_leaks() {
    let Some(ran) = run(&["--requests", "20000", "--clients", "64"]) else { return };
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    let (clean, leaky) = ran.out.split_once("/work?leaky: ").expect("both ways");
    let clean: Vec<_> = clean.lines().collect();
    assert_eq!(
        clean,
        [
            "/work: 20000 answers, 0 with somebody else's data, 0 numbers twice",
            "  40000 log lines, 0 of them under another request's name",
            "  20000 spans of workers, 0 of them not in their request's trace",
        ]
    );
    assert!(leaky.starts_with("2000 answers, "));
    let mixed = leaky.split(", ").nth(1).expect("how many are mixed up");
    assert!(!mixed.starts_with("0 "), "{leaky}");
    assert!(leaky.contains("  for example, asked as "), "{leaky}");
    assert!(ran.out.trim_end().ends_with(", 0 where they are tasks"), "{}", ran.out);
}

#[test]
fn it_has_help_and_refuses_what_is_odd() {
    let Some(help) = run(&["--help"]) else { return };
    assert!(help.code == 0 && help.out.contains("--serve") && help.out.contains("--clients"));
    let odd = run(&["--workers", "none"]).expect("it was there just now");
    assert_eq!(odd.code, 2);
    assert!(odd.err.contains("--workers takes a number from 1 to 64"), "{}", odd.err);
    let idle = run(&["--port", "8080"]).expect("it was there just now");
    let sentence = "web_service: --port has no effect without --serve; see --help\n";
    assert_eq!((idle.code, idle.out.as_str(), idle.err.as_str()), (2, "", sentence));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let Some(ran) = run(&["--serve", "--port", &address.port().to_string()]) else { return };
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let start = format!("web_service: cannot listen on {address}: ");
    assert!(ran.err.starts_with(&start), "{}", ran.err);
}

// Broke: it hung, after a panic.
#[cfg(target_os = "linux")]
#[test]
fn it_says_so_where_there_are_too_few_threads() {
    let Some(path) = program::beside_this_test("web_service") else { return };
    for threads in 0..12 {
        for mode in [&["--requests=0"][..], &["--serve", "--port=0"]] {
            // A pool of its own for each way, so that with too many threads it would not end.
            let mut limited = threads::with_threads(threads, &path);
            let ended = patience::ends(limited.args(mode).arg("--workers=64"));
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(said.starts_with("web_service: the thread of worker "), "{threads}: {said}");
            assert_eq!(ended.status.code(), Some(1), "{threads}");
        }
    }
}

// Broke: it hung, since some clients had all the connections, and did not ask any more.
#[cfg(target_os = "linux")]
#[test]
fn a_check_ends_where_there_are_too_few_file_descriptors() {
    let Some(path) = program::beside_this_test("web_service") else { return };
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 80; exec \"$0\" --requests 1000 --clients 36"]).arg(path);
    let ended = patience::ends(&mut limited);
    let said = String::from_utf8_lossy(&ended.stderr);
    // Or a client has no file descriptor, if the server was that fast.
    let sentences = ["the server did not answer a client\n", "client error (Connect): "];
    let said_so = |so| said.starts_with(&format!("web_service: {so}"));
    assert!(sentences.into_iter().any(said_so), "{said}");
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn every_answer_and_every_line_says_whose_it_is() {
    let Some(service) = Service::start() else { return };
    let answer = service.get("/work", Some("alice")).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\r\nx-user: alice\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-request-id: 1\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\nrequest 1 for alice on clean-"), "{answer}");
    let answer = service.get("/work", None).expect("an answer");
    assert!(answer.contains("\r\nx-user: anonymous\r\n"), "{answer}");
    let missing = service.get("/nowhere", Some("bob")).expect("an answer");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    let lines = service.stop("TERM");
    assert_eq!(
        lines,
        [
            "[request 1 of alice] request: work: worked for request 1 of alice",
            "[request 1 of alice] request: answered /work for request 1 of alice",
            "[request 2 of anonymous] request: work: worked for request 2 of anonymous",
            "[request 2 of anonymous] request: answered /work for request 2 of anonymous",
            "[request 3 of bob] request: answered /nowhere for request 3 of bob",
            "stopped",
        ]
    );
}

// Broke: an empty name was one, of nobody that a page could show.
#[test]
fn a_name_that_is_none_is_anonymous() {
    let Some(service) = Service::start() else { return };
    for name in ["é", "", "  ", "\u{2028}"] {
        let answer = service.get("/work", Some(name)).expect("an answer");
        assert!(answer.contains("\r\nx-user: anonymous\r\n"), "{name:?}: {answer}");
    }
    let lines = service.stop("TERM");
    assert_eq!(
        lines.iter().filter(|line| line.contains(" of anonymous] ")).count(),
        8,
        "{lines:?}"
    );
}

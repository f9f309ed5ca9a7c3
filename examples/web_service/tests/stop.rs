//! It stops gracefully.

#![cfg(unix)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::program::{Service, get};

/// The answers that are complete, as the length says that stands in them.
fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()) == Some(body.len())
}

#[test]
fn a_stop_cuts_no_answer_off_and_says_that_it_is_over() {
    for signal in ["TERM", "INT"] {
        let Some(service) = Service::start() else { return };
        let answers = AtomicUsize::new(0);
        thread::scope(|s| {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    s.spawn(|| {
                        // Until nobody listens any more. Whoever is let in is answered.
                        while let Ok(answer) = get(&service.address, "/work", Some("ann")) {
                            if answer.is_empty() {
                                break;
                            }
                            assert!(is_whole(&answer), "{answer}");
                            answers.fetch_add(1, Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            while answers.load(Ordering::SeqCst) < 200 {
                assert!(clients.iter().any(|client| !client.is_finished()), "nobody is answered");
                thread::yield_now();
            }
            service.signal(signal);
        });
        let lines = service.rest();
        assert_eq!(lines.last().map(String::as_str), Some("stopped"));
        let answered = lines.iter().filter(|line| line.contains(" answered /work ")).count();
        assert!(answered >= answers.into_inner());
    }
}

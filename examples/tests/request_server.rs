//! The example `request_server`.

#[expect(dead_code, reason = "the test takes the place of the example's main")]
#[path = "../request_server/main.rs"]
pub(crate) mod example;

#[cfg(target_os = "linux")]
use crate::patience::ends;
#[cfg(target_os = "linux")]
use crate::program::beside_this_test;
use cleanslate::Isolation;
use cleanslate::sync::Event;
use example::{Plan, clients::agent};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

fn plan(isolation: Isolation, requests: u64) -> Plan {
    Plan { isolation, workers: 4, requests, clients: 64 }
}

#[test]
fn no_answer_of_20_000_has_the_identity_of_somebody_else() {
    let plan = plan(Isolation::Reset, 20_000);
    let (tally, log) = example::run(&plan, &mut std::io::sink()).unwrap();
    assert_eq!((tally.answers, tally.anonymous), (20_000, 5_000));
    assert_eq!(tally.mixed, 0, "{:?}", tally.sample);

    // The log has a line for every request, under an id of its own and in the right name.
    let ids: HashSet<_> = log.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((log.len(), ids.len()), (20_000, 20_000));
    let named: HashSet<_> = log.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(named.len(), 15_001, "every user once, and `-`");
    assert!(log.iter().all(|line| line.ends_with("GET \"/\" 200")));
}

#[test]
fn a_leaky_pool_mixes_users_up() {
    let plan = plan(Isolation::Leaky, 2_000);
    let mut out = Vec::new();
    let (tally, _) = example::run(&plan, &mut out).unwrap();
    assert_eq!(tally.answers, 2_000);
    assert!(tally.mixed > 0);
    assert!(String::from_utf8(out).unwrap().contains("for example, asked for"));
}

#[test]
fn an_empty_batch_ends() {
    let (tally, log) = example::run(&plan(Isolation::Reset, 0), &mut std::io::sink()).unwrap();
    assert_eq!((tally.answers, log.len()), (0, 0));
}

// Broke: the clients had connected, and waited for a server that had not started.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_ends_where_the_server_has_no_file_descriptors() {
    let Some(path) = beside_this_test("request_server") else { return };
    for files in 5..9 {
        let limited = format!("ulimit -n {files}; exec \"$0\"");
        let ended = ends(Command::new("sh").args(["-c", &limited]).arg(&path));
        assert!(!ended.status.success(), "with {files} files");
    }
}

#[test]
fn what_has_arrived_is_answered_after_the_stop() {
    let (server, url) = example::open(0).unwrap();
    let pool = example::pool(1, Isolation::Reset).unwrap();
    let (log, lines) = mpsc::channel();
    let (stop, go) = (Event::new(), Arc::new(Event::new()));
    let (busy, (begin, begun)) = (Arc::clone(&go), mpsc::channel());
    let busy = pool.submit(move || {
        begin.send(()).unwrap();
        busy.wait();
    });
    // Until it has begun, it would count among those that wait below.
    begun.recv().unwrap();
    thread::scope(|s| {
        let serving = s.spawn(|| example::serve(&server, &pool, &stop, &log));
        let asking: Vec<_> = ["ann", "bob", "cid"]
            .map(|user| {
                let url = &url;
                s.spawn(move || {
                    let mut answer = agent().get(url).header("X-User", user).call().unwrap();
                    let body = answer.body_mut().read_to_string().unwrap();
                    assert!(body.lines().all(|line| line.contains(&format!(" for {user} "))));
                })
            })
            .into();
        while pool.stats().queued < 3 {
            thread::yield_now();
        }
        stop.set();
        go.set();
        serving.join().unwrap().unwrap();
        asking.into_iter().for_each(|client| client.join().unwrap());
    });
    busy.join().unwrap();
    drop(log);
    assert_eq!(lines.iter().count(), 3);
}

#[test]
fn other_pages_and_methods_are_refused_by_name() {
    let (server, url) = example::open(0).unwrap();
    let pool = example::pool(2, Isolation::Reset).unwrap();
    let (log, lines) = mpsc::channel();
    let stop = Event::new();
    let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build();
    let agent = agent.new_agent();
    thread::scope(|s| {
        s.spawn(|| example::serve(&server, &pool, &stop, &log).unwrap());
        let missing = agent.get(format!("{url}nowhere")).header("X-User", "ann").call().unwrap();
        let posted = agent.post(&url).send("data").unwrap();
        for (mut answer, status, who) in [(missing, 404, "ann"), (posted, 405, "anonymous")] {
            assert_eq!(answer.status(), status);
            assert!(answer.body_mut().read_to_string().unwrap().contains(who));
        }
        stop.set();
    });
    drop(log);
    let lines: Vec<_> = lines.iter().collect();
    assert_eq!(lines, ["#1 ann GET \"/nowhere\" 404", "#2 - POST \"/\" 405"]);
}

/// Sends each request as it stands, on a connection of its own. Returns the answers and the log.
fn asked(requests: &[&str]) -> (Vec<String>, Vec<String>) {
    let (server, _url) = example::open(0).unwrap();
    let pool = example::pool(1, Isolation::Reset).unwrap();
    let (log, lines) = mpsc::channel();
    let stop = Event::new();
    let answers = thread::scope(|s| {
        s.spawn(|| example::serve(&server, &pool, &stop, &log).unwrap());
        let answer = |request: &&str| {
            let mut client = TcpStream::connect(server.address).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        let answers = requests.iter().map(answer).collect();
        stop.set();
        answers
    });
    drop(log);
    (answers, lines.iter().collect())
}

// Broke: the first two were no such page, and the third was refused.
#[test]
fn a_page_is_found_in_each_way_of_asking_for_it() {
    let ways = ["GET http://anywhere/", "GET /?a=b", "HEAD /"];
    let requests =
        ways.map(|way| format!("{way} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    let (answers, lines) = asked(&requests.each_ref().map(String::as_str));
    for (way, answer) in ways.iter().zip(&answers) {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{way}: {answer}");
        let has_body = answer.contains("greeting for anonymous");
        assert_eq!(has_body, way.starts_with("GET"), "{way}: {answer}");
    }
    let ends = ["GET \"http://anywhere/\" 200", "GET \"/?a=b\" 200", "HEAD \"/\" 200"];
    assert!(
        lines.len() == 3 && lines.iter().zip(ends).all(|(it, end)| it.ends_with(end)),
        "{lines:?}"
    );
}

/// Set for the process below.
const SERVE: &str = "CLEANSLATE_TEST_SERVE";

/// Not a test of its own, but the process that the next one interrupts.
#[test]
#[ignore = "serves until it is interrupted"]
fn serve_until_interrupted() {
    if std::env::var_os(SERVE).is_none() {
        // Somebody is running the ignored tests, and nobody would interrupt it.
        return;
    }
    let pool = example::pool(2, Isolation::Reset).unwrap();
    example::serve_until_interrupted(0, &pool, &mut std::io::stdout()).unwrap();
}

#[cfg(unix)]
#[test]
fn it_stops_gracefully_on_ctrl_c_and_on_sigterm() {
    for signal in ["INT", "TERM"] {
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "request_server::serve_until_interrupted",
                "--ignored",
                "--nocapture",
            ])
            .env(SERVE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
        let listening = lines.find(|line| line.contains("listening on ")).unwrap();
        let url = listening.split_once("listening on ").unwrap().1.split(',').next().unwrap();
        agent().get(url).header("X-User", "ann").call().unwrap();
        let interrupt = format!("kill -{signal} {}", server.id());
        assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
        let rest: Vec<_> = lines.collect();
        assert!(server.wait().unwrap().success(), "{rest:?}");
        assert_eq!(rest[..2], ["#1 ann GET \"/\" 200", "stopped"]);
    }
}

#[test]
fn a_port_in_use_is_named() {
    let (_server, url) = example::open(0).unwrap();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let error = example::open(port).err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
}

// Broke: a user called `\x1b[2J` cleared the screen of whoever read the log.
#[test]
fn a_request_writes_no_control_characters_into_the_log() {
    let requests = [
        ("GET / HTTP/1.1\r\nX-User: \x1b[2J\r\n\r\n", "400"),
        ("G\x1bET / HTTP/1.1\r\n\r\n", "400"),
        ("GET /\x1b HTTP/1.1\r\n\r\n", "400"),
        // One that turns the direction of writing, and one that moves the rest of the line.
        ("GE'T /\u{202e} HTTP/1.1\r\nX-User: a\tn\r\nConnection: close\r\n\r\n", "405"),
    ];
    let (answers, lines) = asked(&requests.map(|(request, _)| request));
    for ((request, status), answer) in requests.iter().zip(&answers) {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
    }
    assert_eq!(lines, [r#"#1 a\tn GE'T "/\u{202e}" 405"#]);
}

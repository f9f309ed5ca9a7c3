//! What the program does where its output goes nowhere.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

// Broke: it panicked, and left its workers behind.
#[test]
fn it_ends_without_noise_when_nobody_reads_its_output() {
    for args in [&["--help"][..], &["--jobs", "5"]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_word_index"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(program.stdout.take());
        let ended = program.wait_with_output().unwrap();
        assert_eq!(
            (String::from_utf8_lossy(&ended.stderr).as_ref(), ended.status.code()),
            ("", Some(0))
        );
    }
}

// Broke: it was not left out of URLs that are not quite right; and PostgreSQL was tried for half a
// minute, and the cause was lost.
#[test]
fn a_queue_that_is_not_there_is_named_without_its_password() {
    for (option, url, about, code) in [
        ("--redis", "redis://me:secret@127.0.0.1:1/", "the queue at redis://127.0.0.1:1/: ", 1),
        ("--redis", "rediss://:secret@127.0.0.1:1/", "begins with redis:// or redis+unix://", 2),
        (
            "--postgres",
            "postgres://me:secret?x@127.0.0.1:1/db",
            "the queue at postgres://127.0.0.1:1/db: ",
            1,
        ),
        ("--postgres", "postgres://me:secret@127.0.0.1:1/db", "Connection refused", 1),
        ("--postgres", "postgres:me:secret@127.0.0.1", "begins with postgres:// or", 2),
        ("--redis", "redis+unix:///no/socket", "the queue at redis+unix:///no/socket: ", 1),
    ] {
        let ended =
            Command::new(env!("CARGO_BIN_EXE_word_index")).args([option, url]).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains(about) && !said.contains("secret"), "{said}");
        assert_eq!(ended.status.code(), Some(code));
    }
}

// Broke: it was shown.
#[cfg(unix)]
#[test]
fn a_password_in_an_argument_that_is_not_understood_is_not_shown() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let latin: [&[u8]; 2] = [b"--redis", b"redis://me:secret\xe9@127.0.0.1:1/"];
    const URL: &[u8] = b"redis://me:secret@127.0.0.1:1/";
    let dashed: &[u8] = b"--redis://me:secret@127.0.0.1:1/";
    for args in [&latin[..], &[URL], &[b"--jobs", URL], &[dashed]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_word_index"));
        let ended = program.args(args.iter().map(|arg| OsStr::from_bytes(arg))).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.starts_with("word_index: ") && !said.contains("secret"), "{said}");
        assert_eq!(ended.status.code(), Some(2));
    }
}

// Broke: it waited for ever for what such a job had to say; and the queue delivered one that had
// failed again, so that it was told of and counted several times.
#[test]
fn a_job_that_fails_for_good_is_told_of_and_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let begin = || {
        Command::new(env!("CARGO_BIN_EXE_word_index"))
            .args(["--jobs", "200"])
            .env("TMPDIR", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let document = |tenant: &str, name: &str| {
        let mut made = std::fs::read_dir(directory.path()).unwrap();
        let made = made.next()?.unwrap().path();
        Some(made.join("documents").join(tenant).join(name))
    };
    let remove = |tenant, name| {
        document(tenant, name).is_some_and(|document| std::fs::remove_file(document).is_ok())
    };
    let ended = loop {
        let mut program = begin();
        // The last document of all, before a worker comes to it; and then one of the first half.
        while !remove("globex", "report-099.txt") {
            // It may be over before this thread has found the document.
            if program.try_wait().unwrap().is_some() {
                break;
            }
            thread::yield_now();
        }
        remove("acme", "report-030.txt");
        let ended = program.wait_with_output().unwrap();
        // Unless a worker was there first.
        if String::from_utf8_lossy(&ended.stderr)
            == "word_index: 2 of 200 documents have no index\n"
        {
            break ended;
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(matches!(&*said, "" | "word_index: 1 of 200 documents have no index\n"), "{said}");
    };
    let out = String::from_utf8(ended.stdout).unwrap();
    let mut told: Vec<_> = out.lines().filter(|line| line.starts_with("failed: ")).collect();
    told.sort_unstable();
    assert_eq!((told.len(), out.lines().count()), (2, 200), "{out}");
    assert!(told[0].starts_with("failed: report-030 of acme: "), "{told:?}");
    assert!(told[1].starts_with("failed: report-099 of globex: "), "{told:?}");
}

// Broke: its workers were waited for, and they for their input, which would not end before.
#[test]
fn a_queue_that_is_gone_ends_it_and_is_told_of() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut server = Command::new("redis-server");
    server.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let Ok(mut server) = server.stdout(Stdio::null()).spawn() else {
        eprintln!("not tested: there is no redis-server here");
        return;
    };
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        thread::yield_now();
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_word_index"))
        .args(["--jobs", "5000", "--redis", &format!("redis://127.0.0.1:{port}/")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    assert!(lines.next().is_some(), "the workers work");
    server.kill().unwrap();
    server.wait().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send((lines.count(), program.wait_with_output())));
    let (more, ended) = told.recv_timeout(Duration::from_secs(120)).expect("it ends");
    let ended = ended.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(more < 5_000 && said.contains("word_index: Failed to poll backend: "), "{said}");
    assert_eq!(ended.status.code(), Some(1));
}

// Broke: it panicked or hung.
#[cfg(target_os = "linux")]
#[test]
fn it_ends_where_there_are_too_few_threads() {
    for threads in 0..10_u64 {
        // Each thread wants a stack of 1 GiB, and there is no more memory than for these.
        let limited = format!("ulimit -v {}; exec \"$0\" --jobs 4", (threads << 20) + (1 << 19));
        let program = Command::new("sh")
            .args(["-c", &limited, env!("CARGO_BIN_EXE_word_index")])
            .envs([("RUST_MIN_STACK", (1 << 30).to_string()), ("MALLOC_ARENA_MAX", "1".into())])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(program.wait_with_output()));
        let ended = told.recv_timeout(Duration::from_secs(60)).expect("it ends").unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        match ended.status.code() {
            Some(0) => assert!(threads > 0 && said.is_empty(), "{said}"),
            // Not at its start: a timer of a library panics.
            code => assert!(code == Some(1) && said.contains("word_index: "), "{said}"),
        }
    }
}

// Broke: it had failed, since a worker cannot be stopped before it has started.
#[test]
fn a_worker_that_is_late_ends_as_the_others_do() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/jobs.db?mode=rwc", directory.path().display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = apalis_sqlite::SqlitePool::connect(&url).await.unwrap();
        apalis_sqlite::SqliteStorage::setup(&pool).await.unwrap();
    });
    for name in 0..10 {
        let mut worker = Command::new(env!("CARGO_BIN_EXE_word_index"));
        let ended = worker.args(["work", &url, "queue", &name.to_string()]).arg(directory.path());
        // There is nothing to do any more.
        let ended = ended.stdin(Stdio::null()).output().unwrap();
        assert_eq!(
            (String::from_utf8_lossy(&ended.stderr).as_ref(), ended.status.code()),
            ("", Some(0))
        );
    }
}

//! Runs the example, and talks to it.

use std::io::{self, BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What a run wrote, and what it ended with.
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

/// Runs it to its end. `None` if it was not built: `cargo test` builds it, `cargo test --test`
/// alone does not.
pub(crate) fn run(args: &[&str]) -> Option<Ran> {
    let output = Command::new(path()?).args(args).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("what it writes is UTF-8");
    let code = output.status.code().expect("it was not killed");
    Some(Ran { out: text(output.stdout), err: text(output.stderr), code })
}

fn path() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent()?.parent()?;
    let name = format!("web_service{}", std::env::consts::EXE_SUFFIX);
    let path = profile.join("examples").join(name);
    let found = path.is_file();
    if !found {
        eprintln!("skipped: not built, {}", path.display());
    }
    found.then_some(path)
}

/// The example while it serves. Killed if the test fails.
pub(crate) struct Service {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) address: String,
}

impl Service {
    /// Starts it on any port. `None` if it was not built.
    pub(crate) fn start() -> Option<Self> {
        let mut child =
            Command::new(path()?).arg("--serve").stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let first = lines.next().expect("it says where it listens").expect("as text");
        let address = first.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.expect("an address").to_owned();
        Some(Self { child, lines, address })
    }

    /// Sends one request over a connection of its own.
    pub(crate) fn get(&self, path: &str, user: Option<&str>) -> io::Result<String> {
        get(&self.address, path, user)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(sent.success());
    }

    /// Asks it to stop, and returns what it has written since it listened.
    pub(crate) fn stop(self, signal: &str) -> Vec<String> {
        self.signal(signal);
        self.rest()
    }

    /// Returns what it writes until it ends, which has to be a success.
    pub(crate) fn rest(mut self) -> Vec<String> {
        let lines = self.lines.by_ref().map(|line| line.expect("text")).collect();
        assert!(self.child.wait().expect("it ends").success(), "{lines:?}");
        lines
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command; fails if it does not end.
pub(crate) fn ends(command: &mut Command) -> Output {
    const PATIENCE: Duration = Duration::from_secs(60);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let id = child.id().to_string();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(PATIENCE) else {
        drop(Command::new("kill").arg(id).status());
        panic!("it hangs: {command:?}");
    };
    output.expect("it can be waited for")
}

/// Sends one request and returns the whole answer.
pub(crate) fn get(address: &str, path: &str, user: Option<&str>) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let user = user.map_or(String::new(), |user| format!("x-user: {user}\r\n"));
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{user}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

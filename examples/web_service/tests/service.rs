//! The example while it serves.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::program::beside_this_test;

/// The example while it serves. Killed if the test fails.
pub(crate) struct Service {
    child: Child,
    /// What it has written. It is read at once: a full pipe would hold up whoever writes a line.
    lines: Receiver<String>,
    pub(crate) address: String,
}

impl Service {
    /// Starts it on any port. `None` if it was not built.
    pub(crate) fn start() -> Option<Self> {
        let mut service = Command::new(beside_this_test("web_service")?);
        let mut child = service.arg("--serve").stdout(Stdio::piped()).spawn().expect("it starts");
        let written = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            written.map(|line| line.expect("text")).try_for_each(|line| tell.send(line))
        });
        let first = lines.recv().expect("it says where it listens");
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
        let lines = self.lines.iter().collect();
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

//! Programs that have to end.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

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

//! Runs an example as a program of its own, and its code within the test.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// What a run wrote, and what it ended with.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

/// Runs an example's code in this process.
pub(crate) fn call(
    args: &[&str],
    run: impl FnOnce(Vec<OsString>, &mut Vec<u8>, &mut Vec<u8>) -> u8,
) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(args.iter().map(OsString::from).collect(), &mut out, &mut err).into();
    Ran { out: text(out), err: text(err), code }
}

/// Runs the example that lies beside this test. `cargo test` builds it; `cargo test --test` alone
/// does not, and then there may be none.
pub(crate) fn spawn(example: &str, args: &[&str]) -> Option<Ran> {
    let path = beside_this_test(example)?;
    let output = Command::new(path).args(args).output().expect("the example starts");
    let code = output.status.code().expect("the example was not killed");
    Some(Ran { out: text(output.stdout), err: text(output.stderr), code })
}

pub(crate) fn beside_this_test(example: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent()?.parent()?;
    let path = profile.join("examples").join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    let found = path.is_file();
    if !found {
        eprintln!("not built, so not tested: {}", path.display());
    }
    found.then_some(path)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("the output is UTF-8")
}

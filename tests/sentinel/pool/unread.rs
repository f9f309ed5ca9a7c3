//! The symbols cannot be read for a moment.

use std::fs::File;

use cleanslate::sentinel::Unsupported;

use super::*;

const MARK: &str = "CLEANSLATE_TEST_UNREAD";

/// Runs a test in a process that may open few files, as a copy whose time can be changed; returns
/// whether this is that one.
fn in_a_copy_with_few_descriptors(name: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.rsplit("::").next().unwrap());
    // Copied by another process: what is started beside this test meanwhile would inherit the open
    // copy, and what is open to be written cannot be run ("text file busy").
    let output = Command::new("sh")
        .args(["-c", "cp \"$1\" \"$0\" && shift && ulimit -n 64 && exec \"$0\" \"$@\""])
        .arg(copy)
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = output.status.success() && text.contains("1 passed");
    assert!(ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// Opens files until no descriptor is left.
fn all_descriptors() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// Brings std's hash keys to life, which only a rule by name lets pass.
fn touch_std() -> usize {
    HashMap::<u8, u8>::new().len()
}

#[test]
fn no_pool_is_built_while_symbols_cannot_be_read() {
    let name = "pool::unread::no_pool_is_built_while_symbols_cannot_be_read";
    if !in_a_copy_with_few_descriptors(name) {
        return;
    }
    let files = all_descriptors();
    let error = builder(1, Sentinel::new().panic()).build().unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    let source = error.source().and_then(|source| source.downcast_ref::<Unsupported>());
    assert!(source.is_some_and(Unsupported::is_temporary), "{error}");
    // Whoever looks at nothing needs no symbols.
    drop(pool(1, Sentinel::new().renew_always()));
    drop(files);
    let pool = pool(1, Sentinel::new().panic());
    for _ in 0..3 {
        assert_eq!(pool.submit(touch_std).join().unwrap(), 0);
    }
    assert!(pool.submit(dirty).join().is_err());
}

#[test]
fn a_worker_that_begins_then_is_watched_later() {
    let name = "pool::unread::a_worker_that_begins_then_is_watched_later";
    if !in_a_copy_with_few_descriptors(name) {
        return;
    }
    let (tell, told) = mpsc::channel();
    let pool = builder(1, Sentinel::new().renew(1, HOUR))
        .panic_hook(move |error| tell.send(error.to_string()).unwrap())
        .build()
        .unwrap();
    // The worker has begun, and so has read what it needs.
    pool.submit(|| ()).join().unwrap();
    // Looks like another file, which has to be read anew.
    let me = std::env::current_exe().unwrap();
    assert!(Command::new("touch").args(["-d", "@1000000000"]).arg(me).status().unwrap().success());
    let files = all_descriptors();
    pool.submit(dirty).join().unwrap();
    // The successor is not watched.
    assert_eq!(pool.submit(dirty).join().unwrap(), 0);
    assert_eq!((pool.stats().renewed, pool.stats().leaks), (1, 1));
    let text = told.recv().unwrap();
    assert!(text.starts_with("`sentinel of worker 0`") && text.contains("os error 24"), "{text}");
    drop(files);
    assert_eq!(pool.submit(touch_std).join().unwrap(), 0);
    pool.submit(dirty).join().unwrap();
    assert_eq!(pool.stats().leaks, 2);
    assert!(told.try_recv().is_err());
}

//! Watching while another thread is inside `dlopen`.
//!
//! A program of its own: the libraries get the numbers that the tests need only if no other test
//! loads any, and each waits at the same two descriptors. So the tests run one after the other.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cleanslate_sentinel::{Sentinel, Watcher};
use sentinel_corpus::Library;

thread_local! { static DIRTY: Cell<u64> = const { Cell::new(0) }; }

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where a library waits while it is being loaded.
struct Gate {
    arrived: fs::File,
    go: fs::File,
    _library: [OwnedFd; 2],
}

impl Gate {
    fn new() -> Gate {
        let (arrived, tell) = pipe();
        let (wait, go) = pipe();
        Gate { arrived, go, _library: [put_at(198, &tell), put_at(199, &wait)] }
    }

    fn wait_for_arrival(&mut self) {
        self.arrived.read_exact(&mut [0]).unwrap();
    }

    fn open(&mut self) {
        self.go.write_all(&[1]).unwrap();
    }
}

fn pipe() -> (fs::File, fs::File) {
    let (read, write) = std::io::pipe().unwrap();
    (OwnedFd::from(read).into(), OwnedFd::from(write).into())
}

fn put_at(number: i32, file: &fs::File) -> OwnedFd {
    // SAFETY: nothing else in this program has such a high descriptor.
    assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
    // SAFETY: it was just opened, and is closed only by the value that is returned.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Leaves a change of this program's own thread-local and tells what is reported of it.
fn leak(watcher: &mut Watcher) -> String {
    watcher.begin();
    DIRTY.set(DIRTY.get() + 1);
    let report = watcher.finish().expect("a leak");
    report.leaks().iter().map(|leak| leak.path().unwrap_or("?").to_owned()).collect()
}

/// Waits without the linker's lock, which channels take when a thread uses its first one.
fn spin_until(done: impl Fn() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

/// Whether a thread waits for something in the kernel.
fn is_blocked(thread: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

#[test]
fn no_block_of_an_unloaded_library_is_taken_for_that_of_one_that_is_being_loaded() {
    // The linker lists the new library, with its number, while this thread's entry of that number
    // is still the block of the unloaded one. A larger library's block was read beyond its end, one
    // of the same size was reported under the new library's names.
    let _alone = ONE_AT_A_TIME.lock();
    for name in ["halfway", "halfway_large"] {
        let mut gate = Gate::new();
        let library = Library::open("opened");
        // Keeps its number, so that the next library gets the one before.
        let _behind = Library::open("shared_again");
        library.setter("opened_set_exported")(7);
        drop(library);
        // SAFETY: it has no preconditions.
        let here = unsafe { libc::gettid() };
        let [is_ready, has_arrived, is_watching, is_done] = [const { AtomicBool::new(false) }; 4];
        let mut watcher = None;
        let (found, library) = thread::scope(|scope| {
            scope.spawn(|| {
                is_ready.store(true, Ordering::SeqCst);
                gate.wait_for_arrival();
                has_arrived.store(true, Ordering::SeqCst);
                // Until the watching thread is through, or is stopped in the middle.
                spin_until(|| is_watching.load(Ordering::SeqCst));
                spin_until(|| is_done.load(Ordering::SeqCst) || is_blocked(here));
                gate.open();
            });
            // A thread takes the linker's lock while it starts.
            spin_until(|| is_ready.load(Ordering::SeqCst));
            let loading = scope.spawn(|| Library::open(name));
            spin_until(|| has_arrived.load(Ordering::SeqCst));
            is_watching.store(true, Ordering::SeqCst);
            let found = leak(watcher.insert(Sentinel::new().watcher().unwrap()));
            is_done.store(true, Ordering::SeqCst);
            (found, loading.join().unwrap())
        });
        let mut watcher = watcher.unwrap();
        assert_eq!(found, "loading::DIRTY");
        watcher.begin();
        library.setter(&format!("{name}_set_exported"))(7);
        let report = watcher.finish().expect("a leak");
        assert_eq!(report.leaks()[0].path(), Some(&*format!("{name}_exported")), "{report}");
    }
}

#[test]
fn a_constructor_may_wait_for_watched_tasks_that_do_not_use_its_library() {
    // The linker's lock is held while a constructor runs, so whoever waits for the lock would wait
    // for the constructor, which waits for him.
    let _alone = ONE_AT_A_TIME.lock();
    let mut gate = Gate::new();
    let found = Mutex::new(Vec::new());
    let [is_ready, is_constructing, is_done] = [const { AtomicBool::new(false) }; 3];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut known = Sentinel::new().watcher().unwrap();
            let mut found = found.lock().unwrap();
            found.push(leak(&mut known));
            is_ready.store(true, Ordering::SeqCst);
            spin_until(|| is_constructing.load(Ordering::SeqCst));
            found.push(leak(&mut known));
            found.push(leak(&mut Sentinel::new().watcher().unwrap()));
            is_done.store(true, Ordering::SeqCst);
        });
        // A thread takes the linker's lock while it starts.
        spin_until(|| is_ready.load(Ordering::SeqCst));
        let loading = scope.spawn(|| Library::open("constructed"));
        gate.wait_for_arrival();
        is_constructing.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(20);
        spin_until(|| is_done.load(Ordering::SeqCst) || Instant::now() > deadline);
        let is_in_time = is_done.load(Ordering::SeqCst);
        gate.open();
        drop(loading.join().unwrap());
        assert!(is_in_time, "a watch waits for the constructor");
    });
    assert_eq!(*found.lock().unwrap(), ["loading::DIRTY"; 3]);
}

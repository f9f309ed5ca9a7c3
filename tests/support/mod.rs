//! What the tests of the pool share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use cleanslate::Pool;

/// The pool shapes that every test runs over: alone, in company, and more workers than processors.
pub(crate) const SHAPES: [usize; 3] = [1, 2, 5];

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` once for each shape; a deadlock is a failure that names the shape.
pub(crate) fn each_shape(test: impl Fn(&Pool) + Send + Sync + 'static) {
    let test = Arc::new(test);
    for workers in SHAPES {
        let test = Arc::clone(&test);
        finishes(&format!("{workers} workers"), move || test(&Pool::new(workers).unwrap()));
    }
}

/// Fails if `f` does not come back; a panic of it is passed on.
pub(crate) fn finishes(what: &str, f: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        f();
        tell.send(()).unwrap();
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = told.recv_timeout(PATIENCE) {
        panic!("{what}: hangs");
    }
    if let Err(payload) = thread.join() {
        std::panic::resume_unwind(payload);
    }
}

/// Counts how many of its tokens are alive.
#[derive(Clone, Default, Debug)]
pub(crate) struct Census {
    alive: Arc<AtomicUsize>,
    born: Arc<AtomicUsize>,
}

impl Census {
    pub(crate) fn token(&self) -> Token {
        self.alive.fetch_add(1, Ordering::SeqCst);
        self.born.fetch_add(1, Ordering::SeqCst);
        Token(self.clone())
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    pub(crate) fn born(&self) -> usize {
        self.born.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub(crate) struct Token(Census);

impl Drop for Token {
    fn drop(&mut self) {
        let before = self.0.alive.fetch_sub(1, Ordering::SeqCst);
        assert_ne!(before, 0, "dropped twice");
    }
}

/// Occupies every worker until dropped.
pub(crate) struct Occupied<'p> {
    pool: &'p Pool,
    gate: Vec<mpsc::Sender<()>>,
    handles: Vec<cleanslate::JoinHandle<()>>,
}

pub(crate) fn occupy(pool: &Pool) -> Occupied<'_> {
    let (tell, told) = mpsc::channel();
    let mut occupied = Occupied { pool, gate: Vec::new(), handles: Vec::new() };
    for _ in 0..pool.workers() {
        let (open, gate) = mpsc::channel::<()>();
        let tell = tell.clone();
        occupied.gate.push(open);
        occupied.handles.push(pool.submit(move || {
            tell.send(()).unwrap();
            // Returns when the sender is dropped.
            let _open = gate.recv();
        }));
    }
    for _ in 0..pool.workers() {
        told.recv().unwrap();
    }
    occupied
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.gate.clear();
        for handle in self.handles.drain(..) {
            handle.join().unwrap();
        }
        let _ = self.pool;
    }
}

/// The message of a caught panic.
pub(crate) fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not words")
}

/// What `f` panics with.
pub(crate) fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(_) => panic!("should have panicked"),
        Err(payload) => message(&*payload).to_owned(),
    }
}

//! What the tests of the engine share.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};

/// The numbers of workers that every pool test runs over.
pub(crate) const SHAPES: [usize; 3] = [1, 2, 5];

/// Says nothing of panics whose message says that they happen on purpose.
pub(crate) fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !text(info.payload()).contains("on purpose") {
                before(info);
            }
        }));
    });
}

/// The words of a panic, or of the error that it was raised with.
pub(crate) fn text(payload: &(dyn Any + Send)) -> String {
    if let Some(words) = payload.downcast_ref::<&'static str>() {
        (*words).to_owned()
    } else if let Some(words) = payload.downcast_ref::<String>() {
        words.clone()
    } else if let Some(error) = payload.downcast_ref::<cleanslate::RunError>() {
        error.to_string()
    } else {
        "no words".to_owned()
    }
}

/// The words of the panic that `f` is to end with.
#[track_caller]
pub(crate) fn panics<R>(f: impl FnOnce() -> R) -> String {
    quiet();
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => text(&*payload),
    }
}

/// How many there are of something, and what has happened to them, in order.
#[derive(Clone, Default)]
pub(crate) struct Census(Arc<Counts>);

#[derive(Default)]
struct Counts {
    made: AtomicUsize,
    cloned: AtomicUsize,
    dropped: AtomicUsize,
    log: Mutex<Vec<String>>,
}

impl Census {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One that is counted from here on.
    pub(crate) fn one(&self, name: &'static str) -> Counted {
        self.0.made.fetch_add(1, Ordering::SeqCst);
        Counted { name, census: self.clone() }
    }

    pub(crate) fn made(&self) -> usize {
        self.0.made.load(Ordering::SeqCst)
    }

    pub(crate) fn cloned(&self) -> usize {
        self.0.cloned.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.made() - self.dropped()
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.log.lock().unwrap().push(what.into());
    }

    /// What was noted since the last time of asking.
    pub(crate) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.log.lock().unwrap())
    }
}

/// Counts itself. Notes its name when it is dropped.
pub(crate) struct Counted {
    pub(crate) name: &'static str,
    census: Census,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.census.0.cloned.fetch_add(1, Ordering::SeqCst);
        self.census.one(self.name)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.census.0.dropped.fetch_add(1, Ordering::SeqCst);
        self.census.note(self.name);
    }
}

/// Calls a function when it is dropped.
pub(crate) struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl OnDrop {
    pub(crate) fn new(f: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(f)))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

/// Runs `f` on a thread of its own, which has ended, destructors and all, when this returns.
#[track_caller]
pub(crate) fn on_a_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    quiet();
    std::thread::scope(|s| s.spawn(f).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
}

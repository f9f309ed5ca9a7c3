//! Values that are counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How many there are of something, and what has happened to them, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    cloned: AtomicUsize,
    dropped: AtomicUsize,
    /// Counted on its own: two counts that are read one after the other belong to two moments.
    alive: AtomicUsize,
    log: Mutex<Vec<String>>,
}

impl Census {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One that is counted from here on.
    pub(crate) fn one(&self, name: &'static str) -> Counted {
        self.0.made.fetch_add(1, Ordering::SeqCst);
        self.0.alive.fetch_add(1, Ordering::SeqCst);
        Counted { name, census: self.clone() }
    }

    /// One whose name does not matter.
    pub(crate) fn token(&self) -> Counted {
        self.one("token")
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
        self.0.alive.load(Ordering::SeqCst)
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
#[derive(Debug)]
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
        let dropped = self.census.0.dropped.fetch_add(1, Ordering::SeqCst);
        self.census.0.alive.fetch_sub(1, Ordering::SeqCst);
        assert!(dropped < self.census.made(), "dropped twice");
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

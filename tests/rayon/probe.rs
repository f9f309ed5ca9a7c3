//! A probe that tells whether a closure shares its slots with another item's.

use cleanslate::task_local;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

task_local! {
    /// Which item has been here, and a handle that counts the values that are still alive.
    static MARK: Option<(u64, Arc<Probe>)> = None;
}

#[derive(Debug, Default)]
pub(crate) struct Probe {
    marks: AtomicUsize,
    shared: AtomicUsize,
}

impl Probe {
    /// To be called by every closure that works on item `id`.
    pub(crate) fn mark(self: &Arc<Self>, id: u64) {
        self.marks.fetch_add(1, SeqCst);
        MARK.with_mut(|mark| {
            if mark.as_ref().is_some_and(|(other, _)| *other != id) {
                self.shared.fetch_add(1, SeqCst);
            }
            *mark = Some((id, Arc::clone(self)));
        });
    }

    pub(crate) fn marks(&self) -> usize {
        self.marks.load(SeqCst)
    }

    /// How often a closure found another item's value.
    pub(crate) fn shared(&self) -> usize {
        self.shared.load(SeqCst)
    }
}

pub(crate) const THREADS: [usize; 4] = [1, 2, 4, 8];

/// Calls back in a new pool, so that the calling thread belongs to it and drives.
pub(crate) fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(f)
}

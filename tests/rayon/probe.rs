//! A probe that tells whether the call of a closure finds what another one has left.

use cleanslate::task_local;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

task_local! {
    /// A handle that counts the values that are still alive.
    static MARK: Option<Arc<Probe>> = None;
}

#[derive(Debug, Default)]
pub(crate) struct Probe {
    marks: AtomicUsize,
    shared: AtomicUsize,
}

impl Probe {
    /// To be called by every closure, once in each call.
    pub(crate) fn mark(self: &Arc<Self>) {
        self.marks.fetch_add(1, SeqCst);
        let before = MARK.replace(Some(Arc::clone(self)));
        self.shared.fetch_add(usize::from(before.is_some()), SeqCst);
    }

    /// The same, for closures that return what they were given.
    pub(crate) fn pass<T>(self: &Arc<Self>, item: T) -> T {
        self.mark();
        item
    }

    pub(crate) fn marks(&self) -> usize {
        self.marks.load(SeqCst)
    }

    /// How often a call found another one's value.
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

/// Runs a chain isolated and bare: the same result, nothing shared, nothing left. The bare one
/// shares, so the probe sees what there is to see.
pub(crate) fn compare<R: PartialEq + std::fmt::Debug + Send>(
    isolated: impl Fn(&Arc<Probe>) -> R + Sync,
    bare: impl Fn(&Arc<Probe>) -> R + Sync,
) {
    let dirty = Arc::new(Probe::default());
    let expected = in_pool(1, || bare(&dirty));
    assert!(dirty.marks() > 1 && dirty.shared() > 0, "the probe sees nothing: {dirty:?}");
    for threads in THREADS {
        let probe = Arc::new(Probe::default());
        let result = in_pool(threads, || {
            let result = isolated(&probe);
            // Before anybody can see that the chain has ended.
            assert_eq!(Arc::strong_count(&probe), 1, "{threads} threads: values are left");
            result
        });
        assert_eq!(result, expected, "{threads} threads");
        assert_eq!(probe.shared(), 0, "{threads} threads: {probe:?}");
        assert!(probe.marks() > 1);
    }
}

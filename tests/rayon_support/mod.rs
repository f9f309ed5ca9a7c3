//! A probe that tells whether a closure shares its slots with another item's.

use cleanslate::rayon::{Isolated, ParallelIteratorExt};
use cleanslate::task_local;
use rayon::iter::ParallelIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

task_local! {
    /// Which item has been here, and a handle that counts the values that are still alive.
    static MARK: Option<(u64, Arc<Probe>)> = None;
}

#[derive(Debug, Default)]
pub struct Probe {
    marks: AtomicUsize,
    shared: AtomicUsize,
}

impl Probe {
    /// To be called by every closure that works on item `id`.
    pub fn mark(self: &Arc<Self>, id: u64) {
        self.marks.fetch_add(1, SeqCst);
        MARK.with_mut(|mark| {
            if mark.as_ref().is_some_and(|(other, _)| *other != id) {
                self.shared.fetch_add(1, SeqCst);
            }
            *mark = Some((id, Arc::clone(self)));
        });
    }

    pub fn marks(&self) -> usize {
        self.marks.load(SeqCst)
    }

    /// How often a closure found another item's value.
    pub fn shared(&self) -> usize {
        self.shared.load(SeqCst)
    }
}

pub const THREADS: [usize; 4] = [1, 2, 4, 8];

/// Calls back in a new pool, so that the calling thread belongs to it and drives.
pub fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(f)
}

/// `.iso()` isolates.
pub mod isolated {
    use super::{Isolated, ParallelIterator, ParallelIteratorExt};

    pub trait Iso: ParallelIterator {
        fn iso(self) -> Isolated<Self> {
            self.isolated()
        }
    }
    impl<I: ParallelIterator> Iso for I {}
}

/// `.iso()` does nothing.
pub mod bare {
    use super::ParallelIterator;

    pub trait Iso: ParallelIterator {
        fn iso(self) -> Self {
            self
        }
    }
    impl<I: ParallelIterator> Iso for I {}
}

/// Runs a chain isolated and bare: same result, nothing shared, nothing left; and the bare one
/// shares, so the probe sees what there is to see.
pub fn compare<R: PartialEq + std::fmt::Debug + Send>(
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

/// Declares one test per chain, in which `.iso()` stands for the isolation.
#[macro_export]
macro_rules! chains {
    ($($(#[$attr:meta])* $name:ident: |$p:ident| $body:expr;)+) => {$(
        $(#[$attr])*
        #[test]
        fn $name() {
            use $crate::rayon_support::{bare, isolated, compare, Probe};
            compare(
                |$p: &std::sync::Arc<Probe>| { use isolated::Iso as _; $body },
                |$p: &std::sync::Arc<Probe>| { use bare::Iso as _; $body },
            );
        }
    )+};
}

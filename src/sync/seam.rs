//! The one place through which the pool reaches atomics, locks, cells and threads.
//!
//! Under `--cfg loom` the same names come from loom, so that the protocols of the pool (the state of
//! a job, the sleep of a worker, the gate of a group) can be explored exhaustively. What is not
//! modelled, because it only ever blocks plain threads on the slow path, takes its lock and condition
//! variable from [`blocking`].

#[cfg(not(loom))]
mod real {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread::{Thread, current, park};

    /// Parks for at most `limit`.
    pub(crate) fn park_timeout(limit: std::time::Duration) {
        std::thread::park_timeout(limit);
    }

    /// A mutex without poisoning: no code of others runs under any lock of the pool.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
            self.0.lock()
        }
    }

    /// `std`'s cell with loom's interface: the access is a closure, so that loom sees its extent.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic;
    pub(crate) use loom::thread::{Thread, current, park};

    /// Loom has no timed park; nothing that is modelled calls this.
    pub(crate) fn park_timeout(_limit: std::time::Duration) {
        park();
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

pub(crate) use real::{
    Mutex, Thread, UnsafeCell, atomic, current, park, park_timeout, spin_loop,
};

/// A lock and a condition variable for plain threads that block: never modelled.
pub(crate) mod blocking {
    pub(crate) use parking_lot::{Condvar, Mutex};
}

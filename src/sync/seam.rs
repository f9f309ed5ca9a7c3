//! The one place through which the pool reaches atomics, locks, cells and threads.
//!
//! Under `--cfg loom` the same names come from loom, so that the protocols of the pool (the state
//! of a job, the sleep of a worker, the latch of a group) can be explored exhaustively.
//!
//! The rest of the crate has no protocols: there a lock guards data and an atomic counts, and both
//! are used directly. So are `Once` and `OnceLock`, for which std answers.

#[cfg(not(loom))]
mod real {
    pub(crate) use crossbeam_channel::{Receiver, Sender, unbounded};
    /// No user code runs while one of the pool's is locked.
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::cell::UnsafeCell;
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic;
    /// In a forked child, `parking_lot`'s would be handed on to a thread of the parent that waited
    /// at the fork, and stay locked.
    pub(crate) use std::sync::{Condvar, Mutex as StdMutex, MutexGuard as StdMutexGuard};
    pub(crate) use std::thread::{Builder, JoinHandle, Thread, current};
    pub(crate) use std::thread::{park, park_timeout, sleep, yield_now};
    pub(crate) use std::thread_local;

    /// Measures how soon something follows something else.
    #[derive(Debug)]
    pub(crate) struct Clock(std::time::Instant);

    impl Clock {
        pub(crate) fn start() -> Self {
            Self(std::time::Instant::now())
        }

        /// Returns the nanoseconds since the start.
        pub(crate) fn nanos(&self) -> u64 {
            u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::{Condvar, Mutex as StdMutex, MutexGuard as StdMutexGuard};
    pub(crate) use loom::sync::{MutexGuard, atomic};
    pub(crate) use loom::thread::{Builder, JoinHandle, Thread, current, park, yield_now};

    /// In std's form, since loom's takes no `const` block.
    macro_rules! thread_local_of_loom {
        ($($(#[$attr:meta])* static $name:ident: $type:ty = const $init:block;)*) => {
            loom::thread_local! { $($(#[$attr])* static $name: $type = $init;)* }
        };
    }
    pub(crate) use thread_local_of_loom as thread_local;

    /// What std's keys of cells have.
    pub(crate) trait CellKey<T> {
        fn get(&'static self) -> T
        where
            T: Copy;
        fn set(&'static self, value: T);
        fn replace(&'static self, value: T) -> T;
    }

    impl<T: 'static> CellKey<T> for loom::thread::LocalKey<std::cell::Cell<T>> {
        fn get(&'static self) -> T
        where
            T: Copy,
        {
            self.with(std::cell::Cell::get)
        }

        fn set(&'static self, value: T) {
            self.with(|cell| cell.set(value));
        }

        fn replace(&'static self, value: T) -> T {
            self.with(|cell| cell.replace(value))
        }
    }

    /// Loom has no clock: between any two looks a second passes, so no waiter stays awake.
    #[derive(Debug)]
    pub(crate) struct Clock(std::sync::atomic::AtomicU64);

    impl Clock {
        pub(crate) fn start() -> Self {
            Self(std::sync::atomic::AtomicU64::new(0))
        }

        pub(crate) fn nanos(&self) -> u64 {
            self.0.fetch_add(1_000_000_000, std::sync::atomic::Ordering::Relaxed)
        }
    }

    /// Loom has no clock; nothing that is modelled calls this.
    pub(crate) fn sleep(_pause: std::time::Duration) {
        yield_now();
    }

    /// Loom has no timed park; nothing that is modelled calls this.
    pub(crate) fn park_timeout(_limit: std::time::Duration) {
        park();
    }

    /// The same channel as without loom, with a word that tells loom when something is given and
    /// looked for, and that the receiver sees what was done before it was given.
    pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let word = std::sync::Arc::new(atomic::AtomicUsize::new(0));
        (Sender(sender, std::sync::Arc::clone(&word)), Receiver(receiver, word))
    }

    #[derive(Debug)]
    pub(crate) struct Sender<T>(crossbeam_channel::Sender<T>, std::sync::Arc<atomic::AtomicUsize>);

    impl<T> Sender<T> {
        pub(crate) fn send(&self, value: T) -> Result<(), crossbeam_channel::SendError<T>> {
            self.1.fetch_add(1, atomic::Ordering::Release);
            self.0.send(value)
        }
    }

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(
        crossbeam_channel::Receiver<T>,
        std::sync::Arc<atomic::AtomicUsize>,
    );

    impl<T> Receiver<T> {
        pub(crate) fn try_recv(&self) -> Result<T, crossbeam_channel::TryRecvError> {
            self.1.load(atomic::Ordering::Relaxed);
            let value = self.0.try_recv()?;
            // A read-modify-write sees the newest value, so it is ordered after each gift.
            self.1.fetch_add(0, atomic::Ordering::Acquire);
            Ok(value)
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.1.load(atomic::Ordering::Relaxed);
            self.0.is_empty()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }
    }

    /// With std's interface.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::cell::UnsafeCell::new(value))
        }

        /// To loom this is the access itself, which follows at once.
        pub(crate) fn get(&self) -> *mut T {
            self.0.with_mut(|value| value)
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner()
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        /// Waits nevertheless: a model has no use for a lock that is taken.
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            Some(self.lock())
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

#[cfg(loom)]
pub(crate) use real::CellKey;
pub(crate) use real::{
    Builder, Clock, Condvar, JoinHandle, Mutex, MutexGuard, Receiver, Sender, StdMutex,
    StdMutexGuard, Thread, UnsafeCell, atomic, current, park, park_timeout, sleep, spin_loop,
    thread_local, unbounded, yield_now,
};

/// Changes a word, unless `change` returns `None`, and nothing else; returns whether it did. (std's
/// own is deprecated under the name that Rust 1.85 knows.)
#[inline]
pub(crate) fn try_update(
    word: &atomic::AtomicU64,
    mut change: impl FnMut(u64) -> Option<u64>,
) -> bool {
    use atomic::Ordering::Relaxed;
    let mut known = word.load(Relaxed);
    while let Some(new) = change(known) {
        match word.compare_exchange_weak(known, new, Relaxed, Relaxed) {
            Ok(_) => return true,
            Err(found) => known = found,
        }
    }
    false
}

/// Takes a thread out of a list; returns whether it was there.
pub(crate) fn take_out(list: &mut Vec<Thread>, thread: &Thread) -> bool {
    let place = list.iter().position(|listed| listed.id() == thread.id());
    place.map(|place| list.swap_remove(place)).is_some()
}

/// Returns a number that this process has never had here before, and never 0.
pub(crate) fn unique_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    // std's in any case: a static of the process, which no model looks at.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only the uniqueness matters.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

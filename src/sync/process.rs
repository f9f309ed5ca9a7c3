//! Forked children. In the child of a `fork` only the thread that forked is left: no worker comes,
//! what another thread had locked stays locked, and what it had begun stays half done.
//!
//! The system calls a handler in each child (`pthread_atfork`), which counts. So it costs one load
//! to see whether this is still the process in which something was made. A process that was cloned
//! without the handlers, by `_Fork` or by a system call of its own, is not noticed: there the
//! allocator's locks would not work, either.

use std::mem::ManuallyDrop;
// std's: a number of the process, which no model looks at.
use std::sync::atomic::{AtomicU32, Ordering};

use super::seam::{Mutex, MutexGuard};

/// The process in which something was made.
#[derive(Debug)]
pub(crate) struct Process(u32);

impl Process {
    /// Returns the current process.
    pub(crate) fn current() -> Self {
        count_forks();
        Self(forks())
    }

    /// Returns a process of which this one is a child.
    #[cfg(all(test, not(loom)))]
    pub(crate) const fn parent() -> Self {
        Self(u32::MAX)
    }

    /// Returns whether the current process is another one: a forked child.
    #[inline]
    pub(crate) fn is_parent(&self) -> bool {
        self.0 != forks()
    }
}

/// How many forks lie between this process and the first one in which they were counted.
static FORKS: AtomicU32 = AtomicU32::new(0);

#[inline]
fn forks() -> u32 {
    // Relaxed: it changes only where there is one thread.
    FORKS.load(Ordering::Relaxed)
}

/// Has forks counted, on systems that have them. Two threads that come at once have each fork
/// counted twice, which does no harm. (If one left it to the other, it might fork before the other
/// has done it.)
fn count_forks() {
    #[cfg(not(any(
        not(unix),
        loom,
        miri,
        target_os = "espidf",
        target_os = "horizon",
        target_os = "nuttx",
        target_os = "vita",
        target_os = "vxworks",
    )))]
    #[expect(unsafe_code, reason = "std does not tell of forks")]
    {
        use std::ffi::c_int;
        use std::sync::atomic::AtomicBool;

        type Handler = Option<extern "C" fn()>;

        unsafe extern "C" {
            fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
        }

        extern "C" fn in_the_child() {
            // Relaxed: the child has one thread.
            FORKS.fetch_add(1, Ordering::Relaxed);
        }

        static IS_COUNTED: AtomicBool = AtomicBool::new(false);

        // Acquire: pairs with the Release below. Whoever sees the flag has its forks counted.
        if IS_COUNTED.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: the handler lives as long as the program, and does only what is allowed in the
        // child of a process with several threads: it changes an atomic number.
        let error = unsafe { pthread_atfork(None, None, Some(in_the_child)) };
        // Else there is no memory for it: the next one tries again.
        if error == 0 {
            // Release: the handler before the flag.
            IS_COUNTED.store(true, Ordering::Release);
        }
    }
}

/// Locks, unless that would block and waiting is `hopeless`.
#[inline]
pub(crate) fn lock_unless<T>(
    mutex: &Mutex<T>,
    hopeless: impl FnOnce() -> bool,
) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Some(guard) => Some(guard),
        None if hopeless() => None,
        None => Some(mutex.lock()),
    }
}

/// Takes out what a lock guards. Leaks it, and returns `None`, if a thread of the parent process
/// held the lock when this one was forked: that may have been in the middle of a change.
pub(crate) fn into_inner<T>(mutex: Mutex<T>) -> Option<T> {
    let mutex = ManuallyDrop::new(mutex);
    // Nobody else is left who could hold it.
    let is_whole = mutex.try_lock().is_some();
    is_whole.then(|| ManuallyDrop::into_inner(mutex).into_inner())
}

/// A lock for which nobody waits in a forked child.
pub(crate) struct ProcessMutex<T> {
    mutex: Mutex<T>,
    process: Process,
}

impl<T> ProcessMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { mutex: Mutex::new(value), process: Process::current() }
    }

    /// Locks. Returns `None` if a thread of the parent process held the lock when this process was
    /// forked.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, T>> {
        lock_unless(&self.mutex, || self.process.is_parent())
    }

    /// Locks where this is known to be the process in which the lock was made.
    pub(crate) fn lock_at_home(&self) -> MutexGuard<'_, T> {
        self.mutex.lock()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_stays_locked_is_leaked() {
        let value = Arc::new(());
        let [free, locked] = [0, 1].map(|_| Mutex::new(Arc::clone(&value)));
        {
            // As a thread of the parent's leaves it.
            let _held = ManuallyDrop::new(locked.lock());
        }
        assert!(into_inner(free).is_some() && into_inner(locked).is_none());
        assert_eq!(Arc::strong_count(&value), 2);
    }
}

//! Thread-locals that the system keeps.
//!
//! # Invariant
//!
//! - **M1 (native).** A `thread_local!` with a constant initialiser, of a type that needs no drop,
//!   on a target with native thread-locals is a piece of the thread's own memory: nothing makes it,
//!   nothing ends it, and it is there from the thread's first instruction to its last.

use std::cell::Cell;
use std::mem::needs_drop;
use std::thread::LocalKey;

use super::Gone;

/// Declares a per-thread value, of a type that needs no drop.
#[doc(hidden)]
#[macro_export]
macro_rules! __permanent_native {
    ($vis:vis static $name:ident: $t:ty = $init:expr) => {
        ::std::thread_local! { $vis static $name: $t = const { $init }; }
    };
}

#[doc(hidden)]
pub use __permanent_native as permanent;

/// What `permanent!` declares.
#[doc(hidden)]
pub type Key<T> = LocalKey<T>;

/// Returns this thread's value.
///
/// A reference and not a callback: `LocalKey::with` is inlined only around small closures. Always
/// inlined, since it is no more than an address, and each step of the engine begins with it.
#[inline(always)]
pub(crate) fn get<T: 'static>(key: &'static Key<T>) -> &'static T {
    const { assert!(!needs_drop::<T>(), "M1") };
    let value = key.with(std::ptr::from_ref);
    // SAFETY: M1: it is there until the thread's last instruction; and the reference does not leave
    // the thread, since the types that are kept so are not `Sync`.
    unsafe { &*value }
}

/// Returns whether this thread's values are not those that its end has torn down: never.
pub(crate) const fn is_late() -> bool {
    false
}

thread_local! {
    static END: ThreadEnd = const { ThreadEnd(Cell::new(None)) };
}

struct ThreadEnd(Cell<Option<fn()>>);

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        if let Some(teardown) = self.0.take() {
            teardown();
        }
    }
}

/// Lists what this module keeps per thread.
#[cfg(feature = "sentinel")]
pub(crate) fn list(ignored: &mut cleanslate_sentinel::Ignored) {
    ignored.key(&END);
}

/// Calls `teardown` when this thread ends. Returns an error if it is ending.
pub(crate) fn at_end(teardown: fn()) -> Result<(), Gone> {
    END.try_with(|end| end.0.set(Some(teardown))).map_err(|_| Gone)
}

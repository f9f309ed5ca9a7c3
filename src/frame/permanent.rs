//! Per-thread values that stay in place until the thread is over.
//!
//! The engine reaches a thread's state and its slots' cells by reference, even while the thread's
//! destructors run. Where thread-locals are *native*, a part of the memory that the system gives
//! each thread, std's are enough. Elsewhere std keeps each in a box of its own and frees the boxes
//! in any order while the thread ends; there the values lie in a block that is kept until the
//! engine has torn the slots down. That costs a lookup in a hash map at each access.
//!
//! Both ways have the same names: `permanent!`, [`Key`], [`get`], [`at_end`] and [`is_late`].

#![expect(unsafe_code, reason = "references to thread-locals that outlive the callback")]
#![expect(
    clippy::allow_attributes,
    reason = "which of the two modules is used is the target's choice"
)]

#[allow(dead_code, unused_imports, unreachable_pub, reason = "see above")]
mod keyed;
#[allow(dead_code, unused_imports, unreachable_pub, reason = "see above")]
mod native;

/// Uses `native` where the condition holds, except in tests of the other way, and `keyed`
/// elsewhere.
macro_rules! native_if {
    ($($condition:tt)*) => {
        #[cfg(all(not(cleanslate_keyed), $($condition)*))]
        use native as imp;
        #[cfg(not(all(not(cleanslate_keyed), $($condition)*)))]
        use keyed as imp;
    };
}

native_if! {
    any(
        all(
            target_os = "linux",
            any(target_env = "gnu", target_env = "musl", target_env = "uclibc"),
            // x32
            not(all(target_arch = "x86_64", target_pointer_width = "32")),
        ),
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "fuchsia",
        target_os = "netbsd",
        target_os = "redox",
        target_vendor = "apple",
        all(windows, target_env = "msvc", not(all(target_arch = "x86", target_vendor = "win7"))),
    )
}

/// The thread's end can no longer be noticed: it is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

#[cfg(feature = "sentinel")]
pub(crate) use imp::list;
#[doc(hidden)]
pub use imp::{Key, permanent};
pub(crate) use imp::{at_end, get, is_late};

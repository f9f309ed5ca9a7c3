//! Thread-locals that std keeps under keys of the system, in boxes that it frees in any order.
//!
//! # Invariant
//!
//! - **M1 (block).** A value lies in its thread's block, which is freed by [`ThreadEnd`] only:
//!   after the slots have been torn down, when no code of the engine is running on the thread (nor
//!   suspended there in a coroutine, which std's `LocalKey::with` must not be either). What is used
//!   after that gets a block of its own, and so different values.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::ptr;

use super::Gone;

/// Declares a per-thread value, of a type that needs no drop.
#[doc(hidden)]
#[macro_export]
macro_rules! __permanent_keyed {
    ($vis:vis static $name:ident: $t:ty = $init:expr) => {
        $vis static $name: $crate::__private::Key<$t> = $crate::__private::Key::new(|| $init);
    };
}

#[doc(hidden)]
pub use __permanent_keyed as permanent;

/// What `permanent!` declares. Its address tells it from others.
#[doc(hidden)]
pub struct Key<T> {
    make: fn() -> T,
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl<T> Key<T> {
    /// Makes a key, for the macro.
    #[must_use]
    pub const fn new(make: fn() -> T) -> Self {
        Self { make }
    }
}

/// The values of one thread, by the addresses of their keys.
#[derive(Default)]
struct Block {
    values: RefCell<HashMap<usize, Box<dyn Any>>>,
    /// The thread is ending, and nobody will tear this block down.
    is_late: bool,
}

thread_local! {
    static BLOCK: Cell<*const Block> = const { Cell::new(ptr::null()) };
    static END: ThreadEnd = const {
        ThreadEnd { block: Cell::new(ptr::null()), teardown: Cell::new(None) }
    };
}

/// Tears a thread's slots down, and frees its block.
struct ThreadEnd {
    block: Cell<*const Block>,
    teardown: Cell<Option<fn()>>,
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        let block = self.block.get();
        if block.is_null() {
            return;
        }
        // The key may have been cleared before this one.
        BLOCK.set(block);
        if let Some(teardown) = self.teardown.take() {
            teardown();
        }
        BLOCK.set(ptr::null());
        // SAFETY: M1: it came from a box in `begin`, and only this frees it.
        drop(unsafe { Box::from_raw(block.cast_mut()) });
    }
}

/// Returns this thread's block.
fn block() -> &'static Block {
    let block = BLOCK.get();
    let block = if block.is_null() { begin() } else { block };
    // SAFETY: M1.
    unsafe { &*block }
}

#[cold]
fn begin() -> *const Block {
    // `BLOCK`'s own key may have been cleared before the one of `END`, which still has the block.
    let before = END.try_with(|end| end.block.get()).unwrap_or(ptr::null());
    if !before.is_null() {
        BLOCK.set(before);
        return before;
    }
    let block = Box::into_raw(Box::<Block>::default());
    if END.try_with(|end| end.block.set(block)).is_err() {
        // Rare and small: a destructor that uses a slot after the slots have been torn down. Nobody
        // is left to free the block.
        // SAFETY: made above, and nobody else has it.
        unsafe { (*block).is_late = true };
    }
    BLOCK.set(block);
    block
}

/// Returns this thread's value, made at its first use.
pub(crate) fn get<T: 'static>(key: &'static Key<T>) -> &'static T {
    let mut values = block().values.borrow_mut();
    let value: &Box<dyn Any> =
        values.entry(ptr::from_ref(key).addr()).or_insert_with(|| Box::new((key.make)()));
    let value: *const dyn Any = &raw const **value;
    // SAFETY: the key's own `make` has made it, so it is a `T`; and M1: in its box as long as the
    // block.
    unsafe { &*value.cast::<T>() }
}

/// Returns whether this thread's values were made after its slots had been torn down.
pub(crate) fn is_late() -> bool {
    block().is_late
}

/// Lists what this module keeps per thread besides its boxes.
#[cfg(feature = "sentinel")]
pub(crate) fn list(ignored: &mut cleanslate_sentinel::Ignored) {
    ignored.key(&BLOCK);
    ignored.key(&END);
}

/// Calls `teardown` when this thread ends. Returns an error if it is ending.
pub(crate) fn at_end(teardown: fn()) -> Result<(), Gone> {
    if is_late() {
        return Err(Gone);
    }
    END.try_with(|end| end.teardown.set(Some(teardown))).map_err(|_| Gone)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    // Broke: a second block took the place of the first one, which was then never torn down.
    #[test]
    fn a_block_is_found_again_after_its_key_was_cleared() {
        std::thread::spawn(|| {
            let first = ptr::from_ref(block());
            BLOCK.set(ptr::null());
            assert!(ptr::eq(first, block()));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_teardown_finds_the_block_although_its_key_was_cleared() {
        static FOUND: AtomicUsize = AtomicUsize::new(0);
        let first = std::thread::spawn(|| {
            let first = ptr::from_ref(block()).addr();
            at_end(|| FOUND.store(ptr::from_ref(block()).addr(), Ordering::SeqCst)).unwrap();
            BLOCK.set(ptr::null());
            first
        });
        assert_eq!(first.join().unwrap(), FOUND.load(Ordering::SeqCst));
    }
}

//! Thread-locals that the corpus reaches only through a dependency's functions.

use std::cell::{Cell, RefCell};
use std::hint::black_box;

thread_local! {
    static PRIVATE: Cell<u64> = const { Cell::new(0) };
    static LAZY: RefCell<Vec<u64>> = RefCell::new(vec![1]);
    /// A public one.
    pub static PUBLIC: Cell<u64> = const { Cell::new(0) };
}

/// Sets the private thread-local.
pub fn set_private(value: u64) {
    PRIVATE.with(|it| black_box(it).set(value));
}

/// Adds to the lazy thread-local.
pub fn push_lazy(value: u64) {
    LAZY.with(|it| black_box(it).borrow_mut().push(value));
}

/// Sets a thread-local inside a generic function, compiled in the crate that calls it.
pub fn set_generic<T: Into<u64>>(value: T) {
    thread_local! { static IN_GENERIC: Cell<u64> = const { Cell::new(0) }; }
    IN_GENERIC.with(|it| black_box(it).set(value.into()));
}

/// A module whose name is part of the path.
pub mod nested {
    use super::{Cell, black_box};

    thread_local! { static DEEP: Cell<u64> = const { Cell::new(0) }; }

    /// Sets the module's thread-local.
    pub fn set_deep(value: u64) {
        DEEP.with(|it| black_box(it).set(value));
    }
}

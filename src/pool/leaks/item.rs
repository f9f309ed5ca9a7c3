//! Which item of an `imap` the outermost task on a worker is.
//!
//! A task of an `imap` is a job like any other, which has no place for its item's number: that
//! would cost every queued task a word. So the task notes it on the thread that it runs on.

use std::cell::Cell;

use crate::pool::scheduler::current;

thread_local! { static ITEM: Cell<Option<usize>> = const { Cell::new(None) }; }

/// Notes that the task that begins on this thread is the item with this number.
#[inline]
pub(crate) fn begin_item(number: usize) {
    // What runs on top of a waiting task belongs to that one's watch.
    if current::is_outermost() {
        ITEM.set(Some(number));
    }
}

/// Returns the number of the item that the outermost task was since the last [`reset`].
pub(super) fn of_outermost() -> Option<usize> {
    ITEM.get()
}

pub(super) fn reset() {
    ITEM.set(None);
}

/// Lists what this module keeps per thread, for watches to leave out.
pub(super) fn list(ignored: &mut crate::sentinel::Ignored) {
    ignored.key(&ITEM);
}

//! State that its owner looks after.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread::LocalKey;

use crate::contain::contain;

type List = fn(&mut Ignored);

static LISTS: Mutex<Vec<List>> = Mutex::new(Vec::new());

/// Leaves state out of every watch in this process, because its owner looks after it.
///
/// This is for executors and for libraries that keep something per thread by design and reset it
/// themselves. It works by address and not by name, so it also holds in stripped programs, whatever
/// rules a [`Sentinel`](crate::Sentinel) has.
///
/// `list` names the calling thread's share of the state. It is called on each thread that watches,
/// when a watcher is made and when something has changed, but never between the two moments that
/// are compared. So it may initialise thread-locals. It must not watch. If it panics, the panic is
/// swallowed, and what it has named before counts. Each call of `ignore` adds a list for good, so a
/// library should call it once.
///
/// ```
/// use std::cell::Cell;
///
/// thread_local! { static DEPTH: Cell<u32> = const { Cell::new(0) }; }
///
/// cleanslate_sentinel::ignore(|ignored| ignored.key(&DEPTH));
/// let ((), report) = cleanslate_sentinel::watch(|| DEPTH.set(3));
/// assert!(report.leaks().is_empty());
/// ```
pub fn ignore(list: fn(&mut Ignored)) {
    LISTS.lock().unwrap_or_else(PoisonError::into_inner).push(list);
}

/// Collects the state of a thread that is not watched; see [`ignore`].
///
/// ```
/// use std::cell::Cell;
///
/// thread_local! { static PAIR: (Cell<u8>, Cell<u64>) = const { (Cell::new(0), Cell::new(0)) }; }
///
/// cleanslate_sentinel::ignore(|ignored| PAIR.with(|pair| ignored.value(&pair.0)));
/// let ((), report) = cleanslate_sentinel::watch(|| PAIR.with(|pair| pair.0.set(1)));
/// assert!(report.leaks().is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Ignored {
    ranges: Vec<Range<usize>>,
}

impl Ignored {
    /// Adds a thread-local, unless it has been destroyed on this thread.
    ///
    /// It is initialised if it has not been used on this thread yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// thread_local! { static DEPTH: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// cleanslate_sentinel::ignore(|ignored| ignored.key(&DEPTH));
    /// let ((), report) = cleanslate_sentinel::watch(|| DEPTH.set(3));
    /// assert!(report.leaks().is_empty());
    /// ```
    pub fn key<T: 'static>(&mut self, key: &'static LocalKey<T>) {
        // While the thread ends there may be nothing left to ignore.
        let _gone = key.try_with(|value| self.value(value));
    }

    /// Adds a value that lies in a thread-local of the calling thread.
    ///
    /// In a file with symbols the whole thread-local is left out. Elsewhere only the bytes of the
    /// value are; they do not include a flag beside it by which std knows that the thread-local is
    /// alive. A value without bytes leaves out nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// thread_local! { static DEPTH: Cell<u32> = const { Cell::new(0) }; }
    ///
    /// cleanslate_sentinel::ignore(|ignored| DEPTH.with(|depth| ignored.value(depth)));
    /// let ((), report) = cleanslate_sentinel::watch(|| DEPTH.set(3));
    /// assert!(report.leaks().is_empty());
    /// ```
    pub fn value<T: ?Sized>(&mut self, value: &T) {
        let start = std::ptr::from_ref(value).addr();
        let range = start..start + size_of_val(value);
        // Where a value without bytes lies, there may be a neighbour's bytes.
        if !range.is_empty() {
            self.ranges.push(range);
        }
    }
}

/// Returns where the calling thread keeps what is not watched.
pub(crate) fn ranges() -> Vec<Range<usize>> {
    let mut ignored = Ignored::default();
    // A copy, so that they are called without holding the lock.
    let lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for list in lists {
        // After a panic, what was named before counts.
        let _panicked = contain(|| list(&mut ignored));
    }
    ignored.ranges
}

//! What one helper has pulled and not yet started.
//!
//! Invariants:
//!
//! 1. `items[start..]` is initialised, what lies before `start` has been moved out.
//! 2. While a [`Taken`] exists, `start` says that everything it covers is gone; its drop puts the rest
//!    back, also while unwinding. So the position is kept in a register while the items run, and a
//!    `Taken` that is forgotten leaks instead of dropping twice.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// See the module's documentation.
pub(crate) struct Feed<T> {
    items: Vec<MaybeUninit<T>>,
    start: usize,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self { items: Vec::new(), start: 0 }
    }
}

impl<T> Feed<T> {
    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.start
    }

    /// Pulls up to `most` items from `iter` into the empty feed; returns how many there were. Those that
    /// came before a panic of `next` stay in the feed.
    pub(crate) fn fill<I: Iterator<Item = T>>(&mut self, iter: &mut I, most: usize) -> usize {
        debug_assert_eq!(self.len(), 0, "filled when empty");
        self.items.clear();
        self.start = 0;
        self.items.reserve(most);
        let mut filled = Filled { items: &mut self.items, count: 0 };
        filled.pull(iter, most);
        filled.count
    }

    /// Takes the next `len` items, of which there must be as many.
    ///
    /// # Panics
    ///
    /// Panics if there are fewer.
    #[inline(always)]
    pub(crate) fn take(&mut self, len: usize) -> Taken<'_, T> {
        let items = &self.items[self.start..self.start + len];
        let next = items.as_ptr().cast::<T>();
        self.start += len;
        Taken { next, left: len, start: &mut self.start, _items: PhantomData }
    }
}

/// The feed while it is filled: its drop says how far that got.
struct Filled<'f, T> {
    items: &'f mut Vec<MaybeUninit<T>>,
    count: usize,
}

impl<T> Filled<'_, T> {
    #[inline(always)]
    fn pull<I: Iterator<Item = T>>(&mut self, iter: &mut I, most: usize) {
        let places = &mut self.items.spare_capacity_mut()[..most];
        pull(iter, places, &mut self.count);
    }
}

impl<T> Drop for Filled<'_, T> {
    #[expect(unsafe_code, reason = "takes over what was written to the spare capacity")]
    fn drop(&mut self) {
        // SAFETY: `pull` has written the first `count` places of the spare capacity of an empty vector,
        // and was given no more places than there are. (The elements need not even be initialised.)
        unsafe { self.items.set_len(self.count) };
    }
}

/// Writes items to `places`, and how many to `count`, also when `next` panics. Not inlined: as
/// parameters the iterator and the places are known not to overlap, so the iterator's state can stay
/// in registers.
#[inline(never)]
fn pull<I: Iterator>(
    iter: &mut I,
    places: &mut [MaybeUninit<MaybeUninit<I::Item>>],
    count: &mut usize,
) {
    struct Count<'c>(usize, &'c mut usize);
    impl Drop for Count<'_> {
        fn drop(&mut self) {
            *self.1 = self.0;
        }
    }
    let mut count = Count(0, count);
    for place in places {
        let Some(item) = iter.next() else { break };
        place.write(MaybeUninit::new(item));
        count.0 += 1;
    }
}

/// Items on their way out of the feed.
pub(crate) struct Taken<'f, T> {
    next: *const T,
    left: usize,
    start: &'f mut usize,
    _items: PhantomData<&'f mut [T]>,
}

impl<T> Iterator for Taken<'_, T> {
    type Item = T;

    #[inline(always)]
    #[expect(unsafe_code, reason = "moves an item out of the feed")]
    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        // SAFETY: `left` items from `next` on are initialised (invariant 1), and the feed counts them as
        // gone (invariant 2), so each is read once.
        let item = unsafe { self.next.read() };
        // SAFETY: within the vector's elements, or one past them.
        self.next = unsafe { self.next.add(1) };
        self.left -= 1;
        Some(item)
    }
}

impl<T> Drop for Taken<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.start -= self.left;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::*;

    #[test]
    fn items_that_were_not_taken_stay() {
        let mut feed = Feed::default();
        let items: Vec<_> = (0..10).map(Rc::new).collect();
        assert_eq!(feed.fill(&mut items.iter().cloned(), 20), 10);
        assert_eq!(feed.take(4).next().as_deref(), Some(&0));
        assert_eq!(feed.len(), 9);
        assert_eq!(feed.take(9).map(|n| *n).sum::<i32>(), 45);
        assert_eq!(feed.len(), 0);
        assert!(items.iter().all(|n| Rc::strong_count(n) == 1));
    }

    #[test]
    fn items_that_came_before_a_panic_stay() {
        let mut feed = Feed::default();
        let mut items = (0..10).inspect(|n| assert_ne!(*n, 6));
        let filling = catch_unwind(AssertUnwindSafe(|| feed.fill(&mut items, 8)));
        assert!(filling.is_err());
        assert_eq!(feed.take(6).sum::<i32>(), 15);
        assert_eq!(feed.len(), 0);
    }
}

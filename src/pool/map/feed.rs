//! What one helper has pulled and not yet started.
//!
//! Invariants:
//!
//! 1. `items[start..]` is initialised, what lies before `start` has been moved out.
//! 2. From the moment a [`Taken`] is made, `start` says that everything it covers is gone;
//!    [`moved_out`](Lane::moved_out), called once at most, puts the rest back. So the position is kept
//!    in a register while the items run, and a `Taken` that is forgotten leaks instead of dropping
//!    twice.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::Lane;

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
        let items = self.items[self.start..self.start + len].as_ptr().cast::<T>();
        self.start += len;
        Taken { items, len, start: &mut self.start, _items: PhantomData }
    }

    /// Takes the next item, if there is one.
    #[expect(unsafe_code, reason = "moves an item out of the feed")]
    pub(crate) fn take_one(&mut self) -> Option<T> {
        if self.len() == 0 {
            return None;
        }
        let mut one = self.take(1);
        // SAFETY: there is one item, and the feed counts it as gone already.
        Some(unsafe { one.get(0) })
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
    items: *const T,
    len: usize,
    start: &'f mut usize,
    _items: PhantomData<&'f mut [T]>,
}

impl<T> Lane for Taken<'_, T> {
    type Item = T;

    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "moves an item out of the feed")]
    unsafe fn get(&mut self, n: usize) -> T {
        // SAFETY: `n` is below `len`, the number of elements from `items` on: the caller's promise.
        let item = unsafe { self.items.add(n) };
        // SAFETY: it is initialised (invariant 1); the feed counts it as gone (invariant 2), and the
        // caller moves it out once.
        unsafe { item.read() }
    }

    fn moved_out(&mut self, n: usize) {
        *self.start -= self.len - n;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::panic::catch;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn items_that_were_not_taken_stay() {
        let mut feed = Feed::default();
        let items: Vec<_> = (0..10).map(Rc::new).collect();
        assert_eq!(feed.fill(&mut items.iter().cloned(), 20), 10);
        feed.take(4).moved_out(0);
        assert_eq!(feed.len(), 10);
        assert_eq!(feed.take_one().as_deref(), Some(&0));
        assert_eq!(feed.len(), 9);
        assert_eq!(std::iter::from_fn(|| feed.take_one()).map(|n| *n).sum::<i32>(), 45);
        assert_eq!(feed.len(), 0);
        assert!(items.iter().all(|n| Rc::strong_count(n) == 1));
    }

    #[test]
    fn items_that_came_before_a_panic_stay() {
        let mut feed = Feed::default();
        let mut items = (0..10).inspect(|n| assert_ne!(*n, 6));
        let filling = catch(|| feed.fill(&mut items, 8));
        assert!(filling.is_err());
        assert_eq!(std::iter::from_fn(|| feed.take_one()).sum::<i32>(), 15);
        assert_eq!(feed.len(), 0);
    }
}

//! [`Pulled`]: the items of any iterator.

use std::mem::MaybeUninit;

use super::{Pull, Source};
use crate::frame::Failure;
use crate::pool::isolation::Tasks;

/// The most bytes of items that a helper pulls at a time: a good part of the first-level cache.
const CHUNK_BYTES: usize = 16 << 10;

/// An iterator that is pulled from, not to be called again after its end or a panic.
pub(crate) struct Pulled<I>(I);

impl<I: Iterator> Pulled<I> {
    pub(crate) fn new(items: I) -> Self {
        Self(items)
    }
}

/// Items that were pulled and not started. Its memory serves for the next chunk.
///
/// Invariant: the places from `next` to `end` are initialised, the others are not.
pub(crate) struct Buffer<T> {
    places: Box<[MaybeUninit<T>]>,
    next: usize,
    end: usize,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { places: Box::default(), next: 0, end: 0 }
    }
}

impl<T> Iterator for Buffer<T> {
    type Item = T;

    #[inline(always)]
    #[expect(unsafe_code, reason = "moves an item out of its place")]
    fn next(&mut self) -> Option<T> {
        let place = self.places[..self.end].get(self.next)?;
        self.next += 1;
        // SAFETY: it was initialised, by the invariant, and does not count as that any more.
        Some(unsafe { place.assume_init_read() })
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<I: Iterator + Send> Source for Pulled<I> {
    type Item = I::Item;
    type Chunk = Buffer<I::Item>;

    const EXACT: bool = false;

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    fn most(&self) -> usize {
        (CHUNK_BYTES / size_of::<I::Item>().max(1)).max(1)
    }

    fn take<'c>(
        &mut self,
        most: usize,
        chunk: &mut Buffer<I::Item>,
        tasks: &mut impl Tasks<'c>,
        pull: &impl Pull,
    ) -> Result<usize, Failure> {
        // It is empty.
        (chunk.next, chunk.end) = (0, 0);
        if chunk.places.len() < most {
            chunk.places = Box::new_uninit_slice(most);
        }
        let places = &mut chunk.places[..most];
        match pull_all(&mut self.0, places, &mut chunk.end, tasks, |items| pull.pull(items)) {
            Ok(()) => Ok(chunk.end),
            Err(Unpulled { failure, item }) => {
                pull.discard(item);
                Err(failure)
            }
        }
    }
}

/// A pull that failed. If it could not be cleaned up, the item that it returned is to be dropped.
struct Unpulled<T> {
    failure: Failure,
    item: Option<T>,
}

/// Pulls items into `places` until they are full or there are no more, each call one of `tasks`,
/// and adds how many there were to `count`, also when a pull fails or unwinds.
///
/// As fast as it is for the same reasons as `fill` in `output.rs`.
#[inline(never)]
fn pull_all<'c, I: Iterator>(
    from: &mut I,
    places: &mut [MaybeUninit<I::Item>],
    count: &mut usize,
    tasks: &mut impl Tasks<'c>,
    pull: impl Fn(&mut I) -> Result<Option<I::Item>, Failure>,
) -> Result<(), Unpulled<I::Item>> {
    /// How many were pulled; its drop says so.
    struct Progress<'p>(usize, &'p mut usize);
    impl Drop for Progress<'_> {
        #[inline(always)]
        fn drop(&mut self) {
            *self.1 += self.0;
        }
    }
    let mut pulled = Progress(0, count);
    while pulled.0 < places.len() {
        let item = 'clean: {
            while pulled.0 < places.len() {
                let item = pull(from).map_err(|failure| Unpulled { failure, item: None })?;
                let Some(item) = item else { break 'clean None };
                // The price of isolation: a load and a branch.
                if !tasks.is_clean() {
                    break 'clean Some(item);
                }
                places[pulled.0].write(item);
                pulled.0 += 1;
            }
            return Ok(());
        };
        if let Err(error) = tasks.next_task() {
            return Err(Unpulled { failure: Failure::Cleanup(error), item });
        }
        let Some(item) = item else { return Ok(()) };
        places[pulled.0].write(item);
        pulled.0 += 1;
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::panic::catch;
    use crate::pool::isolation::Unseparated;

    struct Bare;

    impl Pull for Bare {
        fn pull<I: Iterator>(&self, items: &mut I) -> Result<Option<I::Item>, Failure> {
            Ok(items.next())
        }

        fn discard<T>(&self, _item: T) {}
    }

    #[test]
    fn items_that_came_before_a_panic_are_in_the_chunk() {
        let items: Vec<_> = (0..10).map(Arc::new).collect();
        let mut source = Pulled::new(items.iter().cloned().inspect(|n| assert_ne!(**n, 6)));
        let mut chunk = Buffer::default();
        assert!(catch(|| source.take(8, &mut chunk, &mut Unseparated, &Bare)).is_err());
        assert_eq!(chunk.map(|n| *n).sum::<i32>(), 15);
        assert!(items.iter().all(|n| Arc::strong_count(n) == 1));
    }
}

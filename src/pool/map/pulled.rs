//! [`Pulled`]: the items of any iterator.

use std::mem::MaybeUninit;
use std::vec;

use super::{Pulls, Source};
use crate::frame::Failure;

/// The most bytes of items that a helper pulls at a time: a good part of the first-level cache.
const CHUNK_BYTES: usize = 16 << 10;

/// An iterator that is pulled from, not to be called again after its end or a panic.
pub(crate) struct Pulled<I>(I);

impl<I: Iterator> Pulled<I> {
    pub(crate) fn new(items: I) -> Self {
        Self(items)
    }
}

impl<I: Iterator + Send> Source for Pulled<I> {
    type Item = I::Item;
    type Chunk = vec::IntoIter<I::Item>;

    const EXACT: bool = false;

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    fn most(&self) -> usize {
        (CHUNK_BYTES / size_of::<I::Item>().max(1)).max(1)
    }

    fn take(
        &mut self,
        most: usize,
        chunk: &mut vec::IntoIter<I::Item>,
        pulls: &mut impl Pulls,
    ) -> Result<usize, Failure> {
        let mut filling = Filling { items: Vec::with_capacity(most), count: 0, chunk };
        let places = &mut filling.items.spare_capacity_mut()[..most];
        pull_all(&mut self.0, places, &mut filling.count, pulls)?;
        Ok(filling.count)
    }
}

/// A chunk while it is filled. Its drop, also while unwinding, makes what was pulled the chunk's.
struct Filling<'f, T> {
    /// Empty; the first `count` places of its spare capacity are initialised.
    items: Vec<T>,
    count: usize,
    chunk: &'f mut vec::IntoIter<T>,
}

impl<T> Drop for Filling<'_, T> {
    #[expect(unsafe_code, reason = "takes over what was written to the spare capacity")]
    fn drop(&mut self) {
        // SAFETY: `pull_all` has written the first `count` places of the spare capacity of the empty
        // vector, and was given no more places than there are.
        unsafe { self.items.set_len(self.count) };
        *self.chunk = std::mem::take(&mut self.items).into_iter();
    }
}

/// Pulls items into `places` until they are full or there are no more, and adds how many there were to
/// `count`, also when a pull fails or unwinds.
///
/// As fast as it is for the same reasons as `fill` in `output.rs`.
#[inline(never)]
fn pull_all<I: Iterator>(
    from: &mut I,
    places: &mut [MaybeUninit<I::Item>],
    count: &mut usize,
    pulls: &mut impl Pulls,
) -> Result<(), Failure> {
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
                let Some(item) = pulls.pull(from)? else { break 'clean None };
                // The price of isolation: a load and a branch.
                if !pulls.is_clean() {
                    break 'clean Some(item);
                }
                places[pulled.0].write(item);
                pulled.0 += 1;
            }
            return Ok(());
        };
        let Some(item) = pulls.end(item)? else { return Ok(()) };
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

    /// Ends no task.
    struct Bare;

    impl Pulls for Bare {
        fn pull<I: Iterator>(&mut self, items: &mut I) -> Result<Option<I::Item>, Failure> {
            Ok(items.next())
        }

        fn is_clean(&self) -> bool {
            true
        }

        fn end<T>(&mut self, item: Option<T>) -> Result<Option<T>, Failure> {
            Ok(item)
        }
    }

    #[test]
    fn items_that_came_before_a_panic_are_in_the_chunk() {
        let items: Vec<_> = (0..10).map(Arc::new).collect();
        let mut source = Pulled::new(items.iter().cloned().inspect(|n| assert_ne!(**n, 6)));
        let mut chunk = vec::IntoIter::default();
        assert!(catch(|| source.take(8, &mut chunk, &mut Bare)).is_err());
        assert_eq!(chunk.map(|n| *n).sum::<i32>(), 15);
        assert!(items.iter().all(|n| Arc::strong_count(n) == 1));
    }
}

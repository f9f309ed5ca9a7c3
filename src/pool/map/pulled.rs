//! [`Pulled`]: the items of any iterator.

use std::mem::{self, MaybeUninit};
use std::vec;

use super::{Pull, Source};
use crate::frame::{self, Failure};
use crate::pool::isolation::{Series, Tasks};

/// The most bytes of items that a helper pulls at a time: about what the first-level cache holds.
const CHUNK_BYTES: usize = 32 << 10;

/// The most bytes of an iterator that is moved out of its place while it is pulled from.
const SMALL: usize = 128;

/// An iterator that is pulled from, not to be called again after its end or a panic. `None` while
/// that is done.
pub(crate) struct Pulled<I>(Option<I>);

impl<I: Iterator> Pulled<I> {
    pub(crate) fn new(items: I) -> Self {
        Self(Some(items))
    }
}

impl<I: Iterator + Send> Source for Pulled<I> {
    type Item = I::Item;
    /// Its memory serves for the next chunk.
    type Chunk = vec::IntoIter<I::Item>;

    const EXACT: bool = false;

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.as_ref().map_or((0, Some(0)), Iterator::size_hint)
    }

    fn most(&self) -> usize {
        (CHUNK_BYTES / size_of::<I::Item>().max(1)).max(1)
    }

    fn take(
        &mut self,
        most: usize,
        chunk: &mut vec::IntoIter<I::Item>,
        tasks: &mut Series<'_>,
        pull: &Pull<'_>,
    ) -> Result<usize, Failure> {
        // It is empty. This keeps its memory.
        let mut items: Vec<_> = mem::take(chunk).take(0).collect();
        if items.capacity() < most {
            items = Vec::with_capacity(most);
        }
        let mut pulled = Buffer { items, written: 0, chunk };
        let Buffer { items, written, .. } = &mut pulled;
        let places = &mut items.spare_capacity_mut()[..most];
        if const { size_of::<I>() <= SMALL } {
            pull_as(&mut self.0, places, written, tasks, pull)?;
        } else {
            pull_as(&mut self.0.as_mut(), places, written, tasks, pull)?;
        }
        Ok(pulled.written)
    }
}

/// Items that are being pulled. Its drop, also while unwinding, puts them into the chunk.
struct Buffer<'p, T> {
    /// Of length 0.
    items: Vec<T>,
    /// How many places of its capacity are initialised.
    written: usize,
    chunk: &'p mut vec::IntoIter<T>,
}

impl<T> Drop for Buffer<'_, T> {
    #[expect(
        unsafe_code,
        reason = "takes over into a vector what was written to its spare capacity"
    )]
    fn drop(&mut self) {
        let mut items = mem::take(&mut self.items);
        // SAFETY: so many places are within the capacity and initialised, as `pull_all` has said.
        unsafe { items.set_len(self.written) };
        *self.chunk = items.into_iter();
    }
}

/// Calls [`pull_all`] for tasks of this kind: asked once, not for each item.
#[inline(always)]
fn pull_as<I: Iterator>(
    from: &mut Option<I>,
    places: &mut [MaybeUninit<I::Item>],
    count: &mut usize,
    tasks: &mut Series<'_>,
    pull: &Pull<'_>,
) -> Result<(), Failure> {
    match tasks {
        Series::Isolated(frame) => {
            pull_all(from, places, count, frame, pull, |items| Ok(items.next()))
        }
        Series::Leaky(tasks) => {
            pull_all(from, places, count, tasks, pull, |items| pull.next(items))
        }
    }
}

/// Pulls items into `places` until they are full, there are no more or the map is over, each call
/// one of `tasks`, and adds how many there were to `count`, also when a pull fails or unwinds.
///
/// It is fast for the same reasons as `fill` in `output.rs`; and the iterator is moved out of its
/// place meanwhile, so that the parts of a simple one stay in registers, too.
#[inline(never)]
fn pull_all<I: Iterator>(
    from: &mut Option<I>,
    places: &mut [MaybeUninit<I::Item>],
    count: &mut usize,
    tasks: &mut impl Tasks,
    pull: &Pull<'_>,
    next: impl Fn(&mut I) -> Result<Option<I::Item>, Failure>,
) -> Result<(), Failure> {
    /// How far the loop has come; its drop records that, also while unwinding.
    struct Progress<'p, I> {
        items: Option<I>,
        done: usize,
        from: &'p mut Option<I>,
        count: &'p mut usize,
    }
    impl<I> Drop for Progress<'_, I> {
        #[inline(always)]
        fn drop(&mut self) {
            mem::swap(self.from, &mut self.items);
            *self.count += self.done;
        }
    }
    let mut progress = Progress { items: from.take(), done: 0, from, count };
    let Progress { items: Some(items), done, .. } = &mut progress else { return Ok(()) };
    'blocks: while *done < places.len() && !pull.is_over() {
        let block = places.len().min(*done + pull.block);
        let item = 'clean: {
            // So that in the loop, which writes nothing of the engine's, it need not be asked
            // again.
            let was_clean = tasks.is_clean();
            while *done < block {
                let Some(item) = next(items)? else { break 'clean None };
                // The price of isolation: a load and a branch.
                if !was_clean || !tasks.is_clean() {
                    break 'clean Some(item);
                }
                places[*done].write(item);
                *done += 1;
            }
            continue 'blocks;
        };
        if let Err(error) = tasks.next_task() {
            return Err(Failure::Cleanup(frame::give_up(|| drop(item), error)));
        }
        let Some(item) = item else { return Ok(()) };
        places[*done].write(item);
        *done += 1;
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::panic::Location;
    use std::sync::Arc;

    use super::*;
    use crate::panic::{Payload, catch};
    use crate::pool::core::testing::core;
    use crate::pool::error::{Label, Which};
    use crate::pool::isolation::Unseparated;

    /// Takes a chunk of eight, in blocks, while it is not over.
    fn take<I: Iterator + Send>(
        items: I,
        block: usize,
        is_over: &dyn Fn() -> bool,
    ) -> (Result<usize, Payload>, vec::IntoIter<I::Item>) {
        let label = Label { name: None, at: Location::caller(), which: Which::Other };
        let core = core(1);
        let pull = Pull { core: &core, label: &label, apart: None, is_over, block };
        let (mut source, mut chunk) = (Pulled::new(items), vec::IntoIter::default());
        let mut tasks = Series::Leaky(Unseparated);
        let taken = catch(|| source.take(8, &mut chunk, &mut tasks, &pull).ok());
        (taken.map(Option::unwrap), chunk)
    }

    #[test]
    fn items_that_came_before_a_panic_are_in_the_chunk() {
        let items: Vec<_> = (0..10).map(Arc::new).collect();
        let until = items.iter().cloned().inspect(|n| assert_ne!(**n, 6));
        let (taken, chunk) = take(until, 8, &|| false);
        assert!(taken.is_err());
        assert_eq!(chunk.map(|n| *n).sum::<i32>(), 15);
        assert!(items.iter().all(|n| Arc::strong_count(n) == 1));
    }

    // Broke: however long they took, 256 items were pulled between two looks.
    #[test]
    fn it_looks_before_each_block_of_pulls_whether_the_map_is_over() {
        for (block, expected) in [(1, 2), (3, 6), (5, 8), (256, 8)] {
            let looks = Cell::new(0);
            let is_over = || looks.replace(looks.get() + 1) == 2;
            let (taken, chunk) = take(0.., block, &is_over);
            assert_eq!((taken.ok(), chunk.len()), (Some(expected), expected), "blocks of {block}");
        }
    }
}

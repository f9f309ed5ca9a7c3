//! The maps of a pool: every item is a task, and no panic reaches rayon.
//!
//! Rayon drives a consumer of ours: with its own `map`, items would have to be caught one by one,
//! and results would be dropped during the unwinding. The consumer has one place per item for its
//! result; the places are split with the work. A piece runs its items one after the other under one
//! `catch`. Items that are not started after a panic are rayon's to drop, so they are
//! [`ContainedItem`]s.
//!
//! # Invariants
//!
//! 1. The first `filled` places of a piece are initialised.

use std::mem::{self, ManuallyDrop, MaybeUninit, needs_drop};

use rayon::iter::IndexedParallelIterator;
use rayon::iter::plumbing::{Consumer, Folder, Reducer};

use super::outcome::{First, drop_given};
use super::task::each;
use crate::context::Context;
use crate::foreign::not_in_carrier;
use crate::frame::{contained, discard};
use crate::panic::{HowDropped, Payload, UserValue, catch};

/// Maps every item and returns the results in order, or the first panic.
pub(super) fn map<I, F, R>(context: &Context, items: I, f: &F) -> Result<Vec<R>, Payload>
where
    I: IndexedParallelIterator,
    F: Fn(I::Item) -> R + Sync,
    R: Send,
{
    let len = items.len();
    // Panics if that is more than an address space holds.
    let mut results = catch(|| Vec::with_capacity(len))?;
    let places = &mut results.spare_capacity_mut()[..len];
    let common = Common { context, f, first: First::default() };
    let pieces = items.drive(Pieces { places, common: &common });
    match common.first.take() {
        Some(payload) => Err(payload),
        None => {
            let filled = pieces.into_iter().map(Piece::into_filled).sum::<usize>();
            assert_eq!(filled, len, "every item has one result");
            #[expect(unsafe_code, reason = "the pieces' places are the vector's")]
            // SAFETY:
            // - `len` is at most the capacity, which was asked for above;
            // - the pieces are parts of the first `len` places, which do not overlap; as many as
            //   that are initialised (invariant 1), so all are.
            unsafe {
                results.set_len(len);
            }
            Ok(results)
        }
    }
}

/// Pulls all items from an iterator, each pull a task.
pub(super) fn pull<I>(context: &Context, items: I) -> Result<Vec<ContainedItem<I::Item>>, Payload>
where
    I: IntoIterator,
{
    let mut iter = catch(|| items.into_iter())?;
    let pulled = catch(|| {
        let mut items = Vec::new();
        // An input may promise more than there is memory for.
        let _reserved = items.try_reserve(iter.size_hint().0);
        each(context, &mut iter, ContainedItem::new, items, push)
    });
    // Not dropped while its own panic unwinds.
    let dropped = drop_given(iter);
    pulled.and_then(|items| dropped.map(|()| items))
}

/// Does what `Vec::push` does without passing the address on: that would put the vector into
/// memory.
#[inline]
fn push<T>(items: &mut Vec<T>, item: T) {
    #[cold]
    #[inline(never)]
    fn with_room<T>(mut items: Vec<T>) -> Vec<T> {
        items.reserve(1);
        items
    }
    if items.len() == items.capacity() {
        *items = with_room(mem::take(items));
    }
    items.spare_capacity_mut()[0].write(item);
    #[expect(unsafe_code, reason = "`Vec::push` would have the address")]
    // SAFETY: at most the capacity, since there was a place; and that place is initialised.
    unsafe {
        items.set_len(items.len() + 1);
    }
}

/// A value whose drop never unwinds.
pub(super) type ContainedItem<T> = UserValue<T, Discarded>;

/// See [`ContainedItem`].
pub(super) struct Discarded;

impl HowDropped for Discarded {
    fn call(drop: &mut dyn FnMut()) {
        let _unreportable = contained(drop);
    }
}

/// What all pieces share.
struct Common<'m, F> {
    context: &'m Context,
    f: &'m F,
    first: First,
}

/// The places of consecutive items, and what is to be done with these.
struct Pieces<'m, 'p, F, R> {
    places: &'p mut [MaybeUninit<R>],
    common: &'m Common<'m, F>,
}

impl<'m, 'p, T, F, R> Consumer<T> for Pieces<'m, 'p, F, R>
where
    F: Fn(T) -> R + Sync,
    R: Send,
{
    type Folder = Filling<'m, 'p, F, R>;
    type Reducer = Append;
    type Result = Vec<Piece<'p, R>>;

    fn split_at(self, index: usize) -> (Self, Self, Append) {
        let Self { places, common } = self;
        let (left, right) = places.split_at_mut(index);
        (Self { places: left, common }, Self { places: right, common }, Append)
    }

    fn into_folder(self) -> Self::Folder {
        let piece = Piece { places: self.places, filled: 0 };
        Filling { piece: Some(piece), common: self.common }
    }

    fn full(&self) -> bool {
        self.common.first.is_kept()
    }
}

/// A piece whose items are being run. `None`: one of them has panicked.
struct Filling<'m, 'p, F, R> {
    piece: Option<Piece<'p, R>>,
    common: &'m Common<'m, F>,
}

impl<'p, T, F, R> Folder<T> for Filling<'_, 'p, F, R>
where
    F: Fn(T) -> R + Sync,
    R: Send,
{
    type Result = Vec<Piece<'p, R>>;

    fn consume(self, item: T) -> Self {
        self.consume_iter([item])
    }

    fn consume_iter<I: IntoIterator<Item = T>>(self, iter: I) -> Self {
        let Self { piece, common } = self;
        let Common { context, f, first } = common;
        let piece = piece.and_then(|piece| {
            first.keep(not_in_carrier(|| {
                catch(|| each(context, iter.into_iter(), f, piece, Piece::push))
            }))
        });
        Self { piece, common }
    }

    fn complete(self) -> Self::Result {
        self.piece.into_iter().collect()
    }

    fn full(&self) -> bool {
        self.common.first.is_kept()
    }
}

struct Append;

impl<P> Reducer<Vec<P>> for Append {
    fn reduce(self, mut left: Vec<P>, mut right: Vec<P>) -> Vec<P> {
        left.append(&mut right);
        left
    }
}

/// Results of consecutive items. Dropping it drops them one by one, each contained.
struct Piece<'p, R> {
    places: &'p mut [MaybeUninit<R>],
    filled: usize,
}

impl<R> Piece<'_, R> {
    #[inline]
    fn push(&mut self, result: R) {
        self.places[self.filled].write(result);
        self.filled += 1;
    }

    /// Counts the results, and leaves them where they are.
    fn into_filled(self) -> usize {
        ManuallyDrop::new(self).filled
    }
}

impl<R> Drop for Piece<'_, R> {
    #[inline]
    fn drop(&mut self) {
        if needs_drop::<R>() {
            for place in &self.places[..self.filled] {
                #[expect(unsafe_code, reason = "nobody else looks at the places")]
                // SAFETY: initialised (invariant 1), and read once, since the piece is used up.
                discard(unsafe { place.assume_init_read() });
            }
        }
    }
}
